//! Pods that nobody else ends: those of nodes that are gone, and those that were deleted before
//! they got a node.
//!
//! upstream: pkg/controller/podgc/gc_controller.go

use longshore_client::Queue;
use longshore_client::resource::{NODES, PODS};
use longshore_client::workers;
use serde_json::json;

use crate::Context;
use crate::common::{Key, follow, gone_is_fine};

/// How long a missing node may come back before its pods go.
///
/// upstream: pkg/controller/podgc quarantineTime
const QUARANTINE: std::time::Duration = std::time::Duration::from_secs(40);

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (pods, nodes) = (ctx.caches.get(PODS), ctx.caches.get(NODES));
    follow(&pods, &queue);
    let (again, all) = (queue.clone(), pods.clone());
    nodes.on_change(move |change| {
        if let longshore_client::informer::Change::Deleted(node) = change {
            let on_node = all.list();
            for pod in on_node.iter().filter(|p| p.str(&["spec", "nodeName"]) == node.name()) {
                again.add_after(crate::common::key_of(pod), QUARANTINE);
            }
        }
    });
    let shutdown = ctx.shutdown.clone();
    let name = "pod-garbage-collector-controller";
    workers::run(name, queue, 1, &shutdown, move |(namespace, name): Key| {
        let (ctx, pods, nodes) = (ctx.clone(), pods.clone(), nodes.clone());
        async move {
            nodes.synced().await;
            let Some(pod) = pods.get(&namespace, &name) else { return Ok(None) };
            let node = pod.str(&["spec", "nodeName"]);
            let orphaned = if node.is_empty() {
                pod.is_deleting()
            } else if nodes.get("", node).is_some() {
                false
            } else {
                ctx.client.find(NODES, "", node).await?.is_none()
            };
            if orphaned {
                let options =
                    json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": pod.uid() } });
                gone_is_fine(ctx.client.delete(PODS, &namespace, &name, options).await)?;
            }
            Ok(None)
        }
    });
}
