//! Node selectors and node affinity.

use serde_json::Value;

use super::{Cycle, Plugin, normalize};
use crate::model::Node;

pub(super) struct NodeAffinity;

const PATH: [&str; 3] = ["spec", "affinity", "nodeAffinity"];

/// Whether a value satisfies one requirement.
fn satisfied(requirement: &Value, value: Option<&str>) -> bool {
    let values = requirement["values"].as_array().map_or(&[][..], Vec::as_slice);
    let listed = |value: &str| values.iter().any(|v| v == value);
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let bound = number(values.first().and_then(Value::as_str));
    match requirement["operator"].as_str().unwrap_or("") {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound).is_some_and(|(v, b)| v > b),
        "Lt" => number(value).zip(bound).is_some_and(|(v, b)| v < b),
        _ => false,
    }
}

/// Whether a node satisfies a term: all its requirements. An empty term selects nothing.
pub(super) fn term_matches(term: &Value, node: &Node) -> bool {
    let list = |key: &str| term[key].as_array().map_or(&[][..], Vec::as_slice);
    let (labels, fields) = (list("matchExpressions"), list("matchFields"));
    let key = |r: &Value| r["key"].as_str().unwrap_or("").to_owned();
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|r| satisfied(r, node.label(&key(r))))
        && fields
            .iter()
            .all(|r| key(r) == "metadata.name" && satisfied(r, Some(node.object.name())))
}

/// Whether a pod may run on a node as far as its selector and required affinity go.
pub(super) fn allows(pod: &longshore_api::Object, node: &Node) -> bool {
    let selector = pod.get(&["spec", "nodeSelector"]).and_then(Value::as_object);
    let selected = selector.is_none_or(|s| s.iter().all(|(k, v)| node.label(k) == v.as_str()));
    let required = pod
        .get(&PATH)
        .map(|affinity| &affinity["requiredDuringSchedulingIgnoredDuringExecution"])
        .filter(|required| required.is_object());
    let allowed = required.is_none_or(|required| {
        let terms = required["nodeSelectorTerms"].as_array().into_iter().flatten();
        terms.into_iter().any(|term| term_matches(term, node))
    });
    selected && allowed
}

impl Plugin for NodeAffinity {
    fn filter(&self, cycle: &Cycle<'_>, node: &Node) -> Result<(), Vec<String>> {
        if allows(&cycle.pod.object, node) {
            return Ok(());
        }
        Err(vec!["node(s) didn't match Pod's node affinity/selector".into()])
    }

    fn score(&self, cycle: &Cycle<'_>, node: &Node) -> Option<i64> {
        let affinity = cycle.pod.object.get(&PATH)?;
        let terms = affinity["preferredDuringSchedulingIgnoredDuringExecution"].as_array()?;
        let fitting = terms.iter().filter(|t| term_matches(&t["preference"], node));
        Some(fitting.filter_map(|t| t["weight"].as_i64()).sum())
    }

    fn normalize(&self, scores: Vec<i64>) -> Vec<i64> {
        normalize(scores, false)
    }
}
