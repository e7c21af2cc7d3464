//! A cordoned node takes only pods that tolerate it.

use serde_json::json;

use super::taint_toleration::tolerates;
use super::{Cycle, Plugin};
use crate::model::Node;

pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn filter(&self, cycle: &Cycle<'_>, node: &Node) -> Result<(), Vec<String>> {
        let taint = json!({ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" });
        if !node.object.bool(&["spec", "unschedulable"]) || tolerates(&cycle.pod.object, &taint) {
            return Ok(());
        }
        Err(vec!["node(s) were unschedulable".into()])
    }
}
