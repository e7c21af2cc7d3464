//! Nodes that are no longer heard of: they are marked and tainted.
//!
//! upstream: pkg/controller/nodelifecycle

use std::time::Duration;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_client::informer::Change;
use longshore_client::recorder::Severity;
use longshore_client::resource::{LEASES, NODES, PODS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Patch, Queue};
use serde_json::{Value, json};

use crate::Context;
use crate::common::{Key, condition, follow, gone_is_fine, rfc3339};

/// How long a node may be silent.
///
/// upstream: --node-monitor-grace-period
const GRACE: Duration = Duration::from_secs(50);
const LEASE_NAMESPACE: &str = "kube-node-lease";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Conditions of a silent node.
const WATCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// Conditions that keep pods away: type, the status that does, and the taint.
const PRESSURE: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

#[derive(Clone)]
struct Controller {
    ctx: Context,
    nodes: Informer,
    leases: Informer,
    pods: Informer,
}

pub(crate) fn start(ctx: Context) {
    let controller = Controller {
        nodes: ctx.caches.get(NODES),
        leases: ctx.caches.get(LEASES),
        pods: ctx.caches.get(PODS),
        ctx,
    };
    let shutdown = controller.ctx.shutdown.clone();
    let queue = Queue::new();
    follow(&controller.nodes, &queue);
    let health = controller.clone();
    workers::run("node-lifecycle-controller", queue, 2, &shutdown, move |(_, name): Key| {
        let controller = health.clone();
        async move { controller.check_node(&name).await }
    });
    controller.nodes.on_change(move |change| match change {
        Change::Applied { old: None, new } => {
            tell(&controller.ctx, new, "RegisteredNode", "Registered Node", "in Controller");
        }
        Change::Deleted(node) => {
            tell(&controller.ctx, node, "RemovingNode", "Removing Node", "from Controller");
        }
        Change::Applied { .. } => {}
    });
}

fn tell(ctx: &Context, node: &Object, reason: &str, before: &str, after: &str) {
    let name = node.name();
    let text = format!("Node {name} event: {before} {name} {after}");
    ctx.recorder.event(node, Severity::Normal, reason, &text);
}

impl Controller {
    async fn check_node(&self, name: &str) -> Outcome {
        self.nodes.synced().await;
        self.leases.synced().await;
        let Some(node) = self.nodes.get("", name) else { return Ok(None) };
        let now = self.ctx.clock.now();
        let silent = now.as_second() - self.heard_of(&node).as_second();
        let grace = i64::try_from(GRACE.as_secs()).expect("a small number");
        if silent >= grace && condition(&node, "Ready").is_none_or(|c| c["status"] != "Unknown") {
            self.mark_silent(&node, now).await?;
            return Ok(None); // the change comes back to us
        }
        self.taint(&node).await?;
        let left = u64::try_from((grace - silent).max(1)).unwrap_or(1);
        Ok(Some(Duration::from_secs(if silent >= grace { grace.unsigned_abs() } else { left })))
    }

    /// When the node was last heard of: its lease, or its status.
    fn heard_of(&self, node: &Object) -> Timestamp {
        let lease = self.leases.get(LEASE_NAMESPACE, node.name());
        let renewed = lease.as_ref().map(|l| l.str(&["spec", "renewTime"]).to_owned());
        let beat = condition(node, "Ready").and_then(|c| c["lastHeartbeatTime"].as_str());
        let created = node.str(&["metadata", "creationTimestamp"]);
        [renewed.as_deref(), beat, Some(created)]
            .into_iter()
            .flatten()
            .filter_map(|t| t.parse::<Timestamp>().ok())
            .max()
            .unwrap_or_default()
    }

    async fn mark_silent(&self, node: &Object, now: Timestamp) -> Result<(), Error> {
        let now = rfc3339(now);
        let mut changed = node.clone();
        let mut conditions = node.list(&["status", "conditions"]).to_vec();
        for kind in WATCHED {
            let unknown = json!({
                "type": kind, "status": "Unknown", "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.", "lastTransitionTime": now,
            });
            match conditions.iter_mut().find(|c| c["type"] == kind) {
                Some(c) if c["status"] == "Unknown" => {}
                Some(c) => {
                    let beat = c["lastHeartbeatTime"].clone();
                    *c = unknown;
                    c["lastHeartbeatTime"] = beat;
                }
                None => {
                    let mut never = unknown;
                    never["reason"] = "NodeStatusNeverUpdated".into();
                    never["message"] = "Kubelet never posted node status.".into();
                    conditions.push(never);
                }
            }
        }
        changed.set(&["status", "conditions"], conditions);
        self.ctx.client.update_status(NODES, &changed).await?;
        let text = format!("Node {} status is now: NodeNotReady", node.name());
        self.ctx.recorder.event(node, Severity::Normal, "NodeNotReady", &text);
        for pod in self.pods.list() {
            if pod.str(&["spec", "nodeName"]) == node.name() {
                self.mark_pod(&pod, &now).await?;
            }
        }
        Ok(())
    }

    /// A pod on a silent node is not ready for anybody.
    async fn mark_pod(&self, pod: &Object, now: &str) -> Result<(), Error> {
        if condition(pod, "Ready").is_none_or(|c| c["status"] == "False") {
            return Ok(());
        }
        let patch = Patch::Strategic(json!({ "status": { "conditions": [
            { "type": "Ready", "status": "False", "lastTransitionTime": now },
        ]}}));
        let (namespace, name) = (pod.namespace(), pod.name());
        gone_is_fine(self.ctx.client.patch(PODS, namespace, name, "status", &patch).await).map(drop)
    }

    /// The taints that follow from the conditions; others are left alone.
    async fn taint(&self, node: &Object) -> Result<(), Error> {
        let ready = condition(node, "Ready").and_then(|c| c["status"].as_str()).unwrap_or("");
        let mut wanted: Vec<(&str, &str)> = Vec::new();
        match ready {
            // Nothing is known of a node that has only just come.
            "True" | "" => {}
            "False" => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
            _ => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
        }
        for (kind, taint) in PRESSURE {
            if condition(node, kind).is_some_and(|c| c["status"] == "True") {
                wanted.push((taint, "NoSchedule"));
            }
        }
        if node.bool(&["spec", "unschedulable"]) {
            wanted.push(("node.kubernetes.io/unschedulable", "NoSchedule"));
        }
        let present = node.list(&["spec", "taints"]);
        let is = |taint: &Value, (key, effect): (&str, &str)| {
            taint["key"] == key && taint["effect"] == effect
        };
        let mut taints: Vec<Value> = present
            .iter()
            .filter(|t| !is_ours(t) || wanted.iter().any(|w| is(t, *w)))
            .cloned()
            .collect();
        let now = rfc3339(self.ctx.clock.now());
        for (key, effect) in wanted {
            if !taints.iter().any(|t| is(t, (key, effect))) {
                taints.push(json!({ "key": key, "effect": effect, "timeAdded": now }));
            }
        }
        if taints == present {
            return Ok(());
        }
        let mut changed = node.clone();
        changed.set(&["spec", "taints"], taints);
        let written = self.ctx.client.update(NODES, &changed).await?;
        self.nodes.wait_for(&written).await;
        Ok(())
    }
}

fn is_ours(taint: &Value) -> bool {
    let key = taint["key"].as_str().unwrap_or("");
    [NOT_READY, UNREACHABLE, "node.kubernetes.io/unschedulable"].contains(&key)
        || PRESSURE.iter().any(|(_, taint)| *taint == key)
}
