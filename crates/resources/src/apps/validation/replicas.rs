//! Deployments, replica sets and replication controllers.
//!
//! upstream: pkg/apis/apps/validation/validation.go ValidateDeploymentSpec,
//! ValidateReplicaSetSpec, pkg/apis/core/validation/validation.go ValidateReplicationControllerSpec

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::selector::LabelSelector;
use serde_json::{Value, json};

use super::{
    amount, at_most_all, collisions, counts, int_or_percent, not_more, parsed, running_template,
    selector, spec_of, template_labels,
};
use crate::core::pods::tree::{has, int, part, text};
use crate::core::pods::validation::common::immutable;

/// A deployment.
pub(crate) fn deployment(new: &Object, old: Option<&Object>) -> ErrorList {
    let (spec, path) = (spec_of(new), Path::new("spec"));
    let mut errors = ErrorList::new();
    counts(spec, &["replicas"], &path, &mut errors);
    replicas_and_template(spec, old, &path, &mut errors);
    strategy(spec, &path.child("strategy"), &mut errors);
    let keys = ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"];
    counts(spec, &keys, &path, &mut errors);
    let ready = int(spec, "minReadySeconds").unwrap_or(0);
    if let Some(seconds) = int(spec, "progressDeadlineSeconds").filter(|s| *s <= ready) {
        let at = path.child("progressDeadlineSeconds");
        errors.push(Error::invalid(&at, seconds, "must be greater than minReadySeconds"));
    }
    same_selector(spec, old, &path, &mut errors);
    errors
}

fn same_selector(spec: &Value, old: Option<&Object>, path: &Path, errors: &mut ErrorList) {
    if let Some(old) = old {
        let (new, old) = (spec.get("selector"), spec_of(old).get("selector"));
        immutable(new, old, &path.child("selector"), errors);
    }
}

fn replicas_and_template(spec: &Value, old: Option<&Object>, path: &Path, errors: &mut ErrorList) {
    selector(spec, "deployment", path, errors);
    match parsed(spec, path, "invalid label selector") {
        Err(error) => errors.push(error),
        Ok(selector) => {
            if selector.as_ref().is_none_or(|s| !s.is_empty()) {
                template_labels(spec, selector.as_ref(), path, errors);
            }
            running_template(spec, old.map(spec_of), "ReplicaSet", path, errors);
        }
    }
}

fn strategy(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let strategy = part(spec, "strategy").unwrap_or(&Value::Null);
    let at = path.child("rollingUpdate");
    match text(strategy, "type") {
        "Recreate" => {
            if has(strategy, "rollingUpdate") {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(Error::forbidden(&at, detail));
            }
        }
        "RollingUpdate" => {
            let Some(rolling) = part(strategy, "rollingUpdate") else {
                let detail = "this should be defaulted and never be nil";
                errors.push(Error::required(&at, detail));
                return;
            };
            let (down, up) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            let at_down = at.child("maxUnavailable");
            int_or_percent(down, &at_down, errors);
            int_or_percent(up, &at.child("maxSurge"), errors);
            if amount(down) == 0 && amount(up) == 0 {
                let value = down.cloned().unwrap_or(Value::Null);
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.push(Error::invalid(&at_down, value, detail));
            }
            at_most_all(down, &at_down, errors);
        }
        _ => {
            let set = ["Recreate", "RollingUpdate"];
            errors.push(Error::not_supported(path, strategy.clone(), &set));
        }
    }
}

/// The status of a deployment.
pub(crate) fn deployment_status(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let status = new.get(&["status"]).unwrap_or(&Value::Null);
    let path = Path::new("status");
    let keys = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    counts(status, &keys, &path, &mut errors);
    let keys = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    not_more(status, &keys, ("replicas", "status.replicas"), &path, &mut errors);
    let than = ("readyReplicas", "readyReplicas");
    not_more(status, &["availableReplicas"], than, &path, &mut errors);
    collisions(new, old, &mut errors);
    errors
}

/// A replica set.
pub(crate) fn replica_set(new: &Object, old: Option<&Object>) -> ErrorList {
    let (spec, path) = (spec_of(new), Path::new("spec"));
    let mut errors = ErrorList::new();
    counts(spec, &["replicas", "minReadySeconds"], &path, &mut errors);
    replicas_and_template(spec, old, &path, &mut errors);
    same_selector(spec, old, &path, &mut errors);
    errors
}

/// The status of a replica set or replication controller.
pub(crate) fn replica_counts(new: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let status = new.get(&["status"]).unwrap_or(&Value::Null);
    let path = Path::new("status");
    let keys = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ];
    counts(status, &keys, &path, &mut errors);
    let keys = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    not_more(status, &keys, ("replicas", "status.replicas"), &path, &mut errors);
    let than = ("readyReplicas", "readyReplicas");
    not_more(status, &["availableReplicas"], than, &path, &mut errors);
    errors
}

/// A replication controller, whose selector is a map of labels.
pub(crate) fn replication_controller(new: &Object, old: Option<&Object>) -> ErrorList {
    let (spec, path) = (spec_of(new), Path::new("spec"));
    let mut errors = ErrorList::new();
    counts(spec, &["minReadySeconds"], &path, &mut errors);
    let labels = part(spec, "selector").and_then(Value::as_object).filter(|map| !map.is_empty());
    if labels.is_none() {
        errors.push(Error::required(&path.child("selector"), ""));
    }
    counts(spec, &["replicas"], &path, &mut errors);
    if !has(spec, "template") {
        errors.push(Error::required(&path.child("template"), ""));
        return errors;
    }
    if let Some(labels) = labels {
        let selector = LabelSelector::from_value(&json!({ "matchLabels": labels })).ok();
        template_labels(spec, selector.as_ref(), &path, &mut errors);
    }
    running_template(spec, old.map(spec_of), "ReplicationController", &path, &mut errors);
    errors
}
