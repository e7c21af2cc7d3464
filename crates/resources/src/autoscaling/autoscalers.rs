//! Horizontal pod autoscalers, version 2.
//!
//! upstream: pkg/apis/autoscaling/v2/defaults.go, pkg/registry/autoscaling/horizontalpodautoscaler

mod validation;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::ErrorList;
use serde_json::{Value, json};

use crate::apps::workload;
use crate::core::pods::cells::{AGE, NAME, age, count, text_column};
use crate::core::pods::tree::{fill, has, int, list, opt_text, part, part_mut, text};
use crate::plain::keep;
use crate::strategy::{Context, Strategy};
use crate::table::Column;

/// Metrics that the table shows.
const SHOWN: usize = 2;
/// Percent of its requests that a pod shall use.
const CPU_PERCENT: i64 = 80;

/// The rules of autoscalers.
pub(crate) struct Autoscalers;

impl Strategy for Autoscalers {
    fn default(&self, object: &mut Object) {
        let emptied = ["scaleUp", "scaleDown"]
            .map(|side| object.is_given_empty(&format!("spec.behavior.{side}.policies")));
        let spec = workload::spec(object);
        fill(spec, "minReplicas", 1);
        if list(spec, "metrics").is_empty() {
            let target = json!({"type": "Utilization", "averageUtilization": CPU_PERCENT});
            let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
            crate::core::pods::tree::fill_always(spec, "metrics", json!([metric]));
        }
        if has(spec, "behavior") {
            behavior(part_mut(spec, "behavior"), emptied);
        }
        workload::complete(object, "autoscaling/v2.HorizontalPodAutoscaler");
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.remove(&["status"]);
        workload::complete(object, "autoscaling/v2.HorizontalPodAutoscaler");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        validation::autoscaler(object, None)
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        keep(new, old, if ctx.subresource == "status" { "spec" } else { "status" });
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = workload::changed_metadata(new, old);
        if ctx.subresource == "status" {
            errors.extend(validation::status(new));
        } else {
            errors.extend(validation::autoscaler(new, Some(old)));
        }
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Reference", "What is scaled."),
            text_column("Targets", "Current and wanted values of the metrics."),
            text_column("MinPods", "Fewest pods."),
            text_column("MaxPods", "Most pods."),
            text_column("Replicas", "Pods that exist."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let target = ["spec", "scaleTargetRef"];
        let reference = object.get(&target).unwrap_or(&Value::Null);
        let least = object.int(&["spec", "minReplicas"]);
        vec![
            object.name().into(),
            format!("{}/{}", text(reference, "kind"), text(reference, "name")).into(),
            targets(object).into(),
            least.map_or("<unset>".to_owned(), |n| n.to_string()).into(),
            count(object, &["spec", "maxReplicas"]),
            count(object, &["status", "currentReplicas"]),
            age(object, now),
        ]
    }
}

/// Scaling rules are full once there is one. Policies that were given empty are no missing ones.
fn behavior(behavior: &mut Value, [up_emptied, down_emptied]: [bool; 2]) {
    let up = part_mut(behavior, "scaleUp");
    fill(up, "stabilizationWindowSeconds", 0);
    fill(up, "selectPolicy", "Max");
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    if !up_emptied {
        let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
        fill(up, "policies", json!([pods, percent]));
    }
    let down = part_mut(behavior, "scaleDown");
    fill(down, "selectPolicy", "Max");
    if !down_emptied {
        fill(down, "policies", json!([percent]));
    }
}

/// upstream: pkg/printers/internalversion/printers.go formatHPAMetrics
fn targets(object: &Object) -> String {
    let metrics = object.list(&["spec", "metrics"]);
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let current = object.list(&["status", "currentMetrics"]);
    let all: Vec<String> =
        metrics.iter().enumerate().map(|(i, metric)| target(metric, current.get(i))).collect();
    match all.len() {
        n if n > SHOWN => format!("{} + {} more...", all[..SHOWN].join(", "), n - SHOWN),
        _ => all.join(", "),
    }
}

fn target(metric: &Value, status: Option<&Value>) -> String {
    let (key, named) = match text(metric, "type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let empty = Value::Null;
    let source = part(metric, key).unwrap_or(&empty);
    let wanted = part(source, "target").unwrap_or(&empty);
    let now = status.and_then(|s| part(s, key)).and_then(|s| part(s, "current"));
    let quantity =
        |key: &str| now.and_then(|now| opt_text(now, key)).unwrap_or("<unknown>").to_owned();
    let percent = |value: Option<i64>, none: &str| {
        value.map_or(none.to_owned(), |percent| format!("{percent}%"))
    };
    let average = opt_text(wanted, "averageValue");
    let text = match (named, average) {
        (false, Some(average)) if key == "pods" => {
            format!("{}/{average}", quantity("averageValue"))
        }
        (false, Some(average)) => format!("{}/{average} (avg)", quantity("averageValue")),
        (false, None) => format!("{}/{}", quantity("value"), text(wanted, "value")),
        (true, Some(average)) => format!("{}/{average}", quantity("averageValue")),
        (true, None) => {
            let now = now.and_then(|now| int(now, "averageUtilization"));
            let wanted = percent(int(wanted, "averageUtilization"), "<auto>");
            format!("{}/{wanted}", percent(now, "<unknown>"))
        }
    };
    if named { format!("{}: {text}", self::text(source, "name")) } else { text }
}
