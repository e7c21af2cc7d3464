//! The rules that the kinds of `apps` must keep.
//!
//! upstream: pkg/apis/apps/validation/validation.go

use longshore_api::Object;
use longshore_api::field::ErrorList;

pub(super) fn deployment(_new: &Object, _old: Option<&Object>) -> ErrorList {
    ErrorList::new()
}
pub(super) fn deployment_status(_new: &Object, _old: &Object) -> ErrorList {
    ErrorList::new()
}
pub(super) fn replica_set(_new: &Object, _old: Option<&Object>) -> ErrorList {
    ErrorList::new()
}
pub(super) fn replication_controller(_new: &Object, _old: Option<&Object>) -> ErrorList {
    ErrorList::new()
}
pub(super) fn replica_counts(_new: &Object) -> ErrorList {
    ErrorList::new()
}
pub(super) fn stateful_set(_new: &Object, _old: Option<&Object>) -> ErrorList {
    ErrorList::new()
}
pub(super) fn stateful_set_status(_new: &Object, _old: &Object) -> ErrorList {
    ErrorList::new()
}
pub(super) fn daemon_set(_new: &Object, _old: Option<&Object>) -> ErrorList {
    ErrorList::new()
}
pub(super) fn daemon_set_status(_new: &Object) -> ErrorList {
    ErrorList::new()
}
