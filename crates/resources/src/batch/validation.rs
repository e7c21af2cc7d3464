//! The rules that the kinds of `batch` must keep.
//!
//! upstream: pkg/apis/batch/validation/validation.go

mod indexes;
mod policies;
mod status;
mod template;

pub(super) use status::job_status;

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::validate_object_meta;
use longshore_api::names;
use longshore_api::selector::LabelSelector;
use serde_json::{Value, json};

use super::jobs::{NAME_LABELS, UID_LABELS};
use super::schedule;
use crate::core::pods::tree::{flag, int, opt_text, part, text};
use crate::core::pods::validation::common::{
    domain_path, has_bad_values, immutable, label_selector, not_negative, one_of, required_one_of,
};
use crate::core::pods::validation::template as pod_template;
use crate::table::default_name_rule;

const PARALLELISM_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
const COMPLETIONS_SOFT_MAX: i64 = 100_000;
const MANY_COMPLETIONS_MAX: i64 = 10_000;
const MANAGED_BY_MAX: usize = 63;
const CRON_NAME_MAX: usize = 52;

fn spec_of(object: &Object) -> &Value {
    object.get(&["spec"]).unwrap_or(&Value::Null)
}

/// A job.
pub(super) fn job(new: &Object, old: Option<&Object>) -> ErrorList {
    let (spec, path) = (spec_of(new), Path::new("spec"));
    let old_spec = old.map(spec_of);
    let mut errors = ErrorList::new();
    if old.is_some() {
        let at = Path::new("metadata");
        errors.extend(validate_object_meta(new, true, &default_name_rule, &at));
    }
    let prefixed = old.is_none_or(|old| {
        let path = ["spec", "template", "metadata", "labels"];
        let labels = old.get(&path).unwrap_or(&Value::Null);
        [NAME_LABELS[1], UID_LABELS[1]].iter().all(|key| part(labels, key).is_some())
    });
    generated_selector(new, prefixed, &mut errors);
    selected_spec(spec, old_spec, &path, &mut errors);
    let completions = int(spec, "completions").unwrap_or(0);
    if is_indexed(spec) && completions > 0 {
        let host = format!("{}-{}", new.name(), completions - 1);
        if !names::is_dns1123_label(&host).is_empty() {
            let at = Path::new("metadata").child("name");
            let detail = format!("will not able to create pod with invalid DNS label: {host}");
            errors.push(Error::invalid(&at, new.name(), &detail));
        }
    }
    if let (Some(old), Some(old_spec)) = (old, old_spec) {
        selected_spec(spec, Some(old_spec), &path, &mut errors);
        changes(spec, old, old_spec, &path, &mut errors);
    }
    errors
}

/// Whether every pod of the job has an index.
fn is_indexed(spec: &Value) -> bool {
    text(spec, "completionMode") == "Indexed"
}

/// Labels and selector that the server makes, unless the client wants to.
fn generated_selector(object: &Object, prefixed: bool, errors: &mut ErrorList) {
    let spec = spec_of(object);
    let Some(selector) = part(spec, "selector").filter(|_| !flag(spec, "manualSelector")) else {
        return;
    };
    if object.uid().is_empty() {
        errors.push(Error::required(&Path::new("metadata").child("uid"), ""));
    }
    let labels = object.get(&["spec", "template", "metadata", "labels"]).unwrap_or(&Value::Null);
    let path = Path::new("spec").child("template").child("metadata").child("labels");
    let wanted = [
        (UID_LABELS[0], object.uid()),
        (NAME_LABELS[0], object.name()),
        (UID_LABELS[1], object.uid()),
        (NAME_LABELS[1], object.name()),
    ];
    let wanted = &wanted[..if prefixed { 4 } else { 2 }];
    let mut expected = serde_json::Map::new();
    for (key, value) in wanted {
        expected.insert((*key).to_owned(), json!(value));
        match opt_text(labels, key) {
            None => {
                let detail = format!("must be '{value}'");
                errors.push(Error::required(&path.key(key), &detail));
            }
            Some(found) if found != *value => {
                let found = Value::Object(labels.as_object().cloned().unwrap_or_default());
                let detail = format!("must be '{value}'");
                errors.push(Error::invalid(&path.key(key), found, &detail));
            }
            Some(_) => {}
        }
    }
    let parsed = LabelSelector::from_value(selector);
    if parsed.is_ok_and(|parsed| !parsed.matches_map(Some(&expected))) {
        let at = Path::new("spec").child("selector");
        errors.push(Error::invalid(&at, selector.clone(), "`selector` not auto-generated"));
    }
}

fn selected_spec(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    job_spec(spec, old, path, errors);
    let at = path.child("selector");
    let bad_values = old.is_some_and(|old| has_bad_values(old.get("selector")));
    let labels =
        part(spec, "template").and_then(|t| part(t, "metadata")).and_then(|m| part(m, "labels"));
    let matches = match part(spec, "selector") {
        None => {
            errors.push(Error::required(&at, ""));
            false
        }
        Some(selector) => {
            label_selector(Some(selector), &at, bad_values, errors);
            let mut broken = ErrorList::new();
            label_selector(Some(selector), &at, false, &mut broken);
            let parsed = LabelSelector::from_value(selector);
            !broken.is_empty()
                || parsed.is_ok_and(|p| p.matches_map(labels.and_then(Value::as_object)))
        }
    };
    if !matches {
        let at = path.child("template").child("metadata").child("labels");
        let value = labels.cloned().unwrap_or(Value::Null);
        let detail = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&at, value, detail));
    }
}

/// The spec of a job or of a cron job's template.
fn job_spec(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(int(spec, key).unwrap_or(0), &path.child(key), errors);
    }
    if int(spec, "maxFailedIndexes").is_some() && int(spec, "backoffLimitPerIndex").is_none() {
        let at = path.child("backoffLimitPerIndex");
        errors.push(Error::required(&at, "when maxFailedIndexes is specified"));
    }
    if let Some(manager) = opt_text(spec, "managedBy") {
        managed_by(manager, &path.child("managedBy"), errors);
    }
    if let Some(mode) = opt_text(spec, "completionMode") {
        one_of(mode, &["NonIndexed", "Indexed"], &path.child("completionMode"), errors);
    }
    if is_indexed(spec) {
        indexed(spec, path, errors);
    }
    if matches!(opt_text(spec, "completionMode"), None | Some("NonIndexed")) {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(value) = int(spec, key) {
                let detail = "requires indexed completion mode";
                errors.push(Error::invalid(&path.child(key), value, detail));
            }
        }
    }
    policies::policies(spec, path, errors);
    let new = part(spec, "template").unwrap_or(&Value::Null);
    let before = old.and_then(|old| old.get("template"));
    errors.extend(pod_template(new, before, &path.child("template")));
    let policy = part(new, "spec").map_or("", |pod| text(pod, "restartPolicy"));
    let at = path.child("template").child("spec").child("restartPolicy");
    match policy {
        "Always" | "" => {
            errors.push(Error::required(&at, "valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if part(spec, "podFailurePolicy").is_some() => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(Error::invalid(&at, policy, detail));
        }
        "OnFailure" | "Never" => {}
        _ => errors.push(Error::not_supported(&at, policy, &["OnFailure", "Never"])),
    }
}

fn managed_by(manager: &str, path: &Path, errors: &mut ErrorList) {
    domain_path(manager, path, errors);
    if manager.len() > MANAGED_BY_MAX {
        errors.push(Error::too_long(path, MANAGED_BY_MAX));
    }
}

fn indexed(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (completions, failed) = (int(spec, "completions"), int(spec, "maxFailedIndexes"));
    let parallelism = int(spec, "parallelism");
    let at_failed = path.child("maxFailedIndexes");
    let at_parallelism = path.child("parallelism");
    if completions.is_none() {
        let detail = "when completion mode is Indexed";
        errors.push(Error::required(&path.child("completions"), detail));
    }
    let at_most = |at: &Path, value: i64, max: i64, when: &str| {
        Error::invalid(at, value, &format!("must be less than or equal to {max}{when}"))
    };
    if let Some(n) = parallelism.filter(|n| *n > PARALLELISM_MAX) {
        let when = " when completion mode is Indexed";
        errors.push(at_most(&at_parallelism, n, PARALLELISM_MAX, when));
    }
    if let (Some(completions), Some(failed)) = (completions, failed)
        && failed > completions
    {
        let detail = "must be less than or equal to completions";
        errors.push(Error::invalid(&at_failed, failed, detail));
    }
    if let Some(n) = failed.filter(|n| *n > FAILED_INDEXES_MAX) {
        errors.push(at_most(&at_failed, n, FAILED_INDEXES_MAX, ""));
    }
    let many = completions.is_some_and(|n| n > COMPLETIONS_SOFT_MAX);
    if !many || int(spec, "backoffLimitPerIndex").is_none() {
        return;
    }
    let when = format!(
        " when completions are above {COMPLETIONS_SOFT_MAX} and used with backoff limit per index"
    );
    if failed.is_none() {
        let detail = format!("must be specified when completions is above {COMPLETIONS_SOFT_MAX}");
        errors.push(Error::required(&at_failed, &detail));
    }
    for (at, value) in [(&at_parallelism, parallelism), (&at_failed, failed)] {
        if let Some(n) = value.filter(|n| *n > MANY_COMPLETIONS_MAX) {
            errors.push(at_most(at, n, MANY_COMPLETIONS_MAX, &when));
        }
    }
}

/// What an update may change.
fn changes(spec: &Value, old: &Object, old_spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (now, before) = (spec.get("completions"), old_spec.get("completions"));
    let at = path.child("completions");
    if !is_indexed(spec) {
        immutable(now, before, &at, errors);
    } else if now != before && now.is_some() && now != spec.get("parallelism") {
        let value = now.cloned().unwrap_or(Value::Null);
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(Error::invalid(&at, value, detail));
    }
    immutable(spec.get("selector"), old_spec.get("selector"), &path.child("selector"), errors);
    template::changes(spec, old, old_spec, path, errors);
    for key in
        ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        immutable(spec.get(key), old_spec.get(key), &path.child(key), errors);
    }
}

/// A cron job.
pub(super) fn cron_job(new: &Object, old: Option<&Object>) -> ErrorList {
    let (spec, path) = (spec_of(new), Path::new("spec"));
    let old_spec = old.map(spec_of);
    let mut errors = ErrorList::new();
    let at = path.child("schedule");
    let zone = opt_text(spec, "timeZone");
    match text(spec, "schedule") {
        "" => errors.push(Error::required(&at, "")),
        when => {
            if let Err(detail) = schedule::check(when) {
                errors.push(Error::invalid(&at, when, &detail));
            }
            let had_zone = old_spec.is_some_and(|old| text(old, "schedule").contains("TZ"));
            let has_zone = when.contains("TZ");
            if had_zone && has_zone && zone.is_some() {
                let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
                errors.push(Error::invalid(&at, when, detail));
            } else if !had_zone && has_zone {
                let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
                errors.push(Error::invalid(&at, when, detail));
            }
        }
    }
    let seconds = int(spec, "startingDeadlineSeconds").unwrap_or(0);
    not_negative(seconds, &path.child("startingDeadlineSeconds"), &mut errors);
    let old_zone = old_spec.and_then(|old| opt_text(old, "timeZone"));
    if let Some(zone) = zone.filter(|_| old.is_none() || zone != old_zone) {
        let at = path.child("timeZone");
        for detail in schedule::zone_errors(zone) {
            errors.push(Error::invalid(&at, zone, &detail));
        }
    }
    let policies = ["Allow", "Forbid", "Replace"];
    let at = path.child("concurrencyPolicy");
    required_one_of(text(spec, "concurrencyPolicy"), &policies, &at, &mut errors);
    let job = |spec: Option<&Value>| -> Option<Value> {
        part(part(spec?, "jobTemplate")?, "spec").cloned()
    };
    let at = path.child("jobTemplate").child("spec");
    let template = job(Some(spec)).unwrap_or_else(|| json!({}));
    job_spec(&template, job(old_spec).as_ref(), &at, &mut errors);
    if let Some(selector) = part(&template, "selector") {
        let detail = "`selector` will be auto-generated";
        errors.push(Error::invalid(&at.child("selector"), selector.clone(), detail));
    }
    if flag(&template, "manualSelector") {
        let at = at.child("manualSelector");
        errors.push(Error::not_supported(&at, true, &["nil", "false"]));
    }
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(int(spec, key).unwrap_or(0), &path.child(key), &mut errors);
    }
    if old.is_none() && new.name().len() > CRON_NAME_MAX {
        let at = Path::new("metadata").child("name");
        let detail = format!("must be no more than {CRON_NAME_MAX} characters");
        errors.push(Error::invalid(&at, new.name(), &detail));
    }
    errors
}
