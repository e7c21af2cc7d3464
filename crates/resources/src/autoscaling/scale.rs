//! The `scale` subresource: how many pods a workload has and wants.
//!
//! upstream: pkg/registry/apps/deployment/storage/storage.go scaleFromDeployment and its siblings

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::selector::LabelSelector;
use serde_json::{Map, Value, json};

use crate::core::pods::cells::{AGE, NAME, age, number};
use crate::table::Column;

/// The columns of scales.
///
/// upstream: pkg/printers/internalversion/printers.go scaleColumnDefinitions
pub fn columns() -> Vec<Column> {
    let desired = number("Desired", "Pods wanted.");
    vec![NAME, desired, number("Available", "Pods that exist."), AGE]
}

/// The row of a scale.
pub fn row(scale: &Object, now: Timestamp) -> Vec<Value> {
    let count = |part: &str| scale.int(&[part, "replicas"]).unwrap_or(0).into();
    vec![scale.name().into(), count("spec"), count("status"), age(scale, now)]
}

/// The `autoscaling/v1 Scale` of a workload.
pub fn to_scale(object: &Object) -> Value {
    let mut metadata = Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.get(&["metadata", key]) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    let mut spec = Map::new();
    let wanted = object.int(&["spec", "replicas"]).unwrap_or(0);
    if wanted != 0 {
        spec.insert("replicas".to_owned(), wanted.into());
    }
    let mut status = Map::new();
    let current = object.int(&["status", "replicas"]).unwrap_or(0);
    status.insert("replicas".to_owned(), current.into());
    let selector = selector(object);
    if !selector.is_empty() {
        status.insert("selector".to_owned(), selector.into());
    }
    json!({
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    })
}

/// The selector as a query. A replication controller's is a map of labels.
fn selector(object: &Object) -> String {
    let Some(selector) = object.get(&["spec", "selector"]) else { return String::new() };
    let parsed = if object.kind() == "ReplicationController" {
        LabelSelector::from_value(&json!({"matchLabels": selector}))
    } else {
        LabelSelector::from_value(selector)
    };
    parsed.map(|selector| selector.to_string()).unwrap_or_default()
}

/// Takes the wanted number of pods over into a workload, with the precondition that the scale's
/// resource version is.
pub fn apply_scale(object: &mut Object, scale: &Object) {
    let wanted = scale.int(&["spec", "replicas"]).unwrap_or(0);
    object.set(&["spec", "replicas"], wanted);
    for key in ["uid", "resourceVersion"] {
        let value = scale.str(&["metadata", key]);
        if !value.is_empty() {
            object.set(&["metadata", key], value);
        }
    }
}

/// The broken rules of a scale that a client sends.
///
/// upstream: pkg/apis/autoscaling/validation/validation.go ValidateScale
pub fn validate_scale(scale: &Object) -> ErrorList {
    let wanted = scale.int(&["spec", "replicas"]).unwrap_or(0);
    if wanted >= 0 {
        return ErrorList::new();
    }
    let path = Path::new("spec").child("replicas");
    vec![Error::invalid(&path, wanted, "must be greater than or equal to 0")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_goes_to_and_from_a_workload() {
        let mut object = Object::from_value(json!({
            "kind": "Deployment",
            "metadata": {"name": "a", "namespace": "b", "resourceVersion": "7"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "x"}}},
            "status": {"replicas": 1},
        }))
        .expect("an object");
        let scale = to_scale(&object);
        assert_eq!(scale["spec"]["replicas"], 2);
        assert_eq!(scale["status"], json!({"replicas": 1, "selector": "app=x"}));
        let mut scale = Object::from_value(scale).expect("an object");
        scale.set(&["spec", "replicas"], 5);
        apply_scale(&mut object, &scale);
        assert_eq!(object.int(&["spec", "replicas"]), Some(5));
    }
}
