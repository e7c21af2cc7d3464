//! Changes of a running pod's resources.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidatePodResize

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use super::annotations::MIRROR;
use crate::core::pods::resources::{is_sidecar, qos_class};
use crate::core::pods::tree::{
    drop_field, entries, fill_always, has, list, list_mut, part, part_mut, text,
};

const ONLY: &str = "only cpu and memory resources are mutable";

/// The broken rules of a resize, after those of the pod itself.
pub(super) fn resize(new: &Object, old: &Object, mut errors: ErrorList) -> ErrorList {
    let none = Path::new("");
    if old.annotation(MIRROR).is_some() {
        return vec![Error::forbidden(&none, "static pods cannot be resized")];
    }
    if old.str(&["spec", "os", "name"]) == "windows" {
        return vec![Error::forbidden(&none, "windows pods cannot be resized")];
    }
    let empty = json!({});
    let after = new.get(&["spec"]).unwrap_or(&empty);
    let before = old.get(&["spec"]).unwrap_or(&empty);
    let path = Path::new("spec");
    let class = match old.str(&["status", "qosClass"]) {
        "" => qos_class(before),
        class => class,
    };
    if class != qos_class(after) {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(Error::invalid(&path, new.str(&["status", "qosClass"]), detail));
    }
    let running = old
        .list(&["status", "containerStatuses"])
        .iter()
        .find(|c| part(c, "state").is_some_and(|state| has(state, "running")));
    if running.is_some_and(|c| !has(c, "resources")) {
        let detail = "Pod running on node without support for resize";
        errors.push(Error::forbidden(&path, detail));
    }
    let mut munged = after.clone();
    whole(after, before, &mut munged, &path, &mut errors);
    let known = errors.len();
    order(after, before, &path, &mut errors);
    if errors.len() > known {
        return errors;
    }
    containers(after, before, &mut munged, &path, &mut errors);
    if errors.is_empty() && munged != *before {
        errors.push(Error::forbidden(&path, ONLY));
    }
    errors
}

fn removed(after: &Value, before: &Value, kind: &str) -> bool {
    let new = part(after, "resources").and_then(|r| part(r, kind)).unwrap_or(&Value::Null);
    let old = part(before, "resources").unwrap_or(&Value::Null);
    entries(old, kind).any(|(name, _)| !has(new, name))
}

/// Puts the old amounts of CPU and memory back.
fn mask(holder: &mut Value, old: &Value) {
    for kind in ["limits", "requests"] {
        for name in ["cpu", "memory"] {
            let before =
                part(old, "resources").and_then(|r| part(r, kind)).and_then(|l| part(l, name));
            match before.cloned() {
                Some(value) => {
                    fill_always(part_mut(part_mut(holder, "resources"), kind), name, value);
                }
                None => {
                    if let Some(list) = holder.get_mut("resources").and_then(|r| r.get_mut(kind)) {
                        drop_field(list, name);
                    }
                }
            }
        }
        let resources = holder.get("resources").and_then(|r| r.get(kind));
        if resources.is_some_and(|list| *list == json!({})) {
            drop_field(part_mut(holder, "resources"), kind);
        }
    }
}

/// As [`mask`]; the claims of a container are not looked at here.
fn mask_container(container: &mut Value, old: &Value) {
    mask(container, old);
    if let Some(resources) = container.get_mut("resources") {
        drop_field(resources, "claims");
    }
}

fn whole(after: &Value, before: &Value, munged: &mut Value, path: &Path, errors: &mut ErrorList) {
    let set = |spec: &Value| part(spec, "resources").is_some_and(|r| *r != json!({}));
    if !set(after) && !set(before) {
        return;
    }
    let at = path.child("resources");
    if has(before, "resources") && !has(after, "resources") {
        errors.push(Error::forbidden(&at, "pod-level resources cannot be removed"));
        return;
    }
    for (kind, name) in [("requests", "requests"), ("limits", "limits")] {
        if removed(after, before, kind) {
            let detail = format!("pod-level resource {name} cannot be removed");
            errors.push(Error::forbidden(&at.child(kind), &detail));
        }
    }
    mask(munged, before);
    if !has(before, "resources") && part(munged, "resources").is_some_and(|r| *r == json!({})) {
        drop_field(munged, "resources");
    }
    if munged.get("resources") != before.get("resources") {
        let detail = "only cpu and memory resources are mutable at pod-level";
        errors.push(Error::forbidden(path, detail));
    }
}

fn order(after: &Value, before: &Value, path: &Path, errors: &mut ErrorList) {
    for key in ["containers", "initContainers"] {
        let at = path.child(key);
        let (new, old) = (list(after, key), list(before, key));
        if new.len() != old.len() {
            let detail = format!("{key} may not be added or removed on resize");
            errors.push(Error::forbidden(&at, &detail));
            continue;
        }
        for (i, (new, old)) in new.iter().zip(old).enumerate() {
            if text(new, "name") != text(old, "name") {
                let detail = format!("{key} may not be renamed or reordered on resize");
                errors.push(Error::forbidden(&at.index(i).child("name"), &detail));
            }
        }
    }
}

fn containers(
    after: &Value,
    before: &Value,
    munged: &mut Value,
    path: &Path,
    errors: &mut ErrorList,
) {
    for key in ["initContainers", "containers"] {
        for (i, (new, old)) in list(after, key).iter().zip(list(before, key)).enumerate() {
            let at = path.child(key).index(i).child("resources");
            for kind in ["requests", "limits"] {
                if removed(new, old, kind) {
                    let detail = format!("resource {kind} cannot be removed");
                    errors.push(Error::forbidden(&at.child(kind), &detail));
                }
            }
        }
    }
    for (container, old) in list_mut(munged, "containers").zip(list(before, "containers")) {
        mask_container(container, old);
        if container != old {
            errors.push(Error::forbidden(path, ONLY));
        }
    }
    let init = list_mut(munged, "initContainers").zip(list(before, "initContainers"));
    for (i, (container, old)) in init.enumerate() {
        let changed = container != old;
        let at = path.child("initContainers").index(i);
        mask_container(container, old);
        if container != old {
            let detail = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.push(Error::forbidden(&at, detail));
        }
        let policies = list(container, "resizePolicy").iter();
        let restarts = policies.filter(|p| text(p, "restartPolicy") == "RestartContainer").count();
        if changed && !is_sidecar(container) {
            let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            errors.extend((0..restarts).map(|_| Error::forbidden(&at, detail)));
        }
    }
}
