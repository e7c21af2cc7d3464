//! Daemon sets.
//!
//! upstream: pkg/apis/apps/validation/validation.go ValidateDaemonSetSpec

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::{
    amount, at_most_all, collisions, counts, int_or_percent, running_template, spec_of,
    template_labels, usable,
};
use crate::core::pods::tree::{part, text};
use crate::core::pods::validation::common::{
    has_bad_values, immutable, is_empty_selector, label_selector,
};

/// A daemon set.
pub(crate) fn daemon_set(new: &Object, old: Option<&Object>) -> ErrorList {
    let (spec, path) = (spec_of(new), Path::new("spec"));
    let mut errors = ErrorList::new();
    let at = path.child("selector");
    if let Some(old) = old {
        immutable(spec.get("selector"), spec_of(old).get("selector"), &at, &mut errors);
    }
    let bad_values = old.is_some_and(|old| has_bad_values(spec_of(old).get("selector")));
    label_selector(spec.get("selector"), &at, bad_values, &mut errors);
    match part(spec, "selector") {
        None => template_labels(spec, None, &path, &mut errors),
        Some(selector) => {
            if let Some(usable) = usable(selector) {
                template_labels(spec, Some(&usable), &path, &mut errors);
            }
            if is_empty_selector(selector) {
                let detail = "empty selector is invalid for daemonset";
                errors.push(Error::invalid(&at, selector.clone(), detail));
            }
        }
    }
    running_template(spec, old.map(spec_of), "DaemonSet", &path, &mut errors);
    counts(spec, &["minReadySeconds"], &path, &mut errors);
    strategy(spec, &path.child("updateStrategy"), &mut errors);
    counts(spec, &["revisionHistoryLimit"], &path, &mut errors);
    errors
}

fn strategy(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let strategy = part(spec, "updateStrategy").unwrap_or(&Value::Null);
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let at = path.child("rollingUpdate");
            let Some(rolling) = part(strategy, "rollingUpdate") else {
                errors.push(Error::required(&at, ""));
                return;
            };
            let (down, up) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            let (at_down, at_up) = (at.child("maxUnavailable"), at.child("maxSurge"));
            int_or_percent(down, &at_down, errors);
            int_or_percent(up, &at_up, errors);
            at_most_all(down, &at_down, errors);
            at_most_all(up, &at_up, errors);
            match (amount(down) != 0, amount(up) != 0) {
                (true, true) => {
                    let value = up.cloned().unwrap_or(Value::Null);
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.push(Error::invalid(&at_up, value, detail));
                }
                (false, false) => {
                    errors.push(Error::required(&at_down, "cannot be 0 when maxSurge is 0"));
                }
                _ => {}
            }
        }
        _ => {
            let set = ["RollingUpdate", "OnDelete"];
            errors.push(Error::not_supported(path, strategy.clone(), &set));
        }
    }
}

/// The status of a daemon set.
pub(crate) fn daemon_set_status(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let status = new.get(&["status"]).unwrap_or(&Value::Null);
    let keys = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    counts(status, &keys, &Path::new("status"), &mut errors);
    collisions(new, old, &mut errors);
    errors
}
