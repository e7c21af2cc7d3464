//! The rules that an autoscaler must keep.
//!
//! upstream: pkg/apis/autoscaling/validation/validation.go

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::gvk;
use serde_json::Value;

use crate::core::pods::resources::quantity;
use crate::core::pods::tree::{has, int, list, opt_text, part, text};
use crate::core::pods::validation::common::{dns_label, not_negative, one_of, positive};
use crate::core::pods::validation::container_resource_name;

const WINDOW_MAX: i64 = 3600;
const PERIOD_MAX: i64 = 1800;
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
/// The sources in the order in which they are looked at; only the first is checked.
const SOURCES: [&str; 5] = ["object", "external", "pods", "resource", "containerResource"];

/// A new or changed autoscaler.
pub(super) fn autoscaler(new: &Object, old: Option<&Object>) -> ErrorList {
    let null = Value::Null;
    let spec = new.get(&["spec"]).unwrap_or(&null);
    let old_spec = old.map(|old| old.get(&["spec"]).unwrap_or(&null));
    let path = Path::new("spec");
    let mut errors = ErrorList::new();
    let (least, most) = (int(spec, "minReplicas"), int(spec, "maxReplicas").unwrap_or(0));
    let bound =
        i64::from(old_spec.is_none_or(|old| int(old, "minReplicas").is_none_or(|n| n != 0)));
    if let Some(least) = least.filter(|n| *n < bound) {
        let detail = format!("must be greater than or equal to {bound}");
        errors.push(Error::invalid(&path.child("minReplicas"), least, &detail));
    }
    let at = path.child("maxReplicas");
    match most {
        0 => errors.push(Error::required(&at, "must be set and greater than 0")),
        ..=-1 => errors.push(Error::invalid(&at, most, "must be greater than or equal to 1")),
        _ => {}
    }
    if least.is_some_and(|least| most < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(Error::invalid(&at, most, detail));
    }
    let target = part(spec, "scaleTargetRef").unwrap_or(&null);
    let before = old_spec.and_then(|old| part(old, "scaleTargetRef"));
    let same = |key: &str| before.is_some_and(|old| text(old, key) == text(target, key));
    let version = if same("apiVersion") && same("kind") {
        Version::Any
    } else if text(target, "kind") == "ReplicationController" {
        Version::Core
    } else {
        Version::Group
    };
    reference(target, version, &path.child("scaleTargetRef"), &mut errors);
    metrics(spec, old_spec, least, &path.child("metrics"), &mut errors);
    if let Some(behavior) = part(spec, "behavior") {
        for key in ["scaleUp", "scaleDown"] {
            if let Some(rules) = part(behavior, key) {
                scaling(rules, &path.child("behavior").child(key), &mut errors);
            }
        }
    }
    errors
}

/// Which API versions a reference may have.
#[derive(Clone, Copy)]
enum Version {
    /// Whatever was there before.
    Any,
    /// Any that can be read.
    Core,
    /// One with a group.
    Group,
}

/// upstream: staging/src/k8s.io/apimachinery/pkg/api/validate/content/path.go IsPathSegmentName
fn path_segment(value: &str, path: &Path, errors: &mut ErrorList) {
    if value == "." || value == ".." {
        errors.push(Error::invalid(path, value, &format!("may not be '{value}'")));
        return;
    }
    for part in ["/", "%"] {
        if value.contains(part) {
            errors.push(Error::invalid(path, value, &format!("may not contain '{part}'")));
        }
    }
}

fn version_error(version: &str, rule: Version) -> Option<String> {
    if matches!(rule, Version::Any) {
        return None;
    }
    match gvk::split_api_version(version) {
        None => Some(format!("unexpected GroupVersion string: {version}")),
        Some(("", _)) if matches!(rule, Version::Group) => {
            Some("apiVersion must specify API group".to_owned())
        }
        Some(_) => None,
    }
}

fn reference(reference: &Value, version: Version, path: &Path, errors: &mut ErrorList) {
    for key in ["kind", "name"] {
        match text(reference, key) {
            "" => errors.push(Error::required(&path.child(key), "")),
            value => path_segment(value, &path.child(key), errors),
        }
    }
    let value = text(reference, "apiVersion");
    if let Some(detail) = version_error(value, version) {
        errors.push(Error::invalid(&path.child("apiVersion"), value, &detail));
    }
}

fn metrics(
    spec: &Value,
    old: Option<&Value>,
    least: Option<i64>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let broken = |metric: &Value| {
        let object = part(metric, "object").and_then(|o| part(o, "describedObject"));
        text(metric, "type") == "Object"
            && object.is_some_and(|o| version_error(text(o, "apiVersion"), Version::Core).is_some())
    };
    let was_broken = old.is_some_and(|old| list(old, "metrics").iter().any(broken));
    let version = if was_broken { Version::Any } else { Version::Core };
    for (i, one) in list(spec, "metrics").iter().enumerate() {
        metric(one, version, &path.index(i), errors);
    }
    let outside = |metric: &Value| matches!(text(metric, "type"), "Object" | "External");
    if least == Some(0) && !list(spec, "metrics").iter().any(outside) {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(Error::forbidden(path, detail));
    }
}

fn metric(metric: &Value, version: Version, path: &Path, errors: &mut ErrorList) {
    let kind = text(metric, "type");
    let at = path.child("type");
    if kind.is_empty() {
        errors.push(Error::required(&at, "must specify a metric source type"));
    }
    let given: Vec<&str> = SOURCES.into_iter().filter(|key| has(metric, key)).collect();
    // Upstream looks at the type twice.
    for _ in 0..2 {
        one_of(kind, &TYPES, &at, errors);
    }
    if let Some(first) = given.first() {
        source(first, &metric[*first], version, &path.child(first), errors);
    }
    let expected = match kind {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "External" => "external",
        "ContainerResource" => "containerResource",
        _ => "",
    };
    if !expected.is_empty() && !given.contains(&expected) {
        let detail = "must populate information for the given metric source";
        errors.push(Error::required(&path.child(expected), detail));
    }
    if given.len() != 1 {
        for key in given.iter().filter(|key| **key != expected) {
            let detail = "must populate the given metric source only";
            errors.push(Error::forbidden(&path.child(key), detail));
        }
    }
}

fn source(kind: &str, source: &Value, version: Version, path: &Path, errors: &mut ErrorList) {
    let null = Value::Null;
    let at = path.child("target");
    let target = part(source, "target").unwrap_or(&null);
    if matches!(kind, "resource" | "containerResource") {
        resource(kind, source, path, errors);
        self::target(target, &at, errors);
        let (percent, value) = (has(target, "averageUtilization"), has(target, "averageValue"));
        if !percent && !value {
            let detail = "must set either a target raw value or a target utilization";
            errors.push(Error::required(&at.child("averageUtilization"), detail));
        }
        if percent && value {
            let detail = "may not set both a target raw value and a target utilization";
            errors.push(Error::forbidden(&at.child("averageValue"), detail));
        }
        return;
    }
    if kind == "object" {
        let object = part(source, "describedObject").unwrap_or(&null);
        reference(object, version, &path.child("describedObject"), errors);
    }
    let metric = part(source, "metric").unwrap_or(&null);
    let name = path.child("metric").child("name");
    match text(metric, "name") {
        "" => errors.push(Error::required(&name, "must specify a metric name")),
        value => path_segment(value, &name, errors),
    }
    self::target(target, &at, errors);
    let (value, average) = (has(target, "value"), has(target, "averageValue"));
    let detail = match kind {
        "object" if !value && !average => "must set either a target value or averageValue",
        "external" if !value && !average => {
            "must set either a target value for metric or a per-pod target"
        }
        "pods" if !average => "must specify a positive target averageValue",
        _ => "",
    };
    if !detail.is_empty() {
        errors.push(Error::required(&at.child("averageValue"), detail));
    }
    if kind == "external" && value && average {
        let detail = "may not set both a target value for metric and a per-pod target";
        errors.push(Error::forbidden(&at.child("value"), detail));
    }
}

fn resource(kind: &str, source: &Value, path: &Path, errors: &mut ErrorList) {
    let at = path.child("name");
    match text(source, "name") {
        "" => errors.push(Error::required(&at, "must specify a resource name")),
        name if kind == "containerResource" => container_resource_name(name, &at, errors),
        _ => {}
    }
    if kind == "containerResource" {
        let at = path.child("container");
        match text(source, "container") {
            "" => errors.push(Error::required(&at, "must specify a container")),
            name => dns_label(name, &at, errors),
        }
    }
}

fn target(target: &Value, path: &Path, errors: &mut ErrorList) {
    let kind = text(target, "type");
    let at = path.child("type");
    if kind.is_empty() {
        errors.push(Error::required(&at, "must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.push(Error::invalid(&at, kind, detail));
    }
    for key in ["value", "averageValue"] {
        let Some(value) = part(target, key) else { continue };
        if quantity(value).sign() != 1 {
            errors.push(Error::invalid(&path.child(key), value.clone(), "must be positive"));
        }
    }
    if let Some(percent) = int(target, "averageUtilization").filter(|n| *n < 1) {
        let at = path.child("averageUtilization");
        errors.push(Error::invalid(&at, percent, "must be greater than 0"));
    }
}

fn scaling(rules: &Value, path: &Path, errors: &mut ErrorList) {
    if let Some(window) = int(rules, "stabilizationWindowSeconds") {
        let at = path.child("stabilizationWindowSeconds");
        if window < 0 {
            errors.push(Error::invalid(&at, window, "must be greater than or equal to zero"));
        }
        if window > WINDOW_MAX {
            let detail = format!("must be less than or equal to {WINDOW_MAX}");
            errors.push(Error::invalid(&at, window, &detail));
        }
    }
    if let Some(policy) = opt_text(rules, "selectPolicy") {
        one_of(policy, &["Disabled", "Max", "Min"], &path.child("selectPolicy"), errors);
    }
    let at = path.child("policies");
    if list(rules, "policies").is_empty() {
        errors.push(Error::required(&at, "must specify at least one Policy"));
    }
    for (i, policy) in list(rules, "policies").iter().enumerate() {
        let at = at.index(i);
        one_of(text(policy, "type"), &["Percent", "Pods"], &at.child("type"), errors);
        positive(int(policy, "value").unwrap_or(0), &at.child("value"), errors);
        let period = int(policy, "periodSeconds").unwrap_or(0);
        let at = at.child("periodSeconds");
        positive(period, &at, errors);
        if period > PERIOD_MAX {
            let detail = format!("must be less than or equal to {PERIOD_MAX}");
            errors.push(Error::invalid(&at, period, &detail));
        }
    }
    if let Some(tolerance) = part(rules, "tolerance").map(quantity).filter(|q| q.sign() < 0) {
        let detail = "must be greater than or equal to 0";
        errors.push(Error::invalid(&path.child("tolerance"), tolerance.to_string(), detail));
    }
}

/// The status of an autoscaler.
pub(super) fn status(new: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    for key in ["currentReplicas", "desiredReplicas"] {
        let value = new.int(&["status", key]).unwrap_or(0);
        not_negative(value, &Path::new("status").child(key), &mut errors);
    }
    errors
}
