//! The rules that a service must keep.
//!
//! upstream: pkg/apis/core/validation/validation.go

use longshore_api::Object;
use longshore_api::field::ErrorList;

/// The broken rules of a new or changed service.
pub(super) fn service(_object: &Object, _old: Option<&Object>) -> ErrorList {
    ErrorList::new()
}

/// The broken rules of a changed status.
pub(super) fn status(_new: &Object, _old: &Object) -> ErrorList {
    ErrorList::new()
}
