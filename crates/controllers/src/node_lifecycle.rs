//! Nodes that are no longer heard of: they are marked, tainted, and their pods are sent away.
//!
//! upstream: pkg/controller/nodelifecycle, pkg/controller/tainteviction

use std::time::Duration;

use jiff::Timestamp;
use longshore_api::Object;
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
    let queue = Queue::new();
    follow(&controller.pods, &queue);
    let (again, pods) = (queue.clone(), controller.pods.clone());
    controller.nodes.on_change(move |change| {
        let node = change.object();
        for pod in pods.list().iter().filter(|p| p.str(&["spec", "nodeName"]) == node.name()) {
            again.add(crate::common::key_of(pod));
        }
    });
    workers::run(
        "taint-eviction-controller",
        queue,
        2,
        &shutdown,
        move |(namespace, name): Key| {
            let controller = controller.clone();
            async move { controller.check_pod(&namespace, &name).await }
        },
    );
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
                let mut taint = json!({ "key": key, "effect": effect });
                if effect == "NoExecute" {
                    taint["timeAdded"] = now.as_str().into();
                }
                taints.push(taint);
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

    /// Sends a pod away that does not tolerate its node's NoExecute taints, or not any longer.
    async fn check_pod(&self, namespace: &str, name: &str) -> Outcome {
        self.nodes.synced().await;
        let Some(pod) = self.pods.get(namespace, name) else { return Ok(None) };
        let Some(node) = self.nodes.get("", pod.str(&["spec", "nodeName"])) else {
            return Ok(None);
        };
        if pod.is_deleting() {
            return Ok(None);
        }
        let now = self.ctx.clock.now();
        let mut left: Option<i64> = None;
        for taint in node.list(&["spec", "taints"]).iter().filter(|t| t["effect"] == "NoExecute") {
            let since: Option<Timestamp> = taint["timeAdded"].as_str().and_then(|t| t.parse().ok());
            let passed = since.map_or(0, |since| now.as_second() - since.as_second());
            match tolerated(&pod, taint) {
                None => left = Some(0),
                Some(None) => {}
                Some(Some(seconds)) => {
                    let rest = (seconds - passed).max(0);
                    left = Some(left.map_or(rest, |l| l.min(rest)));
                }
            }
        }
        match left {
            None => Ok(None),
            Some(0) => {
                let text = format!("Marking for deletion Pod {namespace}/{name}");
                self.ctx.recorder.event(&pod, Severity::Normal, "TaintManagerEviction", &text);
                let options = json!({ "preconditions": { "uid": pod.uid() } });
                gone_is_fine(self.ctx.client.delete(PODS, namespace, name, options).await)?;
                Ok(None)
            }
            Some(seconds) => Ok(Some(Duration::from_secs(seconds.unsigned_abs()))),
        }
    }
}

fn is_ours(taint: &Value) -> bool {
    let key = taint["key"].as_str().unwrap_or("");
    [NOT_READY, UNREACHABLE, "node.kubernetes.io/unschedulable"].contains(&key)
        || PRESSURE.iter().any(|(_, taint)| *taint == key)
}

/// `None`: not tolerated; `Some(None)`: for ever; `Some(Some(s))`: for `s` seconds.
fn tolerated(pod: &Object, taint: &Value) -> Option<Option<i64>> {
    let text = |v: &Value, key: &str| v[key].as_str().unwrap_or("").to_owned();
    let matching = pod.list(&["spec", "tolerations"]).iter().filter(|t| {
        let effect = text(t, "effect");
        let key = text(t, "key");
        (effect.is_empty() || effect == text(taint, "effect"))
            && (key.is_empty() || key == text(taint, "key"))
            && match text(t, "operator").as_str() {
                "" | "Equal" => text(t, "value") == text(taint, "value"),
                _ => true,
            }
    });
    let times: Vec<Option<i64>> = matching.map(|t| t["tolerationSeconds"].as_i64()).collect();
    if times.is_empty() {
        return None;
    }
    Some(if times.contains(&None) { None } else { times.into_iter().flatten().min() })
}
