//! Priority classes.
//!
//! upstream: pkg/registry/scheduling/priorityclass/strategy.go,
//! pkg/apis/scheduling/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::core::pods::cells::{AGE, NAME, age, count, number, text_column};
use crate::core::pods::validation::common::{immutable, required_one_of};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// The highest priority that is not reserved.
const HIGHEST: i64 = 1_000_000_000;
/// The classes that there are from the start.
const SYSTEM: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// The rules of priority classes.
pub(super) struct PriorityClasses;

impl Strategy for PriorityClasses {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::CHANGES
    }

    fn default(&self, object: &mut Object) {
        if object.get(&["preemptionPolicy"]).is_none() {
            object.set(&["preemptionPolicy"], "PreemptLowerPriority");
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["metadata", "generation"], 1);
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let value = object.int(&["value"]).unwrap_or(0);
        if object.name().starts_with("system-") {
            if let Some(why) = not_known(object, value) {
                let why = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                );
                let path = Path::new("metadata").child("name");
                errors.push(Error::forbidden(&path, &why));
            }
        } else if value > HIGHEST {
            let why = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            errors.push(Error::forbidden(&Path::new("value"), &why));
        }
        let policies = ["PreemptLowerPriority", "Never"];
        let policy = object.str(&["preemptionPolicy"]);
        required_one_of(policy, &policies, &Path::new("preemptionPolicy"), &mut errors);
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let value = |object: &Object| object.int(&["value"]).unwrap_or(0);
        if value(new) != value(old) {
            let why = "may not be changed in an update.";
            errors.push(Error::forbidden(&Path::new("value"), why));
        }
        let key = "preemptionPolicy";
        immutable(new.get(&[key]), old.get(&[key]), &Path::new(key), &mut errors);
        errors
    }

    fn columns(&self) -> Vec<Column> {
        let default = text_column("Global-Default", "Whether pods without a class get it.");
        vec![
            NAME,
            number("Value", "The priority."),
            Column { kind: "boolean", ..default },
            AGE,
            text_column("PreemptionPolicy", "Whether others have to make room."),
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            count(object, &["value"]),
            object.bool(&["globalDefault"]).into(),
            age(object, now),
            object.str(&["preemptionPolicy"]).into(),
        ]
    }

    fn returns_deleted(&self) -> bool {
        false
    }

    fn keeps(&self, name: &str) -> Option<&'static str> {
        // upstream: pkg/registry/scheduling/priorityclass/storage/storage.go Delete
        let known = SYSTEM.iter().any(|(known, _)| *known == name);
        known.then_some("this is a system priority class and cannot be deleted")
    }
}

/// Why a class with a reserved name is not one of the system's.
///
/// upstream: pkg/apis/scheduling/v1/helpers.go IsKnownSystemPriorityClass
fn not_known(object: &Object, value: i64) -> Option<String> {
    let name = object.name();
    let Some((_, known)) = SYSTEM.iter().find(|(known, _)| *known == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if *known != value {
        return Some(format!("value of {name} PriorityClass must be {known}"));
    }
    object
        .bool(&["globalDefault"])
        .then(|| format!("globalDefault of {name} PriorityClass must be false"))
}
