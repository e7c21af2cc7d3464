//! A port of the host belongs to one pod.

use super::{Cycle, Plugin};
use crate::model::Node;

pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn filter(&self, cycle: &Cycle<'_>, node: &Node) -> Result<(), Vec<String>> {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        let taken = cycle.pod.host_ports.iter().any(|(ip, protocol, port)| {
            let others = node.pods.iter().flat_map(|p| &p.host_ports);
            others.clone().any(|(other, p, n)| {
                p == protocol && n == port && (other == ip || any(other) || any(ip))
            })
        });
        if taken {
            return Err(vec!["node(s) didn't have free ports for the requested pod ports".into()]);
        }
        Ok(())
    }
}
