//! A port of the host belongs to one pod.

use std::sync::Arc;

use super::{Ask, Check, Plugin, Refusal, Start};
use crate::events::Event;
use crate::model::{Node, Pod};

pub(super) struct NodePorts;

#[derive(Clone)]
struct Ports(Arc<Pod>);

fn conflict(wanted: &Pod, present: &Pod) -> bool {
    let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
    wanted.host_ports.iter().any(|(ip, protocol, port)| {
        present.host_ports.iter().any(|(other, p, n)| {
            p == protocol && n == port && (other == ip || any(other) || any(ip))
        })
    })
}

impl Plugin for NodePorts {
    fn start(&self, ask: &Ask<'_>) -> Start {
        if ask.pod.host_ports.is_empty() {
            return Start::Skip;
        }
        Start::Check(Box::new(Ports(ask.pod.clone())))
    }

    fn helps(&self, pod: &Pod, event: &Event) -> bool {
        match event {
            Event::PodGone(gone) => conflict(pod, &Pod::new(gone)),
            Event::NodeAdded(_) => true,
            _ => false,
        }
    }
}

impl Check for Ports {
    fn filter(&self, node: &Node) -> Result<(), Refusal> {
        if node.pods.iter().any(|present| conflict(&self.0, present)) {
            let text = "node(s) didn't have free ports for the requested pod ports";
            return Err(Refusal::now(text));
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Check> {
        Box::new(self.clone())
    }
}
