//! What pods spread by that do not say so themselves: those of a service or a workload, over nodes
//! and zones, softly.
//!
//! upstream: pkg/scheduler/framework/plugins/helper/spread.go, podtopologyspread/plugin.go

use longshore_api::selector::LabelSelector;
use serde_json::{Map, Value, json};

use super::Ask;
use crate::listers::Listers;

/// Topology and most skew.
pub(super) const CONSTRAINTS: [(&str, i64); 2] =
    [("kubernetes.io/hostname", 3), ("topology.kubernetes.io/zone", 5)];

/// The labels of pods that belong together with the pod; `None` when there are none.
pub(super) fn selector(ask: &Ask<'_>) -> Option<LabelSelector> {
    let pod = &ask.pod.object;
    let mut labels = Map::new();
    let mut expressions = Vec::new();
    for service in ask.listers.services.list_namespace(pod.namespace()) {
        let Some(Value::Object(wanted)) = service.get(&["spec", "selector"]) else { continue };
        if wanted.iter().all(|(k, v)| pod.label(k) == v.as_str()) {
            labels.extend(wanted.clone());
        }
    }
    if let Some((kind, selector)) = owner_selector(ask.listers, pod) {
        if kind == "ReplicationController" {
            labels.extend(selector.as_object().cloned().unwrap_or_default());
        } else {
            let both = selector["matchLabels"].as_object().cloned();
            labels.extend(both.unwrap_or_default());
            expressions
                .extend(selector["matchExpressions"].as_array().cloned().unwrap_or_default());
        }
    }
    if labels.is_empty() && expressions.is_empty() {
        return None;
    }
    let selector = json!({ "matchLabels": labels, "matchExpressions": expressions });
    LabelSelector::from_value(&selector).ok()
}

fn owner_selector(listers: &Listers, pod: &longshore_api::Object) -> Option<(&'static str, Value)> {
    let owners = pod.list(&["metadata", "ownerReferences"]);
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    let (kind, cache) = listers.workloads.iter().find(|(kind, _)| owner["kind"] == *kind)?;
    let workload = cache.get(pod.namespace(), owner["name"].as_str()?)?;
    Some((kind, workload.get(&["spec", "selector"])?.clone()))
}
