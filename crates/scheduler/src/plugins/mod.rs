//! The rules: one file for each plugin, one line for each in [`TABLE`].
//!
//! upstream: pkg/scheduler/framework/plugins

mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod taint_toleration;
mod topology_spread;

use std::sync::Arc;

use crate::model::{Node, Pod};

/// The best score of a node.
pub(crate) const SCORE_MAX: i64 = 100;

/// What a plugin sees.
pub(crate) struct Cycle<'a> {
    /// The pod to place.
    pub(crate) pod: &'a Arc<Pod>,
    /// All nodes.
    pub(crate) nodes: &'a [Arc<Node>],
}

/// One rule. Both steps say yes by default.
pub(crate) trait Plugin: Sync {
    /// Why the pod cannot run on a node.
    fn filter(&self, _cycle: &Cycle<'_>, _node: &Node) -> Result<(), Vec<String>> {
        Ok(())
    }

    /// How well the pod fits on a node; `None` when the plugin has no opinion.
    fn score(&self, _cycle: &Cycle<'_>, _node: &Node) -> Option<i64> {
        None
    }

    /// Brings the scores of all nodes between 0 and [`SCORE_MAX`].
    fn normalize(&self, scores: Vec<i64>) -> Vec<i64> {
        scores
    }
}

/// A plugin with its name and the weight of its score.
type Entry = (&'static str, i64, &'static dyn Plugin);

/// All plugins in the order in which they filter.
///
/// upstream: pkg/scheduler/apis/config/v1/default_plugins.go
pub(crate) const TABLE: &[Entry] = &[
    ("NodeUnschedulable", 0, &node_unschedulable::NodeUnschedulable),
    ("NodeName", 0, &node_name::NodeName),
    ("TaintToleration", 3, &taint_toleration::TaintToleration),
    ("NodeAffinity", 2, &node_affinity::NodeAffinity),
    ("NodePorts", 0, &node_ports::NodePorts),
    ("NodeResourcesFit", 1, &node_resources::Fit),
    ("NodeResourcesBalancedAllocation", 1, &node_resources::Balanced),
    ("PodTopologySpread", 2, &topology_spread::PodTopologySpread),
    ("InterPodAffinity", 2, &inter_pod_affinity::InterPodAffinity),
];

/// Brings scores between 0 and [`SCORE_MAX`], the largest to the top; or to the bottom.
pub(crate) fn normalize(scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let most = scores.iter().copied().max().unwrap_or(0);
    scores
        .into_iter()
        .map(|score| {
            let scaled = if most == 0 { 0 } else { score * SCORE_MAX / most };
            if reverse { SCORE_MAX - scaled } else { scaled }
        })
        .collect()
}

#[cfg(test)]
mod tests;
