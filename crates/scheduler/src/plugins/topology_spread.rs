//! Pods of a kind spread over zones, nodes and the like.

use std::collections::BTreeMap;

use longshore_api::Object;
use longshore_api::selector::LabelSelector;
use serde_json::Value;

use super::{Cycle, Plugin, node_affinity, normalize};
use crate::model::Node;

pub(super) struct PodTopologySpread;

fn constraints<'a>(pod: &'a Object, when: &'static str) -> impl Iterator<Item = &'a Value> {
    let all = pod.list(&["spec", "topologySpreadConstraints"]).iter();
    all.filter(move |c| c["whenUnsatisfiable"] == when)
}

/// How many matching pods each value of the topology has.
fn counts(cycle: &Cycle<'_>, constraint: &Value) -> BTreeMap<String, i64> {
    let key = constraint["topologyKey"].as_str().unwrap_or("");
    let pod = &cycle.pod.object;
    let selector = LabelSelector::from_value(&constraint["labelSelector"]).unwrap_or_default();
    let mut counts = BTreeMap::new();
    for node in cycle.nodes.iter().filter(|n| node_affinity::allows(pod, n)) {
        let Some(value) = node.label(key) else { continue };
        let matching = node.pods.iter().filter(|p| {
            p.object.namespace() == pod.namespace()
                && !p.object.is_deleting()
                && selector.matches_map(p.object.labels())
        });
        *counts.entry(value.to_owned()).or_insert(0) +=
            i64::try_from(matching.count()).unwrap_or(0);
    }
    counts
}

impl Plugin for PodTopologySpread {
    fn filter(&self, cycle: &Cycle<'_>, node: &Node) -> Result<(), Vec<String>> {
        for constraint in constraints(&cycle.pod.object, "DoNotSchedule") {
            let key = constraint["topologyKey"].as_str().unwrap_or("");
            let Some(value) = node.label(key) else {
                let text =
                    "node(s) didn't match pod topology spread constraints (missing required label)";
                return Err(vec![text.into()]);
            };
            let counts = counts(cycle, constraint);
            let least = counts.values().copied().min().unwrap_or(0);
            let domains = constraint["minDomains"].as_i64().unwrap_or(1);
            let few = i64::try_from(counts.len()).unwrap_or(0) < domains;
            let least = if few { 0 } else { least };
            let selector =
                LabelSelector::from_value(&constraint["labelSelector"]).unwrap_or_default();
            let own = i64::from(selector.matches_map(cycle.pod.object.labels()));
            let here = counts.get(value).copied().unwrap_or(0);
            if here + own - least > constraint["maxSkew"].as_i64().unwrap_or(1) {
                return Err(vec!["node(s) didn't match pod topology spread constraints".into()]);
            }
        }
        Ok(())
    }

    fn score(&self, cycle: &Cycle<'_>, node: &Node) -> Option<i64> {
        let mut total = None;
        for constraint in constraints(&cycle.pod.object, "ScheduleAnyway") {
            let key = constraint["topologyKey"].as_str().unwrap_or("");
            let here = node
                .label(key)
                .map_or(0, |v| counts(cycle, constraint).get(v).copied().unwrap_or(0));
            *total.get_or_insert(0) += here;
        }
        total
    }

    fn normalize(&self, scores: Vec<i64>) -> Vec<i64> {
        normalize(scores, true)
    }
}
