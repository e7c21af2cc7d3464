//! What a write through each path to a pod keeps, resets and computes.
//!
//! upstream: pkg/registry/core/pod/strategy.go

use jiff::Timestamp;
use longshore_api::Object;
use serde_json::{Map, Value, json};

use super::resources::qos_class;
use super::tree::{fill, fill_always, has, int, list, list_mut, part_mut, text, texts};
use super::validation::APP_ARMOR;
use crate::plain::keep;

/// Metadata that belongs to the object as a whole: subresources leave it alone.
const KEPT_METADATA: [&str; 7] = [
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "labels",
    "annotations",
    "ownerReferences",
];

/// A new pod waits, with the status that the server gives it.
pub(crate) fn create(object: &mut Object, now: Timestamp) {
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let (class, gated) = (qos_class(spec), !list(spec, "schedulingGates").is_empty());
    object.set(&["metadata", "generation"], 1);
    object.set(&["status"], json!({"phase": "Pending", "qosClass": class}));
    if gated {
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        });
        object.set(&["status", "conditions"], json!([condition]));
    }
    label_keys(object);
    app_armor(object);
}

/// Profiles in the old annotations become fields, where they differ from the pod's.
///
/// upstream: pkg/registry/core/pod/strategy.go applyAppArmorVersionSkew
///
/// Gives the warnings about them.
pub(super) fn app_armor(object: &mut Object) -> Vec<String> {
    let mut warnings = Vec::new();
    let annotations = object.get(&["metadata", "annotations"]).cloned().unwrap_or(Value::Null);
    let Some(spec) = object.get_mut(&["spec"]) else { return warnings };
    if spec.get("os").is_some_and(|os| text(os, "name") == "windows") {
        return warnings;
    }
    let whole = spec.get("securityContext").and_then(|c| c.get("appArmorProfile")).cloned();
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list_mut(spec, key) {
            let key = format!("{APP_ARMOR}{}", text(container, "name"));
            let context = container.get("securityContext").unwrap_or(&Value::Null);
            if has(context, "appArmorProfile") {
                continue;
            }
            let Some(value) = annotations.get(&key).and_then(Value::as_str) else { continue };
            match app_armor_profile(value) {
                Some(profile) if Some(&profile) == whole.as_ref() => continue,
                Some(profile) => {
                    let context = part_mut(container, "securityContext");
                    fill_always(context, "appArmorProfile", profile);
                }
                None => {}
            }
            warnings.push(format!(
                "metadata.annotations[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
            ));
        }
    }
    warnings
}

/// The profile that an annotation stands for; none when it stands for no good one.
pub(super) fn app_armor_profile(annotation: &str) -> Option<Value> {
    match annotation {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        other => {
            let file = other.strip_prefix("localhost/")?;
            let good = !file.is_empty() && file.trim() == file;
            good.then(|| json!({"type": "Localhost", "localhostProfile": file}))
        }
    }
}

/// Restores what a path does not write.
pub(crate) fn update(subresource: &str, new: &mut Object, old: &Object) {
    match subresource {
        "status" => return status(new, old),
        "ephemeralcontainers" => only(new, old, |spec, given| {
            let containers = given.get("ephemeralContainers").cloned();
            match containers {
                Some(containers) => fill_always(spec, "ephemeralContainers", containers),
                None => super::tree::drop_field(spec, "ephemeralContainers"),
            }
        }),
        "resize" => resize(new, old),
        _ => keep(new, old, "status"),
    }
    if new.get(&["spec"]) != old.get(&["spec"]) {
        new.set(&["metadata", "generation"], new.generation() + 1);
    }
}

fn status(new: &mut Object, old: &Object) {
    keep(new, old, "spec");
    new.remove(&["metadata", "deletionTimestamp"]);
    if let Some(time) = old.get(&["metadata", "deletionTimestamp"]) {
        new.set(&["metadata", "deletionTimestamp"], time.clone());
    }
    match old.get(&["metadata", "ownerReferences"]) {
        Some(owners) => new.set(&["metadata", "ownerReferences"], owners.clone()),
        None => {
            new.remove(&["metadata", "ownerReferences"]);
        }
    }
    for field in ["qosClass", "observedGeneration"] {
        let empty = new.get(&["status", field]).is_none_or(|v| v.is_null() || v == 0 || v == "");
        if let (true, Some(value)) = (empty, old.get(&["status", field])) {
            new.set(&["status", field], value.clone());
        }
    }
    let mut before: Vec<&Value> = old.list(&["status", "conditions"]).iter().collect();
    let Some(conditions) = new.get_mut(&["status"]) else { return };
    for condition in list_mut(conditions, "conditions") {
        let Some(at) = before.iter().position(|c| text(c, "type") == text(condition, "type"))
        else {
            continue;
        };
        let same = before.remove(at);
        if int(condition, "observedGeneration").unwrap_or(0) == 0
            && let Some(generation) = same.get("observedGeneration")
        {
            fill_always(condition, "observedGeneration", generation.clone());
        }
    }
}

/// Keeps everything but what `merge` takes from the given spec.
fn only(new: &mut Object, old: &Object, merge: impl Fn(&mut Value, &Value)) {
    let given = new.get(&["spec"]).cloned().unwrap_or_else(|| json!({}));
    keep(new, old, "spec");
    keep(new, old, "status");
    for field in KEPT_METADATA {
        match old.get(&["metadata", field]) {
            Some(value) => new.set(&["metadata", field], value.clone()),
            None => {
                new.remove(&["metadata", field]);
            }
        }
    }
    if let Some(spec) = new.get_mut(&["spec"]) {
        merge(spec, &given);
    }
}

fn resize(new: &mut Object, old: &Object) {
    let names = |object: &Object, key: &str| -> Vec<String> {
        object.list(&["spec", key]).iter().map(|c| text(c, "name").to_owned()).collect()
    };
    // Validation tells what is wrong with other containers than before.
    if ["containers", "initContainers"].iter().any(|key| names(new, key) != names(old, key)) {
        return;
    }
    only(new, old, |spec, given| {
        match given.get("resources") {
            Some(resources) => fill_always(spec, "resources", resources.clone()),
            None => super::tree::drop_field(spec, "resources"),
        }
        for key in ["containers", "initContainers"] {
            let wanted = list(given, key).to_vec();
            for (container, wanted) in list_mut(spec, key).zip(wanted) {
                for field in ["resources", "resizePolicy"] {
                    if let Some(value) = wanted.get(field) {
                        fill_always(container, field, value.clone());
                    } else {
                        super::tree::drop_field(container, field);
                    }
                }
            }
        }
    });
}

/// Adds the pod's own values of the named label keys to selectors of pods.
fn label_keys(object: &mut Object) {
    let labels = object.labels().cloned().unwrap_or_default();
    let Some(spec) = object.get_mut(&["spec"]) else { return };
    for constraint in list_mut(spec, "topologySpreadConstraints") {
        add_label_keys(constraint, "matchLabelKeys", "In", &labels);
    }
    let Some(affinity) = spec.get_mut("affinity") else { return };
    for key in ["podAffinity", "podAntiAffinity"] {
        let Some(part) = affinity.get_mut(key) else { continue };
        for preferred in list_mut(part, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = preferred.get_mut("podAffinityTerm") {
                term_label_keys(term, &labels);
            }
        }
        for term in list_mut(part, "requiredDuringSchedulingIgnoredDuringExecution") {
            term_label_keys(term, &labels);
        }
    }
}

fn term_label_keys(term: &mut Value, labels: &Map<String, Value>) {
    add_label_keys(term, "matchLabelKeys", "In", labels);
    add_label_keys(term, "mismatchLabelKeys", "NotIn", labels);
}

fn add_label_keys(holder: &mut Value, keys: &str, operator: &str, labels: &Map<String, Value>) {
    let keys: Vec<String> = texts(holder, keys).into_iter().map(str::to_owned).collect();
    if keys.is_empty() || holder.get("labelSelector").is_none_or(Value::is_null) {
        return;
    }
    let selector = part_mut(holder, "labelSelector");
    for key in keys {
        let Some(value) = labels.get(&key) else { continue };
        fill(selector, "matchExpressions", json!([]));
        if let Some(list) = selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
            list.push(json!({"key": key, "operator": operator, "values": [value]}));
        }
    }
}
