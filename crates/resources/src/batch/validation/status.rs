//! The status of a job: what its controller may say, and may not take back.
//!
//! upstream: pkg/apis/batch/validation/validation.go validateJobStatus, ValidateJobStatusUpdate,
//! pkg/registry/batch/job/strategy.go getStatusValidationOptions

use std::collections::BTreeSet;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::{indexes, is_indexed, spec_of};
use crate::core::pods::tree::{flag, int, list, opt_text, or_null, part, text, texts};
use crate::core::pods::validation::common::not_negative;

/// A status with the questions that the rules ask.
struct View<'a> {
    spec: &'a Value,
    status: &'a Value,
}

impl<'a> View<'a> {
    fn new(object: &'a Object) -> Self {
        Self { spec: spec_of(object), status: object.get(&["status"]).unwrap_or(&Value::Null) }
    }

    fn is(&self, condition: &str, status: &str) -> bool {
        list(self.status, "conditions")
            .iter()
            .any(|c| text(c, "type") == condition && text(c, "status") == status)
    }

    fn holds(&self, condition: &str) -> bool {
        self.is(condition, "True")
    }

    fn finished(&self) -> bool {
        self.holds("Complete") || self.holds("Failed")
    }

    fn count(&self, key: &str) -> i64 {
        int(self.status, key).unwrap_or(0)
    }

    fn time(&self, key: &str) -> Option<&'a str> {
        opt_text(self.status, key)
    }
}

/// The broken rules of a changed status.
pub(crate) fn job_status(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let (new, old) = (View::new(new), View::new(old));
    let path = Path::new("status");
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(new.count(key), &path.child(key), &mut errors);
    }
    uncounted(&new, &path, &mut errors);
    conditions(&new, &old, &path, &mut errors);
    times(&new, &old, &path, &mut errors);
    finished(&new, &old, &path, &mut errors);
    index_texts(&new, &old, &path, &mut errors);
    kept(&new, &old, &path, &mut errors);
    errors
}

fn uncounted(new: &View<'_>, path: &Path, errors: &mut ErrorList) {
    let Some(pods) = part(new.status, "uncountedTerminatedPods") else { return };
    let mut seen = BTreeSet::new();
    for key in ["succeeded", "failed"] {
        for (i, uid) in texts(pods, key).into_iter().enumerate() {
            let at = path.child("uncountedTerminatedPods").child(key).index(i);
            if uid.is_empty() {
                errors.push(Error::invalid(&at, uid, "must not be empty"));
            } else if !seen.insert(uid) {
                errors.push(Error::duplicate(&at, uid));
            }
        }
    }
}

fn without_value(path: &Path, detail: &str) -> Error {
    let mut error = Error::invalid_text(path, "", "");
    error.body = format!("Invalid value: {detail}");
    error
}

fn conditions(new: &View<'_>, old: &View<'_>, path: &Path, errors: &mut ErrorList) {
    let changed = |condition: &str| new.holds(condition) != old.holds(condition);
    let at = path.child("conditions");
    let (complete, failed) = (new.holds("Complete"), new.holds("Failed"));
    let (target, met) = (new.holds("FailureTarget"), new.holds("SuccessCriteriaMet"));
    let failed_indexes = new.status.get("failedIndexes") != old.status.get("failedIndexes");
    let rules = [
        (
            complete && failed && (changed("Complete") || changed("Failed")),
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            complete && target && (changed("Complete") || changed("FailureTarget")),
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
        (
            failed && !target && (changed("Failed") || failed_indexes),
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            complete && !met && (changed("Complete") || changed("SuccessCriteriaMet")),
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        (met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
        (
            part(new.spec, "successPolicy").is_some() && !met && complete,
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        ),
        (
            old.holds("SuccessCriteriaMet") && !met,
            "cannot disable the SuccessCriteriaMet=True condition",
        ),
        (
            old.holds("Complete") && !old.holds("SuccessCriteriaMet") && met,
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        ),
    ];
    errors.extend(rules.iter().filter(|(broken, _)| *broken).map(|(_, d)| without_value(&at, d)));
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if old.holds(condition) && !new.holds(condition) {
            let detail = format!("cannot disable the terminal {condition}=True condition");
            errors.push(without_value(&at, &detail));
        }
    }
}

fn times(new: &View<'_>, old: &View<'_>, path: &Path, errors: &mut ErrorList) {
    let complete = new.holds("Complete");
    let (start, end) = (new.time("startTime"), new.time("completionTime"));
    let complete_changed = complete != old.holds("Complete");
    let start_changed = start != old.time("startTime");
    let end_changed = end != old.time("completionTime");
    let at = path.child("completionTime");
    if complete_changed || end_changed {
        match (end, complete) {
            (Some(end), false) => {
                let detail = "cannot set completionTime when there is no Complete=True condition";
                errors.push(Error::invalid(&at, end, detail));
            }
            (None, true) => {
                errors.push(Error::required(&at, "completionTime is required for Complete jobs"));
            }
            _ => {}
        }
    }
    let parsed = |time: Option<&str>| time.and_then(|t| t.parse::<Timestamp>().ok());
    if let (Some(first), Some(last)) = (parsed(start), parsed(end))
        && (start_changed || end_changed)
        && last < first
    {
        let detail = "must be equal to or after `startTime`";
        errors.push(Error::invalid(&at, end.unwrap_or(""), detail));
    }
    if let (Some(end), Some(_), true) = (end, old.time("completionTime"), end_changed) {
        errors.push(Error::invalid(&at, end, "field is immutable"));
    }
    let resuming = old.holds("Suspended") && new.is("Suspended", "False");
    if start_changed && !resuming && old.time("startTime").is_some() && !flag(new.spec, "suspend") {
        let value = or_null(new.status, "startTime");
        let detail = "field is immutable for unsuspended job once set";
        errors.push(Error::invalid(&path.child("startTime"), value, detail));
    }
}

fn finished(new: &View<'_>, old: &View<'_>, path: &Path, errors: &mut ErrorList) {
    let finished = new.finished();
    let changed = finished != old.finished();
    let differs = |key: &str| new.status.get(key) != old.status.get(key);
    let (active, ready, terminating) =
        (new.count("active"), new.count("ready"), new.count("terminating"));
    if finished && active > 0 && (changed || differs("active")) {
        let detail = "active>0 is invalid for finished job";
        errors.push(Error::invalid(&path.child("active"), active, detail));
    }
    let nothing = flag(new.spec, "suspend") && int(new.spec, "completions") == Some(0);
    let start = (changed || differs("startTime")) && !nothing;
    if finished && start && new.time("startTime").is_none() {
        let detail = "startTime is required for finished job";
        errors.push(Error::required(&path.child("startTime"), detail));
    }
    let key = "uncountedTerminatedPods";
    let pods = part(new.status, key).unwrap_or(&Value::Null);
    let some = ["succeeded", "failed"].iter().any(|k| !list(pods, k).is_empty());
    if finished && some && (changed || differs(key)) {
        let detail = "must be empty for finished job";
        errors.push(Error::invalid(&path.child(key), pods.clone(), detail));
    }
    if finished && terminating > 0 && (changed || differs("terminating")) {
        let detail = "terminating>0 is invalid for finished job";
        errors.push(Error::invalid(&path.child("terminating"), terminating, detail));
    }
    if ready > active && (differs("ready") || differs("active")) {
        let detail = "cannot set more ready pods than active";
        errors.push(Error::invalid(&path.child("ready"), ready, detail));
    }
}

fn index_texts(new: &View<'_>, old: &View<'_>, path: &Path, errors: &mut ErrorList) {
    let completed = text(new.status, "completedIndexes");
    let failed = opt_text(new.status, "failedIndexes");
    let completed_changed = completed != text(old.status, "completedIndexes");
    let failed_changed = failed != opt_text(old.status, "failedIndexes");
    let completions = int(new.spec, "completions");
    let per_index = int(new.spec, "backoffLimitPerIndex").is_some();
    let mut check = |key: &str, text: &str, completions: i64| {
        if let Err(error) = indexes::count(text, completions) {
            let detail = format!("error parsing {key}: {error}");
            errors.push(Error::invalid(&path.child(key), text, &detail));
        }
    };
    if let (Some(completions), true) = (completions, completed_changed) {
        check("completedIndexes", completed, completions);
    }
    if let (Some(completions), Some(failed), true, true) =
        (completions, failed, failed_changed, per_index)
    {
        check("failedIndexes", failed, completions);
    }
    if completed_changed && !completed.is_empty() && !is_indexed(new.spec) {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(Error::invalid(&path.child("completedIndexes"), completed, detail));
    }
    let Some(failed) = failed else { return };
    let at = path.child("failedIndexes");
    if failed_changed && !per_index {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(Error::invalid(&at, failed, detail));
    }
    if let (Some(completions), true) = (completions, failed_changed || completed_changed)
        && let Some(index) = indexes::overlap(completed, failed, completions)
    {
        let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(Error::invalid(&at, failed, &detail));
    }
}

fn kept(new: &View<'_>, old: &View<'_>, path: &Path, errors: &mut ErrorList) {
    if new.count("failed") < old.count("failed") {
        let detail = "cannot decrease the failed counter";
        errors.push(Error::invalid(&path.child("failed"), new.count("failed"), detail));
    }
    // An elastic indexed job may shrink.
    let elastic =
        is_indexed(new.spec) && new.spec.get("completions") == new.spec.get("parallelism");
    if !elastic && new.count("succeeded") < old.count("succeeded") {
        let detail = "cannot decrease the succeeded counter";
        errors.push(Error::invalid(&path.child("succeeded"), new.count("succeeded"), detail));
    }
}
