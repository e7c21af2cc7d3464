//! Limit ranges.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidateLimitRange

use std::collections::BTreeSet;

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::quantity::Quantity;
use longshore_api::{Object, names};
use serde_json::{Map, Value};

use super::pods::defaults::round_list;
use super::pods::resources::quantity;
use super::pods::tree::{entries, part, part_mut, text};
use super::pods::validation::common::each;
use super::pods::validation::compute::{container_name, may_overcommit, resource_name};
use crate::strategy::{Context, MetadataRules, Strategy};

const KINDS: [&str; 3] = ["Pod", "Container", "PersistentVolumeClaim"];
const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
/// Above this, upstream compares whole units instead of thousandths.
const MILLI_MAX: i64 = i64::MAX / 1000;

/// The rules of limit ranges.
pub(super) struct LimitRanges;

impl Strategy for LimitRanges {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::WHOLE
    }

    fn default(&self, object: &mut Object) {
        let limits = object.get_mut(&["spec", "limits"]).and_then(Value::as_array_mut);
        for limit in limits.into_iter().flatten() {
            LISTS.iter().for_each(|key| round_list(limit.get_mut(*key)));
            if text(limit, "type") == "Container" {
                derive(limit, "max", "default");
                derive(limit, "default", "defaultRequest");
                derive(limit, "min", "defaultRequest");
            }
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        // A range without a name gets one that is unique.
        if object.name().is_empty() {
            let uid = object.uid().to_owned();
            object.set(&["metadata", "name"], uid);
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        rules(object)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, _old: &Object) -> ErrorList {
        rules(new)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

/// Fills what one list lacks from another.
fn derive(limit: &mut Value, from: &str, to: &str) {
    let Some(from) = limit.get(from).and_then(Value::as_object).filter(|f| !f.is_empty()) else {
        return;
    };
    let from: Map<String, Value> = from.clone();
    let Some(to) = part_mut(limit, to).as_object_mut() else { return };
    for (name, value) in from {
        to.entry(name).or_insert(value);
    }
}

fn rules(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec").child("limits");
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (i, limit) in object.list(&["spec", "limits"]).iter().enumerate() {
        let at = path.index(i);
        let kind = text(limit, "type");
        let broken = names::is_qualified_name(kind);
        each(kind, &at.child("type"), &broken, &mut errors);
        if broken.is_empty() && !kind.contains('/') && !KINDS.contains(&kind) {
            let why = "must be a standard limit type or fully qualified";
            errors.push(Error::invalid(&at.child("type"), kind, why));
        }
        if !seen.insert(kind) {
            errors.push(Error::duplicate(&at.child("type"), kind));
        }
        lists(limit, kind, &at, &mut errors);
        let names: BTreeSet<&String> = LISTS
            .iter()
            .filter(|key| kind != "Pod" || !key.starts_with("default"))
            .flat_map(|key| entries(limit, key).map(|(name, _)| name))
            .collect();
        for name in names {
            amounts(limit, kind, name, &at, &mut errors);
        }
    }
    errors
}

/// The names of resources in the lists, and which lists there may be.
fn lists(limit: &Value, kind: &str, path: &Path, errors: &mut ErrorList) {
    for key in LISTS {
        if kind == "Pod" && key.starts_with("default") {
            if entries(limit, key).next().is_some() {
                let why = "may not be specified when `type` is 'Pod'";
                errors.push(Error::forbidden(&path.child(key), why));
            }
            continue;
        }
        for (name, _) in entries(limit, key) {
            let at = path.child(key).key(name);
            if matches!(kind, "Pod" | "Container") {
                container_name(name, &at, errors);
            } else {
                resource_name(name, &at, errors);
            }
        }
    }
    let has = |key: &str| part(limit, key).and_then(|list| part(list, "storage")).is_some();
    if kind == "PersistentVolumeClaim" && !has("min") && !has("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(Error::required(&path.child("limits"), why));
    }
}

/// How the amounts of one resource have to relate.
fn amounts(limit: &Value, kind: &str, name: &str, path: &Path, errors: &mut ErrorList) {
    let get = |key: &str| {
        let hidden = kind == "Pod" && key.starts_with("default");
        part(limit, key).and_then(|list| part(list, name)).filter(|_| !hidden).map(quantity)
    };
    let (min, max) = (get("min"), get("max"));
    let (default, request) = (get("default"), get("defaultRequest"));
    let mut greater =
        |a: Option<Quantity>, b: Option<Quantity>, at: &str, shown: u8, [x, y]: [&str; 2]| {
            let (Some(a), Some(b)) = (a, b) else { return };
            if a > b {
                let why = format!("{x} value {a} is greater than {y} value {b}");
                let shown = if shown == 0 { a } else { b };
                errors.push(Error::invalid(&path.child(at).key(name), shown.to_string(), &why));
            }
        };
    greater(min, max, "min", 0, ["min", "max"]);
    greater(min, request, "defaultRequest", 1, ["min", "default request"]);
    greater(request, max, "defaultRequest", 0, ["default request", "max"]);
    greater(request, default, "defaultRequest", 0, ["default request", "default limit"]);
    greater(min, default, "default", 0, ["min", "default"]);
    greater(default, max, "default", 1, ["default", "max"]);
    if let Some(ratio) = get("maxLimitRequestRatio") {
        check_ratio(ratio, min, max, &path.child("maxLimitRequestRatio").key(name), errors);
    }
    if let (Some(default), Some(request)) = (default, request)
        && !may_overcommit(name)
        && default != request
    {
        let why = format!(
            "default value {default} must equal to defaultRequest value {request} in {name}"
        );
        let path = path.child("defaultRequest").key(name);
        errors.push(Error::invalid(&path, request.to_string(), &why));
    }
}

#[expect(clippy::cast_precision_loss, reason = "upstream compares floats")]
fn check_ratio(
    ratio: Quantity,
    min: Option<Quantity>,
    max: Option<Quantity>,
    path: &Path,
    errors: &mut ErrorList,
) {
    if ratio < Quantity::from_integer(1) {
        let why = format!("ratio {ratio} is less than 1");
        errors.push(Error::invalid(path, ratio.to_string(), &why));
    }
    let (Some(min), Some(max)) = (min, max) else { return };
    let small = [ratio, min, max].iter().all(|q| q.value() < MILLI_MAX);
    let (wanted, limit) = if small {
        (ratio.milli_value() as f64 / 1000.0, max.milli_value() as f64 / min.milli_value() as f64)
    } else {
        (ratio.value() as f64, max.value() as f64 / min.value() as f64)
    };
    if wanted > limit {
        let why = format!("ratio {ratio} is greater than max/min = {limit:.6}");
        errors.push(Error::invalid(path, ratio.to_string(), &why));
    }
}
