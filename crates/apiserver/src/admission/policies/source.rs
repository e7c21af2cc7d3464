//! Keeps policies compiled, with the bindings that put them in force.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/generic/policy_source.go

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use longshore_api::Object;
use longshore_api::selector::LabelSelector;
use parking_lot::Mutex;
use serde_json::Value;

use super::GROUP;
use crate::admission::matching::Constraints;
use crate::reader::Reader;

/// The kind of a policy's parameters.
#[derive(Clone, Debug)]
pub struct ParamKind {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
}

impl fmt::Display for ParamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "&ParamKind{{APIVersion:{},Kind:{},}}", self.api_version, self.kind)
    }
}

/// Where a binding says that the parameters are.
pub struct ParamRef {
    /// One object's name; empty for a selector.
    pub name: String,
    /// Its namespace; empty for that of the request.
    pub namespace: String,
    /// What selects the objects.
    pub selector: Result<LabelSelector, String>,
    /// Whether a request is denied when there are none.
    pub denies: bool,
}

/// What puts a policy in force.
pub struct Binding {
    /// Its name.
    pub name: String,
    /// What it is about; none for all that the policy is about.
    pub constraints: Option<Constraints>,
    /// Where the parameters are.
    pub params: Option<ParamRef>,
    /// What happens to what breaks the policy.
    pub actions: Vec<String>,
}

impl Binding {
    fn new(binding: &Object) -> Self {
        let reference = binding.get(&["spec", "paramRef"]).filter(|value| !value.is_null());
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("").to_owned();
        let params = reference.map(|reference| ParamRef {
            name: text(reference, "name"),
            namespace: text(reference, "namespace"),
            selector: LabelSelector::from_value(&reference["selector"])
                .map_err(|why| why.to_string()),
            denies: reference["parameterNotFoundAction"] == "Deny",
        });
        let actions = binding.list(&["spec", "validationActions"]).iter();
        let constraints = binding.get(&["spec", "matchResources"]).filter(|value| !value.is_null());
        Self {
            name: binding.name().to_owned(),
            constraints: constraints.map(Constraints::new),
            params,
            actions: actions.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}

/// A policy in force.
pub struct Hook<T> {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub constraints: Constraints,
    /// The kind of its parameters.
    pub param_kind: Option<ParamKind>,
    /// Whether what goes wrong is ignored.
    pub ignores_failures: bool,
    /// Its compiled expressions.
    pub compiled: Arc<T>,
    /// What puts it in force.
    pub bindings: Vec<Binding>,
}

/// Revisions of policies and bindings, and what was made of them.
type Kept<T> = (Option<(u64, u64)>, Arc<Vec<Hook<T>>>);

/// The policies of one kind.
pub struct Source<T> {
    policies: &'static str,
    bindings: &'static str,
    compile: fn(&Object) -> T,
    kept: Mutex<Kept<T>>,
    /// By name and version, so that each is compiled once.
    compiled: Mutex<BTreeMap<(String, String), Arc<T>>>,
}

impl<T> Source<T> {
    /// Nothing is compiled yet.
    pub fn new(policies: &'static str, bindings: &'static str, compile: fn(&Object) -> T) -> Self {
        let (kept, compiled) = (Mutex::new((None, Arc::default())), Mutex::default());
        Self { policies, bindings, compile, kept, compiled }
    }

    /// The policies that are in force, by name.
    pub fn hooks(&self, reader: &dyn Reader) -> Arc<Vec<Hook<T>>> {
        let now =
            (reader.generation(GROUP, self.policies), reader.generation(GROUP, self.bindings));
        let mut kept = self.kept.lock();
        if kept.0 != Some(now) {
            *kept = (Some(now), Arc::new(self.read(reader)));
        }
        kept.1.clone()
    }

    fn read(&self, reader: &dyn Reader) -> Vec<Hook<T>> {
        let mut bindings: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
        for binding in reader.list(GROUP, self.bindings, "") {
            let policy = binding.str(&["spec", "policyName"]).to_owned();
            bindings.entry(policy).or_default().push(Binding::new(&binding));
        }
        let mut compiled = self.compiled.lock();
        let mut present = BTreeMap::new();
        let mut hooks = Vec::new();
        for (name, bindings) in bindings {
            let Some(policy) = reader.get(GROUP, self.policies, "", &name) else { continue };
            // What counts is the spec, which has a generation of its own.
            let version = format!("{}/{}", policy.uid(), policy.generation());
            let key = (name.clone(), version);
            let program = compiled.remove(&key);
            let program = program.unwrap_or_else(|| Arc::new((self.compile)(&policy)));
            present.insert(key, program.clone());
            let none = Value::Null;
            let spec = policy.get(&["spec"]).unwrap_or(&none);
            let kind = Some(&spec["paramKind"]).filter(|kind| !kind.is_null());
            let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("").to_owned();
            hooks.push(Hook {
                name,
                constraints: Constraints::new(&spec["matchConstraints"]),
                param_kind: kind.map(|kind| ParamKind {
                    api_version: text(kind, "apiVersion"),
                    kind: text(kind, "kind"),
                }),
                ignores_failures: spec["failurePolicy"] == "Ignore",
                compiled: program,
                bindings,
            });
        }
        *compiled = present;
        hooks
    }
}
