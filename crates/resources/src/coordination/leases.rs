//! Leases.
//!
//! upstream: pkg/apis/coordination/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// The rules of leases.
pub(super) struct Leases;

/// Fields of coordinated leader election, which is not served.
const COORDINATED: [&str; 2] = ["preferredHolder", "strategy"];

impl Strategy for Leases {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::CHANGES
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        COORDINATED.iter().for_each(|key| drop(object.remove(&["spec", key])));
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, old: &Object) {
        for key in COORDINATED {
            if old.get(&["spec", key]).is_none_or(Value::is_null) {
                new.remove(&["spec", key]);
            }
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        rules(object)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, _old: &Object) -> ErrorList {
        rules(new)
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, text_column("Holder", "Who holds the lease."), AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let holder = object.str(&["spec", "holderIdentity"]);
        vec![object.name().into(), holder.into(), age(object, now)]
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn rules(object: &Object) -> ErrorList {
    let path = Path::new("spec");
    let mut errors = ErrorList::new();
    if let Some(seconds) = object.int(&["spec", "leaseDurationSeconds"]).filter(|s| *s <= 0) {
        let path = path.child("leaseDurationSeconds");
        errors.push(Error::invalid(&path, seconds, "must be greater than 0"));
    }
    if let Some(count) = object.int(&["spec", "leaseTransitions"]).filter(|c| *c < 0) {
        let path = path.child("leaseTransitions");
        errors.push(Error::invalid(&path, count, "must be greater than or equal to 0"));
    }
    errors
}
