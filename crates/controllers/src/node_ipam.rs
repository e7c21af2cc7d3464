//! Gives each node a part of the pod network.
//!
//! upstream: pkg/controller/nodeipam/ipam/range_allocator.go

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use longshore_client::Queue;
use longshore_client::recorder::Severity;
use longshore_client::resource::NODES;
use longshore_client::{Patch, workers};
use serde_json::json;

use crate::Context;
use crate::common::{Key, follow};

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let nodes = ctx.caches.get(NODES);
    follow(&nodes, &queue);
    let shutdown = ctx.shutdown.clone();
    // One worker: two nodes must not get the same part.
    workers::run("node-ipam-controller", queue, 1, &shutdown, move |(_, name): Key| {
        let (ctx, nodes) = (ctx.clone(), nodes.clone());
        async move {
            nodes.synced().await;
            let Some(node) = nodes.get("", &name) else { return Ok(None) };
            if !node.str(&["spec", "podCIDR"]).is_empty() || node.is_deleting() {
                return Ok(None);
            }
            let taken: BTreeSet<String> =
                nodes.list().iter().map(|n| n.str(&["spec", "podCIDR"]).to_owned()).collect();
            let (network, prefix) = ctx.config.cluster_network;
            let Some(cidr) = first_free(network, prefix, ctx.config.node_prefix, &taken) else {
                let text = "Node does not have enough CIDRs, the pod network is used up";
                ctx.recorder.event(&node, Severity::Warning, "CIDRNotAvailable", text);
                return Ok(None);
            };
            let patch =
                Patch::Strategic(json!({ "spec": { "podCIDR": cidr, "podCIDRs": [cidr] } }));
            let written = ctx.client.patch(NODES, "", &name, "", &patch).await?;
            nodes.wait_for(&written).await;
            Ok(None)
        }
    });
}

/// The first part of the network that no node has.
fn first_free(
    network: Ipv4Addr,
    prefix: u8,
    node_prefix: u8,
    taken: &BTreeSet<String>,
) -> Option<String> {
    let count = 1u32 << node_prefix.checked_sub(prefix)?;
    let size = 1u32 << (32 - u32::from(node_prefix));
    (0..count)
        .map(|i| format!("{}/{node_prefix}", Ipv4Addr::from(u32::from(network) + i * size)))
        .find(|cidr| !taken.contains(cidr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_given_in_order_until_none_is_left() {
        let network = Ipv4Addr::new(10, 244, 0, 0);
        let mut taken = BTreeSet::new();
        for want in ["10.244.0.0/24", "10.244.1.0/24"] {
            let cidr = first_free(network, 16, 24, &taken).expect("free");
            assert_eq!(cidr, want);
            taken.insert(cidr);
        }
        assert_eq!(first_free(network, 23, 24, &taken), None);
    }
}
