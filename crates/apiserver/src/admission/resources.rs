//! Small helpers of several plugins.

use serde_json::Value;

pub(super) use longshore_resources::amounts::{Amounts, amounts, pod_amounts};

/// The items of a list field; none when it is missing.
pub(super) fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}
