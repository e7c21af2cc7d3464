//! What may change in a pod.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidatePodUpdate,
//! ValidatePodEphemeralContainersUpdate

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::{validate_kube_finalizers, validate_object_meta};
use longshore_api::{Object, gostruct};
use serde_json::{Value, json};

use super::annotations::{self, MIRROR};
use super::options::Options;
use super::{affinity, pod, resize, status};
use crate::apps::workload;
use crate::core::pods::tree::{
    drop_field, fill_always, has, int, list, list_mut, part, part_mut, text,
};
use crate::table::default_name_rule;

/// What a plain update may change.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// The broken rules of a changed pod.
pub(crate) fn update(subresource: &str, new: &Object, old: &Object) -> ErrorList {
    let options = Options::new(true, old.get(&["spec"]));
    if subresource == "status" {
        return status::update(new, old, &options);
    }
    let mut errors = validate_object_meta(new, true, &default_name_rule, &Path::new("metadata"));
    errors.extend(validate_kube_finalizers(new, &Path::new("metadata")));
    errors.extend(workload::changed_metadata(new, old));
    errors.extend(pod(new, &options));
    let null = Value::Null;
    let metadata = |object: &Object| object.get(&["metadata"]).cloned().unwrap_or(Value::Null);
    let spec = |object: &Object| object.get(&["spec"]).cloned().unwrap_or_else(|| json!({}));
    let (after, before) = (spec(new), spec(old));
    if subresource == "resize" {
        return resize::resize(new, old, errors);
    }
    let at = Path::new("metadata").child("annotations");
    let (new_metadata, old_metadata) = (metadata(new), metadata(old));
    annotations::updates(&new_metadata, &old_metadata, &at, &mut errors);
    annotations::pod_specific(
        new.get(&["metadata"]).unwrap_or(&null),
        &after,
        &at,
        &options,
        &mut errors,
    );
    if subresource == "ephemeralcontainers" {
        if old.annotation(MIRROR).is_some() {
            let detail = "static pods do not support ephemeral containers";
            return vec![Error::forbidden(&Path::new(""), detail)];
        }
        ephemeral(&after, &before, &mut errors);
        return errors;
    }
    spec_update(after, &before, &options, &mut errors);
    errors
}

fn ephemeral(after: &Value, before: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec").child("ephemeralContainers");
    for container in list(before, "ephemeralContainers") {
        let name = text(container, "name");
        let kept = list(after, "ephemeralContainers").iter().rfind(|c| text(c, "name") == name);
        let detail = match kept {
            Some(kept) if kept == container => continue,
            Some(kept) => format!(
                "existing ephemeral containers {name:?} may not be changed\n{}",
                gostruct::difference("core/v1.EphemeralContainer", container, kept)
            ),
            None => format!("existing ephemeral containers {name:?} may not be removed\n"),
        };
        errors.push(Error::forbidden(&path, &detail));
    }
}

/// The containers' images; tells whether the lists still go together.
fn images(after: &Value, before: &Value, path: &Path, errors: &mut ErrorList) -> bool {
    for key in ["containers", "initContainers"] {
        let path = path.child(key);
        let (new, old) = (list(after, key), list(before, key));
        if new.len() != old.len() {
            let detail = "pod updates may not add or remove containers";
            errors.push(Error::forbidden(&path, detail));
            return false;
        }
        for (i, container) in new.iter().enumerate() {
            let at = path.index(i).child("image");
            match text(container, "image") {
                "" => errors.push(Error::required(&at, "")),
                image if image.trim() != image => {
                    let detail = "must not have leading or trailing whitespace";
                    errors.push(Error::invalid(&at, image, detail));
                }
                _ => {}
            }
        }
    }
    true
}

/// The deadline may only come nearer; tells whether to go on.
fn deadline(after: &Value, before: &Value, path: &Path, errors: &mut ErrorList) -> bool {
    let at = path.child("activeDeadlineSeconds");
    let old = int(before, "activeDeadlineSeconds");
    let Some(new) = int(after, "activeDeadlineSeconds") else {
        if old.is_some() {
            let detail = "must not update from a positive integer to nil value";
            errors.push(Error::invalid(&at, Value::Null, detail));
        }
        return true;
    };
    let max = i64::from(i32::MAX);
    if !(0..=max).contains(&new) {
        let detail = format!("must be between 0 and {max}, inclusive");
        errors.push(Error::invalid(&at, new, &detail));
        return false;
    }
    if old.is_some_and(|old| old < new) {
        let detail = "must be less than or equal to previous value";
        errors.push(Error::invalid(&at, new, detail));
        return false;
    }
    true
}

fn spec_update(mut after: Value, before: &Value, options: &Options, errors: &mut ErrorList) {
    let path = Path::new("spec");
    if !images(&after, before, &path, errors) || !deadline(&after, before, &path, errors) {
        return;
    }
    added_tolerations(&after, before, &path.child("tolerations"), options, errors);
    let old_gates = list(before, "schedulingGates");
    for (i, gate) in list(&after, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        if !old_gates.iter().any(|g| text(g, "name") == name) {
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{name}'");
            let at = path.child("schedulingGates").index(i).child("name");
            errors.push(Error::forbidden(&at, &detail));
        }
    }
    if after == *before {
        return;
    }
    for key in ["containers", "initContainers"] {
        for (container, old) in list_mut(&mut after, key).zip(list(before, key)) {
            restore(container, old, "image");
        }
    }
    for key in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(&mut after, before, key);
    }
    let key = "terminationGracePeriodSeconds";
    if int(before, key).is_some_and(|s| s < 0) && int(&after, key) == Some(1) {
        restore(&mut after, before, key);
    }
    if !old_gates.is_empty() {
        gated(&mut after, before, &path, errors);
    }
    if after != *before {
        let detail = format!(
            "pod updates may not change fields other than {UPDATABLE}\n{}",
            gostruct::difference("core/v1.PodSpec", before, &after)
        );
        errors.push(Error::forbidden(&path, &detail));
    }
}

fn restore(after: &mut Value, before: &Value, key: &str) {
    match before.get(key) {
        Some(value) => fill_always(after, key, value.clone()),
        None => drop_field(after, key),
    }
}

fn added_tolerations(
    after: &Value,
    before: &Value,
    path: &Path,
    options: &Options,
    errors: &mut ErrorList,
) {
    let new = list(after, "tolerations");
    let timeless = |toleration: &Value| {
        let mut toleration = toleration.clone();
        drop_field(&mut toleration, "tolerationSeconds");
        toleration
    };
    let kept = list(before, "tolerations")
        .iter()
        .all(|old| new.iter().any(|new| timeless(new) == timeless(old)));
    if !kept {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(Error::forbidden(path, detail));
        return;
    }
    affinity::tolerations(new, path, options, errors);
}

/// A pod that waits behind gates may still be narrowed to fewer nodes.
fn gated(after: &mut Value, before: &Value, path: &Path, errors: &mut ErrorList) {
    if after.get("nodeSelector") != before.get("nodeSelector") {
        let new = part(after, "nodeSelector").unwrap_or(&Value::Null);
        let old = part(before, "nodeSelector").and_then(Value::as_object);
        if old.into_iter().flatten().any(|(key, value)| new.get(key) != Some(value)) {
            let detail =
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.push(Error::invalid(&path.child("nodeSelector"), new.clone(), detail));
        }
        restore(after, before, "nodeSelector");
    }
    let nodes =
        |spec: &Value| part(spec, "affinity").and_then(|a| part(a, "nodeAffinity")).cloned();
    let (new, old) = (nodes(after), nodes(before));
    if new == old {
        return;
    }
    let at = path.child("affinity").child("nodeAffinity");
    let at = at.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
    let required = new.as_ref().and_then(|nodes| part(nodes, affinity::REQUIRED));
    let terms = required.and_then(|selector| selector.get("nodeSelectorTerms"));
    narrowed(terms, affinity::required_node_terms(before), &at, errors);
    match old {
        Some(old) => fill_always(part_mut(after, "affinity"), "nodeAffinity", old),
        None => {
            drop_field(part_mut(after, "affinity"), "nodeAffinity");
            let empty = part(after, "affinity").is_some_and(|a| *a == json!({}));
            if empty && !has(before, "affinity") {
                drop_field(after, "affinity");
            }
        }
    }
}

fn narrowed(terms: Option<&Value>, old: &[Value], path: &Path, errors: &mut ErrorList) {
    if old.is_empty() {
        return;
    }
    let new = terms.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if new.len() != old.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(Error::invalid(path, terms.cloned().unwrap_or(Value::Null), detail));
        return;
    }
    for (i, (new, old)) in new.iter().zip(old).enumerate() {
        let of =
            |term: &Value| ["matchExpressions", "matchFields"].map(|key| list(term, key).to_vec());
        let (now, before) = (of(new), of(old));
        let emptied = before.iter().all(Vec::is_empty) && now.iter().any(|l| !l.is_empty());
        let added = now.iter().zip(&before).all(|(now, before)| now.starts_with(before));
        if emptied || !added {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.push(Error::invalid(&path.index(i), new.clone(), detail));
        }
    }
}
