//! Pod disruption budgets.
//!
//! upstream: pkg/registry/policy/poddisruptionbudget/strategy.go,
//! pkg/apis/policy/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

use crate::apps::validation::{at_most_all, int_or_percent};
use crate::core::pods::cells::{AGE, NAME, age, count, number, text_column};
use crate::core::pods::tree::{int, opt_text, part};
use crate::core::pods::validation::common::{has_bad_values, label_selector, not_negative, one_of};
use crate::plain::separate;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const COUNTS: [&str; 4] =
    ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];

/// The rules of disruption budgets.
pub(super) struct PodDisruptionBudgets;

impl Strategy for PodDisruptionBudgets {
    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["status"], json!({}));
        for key in COUNTS {
            object.set(&["status", key], 0);
        }
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        rules(object, false)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        if ctx.subresource != "status" {
            return rules(new, has_bad_values(old.get(&["spec", "selector"])));
        }
        let mut errors = ErrorList::new();
        let null = Value::Null;
        let status = new.get(&["status"]).unwrap_or(&null);
        for key in COUNTS {
            let path = Path::new("status").child(key);
            not_negative(int(status, key).unwrap_or(0), &path, &mut errors);
        }
        errors
    }

    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules { on_create: false, ..MetadataRules::OWN }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Min Available", "How many pods have to stay."),
            text_column("Max Unavailable", "How many pods may go."),
            number("Allowed Disruptions", "How many pods may go now."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let bound = |key: &str| match object.get(&["spec", key]) {
            Some(Value::String(text)) => Value::from(text.as_str()),
            Some(Value::Number(number)) => number.to_string().into(),
            _ => "N/A".into(),
        };
        vec![
            object.name().into(),
            bound("minAvailable"),
            bound("maxUnavailable"),
            count(object, &["status", "disruptionsAllowed"]),
            age(object, now),
        ]
    }
}

fn rules(object: &Object, bad_values: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let null = Value::Null;
    let spec = object.get(&["spec"]).unwrap_or(&null);
    let path = Path::new("spec");
    let bounds = ["minAvailable", "maxUnavailable"];
    if bounds.iter().all(|key| part(spec, key).is_some()) {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(Error::invalid(&path, spec.clone(), why));
    }
    for key in bounds {
        if let Some(value) = part(spec, key) {
            int_or_percent(Some(value), &path.child(key), &mut errors);
            at_most_all(Some(value), &path.child(key), &mut errors);
        }
    }
    label_selector(spec.get("selector"), &path.child("selector"), bad_values, &mut errors);
    if let Some(policy) = opt_text(spec, "unhealthyPodEvictionPolicy") {
        let at = path.child("unhealthyPodEvictionPolicy");
        one_of(policy, &["AlwaysAllow", "IfHealthyBudget"], &at, &mut errors);
    }
    errors
}
