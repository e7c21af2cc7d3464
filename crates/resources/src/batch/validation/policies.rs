//! When a job fails early, succeeds early, or replaces pods.
//!
//! upstream: pkg/apis/batch/validation/validation.go validatePodFailurePolicy,
//! validateSuccessPolicy, validatePodReplacementPolicy

use std::collections::BTreeSet;

use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::{indexes, is_indexed};
use crate::core::pods::tree::{int, list, opt_text, or_null, part, text};
use crate::core::pods::validation::common::{not_negative, one_of, qualified_name};

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const PATTERNS_MAX: usize = 20;
const INDEXES_MAX: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

/// The policies of a job.
pub(super) fn policies(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let failure = part(spec, "podFailurePolicy");
    if let Some(policy) = failure {
        self::failure(spec, policy, &path.child("podFailurePolicy").child("rules"), errors);
    }
    if let Some(policy) = part(spec, "successPolicy") {
        let at = path.child("successPolicy");
        if is_indexed(spec) {
            success(spec, policy, &at.child("rules"), errors);
        } else {
            let detail = "requires indexed completion mode";
            errors.push(Error::invalid(&at, policy.clone(), detail));
        }
    }
    if let Some(policy) = opt_text(spec, "podReplacementPolicy") {
        let set: &[&str] =
            if failure.is_some() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        one_of(policy, set, &path.child("podReplacementPolicy"), errors);
    }
}

/// An error that prints no value.
fn without_value(path: &Path, detail: &str) -> Error {
    let mut error = Error::invalid_text(path, "", "");
    error.body = format!("Invalid value: {detail}");
    error
}

fn quoted(set: &[&str]) -> String {
    let quoted: Vec<String> = set.iter().map(|s| format!("{s:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn required_from(value: &str, set: &[&str], path: &Path, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(Error::required(path, &quoted(set)));
    } else {
        one_of(value, set, path, errors);
    }
}

fn failure(spec: &Value, policy: &Value, path: &Path, errors: &mut ErrorList) {
    let rules = list(policy, "rules");
    if rules.len() > RULES_MAX {
        errors.push(Error::too_many(path, rules.len(), RULES_MAX));
    }
    let pod = part(spec, "template").and_then(|t| part(t, "spec")).unwrap_or(&Value::Null);
    let containers: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|key| list(pod, key))
        .map(|c| text(c, "name"))
        .collect();
    for (i, rule) in rules.iter().enumerate() {
        let at = path.index(i);
        let action = text(rule, "action");
        if action == "FailIndex" {
            if int(spec, "backoffLimitPerIndex").is_none() {
                let detail = "requires the backoffLimitPerIndex to be set";
                errors.push(Error::invalid(&at.child("action"), action, detail));
            }
        } else {
            required_from(action, &ACTIONS, &at.child("action"), errors);
        }
        let codes = part(rule, "onExitCodes");
        let patterns = list(rule, "onPodConditions");
        if let Some(codes) = codes {
            exit_codes(codes, &containers, &at.child("onExitCodes"), errors);
        }
        conditions(patterns, &at.child("onPodConditions"), errors);
        match (codes.is_some(), patterns.is_empty()) {
            (true, false) => {
                let detail = "specifying both OnExitCodes and OnPodConditions is not supported";
                errors.push(without_value(&at, detail));
            }
            (false, true) => {
                let detail = "specifying one of OnExitCodes and OnPodConditions is required";
                errors.push(without_value(&at, detail));
            }
            _ => {}
        }
    }
}

fn conditions(patterns: &[Value], path: &Path, errors: &mut ErrorList) {
    if patterns.len() > PATTERNS_MAX {
        errors.push(Error::too_many(path, patterns.len(), PATTERNS_MAX));
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let at = path.index(i);
        qualified_name(text(pattern, "type"), &at.child("type"), errors);
        let set = ["False", "True", "Unknown"];
        required_from(text(pattern, "status"), &set, &at.child("status"), errors);
    }
}

fn exit_codes(codes: &Value, containers: &BTreeSet<&str>, path: &Path, errors: &mut ErrorList) {
    let operator = text(codes, "operator");
    required_from(operator, &["In", "NotIn"], &path.child("operator"), errors);
    if let Some(name) = opt_text(codes, "containerName").filter(|n| !containers.contains(n)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(Error::invalid(&path.child("containerName"), name, detail));
    }
    let at = path.child("values");
    let values: Vec<i64> = list(codes, "values").iter().filter_map(Value::as_i64).collect();
    if values.is_empty() {
        let value = or_null(codes, "values");
        errors.push(Error::invalid(&at, value, "at least one value is required"));
    } else if values.len() > EXIT_CODES_MAX {
        errors.push(Error::too_many(&at, values.len(), EXIT_CODES_MAX));
    }
    let mut seen = BTreeSet::new();
    for (i, value) in values.iter().enumerate() {
        if operator == "In" && *value == 0 {
            let detail = "must not be 0 for the In operator";
            errors.push(Error::invalid(&at.index(i), 0, detail));
        }
        if !seen.insert(*value) {
            errors.push(Error::duplicate(&at.index(i), *value));
        }
    }
    if !values.is_sorted() {
        errors.push(Error::invalid(&at, values, "must be ordered"));
    }
}

fn success(spec: &Value, policy: &Value, path: &Path, errors: &mut ErrorList) {
    let rules = list(policy, "rules");
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(Error::required(path, detail));
    }
    if rules.len() > RULES_MAX {
        errors.push(Error::too_many(path, rules.len(), RULES_MAX));
    }
    let completions = int(spec, "completions").unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        let at = path.index(i);
        let (count, indexes) = (int(rule, "succeededCount"), opt_text(rule, "succeededIndexes"));
        if count.is_none() && indexes.is_none() {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(Error::required(&at, detail));
        }
        let mut total = 0;
        if let Some(text) = indexes {
            let at = at.child("succeededIndexes");
            if text.len() > INDEXES_MAX {
                errors.push(Error::too_long(&at, INDEXES_MAX));
            }
            match indexes::count(text, completions) {
                Ok(count) => total = count,
                Err(error) => {
                    let detail = format!("error parsing succeededIndexes: {error}");
                    errors.push(Error::invalid(&at, text, &detail));
                }
            }
        }
        let Some(count) = count else { continue };
        let at = at.child("succeededCount");
        not_negative(count, &at, errors);
        if count > completions {
            let detail = format!(
                "must be less than or equal to {completions} (the number of specified completions)"
            );
            errors.push(Error::invalid(&at, count, &detail));
        }
        if indexes.is_some() && count > total {
            let detail = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(Error::invalid(&at, count, &detail));
        }
    }
}
