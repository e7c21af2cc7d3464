//! Advice on pods that are allowed but hardly meant.
//!
//! upstream: pkg/api/pod/warnings.go

use longshore_api::Object;
use serde_json::Value;

/// The warnings of a new pod.
pub(crate) fn pod(_object: &Object) -> Vec<String> {
    Vec::new()
}

/// The warnings of a new or changed pod template.
pub(crate) fn template(_new: Option<&Value>, _old: Option<&Value>, _path: &str) -> Vec<String> {
    Vec::new()
}
