//! Service accounts.
//!
//! upstream: pkg/registry/core/serviceaccount/strategy.go

use jiff::Timestamp;
use longshore_api::Object;
use serde_json::Value;

use super::pods::cells::{AGE, NAME, age};
use crate::strategy::{Context, Strategy};
use crate::table::Column;

/// The rules of service accounts.
pub(super) struct ServiceAccounts;

impl Strategy for ServiceAccounts {
    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        // Secrets are added by whoever makes them, never on creation.
        if let Some(Value::Array(secrets)) = object.get_mut(&["secrets"]) {
            secrets.retain(|secret| secret["name"].as_str().is_some_and(|name| !name.is_empty()));
        }
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), age(object, now)]
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}
