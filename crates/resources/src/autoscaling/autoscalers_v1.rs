//! Horizontal pod autoscalers, version 1: one CPU target; all that version 2 has more is carried in
//! annotations. They are stored as version 2, whose rules hold.
//!
//! upstream: pkg/apis/autoscaling/v1/conversion.go

use jiff::Timestamp;
use longshore_api::field::ErrorList;
use longshore_api::{Object, gostruct};
use serde_json::{Map, Value, json};

use super::autoscalers::Autoscalers;
use crate::apps::workload;
use crate::core::pods::tree::{has, int, opt_text, or_null, part, text};
use crate::strategy::{Context, Strategy};
use crate::table::Column;

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const ALL: [&str; 4] = [METRICS, BEHAVIOR, CURRENT, CONDITIONS];

/// The rules of version 1.
pub(crate) struct AutoscalersV1;

impl Strategy for AutoscalersV1 {
    fn default(&self, object: &mut Object) {
        convert(object, |v2| Autoscalers.default(v2));
        workload::complete(object, "autoscaling/v1.HorizontalPodAutoscaler");
    }

    fn prepare_create(&self, ctx: &Context<'_>, object: &mut Object) {
        convert(object, |v2| Autoscalers.prepare_create(ctx, v2));
        workload::complete(object, "autoscaling/v1.HorizontalPodAutoscaler");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        Autoscalers.validate_create(&to_v2(object.clone()))
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        let old = to_v2(old.clone());
        convert(new, |v2| Autoscalers.prepare_update(ctx, v2, &old));
        workload::complete(new, "autoscaling/v1.HorizontalPodAutoscaler");
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        Autoscalers.validate_update(ctx, &to_v2(new.clone()), &to_v2(old.clone()))
    }

    fn columns(&self) -> Vec<Column> {
        Autoscalers.columns()
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        Autoscalers.row(&to_v2(object.clone()), now)
    }

    fn converts(&self) -> bool {
        true
    }

    fn to_storage(&self, object: &mut Object) {
        *object = to_v2(std::mem::take(object));
    }

    fn from_storage(&self, object: &mut Object) {
        *object = to_v1(std::mem::take(object));
    }
}

/// Changes an object of version 1 as version 2.
fn convert(object: &mut Object, change: impl FnOnce(&mut Object)) {
    let mut v2 = to_v2(std::mem::take(object));
    change(&mut v2);
    *object = to_v1(v2);
}

fn annotation(object: &mut Object, key: &str) -> Option<Value> {
    let value = object.remove(&["metadata", "annotations", key])?;
    serde_json::from_str(value.as_str()?).ok()
}

fn set(target: &mut Map<String, Value>, key: &str, value: Option<&Value>) {
    if let Some(value) = value.filter(|v| !v.is_null()) {
        target.insert(key.to_owned(), value.clone());
    }
}

/// Version 2 of an object of version 1; one of version 2 stays as it is.
pub(crate) fn to_v2(mut object: Object) -> Object {
    if object.api_version() == "autoscaling/v2" {
        return object;
    }
    object.set(&["apiVersion"], "autoscaling/v2");
    let cpu = object.remove(&["spec", "targetCPUUtilizationPercentage"]);
    let target = |percent: &Value| {
        let target = json!({"type": "Utilization", "averageUtilization": percent});
        json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    };
    let mut metrics: Vec<Value> = match annotation(&mut object, METRICS) {
        Some(Value::Array(others)) => others.iter().map(metric_to_v2).collect(),
        _ => Vec::new(),
    };
    metrics.extend(cpu.filter(|v| !v.is_null()).iter().map(target));
    if !metrics.is_empty() {
        object.set(&["spec", "metrics"], metrics);
    }
    if let Some(behavior) = annotation(&mut object, BEHAVIOR).map(lower)
        && behavior.as_object().is_some_and(|b| b.values().any(|rules| !rules.is_null()))
    {
        object.set(&["spec", "behavior"], without_nulls(behavior));
    }
    let cpu = object.remove(&["status", "currentCPUUtilizationPercentage"]);
    if let Some(percent) = cpu.filter(|v| !v.is_null()) {
        let metric = json!({"type": "Resource", "resource": {
            "name": "cpu", "current": {"averageUtilization": percent},
        }});
        object.set(&["status", "currentMetrics"], json!([metric]));
    }
    if let Some(Value::Array(current)) = annotation(&mut object, CURRENT) {
        let current: Vec<Value> = current.iter().map(status_to_v2).collect();
        object.set(&["status", "currentMetrics"], current);
    }
    if let Some(conditions) = annotation(&mut object, CONDITIONS) {
        object.set(&["status", "conditions"], conditions);
    }
    drop_empty_annotations(&mut object);
    object
}

/// Version 1 of an object of version 2; one of version 1 stays as it is.
pub(crate) fn to_v1(mut object: Object) -> Object {
    if object.api_version() == "autoscaling/v1" {
        return object;
    }
    object.set(&["apiVersion"], "autoscaling/v1");
    for key in ALL {
        object.remove(&["metadata", "annotations", key]);
    }
    let metrics = object.remove(&["spec", "metrics"]).unwrap_or(Value::Null);
    let metrics = metrics.as_array().cloned().unwrap_or_default();
    let is_cpu = |metric: &&Value| cpu_percent(metric, "target").is_some();
    if let Some(percent) = metrics.iter().find_map(|m| cpu_percent(m, "target")) {
        object.set(&["spec", "targetCPUUtilizationPercentage"], percent);
    }
    let others: Vec<Value> = metrics.iter().filter(|m| !is_cpu(m)).map(metric_to_v1).collect();
    if !others.is_empty() {
        annotate(&mut object, METRICS, "autoscaling/v1.MetricSpec", &Value::Array(others));
    }
    if let Some(behavior) = object.remove(&["spec", "behavior"]).filter(|b| !b.is_null()) {
        let ty = "autoscaling/v2.HorizontalPodAutoscalerBehavior";
        annotate(&mut object, BEHAVIOR, ty, &behavior);
    }
    let current = object.remove(&["status", "currentMetrics"]).unwrap_or(Value::Null);
    let current = current.as_array().cloned().unwrap_or_default();
    if let Some(percent) = current.iter().find_map(|m| cpu_percent(m, "current")) {
        object.set(&["status", "currentCPUUtilizationPercentage"], percent);
    }
    if !current.is_empty() {
        let current: Vec<Value> = current.iter().map(status_to_v1).collect();
        annotate(&mut object, CURRENT, "autoscaling/v1.MetricStatus", &Value::Array(current));
    }
    let conditions = object.remove(&["status", "conditions"]).unwrap_or(Value::Null);
    if conditions.as_array().is_some_and(|c| !c.is_empty()) {
        let ty = "autoscaling/v1.HorizontalPodAutoscalerCondition";
        annotate(&mut object, CONDITIONS, ty, &conditions);
    }
    drop_empty_annotations(&mut object);
    object
}

/// Keeps in an annotation what version 1 has no field for; `ty` is the type of the value.
fn annotate(object: &mut Object, key: &str, ty: &str, value: &Value) {
    let printed =
        if key == BEHAVIOR { gostruct::print(ty, value) } else { gostruct::published(ty, value) };
    object.set(&["metadata", "annotations", key], printed);
}

fn drop_empty_annotations(object: &mut Object) {
    let path = ["metadata", "annotations"];
    if object.get(&path).and_then(Value::as_object).is_some_and(Map::is_empty) {
        object.remove(&path);
    }
}

/// The percentage of a metric of the CPU's use; `side` is `target` or `current`.
fn cpu_percent(metric: &Value, side: &str) -> Option<i64> {
    let resource = part(metric, "resource")?;
    let cpu = text(metric, "type") == "Resource" && text(resource, "name") == "cpu";
    int(part(resource, side)?, "averageUtilization").filter(|_| cpu)
}

/// The names that sources have in both versions.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("External", "external"),
];

/// Converts the source of a metric.
fn each_source(metric: &Value, change: impl Fn(&str, &Value) -> Value) -> Value {
    let mut out = Map::new();
    out.insert("type".to_owned(), text(metric, "type").into());
    for (_, key) in SOURCES {
        if let Some(source) = part(metric, key) {
            out.insert(key.to_owned(), change(key, source));
        }
    }
    Value::Object(out)
}

fn selector_key(kind: &str) -> &'static str {
    if kind == "external" { "metricSelector" } else { "selector" }
}

fn metric_to_v2(metric: &Value) -> Value {
    each_source(metric, |kind, source| {
        let (mut out, mut target) = (Map::new(), Map::new());
        let value = match kind {
            "object" | "external" => {
                // Version 1 cannot leave the value of an object's metric out.
                let average = has(
                    source,
                    if kind == "object" { "averageValue" } else { "targetAverageValue" },
                );
                let zero = kind == "object" && average && text(source, "targetValue") == "0";
                part(source, "targetValue").filter(|_| !zero)
            }
            _ => None,
        };
        let average =
            source.get(if kind == "object" { "averageValue" } else { "targetAverageValue" });
        let percent = source.get("targetAverageUtilization");
        let form = match kind {
            "resource" | "containerResource" if percent.is_some_and(|p| !p.is_null()) => {
                "Utilization"
            }
            "object" if !has(source, "averageValue") => "Value",
            "external" if value.is_some() => "Value",
            _ => "AverageValue",
        };
        target.insert("type".to_owned(), form.into());
        set(&mut target, "value", value);
        set(&mut target, "averageValue", average);
        set(&mut target, "averageUtilization", percent);
        out.insert("target".to_owned(), Value::Object(target));
        identify(kind, source, &mut out);
        Value::Object(out)
    })
}

/// What a metric is of, in version 2.
fn identify(kind: &str, source: &Value, out: &mut Map<String, Value>) {
    if matches!(kind, "resource" | "containerResource") {
        set(out, "name", source.get("name"));
        set(out, "container", source.get("container"));
        return;
    }
    let mut metric = Map::new();
    metric.insert("name".to_owned(), text(source, "metricName").into());
    set(&mut metric, "selector", source.get(selector_key(kind)));
    out.insert("metric".to_owned(), Value::Object(metric));
    if kind == "object" {
        out.insert("describedObject".to_owned(), or_null(source, "target"));
    }
}

/// The same in version 1.
fn identify_v1(kind: &str, source: &Value, out: &mut Map<String, Value>) {
    if matches!(kind, "resource" | "containerResource") {
        set(out, "name", source.get("name"));
        set(out, "container", source.get("container"));
        return;
    }
    let metric = part(source, "metric").unwrap_or(&Value::Null);
    out.insert("metricName".to_owned(), text(metric, "name").into());
    set(out, selector_key(kind), metric.get("selector"));
    if kind == "object" {
        set(out, "target", source.get("describedObject"));
    }
}

fn metric_to_v1(metric: &Value) -> Value {
    each_source(metric, |kind, source| {
        let mut out = Map::new();
        let target = part(source, "target").unwrap_or(&Value::Null);
        identify_v1(kind, source, &mut out);
        match kind {
            "object" => {
                let value = opt_text(target, "value").unwrap_or("0");
                out.insert("targetValue".to_owned(), value.into());
                set(&mut out, "averageValue", target.get("averageValue"));
            }
            "pods" => {
                let value = opt_text(target, "averageValue").unwrap_or("0");
                out.insert("targetAverageValue".to_owned(), value.into());
            }
            _ => {
                set(&mut out, "targetValue", target.get("value"));
                set(&mut out, "targetAverageUtilization", target.get("averageUtilization"));
                set(&mut out, "targetAverageValue", target.get("averageValue"));
            }
        }
        Value::Object(out)
    })
}

fn status_to_v2(metric: &Value) -> Value {
    each_source(metric, |kind, source| {
        let (mut out, mut current) = (Map::new(), Map::new());
        set(&mut current, "value", source.get("currentValue"));
        let average = if kind == "object" { "averageValue" } else { "currentAverageValue" };
        set(&mut current, "averageValue", source.get(average));
        set(&mut current, "averageUtilization", source.get("currentAverageUtilization"));
        out.insert("current".to_owned(), Value::Object(current));
        identify(kind, source, &mut out);
        Value::Object(out)
    })
}

fn status_to_v1(metric: &Value) -> Value {
    each_source(metric, |kind, source| {
        let mut out = Map::new();
        let current = part(source, "current").unwrap_or(&Value::Null);
        identify_v1(kind, source, &mut out);
        let quantity = |key: &str| Value::from(opt_text(current, key).unwrap_or("0"));
        match kind {
            "object" | "external" => {
                out.insert("currentValue".to_owned(), quantity("value"));
                let average = if kind == "object" { "averageValue" } else { "currentAverageValue" };
                set(&mut out, average, current.get("averageValue"));
            }
            _ => {
                set(&mut out, "currentAverageUtilization", current.get("averageUtilization"));
                out.insert("currentAverageValue".to_owned(), quantity("averageValue"));
            }
        }
        Value::Object(out)
    })
}

/// The field names with a small first letter.
fn lower(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| {
                let mut letters = key.chars();
                let first = letters.next().map(|c| c.to_ascii_lowercase());
                (first.into_iter().chain(letters).collect::<String>(), lower(value))
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(lower).collect(),
        other => other,
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_on_the_way_through_version_one() {
        let v2 = json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a", "annotations": {"x": "y"}},
            "spec": {
                "maxReplicas": 3,
                "metrics": [
                    {"type": "Pods", "pods": {
                        "metric": {"name": "hits"},
                        "target": {"type": "AverageValue", "averageValue": "10"},
                    }},
                    {"type": "Resource", "resource": {
                        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
                    }},
                ],
                "behavior": {"scaleDown": {"selectPolicy": "Max", "policies": [
                    {"type": "Pods", "value": 1, "periodSeconds": 60},
                ]}},
            },
            "status": {},
        });
        let object = Object::from_value(v2.clone()).expect("an object");
        let v1 = to_v1(object);
        assert_eq!(v1.int(&["spec", "targetCPUUtilizationPercentage"]), Some(50));
        assert!(v1.get(&["spec", "metrics"]).is_none());
        assert_eq!(to_v2(v1).into_value(), v2);
    }
}
