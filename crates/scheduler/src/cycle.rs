//! One pod: filter the nodes, score those that are left, bind to the best.
//!
//! upstream: pkg/scheduler/schedule_one.go

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_base::TaskKind;
use longshore_client::Patch;
use longshore_client::recorder::Severity;
use longshore_client::resource::PODS;
use serde_json::json;

use crate::Shared;
use crate::model::{Node, Pod};
use crate::plugins::{self, Cycle};

/// Tries to place one pod.
pub(crate) async fn run(shared: &Arc<Shared>, pod: Arc<Pod>) {
    let seen = shared.queue.changes();
    let nodes = shared.cache.snapshot();
    match choose(shared, &pod, &nodes) {
        Ok(node) => {
            shared.cache.assume(&pod, &node);
            shared.queue.remove(pod.object.uid());
            let shared = shared.clone();
            longshore_base::spawn(TaskKind::PerItem, "bind", async move {
                bind(&shared, &pod, &node).await;
            });
        }
        Err(why) => {
            shared.queue.failed(pod.object.uid(), seen);
            tell_failure(shared, &pod, &why).await;
        }
    }
}

/// The best node, or why there is none.
fn choose(shared: &Shared, pod: &Arc<Pod>, nodes: &[Arc<Node>]) -> Result<String, String> {
    let cycle = Cycle { pod, nodes };
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut feasible: Vec<&Arc<Node>> = Vec::new();
    for node in nodes {
        let refused = plugins::TABLE.iter().find_map(|(_, _, p)| p.filter(&cycle, node).err());
        match refused {
            None => feasible.push(node),
            Some(why) => {
                for reason in why {
                    *reasons.entry(reason).or_default() += 1;
                }
            }
        }
    }
    if feasible.is_empty() {
        return Err(failure(nodes.len(), &reasons));
    }
    let mut totals = vec![0_i64; feasible.len()];
    for (_, weight, plugin) in plugins::TABLE {
        let scores: Option<Vec<i64>> = feasible.iter().map(|n| plugin.score(&cycle, n)).collect();
        let Some(scores) = scores else { continue };
        for (total, score) in totals.iter_mut().zip(plugin.normalize(scores)) {
            *total += weight * score;
        }
    }
    let best = totals.iter().copied().max().expect("there is a feasible node");
    let equals: Vec<&Arc<Node>> =
        feasible.iter().zip(&totals).filter(|(_, t)| **t == best).map(|(n, _)| *n).collect();
    let pick = usize::try_from(shared.rng.u64() % equals.len() as u64).expect("a small number");
    Ok(equals[pick].object.name().to_owned())
}

/// upstream: pkg/scheduler/framework/types.go FitError.Error
fn failure(count: usize, reasons: &BTreeMap<String, usize>) -> String {
    if count == 0 {
        return "no nodes available to schedule pods".into();
    }
    let mut parts: Vec<String> = reasons.iter().map(|(why, n)| format!("{n} {why}")).collect();
    parts.sort();
    format!("0/{count} nodes are available: {}.", parts.join(", "))
}

async fn bind(shared: &Shared, pod: &Pod, node: &str) {
    let (namespace, name) = (pod.object.namespace(), pod.object.name());
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": name, "namespace": namespace, "uid": pod.object.uid() },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    match shared.client.create_subresource(PODS, namespace, name, "binding", &binding).await {
        Ok(_) => {
            let text = format!("Successfully assigned {namespace}/{name} to {node}");
            shared.recorder.event(&pod.object, Severity::Normal, "Scheduled", &text);
        }
        Err(error) => {
            shared.cache.forget(pod.object.uid());
            if error.is_not_found() {
                return;
            }
            tracing::warn!(namespace, name, node, %error, "a pod could not be bound");
            shared.queue.add(&pod.object);
            shared.queue.retry(pod.object.uid());
        }
    }
}

async fn tell_failure(shared: &Shared, pod: &Pod, why: &str) {
    shared.recorder.event(&pod.object, Severity::Warning, "FailedScheduling", why);
    let present = pod.object.list(&["status", "conditions"]).iter();
    let told = present.clone().any(|c| c["type"] == "PodScheduled" && c["message"] == why);
    if told {
        return;
    }
    let patch = Patch::Strategic(json!({ "status": { "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
        "observedGeneration": pod.object.generation(),
    }]}}));
    let (namespace, name) = (pod.object.namespace(), pod.object.name());
    if let Err(error) = shared.client.patch(PODS, namespace, name, "status", &patch).await
        && !error.is_not_found()
    {
        tracing::debug!(namespace, name, %error, "the reason could not be told");
    }
}
