//! The webhooks of all configurations, prepared for use once per change.

use std::sync::Arc;
use std::time::Duration;

use longshore_api::selector::LabelSelector;
use longshore_api::{Object, StatusError};
use parking_lot::Mutex;
use serde_json::Value;

use super::conditions::Conditions;
use super::rules::Rule;
use crate::outbound::webhook::Endpoint;
use crate::reader::Reader;

/// The group of configurations.
const GROUP: &str = "admissionregistration.k8s.io";
/// How long a webhook may take that does not say.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One webhook.
pub(super) struct Hook {
    /// Tells it from all others.
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) configuration: String,
    pub(super) endpoint: Result<Endpoint, String>,
    pub(super) rules: Vec<Rule>,
    /// A failed call does not matter.
    pub(super) ignores_failures: bool,
    /// Other versions of what the rules name count, too.
    pub(super) matches_equivalent: bool,
    pub(super) namespaces: Result<LabelSelector, String>,
    pub(super) objects: Result<LabelSelector, String>,
    /// `sideEffects`; empty when it does not say.
    pub(super) side_effects: String,
    pub(super) timeout: Duration,
    /// The versions of reviews that it understands.
    pub(super) versions: Vec<String>,
    /// It may be called a second time.
    pub(super) reinvoked: bool,
    pub(super) conditions: Option<Conditions>,
}

impl Hook {
    fn of(configuration: &str, uid: String, hook: &Value) -> Self {
        let text = |key: &str| hook[key].as_str().unwrap_or("");
        let list = |key: &str| hook[key].as_array().into_iter().flatten();
        let selector = |key: &str| match &hook[key] {
            // One that selects nothing in particular selects all.
            Value::Null => Ok(LabelSelector::default()),
            selector => LabelSelector::from_value(selector).map_err(|error| error.to_string()),
        };
        let timeout = hook["timeoutSeconds"].as_u64().map_or(TIMEOUT, Duration::from_secs);
        Self {
            uid,
            name: text("name").to_owned(),
            configuration: configuration.to_owned(),
            endpoint: Endpoint::of(&hook["clientConfig"]),
            rules: list("rules").map(Rule::of).collect(),
            ignores_failures: text("failurePolicy") == "Ignore",
            matches_equivalent: text("matchPolicy") == "Equivalent",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            side_effects: text("sideEffects").to_owned(),
            timeout,
            versions: list("admissionReviewVersions")
                .filter_map(|version| version.as_str().map(str::to_owned))
                .collect(),
            reinvoked: text("reinvocationPolicy") == "IfNeeded",
            conditions: Conditions::compile(hook),
        }
    }

    /// Whether a request that stores nothing may be shown to it.
    ///
    /// # Errors
    /// 400 when it may not.
    pub(super) fn check_dry_run(&self) -> Result<(), StatusError> {
        if matches!(self.side_effects.as_str(), "None" | "NoneOnDryRun") {
            return Ok(());
        }
        let name = &self.name;
        Err(StatusError::bad_request(format!(
            "admission webhook {name:?} does not support dry run"
        )))
    }
}

/// The webhooks of one configuration at one resource version.
struct Prepared {
    name: String,
    uid: String,
    version: String,
    hooks: Vec<Arc<Hook>>,
}

/// All webhooks of one kind at one time.
pub(super) type Hooks = Arc<Vec<Arc<Hook>>>;

#[derive(Default)]
struct State {
    /// What the configurations were last prepared from.
    generation: u64,
    configurations: Vec<Prepared>,
    hooks: Hooks,
}

/// The webhooks of all configurations of one kind.
pub(super) struct Source {
    reader: Arc<dyn Reader>,
    plural: &'static str,
    state: Mutex<State>,
}

impl Source {
    pub(super) fn new(reader: Arc<dyn Reader>, plural: &'static str) -> Self {
        Self { reader, plural, state: Mutex::default() }
    }

    /// All webhooks in the order in which they are called: by the names of their configurations.
    pub(super) fn hooks(&self) -> Hooks {
        let generation = self.reader.generation(GROUP, self.plural);
        let mut state = self.state.lock();
        if state.generation != generation {
            let mut present = self.reader.list(GROUP, self.plural, "");
            present.sort_by(|a, b| a.name().cmp(b.name()));
            let before = std::mem::take(&mut state.configurations);
            // What has not changed keeps its connections.
            state.configurations = present.iter().map(|object| prepare(object, &before)).collect();
            let all = state.configurations.iter().flat_map(|one| one.hooks.iter().cloned());
            state.hooks = Arc::new(all.collect());
            state.generation = generation;
        }
        state.hooks.clone()
    }
}

fn prepare(object: &Object, before: &[Prepared]) -> Prepared {
    let (name, uid, version) = (object.name(), object.uid(), object.resource_version());
    let same = |one: &&Prepared| one.name == name && one.uid == uid && one.version == version;
    let hooks = match before.iter().find(same) {
        Some(known) => known.hooks.clone(),
        None => {
            let mut names: Vec<&str> = Vec::new();
            let mut hooks = Vec::new();
            for hook in object.list(&["webhooks"]) {
                let own = hook["name"].as_str().unwrap_or("");
                // Names may be repeated.
                let number = names.iter().filter(|name| **name == own).count();
                names.push(own);
                hooks.push(Arc::new(Hook::of(name, format!("{name}/{own}/{number}"), hook)));
            }
            hooks
        }
    };
    Prepared { name: name.to_owned(), uid: uid.to_owned(), version: version.to_owned(), hooks }
}
