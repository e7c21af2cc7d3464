//! The rules that the kinds of `batch` must keep.
//!
//! upstream: pkg/apis/batch/validation/validation.go

use longshore_api::Object;
use longshore_api::field::ErrorList;

pub(super) fn job(_new: &Object, _old: Option<&Object>) -> ErrorList {
    ErrorList::new()
}
pub(super) fn job_status(_new: &Object, _old: &Object) -> ErrorList {
    ErrorList::new()
}
pub(super) fn cron_job(_new: &Object, _old: Option<&Object>) -> ErrorList {
    ErrorList::new()
}
