//! What the workloads share: a selector, a pod template and counts of pods.

use longshore_api::Object;
use longshore_api::field::{ErrorList, Path};
use longshore_api::meta_validation::{validate_kube_finalizers, validate_object_meta_update};
use longshore_api::selector::LabelSelector;
use longshore_api::{complete, names, schema};
use serde_json::Value;

use crate::core::pods::cells;
use crate::core::pods::warnings;

/// The spec, made when absent.
pub(crate) fn spec(object: &mut Object) -> &mut Value {
    if object.get(&["spec"]).is_none() {
        object.set(&["spec"], Value::Object(serde_json::Map::new()));
    }
    object.get_mut(&["spec"]).expect("made just above")
}

/// Fills what the API always shows, such as an empty status.
pub(crate) fn complete(object: &mut Object, ty: &str) {
    let Some(ty) = schema::type_named(ty) else { return };
    object.change(|value| complete::complete(ty, value));
}

/// The rules of changed metadata, which upstream's checks of most kinds repeat.
pub(crate) fn changed_metadata(new: &Object, old: &Object) -> ErrorList {
    let path = Path::new("metadata");
    let mut errors = validate_object_meta_update(new, old, &path);
    errors.extend(validate_kube_finalizers(new, &path));
    errors
}

/// Restores the labels.
pub(crate) fn keep_labels(new: &mut Object, old: &Object) {
    match old.get(&["metadata", "labels"]) {
        Some(labels) => new.set(&["metadata", "labels"], labels.clone()),
        None => {
            new.remove(&["metadata", "labels"]);
        }
    }
}

/// Ready pods of those wanted.
pub(crate) fn ready(object: &Object) -> Value {
    let ready = object.int(&["status", "readyReplicas"]).unwrap_or(0);
    let wanted = object.int(&["spec", "replicas"]).unwrap_or(0);
    format!("{ready}/{wanted}").into()
}

/// The selector as a cell.
pub(crate) fn selector(object: &Object) -> Value {
    cells::selector(object.get(&["spec", "selector"])).into()
}

/// The selector as a query; empty when it selects nothing.
pub(crate) fn selector_or_nothing(object: &Object) -> String {
    match object.get(&["spec", "selector"]).map(LabelSelector::from_value) {
        None => String::new(),
        Some(Ok(selector)) => selector.to_string(),
        Some(Err(_)) => "<invalid>".to_owned(),
    }
}

/// Advice on a workload: its template, and on create (with `named`) its name.
pub(crate) fn warnings(object: &Object, old: Option<&Object>, named: bool) -> Vec<String> {
    let mut texts = Vec::new();
    match old {
        None if named => texts.extend(name_warning(object)),
        Some(old) if old.generation() == object.generation() => return texts,
        _ => {}
    }
    texts.extend(warnings::template(object.get(&["spec", "template"]), "spec.template"));
    texts
}

/// Advice on a name that pods' names are made of.
pub(crate) fn name_warning(object: &Object) -> Option<String> {
    let broken = names::is_dns1123_label(object.name());
    (!broken.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
            broken.join(" ")
        )
    })
}
