//! Where a pod may run: affinities, tolerations and spread.
//!
//! upstream: pkg/apis/core/validation/validation.go validateAffinity, ValidateTolerations,
//! validateTopologySpreadConstraints

use std::collections::BTreeSet;

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::names;
use serde_json::Value;

use super::common::{
    dns_label, dns_subdomain, each, label_selector, one_of, positive, qualified_name,
};
use super::options::Options;
use crate::core::pods::tree::{entries, int, list, opt_text, part, text, texts};

pub(super) const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Every term of a spec's affinities to pods.
pub(super) fn terms(spec: &Value) -> impl Iterator<Item = &Value> {
    let affinity = part(spec, "affinity");
    ["podAffinity", "podAntiAffinity"]
        .into_iter()
        .filter_map(move |key| affinity.and_then(|a| part(a, key)))
        .flat_map(|pods| {
            let preferred = list(pods, PREFERRED).iter();
            list(pods, REQUIRED)
                .iter()
                .chain(preferred.filter_map(|weighted| part(weighted, "podAffinityTerm")))
        })
}

/// The terms of a spec's required affinity to nodes.
pub(super) fn required_node_terms(spec: &Value) -> &[Value] {
    part(spec, "affinity")
        .and_then(|a| part(a, "nodeAffinity"))
        .and_then(|n| part(n, REQUIRED))
        .map_or(&[], |selector| list(selector, "nodeSelectorTerms"))
}

/// The affinities of a pod.
pub(super) fn affinity(spec: &Value, options: &Options, path: &Path, errors: &mut ErrorList) {
    let Some(affinity) = part(spec, "affinity") else { return };
    if let Some(nodes) = part(affinity, "nodeAffinity") {
        let path = path.child("nodeAffinity");
        if let Some(selector) = part(nodes, REQUIRED) {
            node_selector(selector, options.bad_node_values, &path.child(REQUIRED), errors);
        }
        for (i, term) in list(nodes, PREFERRED).iter().enumerate() {
            let at = path.child(PREFERRED).index(i);
            weight(term, &at, errors);
            if let Some(preference) = part(term, "preference") {
                node_term(preference, true, &at.child("preference"), errors);
            }
        }
    }
    for key in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = part(affinity, key) else { continue };
        let path = path.child(key);
        for (i, term) in list(pods, REQUIRED).iter().enumerate() {
            pod_term(term, options, &path.child(REQUIRED).index(i), errors);
        }
        for (i, weighted) in list(pods, PREFERRED).iter().enumerate() {
            let at = path.child(PREFERRED).index(i);
            weight(weighted, &at, errors);
            let term = part(weighted, "podAffinityTerm").unwrap_or(&Value::Null);
            pod_term(term, options, &at.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(holder: &Value, path: &Path, errors: &mut ErrorList) {
    let weight = int(holder, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        let detail = "must be in the range 1-100";
        errors.push(Error::invalid(&path.child("weight"), weight, detail));
    }
}

/// A choice of nodes by labels and fields.
pub(crate) fn node_selector(
    selector: &Value,
    bad_values: bool,
    path: &Path,
    errors: &mut ErrorList,
) {
    let path = path.child("nodeSelectorTerms");
    let terms = list(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(Error::required(&path, "must have at least one node selector term"));
    }
    for (i, term) in terms.iter().enumerate() {
        node_term(term, bad_values, &path.index(i), errors);
    }
}

fn node_term(term: &Value, bad_values: bool, path: &Path, errors: &mut ErrorList) {
    for (i, requirement) in list(term, "matchExpressions").iter().enumerate() {
        let at = path.child("matchExpressions").index(i);
        node_expression(requirement, bad_values, &at, errors);
    }
    for (i, requirement) in list(term, "matchFields").iter().enumerate() {
        node_field(requirement, &path.child("matchFields").index(i), errors);
    }
}

fn node_expression(requirement: &Value, bad_values: bool, path: &Path, errors: &mut ErrorList) {
    let values = texts(requirement, "values");
    let at = path.child("values");
    match text(requirement, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(Error::required(&at, detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(Error::forbidden(&at, detail));
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.push(Error::required(&at, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => {
            let detail = "not a valid selector operator";
            errors.push(Error::invalid(&path.child("operator"), other, detail));
        }
    }
    qualified_name(text(requirement, "key"), &path.child("key"), errors);
    if !bad_values {
        for (i, value) in values.into_iter().enumerate() {
            each(value, &at.index(i), &names::is_valid_label_value(value), errors);
        }
    }
}

fn node_field(requirement: &Value, path: &Path, errors: &mut ErrorList) {
    let values = texts(requirement, "values");
    match text(requirement, "operator") {
        "In" | "NotIn" => {
            if values.len() != 1 {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(Error::required(&path.child("values"), detail));
            }
        }
        other => {
            let detail = "not a valid selector operator";
            errors.push(Error::invalid(&path.child("operator"), other, detail));
        }
    }
    let key = text(requirement, "key");
    if key != "metadata.name" {
        let detail = "not a valid field selector key";
        errors.push(Error::invalid(&path.child("key"), key, detail));
        return;
    }
    for (i, value) in values.into_iter().enumerate() {
        dns_subdomain(value, &path.child("values").index(i), errors);
    }
}

fn pod_term(term: &Value, options: &Options, path: &Path, errors: &mut ErrorList) {
    for key in ["labelSelector", "namespaceSelector"] {
        label_selector(term.get(key), &path.child(key), options.bad_selector_values, errors);
    }
    for namespace in texts(term, "namespaces") {
        dns_label(namespace, &path.child("namespace"), errors);
    }
    label_keys(term, path, errors);
    let key = text(term, "topologyKey");
    let at = path.child("topologyKey");
    if key.is_empty() {
        errors.push(Error::required(&at, "can not be empty"));
    }
    qualified_name(key, &at, errors);
}

/// Keys of labels whose values are taken from the pod itself.
///
/// upstream: ValidateMatchLabelKeysAndMismatchLabelKeys
pub(super) fn label_keys(holder: &Value, path: &Path, errors: &mut ErrorList) {
    let selector = part(holder, "labelSelector");
    let (wanted, unwanted) = (texts(holder, "matchLabelKeys"), texts(holder, "mismatchLabelKeys"));
    for (key, keys) in [("matchLabelKeys", &wanted), ("mismatchLabelKeys", &unwanted)] {
        let at = path.child(key);
        if keys.is_empty() {
            continue;
        }
        if selector.is_none() {
            let detail = "must not be specified when labelSelector is not set";
            errors.push(Error::forbidden(&at, detail));
            continue;
        }
        for (i, key) in keys.iter().enumerate() {
            qualified_name(key, &at.index(i), errors);
        }
    }
    if let Some(selector) = selector {
        // The expressions made of the keys are there already; another use of a key comes twice.
        let mut seen: BTreeSet<&str> =
            entries(selector, "matchLabels").map(|(key, _)| key.as_str()).collect();
        for expression in list(selector, "matchExpressions") {
            let key = text(expression, "key");
            let at = wanted.iter().rposition(|k| *k == key);
            if let Some(at) = at.filter(|_| seen.contains(key)) {
                let detail = "exists in both matchLabelKeys and labelSelector";
                errors.push(Error::invalid(&path.index(at), key, detail));
            }
            seen.insert(key);
        }
    }
    for (i, key) in wanted.iter().enumerate().filter(|(_, key)| unwanted.contains(key)) {
        let at = path.child("matchLabelKeys").index(i);
        let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.push(Error::invalid(&at, *key, detail));
    }
}

/// Taints that a pod bears.
pub(crate) fn tolerations(
    tolerations: &[Value],
    path: &Path,
    options: &Options,
    errors: &mut ErrorList,
) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let at = path.index(i);
        let key = text(toleration, "key");
        let (operator, value) = (text(toleration, "operator"), text(toleration, "value"));
        let effect = text(toleration, "effect");
        if !key.is_empty() {
            qualified_name(key, &at.child("key"), errors);
        }
        let at_operator = at.child("operator");
        if key.is_empty() && operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Error::invalid(&at_operator, operator, detail));
        }
        if int(toleration, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Error::invalid(&at.child("effect"), effect, detail));
        }
        match operator {
            "Equal" | "" => {
                let broken = names::is_valid_label_value(value);
                if !broken.is_empty() {
                    errors.push(Error::invalid(&at_operator, value, &broken.join(";")));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    errors.push(Error::invalid(&at_operator, value, detail));
                }
            }
            "Lt" | "Gt" if options.comparing_tolerations => {
                if value.parse::<i64>().is_err() {
                    let detail = "must be a decimal integer";
                    errors.push(Error::invalid(&at.child("value"), value, detail));
                }
            }
            "Lt" | "Gt" => {
                let set = ["Equal", "Exists", "Lt", "Gt"];
                errors.push(Error::not_supported(&at_operator, operator, &set));
            }
            _ => errors.push(Error::not_supported(&at_operator, operator, &["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            one_of(effect, &EFFECTS, &at.child("effect"), errors);
        }
    }
}

/// How pods are spread over the cluster.
pub(super) fn spread(spec: &Value, path: &Path, options: &Options, errors: &mut ErrorList) {
    let constraints = list(spec, "topologySpreadConstraints");
    for (i, constraint) in constraints.iter().enumerate() {
        let at = path.index(i);
        positive(int(constraint, "maxSkew").unwrap_or(0), &at.child("maxSkew"), errors);
        let key = text(constraint, "topologyKey");
        if key.is_empty() {
            errors.push(Error::required(&at.child("topologyKey"), "can not be empty"));
        }
        let action = text(constraint, "whenUnsatisfiable");
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        one_of(action, &actions, &at.child("whenUnsatisfiable"), errors);
        let again = constraints[i + 1..].iter().any(|other| {
            text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action
        });
        if again {
            let at = at.child("{topologyKey, whenUnsatisfiable}");
            errors.push(Error::duplicate(&at, format!("{{{key}, {action}}}")));
        }
        if let Some(domains) = int(constraint, "minDomains") {
            let at = at.child("minDomains");
            positive(domains, &at, errors);
            if action != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                errors.push(Error::invalid(&at, domains, &detail));
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = opt_text(constraint, key) {
                one_of(policy, &["Honor", "Ignore"], &at.child(key), errors);
            }
        }
        spread_keys(constraint, &at, options, errors);
        if !options.bad_spread_selectors {
            let selector = constraint.get("labelSelector");
            label_selector(selector, &at.child("labelSelector"), false, errors);
        }
    }
}

fn spread_keys(constraint: &Value, path: &Path, options: &Options, errors: &mut ErrorList) {
    if !options.bad_spread_keys {
        label_keys(constraint, path, errors);
        return;
    }
    let keys = texts(constraint, "matchLabelKeys");
    let at = path.child("matchLabelKeys");
    let selector = part(constraint, "labelSelector");
    if keys.is_empty() {
        return;
    }
    if selector.is_none() {
        let detail = "must not be specified when labelSelector is not set";
        errors.push(Error::forbidden(&at, detail));
    }
    let selector = selector.unwrap_or(&Value::Null);
    for (i, key) in keys.into_iter().enumerate() {
        qualified_name(key, &at.index(i), errors);
        let used = entries(selector, "matchLabels").any(|(k, _)| k == key)
            || list(selector, "matchExpressions").iter().any(|e| text(e, "key") == key);
        if used {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(Error::invalid(&at.index(i), key, detail));
        }
    }
}
