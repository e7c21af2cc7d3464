//! Service accounts.
//!
//! upstream: pkg/registry/core/serviceaccount/strategy.go

use jiff::Timestamp;
use longshore_api::Object;
use serde_json::Value;

use super::pods::cells::{AGE, NAME, age};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

/// References to secrets keep nothing but the name.
fn clean_secrets(object: &mut Object) {
    if let Some(Value::Array(secrets)) = object.get_mut(&["secrets"]) {
        for fields in secrets.iter_mut().filter_map(Value::as_object_mut) {
            fields.retain(|key, _| key == "name");
        }
    }
}

/// The rules of service accounts.
pub(super) struct ServiceAccounts;

impl Strategy for ServiceAccounts {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        clean_secrets(object);
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, _old: &Object) {
        clean_secrets(new);
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        let had = old.is_some_and(|old| old.annotation(MOUNTABLE).is_some());
        if had || object.annotation(MOUNTABLE).is_none() {
            return Vec::new();
        }
        vec![format!(
            "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        )]
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
