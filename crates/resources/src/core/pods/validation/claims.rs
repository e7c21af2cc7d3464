//! Claims of storage inside other objects.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidatePersistentVolumeClaimTemplate,
//! ValidatePersistentVolumeClaimSpec

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::validate_labels;
use serde_json::Value;

use super::annotations;
use super::common::{dns_label, dns_subdomain, label_selector, one_of, required};
use crate::core::pods::resources::quantity;
use crate::core::pods::tree::{has, opt_text, part, text, texts};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// Metadata that a template may not have: the field and its name in paths.
const FIXED: [(&str, &str); 12] = [
    ("name", "name"),
    ("generateName", "generateName"),
    ("namespace", "namespace"),
    ("selfLink", "selfLink"),
    ("uid", "uID"),
    ("resourceVersion", "resourceVersion"),
    ("generation", "generation"),
    ("creationTimestamp", "creationTimestamp"),
    ("deletionTimestamp", "deletionTimestamp"),
    ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
    ("ownerReferences", "ownerReferences"),
    ("finalizers", "finalizers"),
];

/// Metadata of a template: labels and annotations only.
pub(crate) fn template_metadata(template: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(metadata) = part(template, "metadata") else { return };
    annotations::keys(metadata, &path.child("annotations"), errors);
    errors.extend(validate_labels(metadata.get("labels"), &path.child("labels")));
    for (key, name) in FIXED {
        if has(metadata, key) {
            errors.push(Error::forbidden(&path.child(name), "cannot be set"));
        }
    }
}

/// What is claimed; `old` is the spec of a claim that is being changed.
pub(crate) fn claim_spec(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    let modes = texts(spec, "accessModes");
    let at = path.child("accessModes");
    if modes.is_empty() {
        errors.push(Error::required(&at, "at least 1 access mode is required"));
    }
    label_selector(spec.get("selector"), &path.child("selector"), false, errors);
    modes.iter().for_each(|mode| one_of(mode, &MODES, &at, errors));
    let single = modes.contains(&"ReadWriteOncePod");
    let others = modes.iter().any(|mode| *mode != "ReadWriteOncePod" && MODES.contains(mode));
    if single && others {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(Error::forbidden(&at, detail));
    }
    let at = path.child("resources").key("storage");
    let requests = part(spec, "resources").and_then(|r| part(r, "requests"));
    match requests.and_then(|r| part(r, "storage")) {
        None => errors.push(Error::required(&at, "")),
        Some(storage) => {
            let storage = quantity(storage);
            if storage.sign() <= 0 {
                let detail = "must be greater than zero";
                errors.push(Error::invalid(&at, storage.to_string(), detail));
            }
        }
    }
    for key in ["storageClassName", "volumeAttributesClassName"] {
        if let Some(name) = opt_text(spec, key).filter(|name| !name.is_empty()) {
            dns_subdomain(name, &path.child(key), errors);
        }
    }
    if let Some(mode) = opt_text(spec, "volumeMode") {
        one_of(mode, &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    }
    sources(spec, old, path, errors);
}

/// upstream: validateDataSource, validateDataSourceRef
fn sources(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    let keys = ["dataSource", "dataSourceRef"];
    let [source, reference] = keys.map(|key| part(spec, key));
    // A claim that already names a group may keep a bad one.
    let grouped =
        |old: &Value| keys.iter().filter_map(|k| part(old, k)).any(|s| has(s, "apiGroup"));
    let lenient = old.is_some_and(grouped);
    for (key, source) in keys.iter().zip([source, reference]) {
        let Some(source) = source else { continue };
        data_source(source, lenient, &path.child(key), errors);
    }
    let (Some(source), Some(reference)) = (source, reference) else { return };
    // Upstream prints its own path here, which shows nothing.
    let shown = "{}";
    if !text(reference, "namespace").is_empty() {
        let detail = "may not be specified when dataSourceRef.namespace is specified";
        errors.push(Error::invalid_text(path, shown, detail));
    } else if ["apiGroup", "kind", "name"].iter().any(|k| part(source, k) != part(reference, k)) {
        errors.push(Error::invalid_text(path, shown, "must match dataSourceRef"));
    }
}

fn data_source(source: &Value, lenient: bool, path: &Path, errors: &mut ErrorList) {
    required(text(source, "name"), &path.child("name"), errors);
    required(text(source, "kind"), &path.child("kind"), errors);
    let group = text(source, "apiGroup");
    let claim = text(source, "kind") == "PersistentVolumeClaim";
    if group.is_empty() && !claim {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(Error::invalid(path, text(source, "kind"), detail));
    }
    if !group.is_empty() && !lenient {
        dns_subdomain(group, &path.child("apiGroup"), errors);
    }
    let namespace = text(source, "namespace");
    if !namespace.is_empty() {
        dns_label(namespace, &path.child("namespace"), errors);
    }
}
