//! Nodes.
//!
//! upstream: pkg/registry/core/node/strategy.go, pkg/apis/core/validation/validation.go ValidateNode

use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{Object, names};
use serde_json::{Value, json};

use super::pods::cells::{AGE, NAME, age, text_column, wide};
use super::pods::tree::{list, text, texts};
use super::pods::validation::common::required_one_of;
use super::pods::validation::network::legacy_cidr;
use crate::plain::keep;
use crate::strategy::{Context, Strategy};
use crate::table::Column;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

/// The rules of nodes.
pub(super) struct Nodes;

impl Strategy for Nodes {
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
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        if ctx.subresource == "status" {
            keep(new, old, "spec");
        } else {
            keep(new, old, "status");
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = rules(object);
        let path = Path::new("spec").child("podCIDRs");
        let cidrs = texts(object.get(&["spec"]).unwrap_or(&Value::Null), "podCIDRs");
        for (i, cidr) in cidrs.iter().enumerate() {
            legacy_cidr(cidr, &path.index(i), &[], &mut errors);
        }
        let families: Vec<bool> = cidrs.iter().map(|c| c.contains(':')).collect();
        if cidrs.len() > 1 && (cidrs.len() > 2 || families[0] == families[1]) {
            let why = "may specify no more than one CIDR for each IP family";
            errors.push(Error::invalid(&path, json!(cidrs), why));
        }
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = rules(new);
        let status = Path::new("status").child("addresses");
        let mut seen: Vec<&Value> = Vec::new();
        for (i, address) in new.list(&["status", "addresses"]).iter().enumerate() {
            if seen.contains(&address) {
                errors.push(Error::duplicate(&status.index(i), address.clone()));
            }
            seen.push(address);
        }
        let spec = Path::new("spec");
        let before = old.list(&["spec", "podCIDRs"]);
        if !before.is_empty() && before != new.list(&["spec", "podCIDRs"]) {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(Error::forbidden(&spec.child("podCIDRs"), why));
        }
        let provider = old.str(&["spec", "providerID"]);
        if !provider.is_empty() && provider != new.str(&["spec", "providerID"]) {
            let why = "node updates may not change providerID except from \"\" to valid";
            errors.push(Error::forbidden(&spec.child("providerID"), why));
        }
        if old.str(&["spec", "externalID"]) != new.str(&["spec", "externalID"]) {
            errors.push(Error::forbidden(&spec.child("externalID"), "may not be updated"));
        }
        errors
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
        vec![
            object.name().into(),
            readiness(object).into(),
            roles(object).into(),
            age(object, now),
            object.str(&["status", "nodeInfo", "kubeletVersion"]).into(),
            address("InternalIP"),
            address("ExternalIP"),
            info("osImage"),
            info("kernelVersion"),
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

fn rules(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    // upstream tells the taints' path below metadata
    let path = Path::new("metadata").child("taints");
    let taints = list(object.get(&["spec"]).unwrap_or(&Value::Null), "taints");
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, taint) in taints.iter().enumerate() {
        let path = path.index(i);
        for why in names::is_qualified_name(text(taint, "key")) {
            errors.push(Error::invalid(&path.child("key"), text(taint, "key"), &why));
        }
        let broken = names::is_valid_label_value(text(taint, "value"));
        if !broken.is_empty() {
            let why = broken.join(";");
            errors.push(Error::invalid(&path.child("value"), text(taint, "value"), &why));
        }
        let effect = text(taint, "effect");
        required_one_of(effect, &EFFECTS, &path.child("effect"), &mut errors);
        let id = (text(taint, "key"), effect);
        if seen.contains(&id) {
            let mut error = Error::duplicate(&path, taint.clone());
            error.body.push_str(": taints must be unique by key and effect pair");
            errors.push(error);
        }
        seen.push(id);
    }
    errors
}
