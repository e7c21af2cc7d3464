//! The form of a scenario file.
//!
//! ```yaml
//! about: one sentence
//! proves: [titles of rows of the conformance list]
//! namespace: false        # no namespace of its own is made; $(ns) is unknown
//! steps:
//! - request: POST /api/v1/namespaces/$(ns)/configmaps   # method and path
//!   query: {dryRun: All}            # more of the query, escaped by the runner
//!   headers: {Accept: text/plain}
//!   body: {...}                     # a tree; or `text`, or `base64` for bytes
//!   format: yaml                    # of `body`: json (default), yaml, protobuf
//!   type: application/json          # Content-Type; follows from `format` otherwise
//!   as: {user: eve, groups: [x]}    # impersonation
//!   token: $(token)                 # a bearer token instead of the administrator's certificate
//!   anonymous: true                 # no credentials at all
//!   until: true                     # asked again until it answers as expected
//!   expect: 201                     # HTTP status, or a list of them
//!   match: {...}                    # pattern of the body, see `pattern`
//!   header: {content-type: ...}     # patterns of the answer's headers
//!   save: {uid: /metadata/uid}      # variables from the body by JSON pointer, or `header:NAME`
//! - watch: w                        # opens a watch named w; request, query ... as above
//!   request: GET /api/v1/namespaces/$(ns)/configmaps
//! - events: w                       # the next events, exactly these
//!   match: [{type: ADDED}]
//!   others: true                    # events between them are left out
//! - ends: w                         # the watch ends without another event
//! - set: {name: value}
//! - for: {i: {from: 0, to: 5}}      # or a list; `steps` run for each value
//!   steps: []
//! - again: []                       # these steps from the first one, until all of them hold
//! - use: operations                 # the steps of templates/operations.yaml
//!   with: {plural: configmaps}
//! ```
//!
//! `$(ns)` is the scenario's own namespace and `$(id)` a text that no other run has; see
//! [`crate::variables`].

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// A file of steps.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its path below the folder of scenarios, without the extension.
    pub name: String,
    /// Titles of behaviours it proves.
    pub proves: Vec<String>,
    /// Whether it gets a namespace of its own.
    pub namespace: bool,
    /// What happens.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// A request and its answer.
    Request(Box<Map<String, Value>>),
    /// Opens a watch under a name.
    Watch(String, Box<Map<String, Value>>),
    /// The next events of a watch.
    Events(String, Box<Map<String, Value>>),
    /// A watch ends.
    Ends(String),
    /// Sets variables.
    Set(Value),
    /// Steps for each value of a variable.
    For(String, Value, Vec<Step>),
    /// Steps that are repeated from the first one until all of them hold.
    Again(Vec<Step>),
    /// The steps of a template with variables.
    Use(String, Value),
}

/// The keys of a step that sends a request.
const REQUEST_KEYS: &[&str] = &[
    "request",
    "query",
    "headers",
    "body",
    "text",
    "base64",
    "format",
    "type",
    "as",
    "token",
    "anonymous",
    "until",
    "expect",
    "match",
    "header",
    "save",
    "note",
];

/// Every scenario of a folder by name, and the templates.
pub struct Library {
    /// Those that run.
    pub scenarios: Vec<Scenario>,
    /// Those that are used by others.
    pub templates: BTreeMap<String, Scenario>,
}

impl Library {
    /// Reads a folder and its folders.
    pub fn read(root: &Path) -> Result<Self> {
        let mut library = Self { scenarios: Vec::new(), templates: BTreeMap::new() };
        library.add(root, root)?;
        library.scenarios.sort_by(|a, b| a.name.cmp(&b.name));
        ensure!(!library.scenarios.is_empty(), "{} has no scenarios", root.display());
        Ok(library)
    }

    fn add(&mut self, root: &Path, folder: &Path) -> Result<()> {
        for entry in std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                self.add(root, &path)?;
                continue;
            }
            let name = path.strip_prefix(root)?.with_extension("").to_string_lossy().into_owned();
            let scenario = read(&path, &name).with_context(|| format!("{}", path.display()))?;
            match name.strip_prefix("templates/") {
                Some(template) => {
                    self.templates.insert(template.to_owned(), scenario);
                }
                None => self.scenarios.push(scenario),
            }
        }
        Ok(())
    }
}

fn read(path: &Path, name: &str) -> Result<Scenario> {
    let value = longshore_api::yaml::decode(&std::fs::read(path)?)?;
    let map = value.as_object().context("a scenario is an object")?;
    known(map, &["about", "proves", "namespace", "steps"])?;
    ensure!(map.get("about").is_some_and(Value::is_string), "`about` is missing");
    let proves = map.get("proves").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    Ok(Scenario {
        name: name.to_owned(),
        proves: proves.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        namespace: map.get("namespace") != Some(&Value::Bool(false)),
        steps: steps(map.get("steps").context("`steps` is missing")?)?,
    })
}

fn steps(value: &Value) -> Result<Vec<Step>> {
    let list = value.as_array().context("steps are a list")?;
    let numbered = list.iter().enumerate();
    numbered.map(|(i, value)| step(value).with_context(|| format!("step {}", i + 1))).collect()
}

fn step(value: &Value) -> Result<Step> {
    let map = value.as_object().context("a step is an object")?;
    let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
    if let Some(name) = text("watch") {
        let mut rest = map.clone();
        rest.remove("watch");
        known(&rest, REQUEST_KEYS)?;
        return Ok(Step::Watch(name, Box::new(rest)));
    }
    if map.contains_key("request") {
        known(map, REQUEST_KEYS)?;
        return Ok(Step::Request(Box::new(map.clone())));
    }
    if let Some(name) = text("events") {
        known(map, &["events", "match", "others", "save", "note"])?;
        ensure!(map.get("match").is_some_and(Value::is_array), "`match` is a list of events");
        return Ok(Step::Events(name, Box::new(map.clone())));
    }
    if let Some(name) = text("ends") {
        known(map, &["ends"])?;
        return Ok(Step::Ends(name));
    }
    if let Some(values) = map.get("set") {
        known(map, &["set"])?;
        return Ok(Step::Set(values.clone()));
    }
    if let Some(Value::Object(variable)) = map.get("for") {
        known(map, &["for", "steps"])?;
        let (name, values) = variable.iter().next().context("`for` names a variable")?;
        let inner = steps(map.get("steps").context("`for` has steps")?)?;
        return Ok(Step::For(name.clone(), values.clone(), inner));
    }
    if let Some(inner) = map.get("again") {
        known(map, &["again"])?;
        return Ok(Step::Again(steps(inner)?));
    }
    if let Some(template) = text("use") {
        known(map, &["use", "with"])?;
        return Ok(Step::Use(template, map.get("with").cloned().unwrap_or(Value::Null)));
    }
    bail!("no such step: {value}")
}

fn known(map: &Map<String, Value>, keys: &[&str]) -> Result<()> {
    match map.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => bail!("unknown key {key:?}"),
        None => Ok(()),
    }
}
