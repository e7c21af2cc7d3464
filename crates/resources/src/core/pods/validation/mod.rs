//! The rules that a pod must keep.
//!
//! upstream: pkg/apis/core/validation/validation.go

pub(crate) mod common;
pub(crate) mod network;

use longshore_api::Object;
use longshore_api::field::{ErrorList, Path};
use serde_json::Value;

/// The broken rules of a new pod.
pub(crate) fn pod_create(_object: &Object) -> ErrorList {
    ErrorList::new()
}

/// The broken rules of a changed pod.
pub(crate) fn pod_update(_subresource: &str, _new: &Object, _old: &Object) -> ErrorList {
    ErrorList::new()
}

/// The broken rules of a pod template.
pub(crate) fn template(_new: &Value, _old: Option<&Value>, _path: &Path) -> ErrorList {
    ErrorList::new()
}
