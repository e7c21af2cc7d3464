//! What may change in a job's template: where pods run and what they ask for, while none runs.
//!
//! upstream: pkg/apis/batch/validation/validation.go validatePodTemplateUpdate,
//! pkg/registry/batch/job/strategy.go validationOptionsForJob

use longshore_api::Object;
use longshore_api::field::{ErrorList, Path};
use serde_json::{Value, json};

use crate::core::pods::tree::{
    drop_field, fill_always, flag, has, list, list_mut, part, part_mut, text,
};
use crate::core::pods::validation::common::immutable;

fn restore(to: &mut Value, from: &Value, key: &str) {
    match from.get(key) {
        Some(value) => fill_always(to, key, value.clone()),
        None => drop_field(to, key),
    }
}

/// The broken rules of a changed template.
pub(super) fn changes(
    spec: &Value,
    old: &Object,
    old_spec: &Value,
    path: &Path,
    errors: &mut ErrorList,
) {
    let empty = json!({});
    let new = part(spec, "template").unwrap_or(&empty);
    let mut before = part(old_spec, "template").unwrap_or(&empty).clone();
    let suspended = flag(old_spec, "suspend");
    let stopped = old
        .list(&["status", "conditions"])
        .iter()
        .any(|c| text(c, "type") == "Suspended" && text(c, "status") == "True");
    let started = !old.str(&["status", "startTime"]).is_empty();
    let active = old.int(&["status", "active"]).unwrap_or(0);
    let open = suspended && (!started || stopped) && active == 0;
    if open {
        take_scheduling(new, &mut before);
    }
    if !suspended || !open {
        immutable(Some(new), Some(&before), &path.child("template"), errors);
        return;
    }
    let null = Value::Null;
    let pod = part(new, "spec").unwrap_or(&null);
    let old_pod = part_mut(&mut before, "spec");
    for key in ["containers", "initContainers"] {
        if list(pod, key).len() != list(old_pod, key).len() {
            continue;
        }
        for (new, old) in list(pod, key).iter().zip(list_mut(old_pod, key)) {
            if text(new, "name") == text(old, "name") {
                restore(old, new, "resources");
            }
        }
    }
    immutable(Some(pod), Some(old_pod), &path.child("template.spec"), errors);
}

/// Takes over what says where pods run.
fn take_scheduling(new: &Value, old: &mut Value) {
    let null = Value::Null;
    let pod = part(new, "spec").unwrap_or(&null);
    let affinity = part(pod, "affinity");
    let old_pod = part_mut(old, "spec");
    match (affinity, has(old_pod, "affinity")) {
        (None, true) => {
            drop_field(part_mut(old_pod, "affinity"), "nodeAffinity");
            if part(old_pod, "affinity") == Some(&json!({})) {
                drop_field(old_pod, "affinity");
            }
        }
        (Some(affinity), _) => restore(part_mut(old_pod, "affinity"), affinity, "nodeAffinity"),
        (None, false) => {}
    }
    for key in ["nodeSelector", "tolerations", "schedulingGates"] {
        restore(old_pod, pod, key);
    }
    let metadata = part(new, "metadata").unwrap_or(&null);
    for key in ["annotations", "labels"] {
        restore(part_mut(old, "metadata"), metadata, key);
    }
}
