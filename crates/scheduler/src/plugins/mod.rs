//! The rules: one file for each plugin, one line for each in [`TABLE`].
//!
//! A plugin looks at a pod once ([`Plugin::start`], [`Plugin::rate`]) and then at each node, so
//! that what concerns the whole cluster is counted once for each pod and not for each node.
//!
//! upstream: pkg/scheduler/framework/plugins

mod default_spread;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod taint_toleration;
mod topology_spread;
mod volume_binding;
mod volume_limits;
mod volume_restrictions;
mod volume_zone;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use volume_binding::{Plan, plan};

use crate::events::Event;
use crate::listers::Listers;
use crate::model::{Node, Pod};

/// The best score of a node.
pub(crate) const SCORE_MAX: i64 = 100;

/// The pod to place, and what there is.
pub(crate) struct Ask<'a> {
    pub(crate) pod: &'a Arc<Pod>,
    pub(crate) nodes: &'a [Arc<Node>],
    pub(crate) listers: &'a Listers,
}

/// Why a pod does not run on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Whether it may help when other pods leave.
    pub(crate) resolvable: bool,
    pub(crate) reasons: Vec<String>,
}

impl Refusal {
    /// A reason that goes away when other pods leave.
    pub(crate) fn now(reason: impl Into<String>) -> Self {
        Self { resolvable: true, reasons: vec![reason.into()] }
    }

    /// A reason that stays whichever pods leave.
    pub(crate) fn always(reason: impl Into<String>) -> Self {
        Self { resolvable: false, reasons: vec![reason.into()] }
    }
}

/// What the first look at a pod gives.
pub(crate) enum Start {
    /// The plugin has nothing to say about this pod.
    Skip,
    /// Each node is looked at.
    Check(Box<dyn Check>),
    /// Only these nodes come into question.
    Only(BTreeSet<String>, Box<dyn Check>),
    /// No node will do.
    Refuse(Refusal),
}

/// A rule for one pod.
pub(crate) trait Check: Send + Sync {
    /// Whether the pod may run on a node.
    fn filter(&self, node: &Node) -> Result<(), Refusal>;

    /// As if another pod were on a node.
    fn add(&mut self, _other: &Pod, _node: &Node) {}

    /// As if another pod were not on a node.
    fn remove(&mut self, _other: &Pod, _node: &Node) {}

    /// A copy to try things with.
    fn copy(&self) -> Box<dyn Check>;
}

/// A preference of one pod.
pub(crate) trait Rate: Send + Sync {
    /// How well the pod fits on a node.
    fn score(&self, node: &Node) -> i64;

    /// Brings the scores of all nodes between 0 and [`SCORE_MAX`].
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// One plugin.
pub(crate) trait Plugin: Sync {
    /// Looks at a pod before the nodes are looked at.
    fn start(&self, _ask: &Ask<'_>) -> Start {
        Start::Skip
    }

    /// The preference of a pod among the nodes where it may run; `None` for none.
    fn rate(&self, _ask: &Ask<'_>, _feasible: &[Arc<Node>]) -> Option<Box<dyn Rate>> {
        None
    }

    /// Whether an event may help a pod that this plugin refused.
    fn helps(&self, _pod: &Pod, _event: &Event) -> bool {
        false
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
    ("VolumeRestrictions", 0, &volume_restrictions::VolumeRestrictions),
    ("NodeVolumeLimits", 0, &volume_limits::NodeVolumeLimits),
    ("VolumeBinding", 0, &volume_binding::VolumeBinding),
    ("VolumeZone", 0, &volume_zone::VolumeZone),
    ("PodTopologySpread", 2, &topology_spread::PodTopologySpread),
    ("InterPodAffinity", 2, &inter_pod_affinity::InterPodAffinity),
    ("NodeResourcesBalancedAllocation", 1, &node_resources::Balanced),
    ("ImageLocality", 1, &image_locality::ImageLocality),
];

/// Brings scores between 0 and [`SCORE_MAX`], the largest to the top; or to the bottom.
///
/// upstream: pkg/scheduler/framework/plugins/helper/normalize_score.go
pub(crate) fn normalize(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let scaled = if most == 0 { 0 } else { *score * SCORE_MAX / most };
        *score = if reverse { SCORE_MAX - scaled } else { scaled };
    }
}

#[cfg(test)]
mod tests;
