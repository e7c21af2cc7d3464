//! The rules that a node must keep.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidateNode, ValidateNodeUpdate

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{Object, names};
use serde_json::{Value, json};

use crate::core::pods::tree::{entries, list, part, text, texts};
use crate::core::pods::validation::common::{
    dns_label, dns_subdomain, each, positive, required, required_one_of,
};
use crate::core::pods::validation::compute::quantity_value;
use crate::core::pods::validation::network::{legacy_cidr, parse_cidr};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const FEATURE_NAME_MAX: usize = 253;

fn spec_of(node: &Object) -> &Value {
    node.get(&["spec"]).unwrap_or(&Value::Null)
}

/// A whole node.
pub(super) fn node(node: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    taints(node, &mut errors);
    resources(node, &mut errors);
    if let Some(capacity) = node.int(&["status", "nodeInfo", "swap", "capacity"]) {
        let path = Path::new("metadata").child("nodeSwapStatus").child("capacity");
        positive(capacity, &path, &mut errors);
    }
    features(node, &mut errors);
    pod_cidrs(spec_of(node), &mut errors);
    errors
}

/// A changed node.
pub(super) fn update(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    resources(new, &mut errors);
    features(new, &mut errors);
    let status = Path::new("status").child("addresses");
    let mut seen: Vec<&Value> = Vec::new();
    for (i, address) in new.list(&["status", "addresses"]).iter().enumerate() {
        if seen.contains(&address) {
            errors.push(Error::duplicate(&status.index(i), address.clone()));
        }
        seen.push(address);
    }
    let (path, spec, before) = (Path::new("spec"), spec_of(new), spec_of(old));
    let (now, had) = (texts(spec, "podCIDRs"), texts(before, "podCIDRs"));
    let changed = if had.len() == now.len() {
        now.iter().zip(&had).filter(|(now, had)| now != had).count()
    } else {
        usize::from(!had.is_empty())
    };
    for _ in 0..changed {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(Error::forbidden(&path.child("podCIDRs"), why));
    }
    let provider = text(before, "providerID");
    if !provider.is_empty() && provider != text(spec, "providerID") {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.push(Error::forbidden(&path.child("providerID"), why));
    }
    if let Some(source) = part(spec, "configSource") {
        config_source(source, false, &path.child("configSource"), &mut errors);
    }
    let status = Path::new("status").child("config");
    for key in ["assigned", "active", "lastKnownGood"] {
        let source = new.get(&["status", "config", key]).filter(|s| !s.is_null());
        if let Some(source) = source {
            config_source(source, true, &status.child(key), &mut errors);
        }
    }
    taints(new, &mut errors);
    if text(before, "externalID") != text(spec, "externalID") {
        errors.push(Error::forbidden(&path.child("externalID"), "may not be updated"));
    }
    errors
}

fn taints(node: &Object, errors: &mut ErrorList) {
    // upstream tells the taints' path below metadata
    let path = Path::new("metadata").child("taints");
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (i, taint) in list(spec_of(node), "taints").iter().enumerate() {
        let path = path.index(i);
        let key = text(taint, "key");
        each(key, &path.child("key"), &names::is_qualified_name(key), errors);
        let broken = names::is_valid_label_value(text(taint, "value"));
        if !broken.is_empty() {
            let why = broken.join(";");
            errors.push(Error::invalid(&path.child("value"), text(taint, "value"), &why));
        }
        let effect = text(taint, "effect");
        required_one_of(effect, &EFFECTS, &path.child("effect"), errors);
        let id = (key, effect);
        if seen.contains(&id) {
            let shown = longshore_api::gostruct::print("core/v1.Taint", taint);
            let mut error = Error::duplicate_text(&path, &shown);
            error.body.push_str(": taints must be unique by key and effect pair");
            errors.push(error);
        }
        seen.push(id);
    }
}

fn resources(node: &Object, errors: &mut ErrorList) {
    let status = node.get(&["status"]).unwrap_or(&Value::Null);
    for field in ["capacity", "allocatable"] {
        let path = Path::new("status").child(field);
        for (name, amount) in entries(status, field) {
            quantity_value(name, amount, &path.child(name), errors);
        }
    }
}

fn features(node: &Object, errors: &mut ErrorList) {
    let path = Path::new("status").child("declaredFeatures");
    let all = texts(node.get(&["status"]).unwrap_or(&Value::Null), "declaredFeatures");
    for (i, name) in all.iter().enumerate() {
        if let Some(why) = feature_name(name) {
            let why = format!("invalid feature name {name:?}: {why}");
            errors.push(Error::invalid(&path.index(i), *name, &why));
        }
        let at = path.index(i + 1);
        match all.get(i + 1) {
            Some(next) if next == name => errors.push(Error::duplicate(&at, *next)),
            Some(next) if next < name => {
                errors.push(Error::invalid(&at, *next, "list must be sorted alphabetically"));
            }
            _ => {}
        }
    }
}

fn feature_name(name: &str) -> Option<String> {
    if name.len() > FEATURE_NAME_MAX {
        return Some(format!("must be no more than {FEATURE_NAME_MAX} characters"));
    }
    let good = name.split('/').enumerate().all(|(i, segment)| {
        let mut letters = segment.bytes();
        let first = letters.next().is_some_and(|b| match i {
            0 => b.is_ascii_uppercase(),
            _ => b.is_ascii_alphabetic(),
        });
        first && letters.all(|b| b.is_ascii_alphanumeric())
    });
    (!good).then(|| {
        "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes".to_owned()
    })
}

fn pod_cidrs(spec: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec").child("podCIDRs");
    let cidrs = texts(spec, "podCIDRs");
    for (i, cidr) in cidrs.iter().enumerate() {
        legacy_cidr(cidr, &path.index(i), &[], errors);
    }
    if cidrs.len() < 2 {
        return;
    }
    let parsed: Vec<_> = cidrs.iter().map(|cidr| parse_cidr(cidr)).collect();
    if let Some(bad) = parsed.iter().position(Option::is_none) {
        let why = format!(
            "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{bad}]: <nil> (invalid CIDR address: {})",
            cidrs[bad]
        );
        errors.push(Error::internal(&path, &why));
    }
    let families: Vec<bool> = parsed.iter().flatten().map(|(ip, _)| ip.is_ipv6()).collect();
    let dual =
        families.len() == cidrs.len() && families.contains(&true) && families.contains(&false);
    if !dual || cidrs.len() > 2 {
        let why = "may specify no more than one CIDR for each IP family";
        errors.push(Error::invalid(&path, json!(cidrs), why));
    }
}

/// A source of configuration, from the spec or from the `status`.
fn config_source(source: &Value, status: bool, path: &Path, errors: &mut ErrorList) {
    let Some(map) = part(source, "configMap") else {
        let shown = longshore_api::gostruct::print("core/v1.NodeConfigSource", source);
        let why = "exactly one reference subfield must be non-nil";
        errors.push(Error::invalid_text(path, &shown, why));
        return;
    };
    let path = path.child("configMap");
    for key in ["uid", "resourceVersion"] {
        if status {
            required(text(map, key), &path.child(key), errors);
        } else if !text(map, key).is_empty() {
            let why = format!("{key} must not be set in spec");
            errors.push(Error::forbidden(&path.child(key), &why));
        }
    }
    type Rule = fn(&str, &Path, &mut ErrorList);
    let key_rule: Rule =
        |key, path, errors| each(key, path, &names::is_config_map_key(key), errors);
    let rules: [(&str, Rule); 3] =
        [("namespace", dns_label), ("name", dns_subdomain), ("kubeletConfigKey", key_rule)];
    for (key, rule) in rules {
        match text(map, key) {
            "" => errors.push(Error::required(&path.child(key), "")),
            given => rule(given, &path.child(key), errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_say_what_is_wrong_with_them() {
        let check = |value: Value, want: &[&str]| {
            let object = Object::from_value(value).expect("an object");
            let found: Vec<String> = node(&object).iter().map(|e| e.field.clone()).collect();
            assert_eq!(found, want);
        };
        check(json!({"spec": {"podCIDRs": ["10.1.0.0/16", "fd00::/48"]}}), &[]);
        check(json!({"spec": {"podCIDRs": ["10.1.0.0/16", "10.2.0.0/16"]}}), &["spec.podCIDRs"]);
        check(
            json!({"spec": {"podCIDRs": ["10.1.0.0/16", "x"]}}),
            &["spec.podCIDRs[1]", "spec.podCIDRs", "spec.podCIDRs"],
        );
        check(
            json!({"status": {"capacity": {"cpu": "-1", "pods": "1500m", "memory": "1Gi"}}}),
            &["status.capacity.cpu", "status.capacity.pods"],
        );
        check(
            json!({"status": {"declaredFeatures": ["B/c", "A", "A", "x"]}}),
            &[
                "status.declaredFeatures[1]",
                "status.declaredFeatures[2]",
                "status.declaredFeatures[3]",
            ],
        );
        let taint = json!({"key": "k", "effect": "NoExecute"});
        check(json!({"spec": {"taints": [taint, taint]}}), &["metadata.taints[1]"]);
        let source = json!({"configMap": {"namespace": "n", "name": "c", "uid": "u"}});
        let mut errors = ErrorList::new();
        config_source(&source, false, &Path::new("spec"), &mut errors);
        let found: Vec<&str> = errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(found, ["spec.configMap.uid", "spec.configMap.kubeletConfigKey"]);
    }
}
