//! The rules of `metadata`, the same for every kind.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/api/validation/objectmeta.go

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::field::{Error, ErrorList, Path};
use crate::patch::gotext;
use crate::{Object, gvk, names};

/// Bytes of all annotations of an object together.
pub(crate) const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Longest name of a field manager in bytes.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/validation/validation.go
pub const FIELD_MANAGER_BYTES_MAX: usize = 128;
/// Longest name of a subresource of a field manager in bytes.
const SUBRESOURCE_BYTES_MAX: usize = 256;
const IMMUTABLE: &str = "field is immutable";

/// The rules of a name: the broken ones, and whether a suffix will follow (`generateName`).
pub type NameRule<'a> = &'a dyn Fn(&str, bool) -> Vec<String>;

/// A name with a suffix to come may end in a dash; upstream masks it before checking.
pub fn mask_trailing_dash(name: &str) -> String {
    if name.len() > 1 && name.ends_with('-') && name.is_char_boundary(name.len() - 2) {
        format!("{}a", &name[..name.len() - 2])
    } else {
        name.to_owned()
    }
}

/// The broken rules of a new object's metadata; names are generated already.
pub fn validate_object_meta(
    object: &Object,
    namespaced: bool,
    name_rule: NameRule<'_>,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let generate = object.str(&["metadata", "generateName"]);
    if !generate.is_empty() {
        let path = path.child("generateName");
        errors.extend(name_rule(generate, true).iter().map(|m| Error::invalid(&path, generate, m)));
    }
    let name_path = path.child("name");
    match object.name() {
        "" => errors.push(Error::required(&name_path, "name or generateName is required")),
        name => {
            let broken = name_rule(name, false);
            errors.extend(broken.iter().map(|m| Error::invalid(&name_path, name, m)));
        }
    }
    namespace(object.namespace(), namespaced, &path.child("namespace"), &mut errors);
    if object.generation() < 0 {
        let path = path.child("generation");
        let detail = "must be greater than or equal to 0";
        errors.push(Error::invalid(&path, object.generation(), detail));
    }
    let labels = object.get(&["metadata", "labels"]);
    errors.extend(validate_labels(labels, &path.child("labels")));
    let annotations = object.get(&["metadata", "annotations"]);
    errors.extend(validate_annotations(annotations, &path.child("annotations")));
    owners(object, &path.child("ownerReferences"), &mut errors);
    finalizers(object, &path.child("finalizers"), &mut errors);
    managed_fields(object, &path.child("managedFields"), &mut errors);
    errors
}

fn namespace(namespace: &str, namespaced: bool, path: &Path, errors: &mut ErrorList) {
    match (namespaced, namespace) {
        (true, "") => errors.push(Error::required(path, "")),
        (true, name) => {
            let broken = names::is_dns1123_label(name);
            errors.extend(broken.iter().map(|m| Error::invalid(path, name, m)));
        }
        (false, "") => {}
        (false, _) => errors.push(Error::forbidden(path, "not allowed on this type")),
    }
}

/// The broken rules of a map of labels.
pub fn validate_labels(labels: Option<&Value>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        let value = value.as_str().unwrap_or("");
        let broken = names::is_qualified_name(key);
        errors.extend(broken.iter().map(|m| Error::invalid(path, key.as_str(), m)));
        let broken = names::is_valid_label_value(value);
        errors.extend(broken.iter().map(|m| Error::invalid(path, value, m)));
    }
    errors
}

/// The broken rules of a map of annotations.
pub fn validate_annotations(annotations: Option<&Value>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut size = 0;
    for (key, value) in annotations.and_then(Value::as_object).into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        // Case does not matter in the keys of annotations.
        let broken = names::is_qualified_name(&key.to_lowercase());
        errors.extend(broken.iter().map(|m| Error::invalid(path, key.as_str(), m)));
    }
    if size > ANNOTATIONS_BYTES_MAX {
        errors.push(Error::too_long(path, ANNOTATIONS_BYTES_MAX));
    }
    errors
}

fn owners(object: &Object, path: &Path, errors: &mut ErrorList) {
    let owners = object.list(&["metadata", "ownerReferences"]);
    let mut controller: Option<String> = None;
    for owner in owners {
        let text = |key: &str| owner[key].as_str().unwrap_or("");
        let (_, version) = gvk::split_api_version(text("apiVersion")).unwrap_or(("", ""));
        if version.is_empty() {
            let path = path.child("apiVersion");
            errors.push(Error::invalid(&path, text("apiVersion"), "version must not be empty"));
        }
        for key in ["kind", "name", "uid"] {
            if text(key).is_empty() {
                errors.push(Error::invalid(&path.child(key), "", "must not be empty"));
            }
        }
        if text("apiVersion") == "v1" && text("kind") == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(Error::invalid(path, owner.clone(), detail));
        }
        if owner["controller"] == true {
            let name = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                    );
                    errors.push(Error::invalid(path, owners.to_vec(), &detail));
                }
                None => controller = Some(name),
            }
        }
    }
}

/// The broken rules of the name of a field manager.
pub fn validate_field_manager(name: &str, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if name.len() > FIELD_MANAGER_BYTES_MAX {
        errors.push(Error::too_long(path, FIELD_MANAGER_BYTES_MAX));
    }
    for (at, c) in name.char_indices().filter(|(_, c)| !gotext::prints(*c)) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.push(Error::invalid(path, name, &detail));
    }
    errors
}

fn managed_fields(object: &Object, path: &Path, errors: &mut ErrorList) {
    for (index, entry) in object.list(&["metadata", "managedFields"]).iter().enumerate() {
        let path = path.index(index);
        let text = |key: &str| entry[key].as_str().unwrap_or("");
        if !matches!(text("operation"), "Apply" | "Update") {
            let detail = "must be `Apply` or `Update`";
            errors.push(Error::invalid(&path.child("operation"), text("operation"), detail));
        }
        if !matches!(text("fieldsType"), "" | "FieldsV1") {
            let detail = "must be `FieldsV1`";
            errors.push(Error::invalid(&path.child("fieldsType"), text("fieldsType"), detail));
        }
        errors.extend(validate_field_manager(text("manager"), &path.child("manager")));
        if text("subresource").len() > SUBRESOURCE_BYTES_MAX {
            errors.push(Error::too_long(&path.child("subresource"), SUBRESOURCE_BYTES_MAX));
        }
    }
}

fn finalizers(object: &Object, path: &Path, errors: &mut ErrorList) {
    let list = object.finalizers();
    for finalizer in &list {
        let broken = names::is_qualified_name(finalizer);
        errors.extend(broken.iter().map(|m| Error::invalid(path, *finalizer, m)));
    }
    if list.contains(&"orphan") && list.contains(&"foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(Error::invalid(
            path,
            object.list(&["metadata", "finalizers"]).to_vec(),
            detail,
        ));
    }
}

/// Finalizers that need no domain.
///
/// upstream: pkg/apis/core/helper/helpers.go IsStandardFinalizerName
const STANDARD_FINALIZERS: [&str; 3] = ["foregroundDeletion", "kubernetes", "orphan"];

/// The rule of finalizers that built-in kinds have besides: a known name or a domain.
///
/// upstream: pkg/apis/core/validation/validation.go validateKubeFinalizerName
pub fn validate_kube_finalizers(object: &Object, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (i, finalizer) in object.finalizers().into_iter().enumerate() {
        if !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            let path = path.child("finalizers").index(i);
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(Error::invalid(&path, finalizer, detail));
        }
    }
    errors
}

/// The broken rules of a changed object's metadata. Name, namespace and finalizers that were there
/// before are not checked again; the resource version is the registry's business.
pub fn validate_object_meta_update(new: &Object, old: &Object, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if old.is_deleting() {
        let before = old.finalizers();
        let mut added = new.finalizers();
        added.retain(|f| !before.contains(f));
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let list: Vec<String> = added.iter().map(|f| format!("{f:?}")).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            );
            errors.push(Error::forbidden(&path.child("finalizers"), &detail));
        }
    }
    if new.generation() < old.generation() {
        let path = path.child("generation");
        errors.push(Error::invalid(&path, new.generation(), "must not be decremented"));
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let (now, before) = (new.get(&["metadata", field]), old.get(&["metadata", field]));
        if now != before {
            let value = now.cloned().unwrap_or(Value::Null);
            errors.push(Error::invalid(&path.child(field), value, IMMUTABLE));
        }
    }
    let labels = new.get(&["metadata", "labels"]);
    errors.extend(validate_labels(labels, &path.child("labels")));
    let annotations = new.get(&["metadata", "annotations"]);
    errors.extend(validate_annotations(annotations, &path.child("annotations")));
    owners(new, &path.child("ownerReferences"), &mut errors);
    managed_fields(new, &path.child("managedFields"), &mut errors);
    errors
}
