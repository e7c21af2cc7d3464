//! A cordoned node takes only pods that tolerate it.

use std::sync::Arc;

use serde_json::json;

use super::taint_toleration::tolerates;
use super::{Ask, Check, Plugin, Refusal, Start};
use crate::events::Event;
use crate::model::{Node, Pod};

pub(super) struct NodeUnschedulable;

#[derive(Clone)]
struct Open(Arc<Pod>);

impl Plugin for NodeUnschedulable {
    fn start(&self, ask: &Ask<'_>) -> Start {
        Start::Check(Box::new(Open(ask.pod.clone())))
    }

    fn helps(&self, _pod: &Pod, event: &Event) -> bool {
        let open = event.node(&[&["spec", "unschedulable"], &["spec", "taints"]]);
        open.is_some_and(|node| !node.bool(&["spec", "unschedulable"]))
            || matches!(event, Event::Own)
    }
}

impl Check for Open {
    fn filter(&self, node: &Node) -> Result<(), Refusal> {
        if !node.object.bool(&["spec", "unschedulable"]) {
            return Ok(());
        }
        let taint = json!({ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" });
        if tolerates(&self.0.object, &taint) {
            return Ok(());
        }
        Err(Refusal::always("node(s) were unschedulable"))
    }

    fn copy(&self) -> Box<dyn Check> {
        Box::new(self.clone())
    }
}
