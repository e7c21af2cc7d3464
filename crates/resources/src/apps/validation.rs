//! The rules that the kinds of `apps` must keep.
//!
//! upstream: pkg/apis/apps/validation/validation.go

mod daemons;
mod replicas;
mod sets;

pub(super) use daemons::{daemon_set, daemon_set_status};
pub(super) use replicas::{
    deployment, deployment_status, replica_counts, replica_set, replication_controller,
};
pub(super) use sets::{stateful_set, stateful_set_status};

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::selector::LabelSelector;
use serde_json::Value;

use crate::core::pods::tree::{int, part, text};
use crate::core::pods::validation::common::{is_empty_selector, label_selector, not_negative};
use crate::core::pods::validation::template;

/// The spec of an object.
fn spec_of(object: &Object) -> &Value {
    object.get(&["spec"]).unwrap_or(&Value::Null)
}

/// A selector that must be there and select something.
fn selector(spec: &Value, kind: &str, path: &Path, errors: &mut ErrorList) {
    let at = path.child("selector");
    let Some(selector) = part(spec, "selector") else {
        errors.push(Error::required(&at, ""));
        return;
    };
    label_selector(Some(selector), &at, false, errors);
    if is_empty_selector(selector) {
        let detail = format!("empty selector is invalid for {kind}");
        errors.push(Error::invalid(&at, selector.clone(), &detail));
    }
}

/// The parsed selector, or the error of one that cannot be used.
fn parsed(spec: &Value, path: &Path, detail: &str) -> Result<Option<LabelSelector>, Error> {
    match part(spec, "selector") {
        None => Ok(None),
        Some(selector) => usable(selector)
            .map(Some)
            .ok_or_else(|| Error::invalid(&path.child("selector"), selector.clone(), detail)),
    }
}

/// A selector whose every requirement is one that labels can meet.
fn usable(selector: &Value) -> Option<LabelSelector> {
    let mut errors = ErrorList::new();
    label_selector(Some(selector), &Path::default(), false, &mut errors);
    errors.is_empty().then(|| LabelSelector::from_value(selector).ok())?
}

/// The template's labels are those that the selector looks for.
fn template_labels(
    spec: &Value,
    selector: Option<&LabelSelector>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let labels =
        part(spec, "template").and_then(|t| part(t, "metadata")).and_then(|m| part(m, "labels"));
    let matches = selector.is_some_and(|s| s.matches_map(labels.and_then(Value::as_object)));
    if !matches {
        let at = path.child("template").child("metadata").child("labels");
        let value = labels.cloned().unwrap_or(Value::Null);
        let detail = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&at, value, detail));
    }
}

/// A template whose pods run for good.
fn running_template(
    spec: &Value,
    old: Option<&Value>,
    kind: &str,
    path: &Path,
    errors: &mut ErrorList,
) {
    let null = Value::Null;
    let new = part(spec, "template").unwrap_or(&null);
    let old = old.and_then(|old| old.get("template"));
    errors.extend(template(new, old, &path.child("template")));
    runs_always(new, kind, path, errors);
}

/// Pods of the template restart always and have no deadline.
fn runs_always(template: &Value, kind: &str, path: &Path, errors: &mut ErrorList) {
    let at = path.child("template").child("spec");
    let pod = part(template, "spec").unwrap_or(&Value::Null);
    let policy = text(pod, "restartPolicy");
    if policy != "Always" {
        errors.push(Error::not_supported(&at.child("restartPolicy"), policy, &["Always"]));
    }
    if part(pod, "activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Error::forbidden(&at.child("activeDeadlineSeconds"), &detail));
    }
}

/// Numbers that may not be negative.
fn counts(holder: &Value, keys: &[&str], path: &Path, errors: &mut ErrorList) {
    for key in keys {
        not_negative(int(holder, key).unwrap_or(0), &path.child(key), errors);
    }
}

/// A number or percentage that may not be negative.
pub(crate) fn int_or_percent(value: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    match value {
        Some(Value::String(text)) => {
            if percent(text).is_none() {
                let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                errors.push(Error::invalid(path, text.as_str(), detail));
            }
        }
        other => not_negative(other.and_then(Value::as_i64).unwrap_or(0), path, errors),
    }
}

fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    good.then(|| digits.parse().unwrap_or(i64::MAX))
}

/// The number in a number, a percentage or a text.
fn amount(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::String(text)) => percent(text).or_else(|| text.parse().ok()).unwrap_or(0),
        other => other.and_then(Value::as_i64).unwrap_or(0),
    }
}

/// A percentage of at most 100.
pub(crate) fn at_most_all(value: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    if let Some(text) = value.and_then(Value::as_str)
        && percent(text).is_some_and(|percent| percent > 100)
    {
        errors.push(Error::invalid(path, text, "must not be greater than 100%"));
    }
}

/// The count of hash collisions only grows.
fn collisions(new: &Object, old: &Object, errors: &mut ErrorList) {
    let of = |object: &Object| object.int(&["status", "collisionCount"]);
    if let Some(old) = of(old)
        && of(new).is_none_or(|new| new < old)
    {
        let at = Path::new("status").child("collisionCount");
        errors.push(Error::invalid(&at, of(new).unwrap_or(0), "cannot be decremented"));
    }
}

/// Counts of a status that may not be larger than another one.
fn not_more(
    status: &Value,
    keys: &[&str],
    than: (&str, &str),
    path: &Path,
    errors: &mut ErrorList,
) {
    let most = int(status, than.0).unwrap_or(0);
    for key in keys {
        let count = int(status, key).unwrap_or(0);
        if count > most {
            let detail = format!("cannot be greater than {}", than.1);
            errors.push(Error::invalid(&path.child(key), count, &detail));
        }
    }
}
