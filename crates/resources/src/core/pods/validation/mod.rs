//! The rules that a pod must keep.
//!
//! upstream: pkg/apis/core/validation/validation.go

pub(crate) mod affinity;
mod annotations;
pub(crate) mod claims;
pub(crate) mod common;
pub(crate) mod compute;
mod containers;
mod environment;
pub(crate) mod handlers;
mod mounts;
pub(crate) mod network;
pub(crate) mod options;
pub(crate) mod paths;
mod projected;
mod resize;
mod security;
mod spec;
mod status;
mod update;
pub(crate) mod volumes;
mod windows;

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::validate_labels;
use serde_json::Value;

use super::tree::{list, text};
use options::Options;

pub(super) use annotations::APP_ARMOR;
pub(crate) use compute::container_name as container_resource_name;
pub(crate) use update::update as pod_update;

/// The broken rules of a new pod.
pub(crate) fn pod_create(object: &Object) -> ErrorList {
    let options = Options::new(true, None);
    let mut errors = pod(object, &options);
    let path = Path::new("spec");
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    if !list(spec, "ephemeralContainers").is_empty() {
        let path = path.child("ephemeralContainers");
        errors.push(Error::forbidden(&path, "cannot be set on create"));
    }
    if !text(spec, "nodeName").is_empty() && !list(spec, "schedulingGates").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(Error::forbidden(&path.child("nodeName"), detail));
    }
    let metadata = object.get(&["metadata"]).unwrap_or(&Value::Null);
    annotations::match_fields(metadata, spec, &path, &mut errors);
    errors
}

/// The rules of a pod that hold on create and on update.
pub(super) fn pod(object: &Object, options: &Options) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let metadata = object.get(&["metadata"]).unwrap_or(&Value::Null);
    let at = Path::new("metadata").child("annotations");
    annotations::pod_specific(metadata, spec, &at, options, &mut errors);
    let path = Path::new("spec");
    spec::pod_spec(spec, Some(object.name()), Some(metadata), &path, options, &mut errors);
    if text(spec, "serviceAccountName").is_empty() {
        projected::no_tokens(spec, &path, &mut errors);
    }
    for key in ["containers", "initContainers"] {
        for (i, container) in list(spec, key).iter().enumerate() {
            containers::only_for_pod(container, &path.child(key).index(i), &mut errors);
        }
    }
    errors
}

/// The broken rules of a pod template.
pub(crate) fn template(new: &Value, old: Option<&Value>, path: &Path) -> ErrorList {
    let options = Options::new(false, old.and_then(|old| old.get("spec")));
    let mut errors = ErrorList::new();
    let metadata = new.get("metadata").unwrap_or(&Value::Null);
    let spec = new.get("spec").unwrap_or(&Value::Null);
    errors.extend(validate_labels(metadata.get("labels"), &path.child("labels")));
    let at = path.child("annotations");
    annotations::keys(metadata, &at, &mut errors);
    annotations::pod_specific(metadata, spec, &at, &options, &mut errors);
    let at = path.child("spec");
    spec::pod_spec(spec, None, None, &at, &options, &mut errors);
    annotations::match_fields(metadata, spec, &at, &mut errors);
    if !list(spec, "ephemeralContainers").is_empty() {
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(Error::forbidden(&at.child("ephemeralContainers"), detail));
    }
    errors
}
