//! Pods that want to be near others, or away from them.

use std::sync::Arc;

use longshore_api::Object;
use longshore_api::selector::LabelSelector;
use serde_json::Value;

use super::{Cycle, Plugin, SCORE_MAX};
use crate::model::{Node, Pod};

pub(super) struct InterPodAffinity;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn terms<'a>(pod: &'a Object, kind: &str, when: &str) -> &'a [Value] {
    pod.list(&["spec", "affinity", kind, when])
}

/// Whether a pod is one that a term of `owner` is about.
fn selected(term: &Value, owner: &Object, pod: &Object) -> bool {
    let names = term["namespaces"].as_array().map_or(&[][..], Vec::as_slice);
    let everywhere = term["namespaceSelector"].is_object();
    let namespace = if names.is_empty() && !everywhere {
        owner.namespace() == pod.namespace()
    } else {
        everywhere || names.iter().any(|n| n == pod.namespace())
    };
    let selector = &term["labelSelector"];
    namespace
        && selector.is_object()
        && LabelSelector::from_value(selector).is_ok_and(|s| s.matches_map(pod.labels()))
}

fn same_place(term: &Value, a: &Node, b: &Node) -> bool {
    let key = term["topologyKey"].as_str().unwrap_or("");
    a.label(key).is_some_and(|value| b.label(key) == Some(value))
}

/// The pods in the same place as `node` that a term is about.
fn near<'a>(
    cycle: &'a Cycle<'_>,
    term: &'a Value,
    owner: &'a Object,
    node: &'a Node,
) -> impl Iterator<Item = &'a Arc<Pod>> {
    let nodes = cycle.nodes.iter().filter(move |other| same_place(term, node, other));
    nodes.flat_map(|n| &n.pods).filter(move |p| selected(term, owner, &p.object))
}

impl Plugin for InterPodAffinity {
    fn filter(&self, cycle: &Cycle<'_>, node: &Node) -> Result<(), Vec<String>> {
        let pod = &cycle.pod.object;
        for term in terms(pod, "podAffinity", REQUIRED) {
            let found = near(cycle, term, pod, node).next().is_some();
            // The first pod of a group that wants to be together may start anywhere.
            let anywhere =
                || cycle.nodes.iter().flat_map(|n| &n.pods).any(|p| selected(term, pod, &p.object));
            let key = term["topologyKey"].as_str().unwrap_or("");
            let first = node.label(key).is_some() && selected(term, pod, pod) && !anywhere();
            if !found && !first {
                return Err(vec!["node(s) didn't match pod affinity rules".into()]);
            }
        }
        for term in terms(pod, "podAntiAffinity", REQUIRED) {
            if near(cycle, term, pod, node).next().is_some() {
                return Err(vec!["node(s) didn't match pod anti-affinity rules".into()]);
            }
        }
        for other in cycle.nodes {
            for present in &other.pods {
                let theirs = terms(&present.object, "podAntiAffinity", REQUIRED).iter();
                let mut theirs = theirs.filter(|t| same_place(t, node, other));
                if theirs.any(|t| selected(t, &present.object, pod)) {
                    let text = "node(s) didn't satisfy existing pods anti-affinity rules";
                    return Err(vec![text.into()]);
                }
            }
        }
        Ok(())
    }

    fn score(&self, cycle: &Cycle<'_>, node: &Node) -> Option<i64> {
        let pod = &cycle.pod.object;
        let mut total = None;
        for (kind, sign) in [("podAffinity", 1), ("podAntiAffinity", -1)] {
            for term in terms(pod, kind, PREFERRED) {
                let weight = term["weight"].as_i64().unwrap_or(0);
                let count = near(cycle, &term["podAffinityTerm"], pod, node).count();
                *total.get_or_insert(0) += sign * weight * i64::try_from(count).unwrap_or(0);
            }
        }
        total
    }

    fn normalize(&self, scores: Vec<i64>) -> Vec<i64> {
        let least = scores.iter().copied().min().unwrap_or(0);
        let most = scores.iter().copied().max().unwrap_or(0);
        let span = most - least;
        scores
            .into_iter()
            .map(|s| if span == 0 { 0 } else { (s - least) * SCORE_MAX / span })
            .collect()
    }
}
