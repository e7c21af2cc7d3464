//! Nodes.
//!
//! upstream: pkg/registry/core/node/strategy.go, pkg/apis/core/validation/validation.go ValidateNode

mod validation;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::ErrorList;
use serde_json::{Value, json};

use super::pods::cells::{AGE, NAME, age, text_column, wide};
use super::pods::defaults::round_list;
use super::pods::tree::{has, text, texts};
use super::pods::validation::network::cidr_warnings;
use crate::plain::keep;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

/// The rules of nodes.
pub(super) struct Nodes;

impl Strategy for Nodes {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn default(&self, object: &mut Object) {
        // podCIDR and podCIDRs tell the same; the old field wins when it is changed alone.
        let one = object.str(&["spec", "podCIDR"]).to_owned();
        let many = texts(object.get(&["spec"]).unwrap_or(&Value::Null), "podCIDRs");
        let first = many.first().map(|t| (*t).to_owned());
        match (one.as_str(), first) {
            ("", Some(first)) => object.set(&["spec", "podCIDR"], first),
            ("", None) => {}
            (one, first) if first.as_deref() != Some(one) => {
                object.set(&["spec", "podCIDRs"], json!([one]));
            }
            _ => {}
        }
        // What a node can hold is what it may give away, unless it says otherwise.
        if object.get(&["status", "allocatable"]).is_none()
            && let Some(capacity) = object.get(&["status", "capacity"]).cloned()
        {
            object.set(&["status", "allocatable"], capacity);
        }
        for key in ["capacity", "allocatable"] {
            round_list(object.get_mut(&["status", key]));
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        // The configuration from a config map is gone.
        object.remove(&["spec", "configSource"]);
        object.remove(&["status", "config"]);
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        let in_use = |path: [&str; 2]| old.get(&path).is_some_and(|v| !v.is_null());
        if ctx.subresource == "status" {
            keep(new, old, "spec");
            if !in_use(["status", "config"]) {
                new.remove(&["status", "config"]);
            }
        } else {
            keep(new, old, "status");
            if !in_use(["spec", "configSource"]) {
                new.remove(&["spec", "configSource"]);
            }
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        validation::node(object)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        if ctx.subresource.is_empty() {
            errors.extend(validation::node(new));
        }
        errors.extend(validation::update(new, old));
        errors
    }

    fn warnings(&self, object: &Object, _old: Option<&Object>) -> Vec<String> {
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let mut warnings = Vec::new();
        if has(spec, "configSource") {
            warnings.push("spec.configSource: the feature is removed".to_owned());
        }
        if !text(spec, "externalID").is_empty() {
            let why = "spec.externalID: this field is deprecated, and is unused by Kubernetes";
            warnings.push(why.to_owned());
        }
        for (i, cidr) in texts(spec, "podCIDRs").into_iter().enumerate() {
            warnings.extend(cidr_warnings(&format!("spec.podCIDRs[{i}]"), cidr));
        }
        warnings
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("spec.unschedulable", object.bool(&["spec", "unschedulable"]).to_string())]
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        &["spec.unschedulable"]
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Status", "Whether the node takes pods."),
            text_column("Roles", "Roles from the node's labels."),
            AGE,
            text_column("Version", "Version of the node agent."),
            wide("Internal-IP", "Address inside the cluster."),
            wide("External-IP", "Address outside the cluster."),
            wide("OS-Image", "Operating system."),
            wide("Kernel-Version", "Kernel."),
            wide("Container-Runtime", "Container runtime and its version."),
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let info = |field: &str| {
            let text = object.str(&["status", "nodeInfo", field]);
            Value::from(if text.is_empty() { "<unknown>" } else { text })
        };
        let address = |kind: &str| {
            let all = object.list(&["status", "addresses"]).iter();
            let found = all.filter(|a| text(a, "type") == kind).map(|a| text(a, "address")).next();
            Value::from(found.unwrap_or("<none>"))
        };
        let mut kernel = info("kernelVersion");
        let architecture = object.str(&["status", "nodeInfo", "architecture"]);
        if !architecture.is_empty() {
            kernel = format!("{} ({architecture})", kernel.as_str().unwrap_or("")).into();
        }
        vec![
            object.name().into(),
            readiness(object).into(),
            roles(object).into(),
            age(object, now),
            object.str(&["status", "nodeInfo", "kubeletVersion"]).into(),
            address("InternalIP"),
            address("ExternalIP"),
            info("osImage"),
            kernel,
            info("containerRuntimeVersion"),
        ]
    }
}

fn readiness(object: &Object) -> String {
    let conditions = object.list(&["status", "conditions"]).iter();
    let mut words: Vec<&str> = conditions
        .filter(|c| text(c, "type") == "Ready")
        .map(|c| if text(c, "status") == "True" { "Ready" } else { "NotReady" })
        .collect();
    if words.is_empty() {
        words.push("Unknown");
    }
    if object.bool(&["spec", "unschedulable"]) {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn roles(object: &Object) -> String {
    let labels = object.labels().into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some("") => None,
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str().filter(|role| !role.is_empty()),
            None => None,
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".into() } else { roles.join(",") }
}
