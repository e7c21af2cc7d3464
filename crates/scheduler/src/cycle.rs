//! One pod: choose a node, or make room for it, and tell what came of it.
//!
//! upstream: pkg/scheduler/schedule_one.go

use std::sync::Arc;

use longshore_base::TaskKind;
use longshore_client::recorder::Severity;
use longshore_client::resource::PODS;
use longshore_client::{Error, Patch};
use serde_json::{Value, json};

use crate::Shared;
use crate::framework::{Choice, Misfit};
use crate::model::Pod;
use crate::plugins::{Ask, plan};
use crate::preemption::{self, Candidate, Outcome};
use crate::volumes;

/// What comes before the outcome of preemption: claims of devices were looked at, too.
const NO_CLAIMS: &str = "no new claims to deallocate";

/// Tries to place one pod. `offset` is the node to start from.
pub(crate) async fn run(shared: &Arc<Shared>, pod: Arc<Pod>, offset: &mut usize) {
    let snapshot = shared.cache.snapshot();
    let ask = Ask { pod: &pod, nodes: &snapshot.nodes, listers: &shared.listers };
    let dice = shared.rng.u64();
    let choice = Choice { ask, snapshot: &snapshot, offset, dice }.make();
    match choice {
        Ok(node) => {
            shared.cache.assume(&pod, &node);
            shared.queue.remove(pod.uid());
            let shared = shared.clone();
            longshore_base::spawn(TaskKind::PerItem, "bind", async move {
                bind(&shared, &pod, &node).await;
            });
        }
        Err(misfit) => {
            let outcome = preemption::look(&pod, &misfit, &snapshot, &shared.listers);
            refuse(shared, &pod, misfit, outcome).await;
        }
    }
}

/// A pod found no node: others leave for it, or it waits.
async fn refuse(shared: &Arc<Shared>, pod: &Arc<Pod>, misfit: Misfit, outcome: Outcome) {
    let mut message = misfit.message;
    let nominated = match outcome {
        Outcome::Leave(candidate) => {
            let node = candidate.node.clone();
            shared.cache.nominate(pod, &node);
            make_room(shared, pod, candidate);
            Some(node)
        }
        Outcome::Nobody(why, give_up) => {
            if misfit.nodes.is_some() {
                message.push_str(&format!(" {NO_CLAIMS}, preemption: {why}"));
            }
            if give_up {
                shared.cache.nominate(pod, "");
            }
            give_up.then(String::new)
        }
    };
    shared.queue.failed(pod.uid(), misfit.plugins);
    shared.recorder.action(
        &pod.object,
        Severity::Warning,
        "FailedScheduling",
        "Scheduling",
        &message,
    );
    if let Err(error) = tell(shared, pod, &message, nominated.as_deref()).await {
        let (namespace, name) = (pod.object.namespace(), pod.object.name());
        tracing::debug!(namespace, name, %error, "the reason could not be told");
    }
}

/// Writes why a pod has no node, and which one it waits for.
async fn tell(shared: &Shared, pod: &Pod, why: &str, nominated: Option<&str>) -> Result<(), Error> {
    let mut conditions = pod.object.list(&["status", "conditions"]).iter();
    let present = conditions.find(|c| c["type"] == "PodScheduled" && c["status"] == "False");
    let mut status = json!({});
    if !present.is_some_and(|c| c["reason"] == "Unschedulable" && c["message"] == why) {
        let now = shared.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let since = present.and_then(|c| c["lastTransitionTime"].as_str());
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
            "observedGeneration": pod.object.generation(),
            "lastTransitionTime": since.unwrap_or(&now),
        }]);
    }
    let before = pod.object.str(&["status", "nominatedNodeName"]);
    match nominated {
        Some("") if !before.is_empty() => status["nominatedNodeName"] = Value::Null,
        Some(node) if node != before => status["nominatedNodeName"] = node.into(),
        _ => {}
    }
    if status.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(());
    }
    let patch = Patch::Strategic(json!({ "status": status }));
    patch_status(shared, pod, &patch).await.map(drop)
}

/// Patches the status of a pod. Tells whether it is still there.
async fn patch_status(shared: &Shared, pod: &Pod, patch: &Patch) -> Result<bool, Error> {
    let (namespace, name) = (pod.object.namespace(), pod.object.name());
    match shared.client.patch(PODS, namespace, name, "status", patch).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sends the victims away, beside the scheduling of other pods.
fn make_room(shared: &Arc<Shared>, pod: &Arc<Pod>, candidate: Candidate) {
    let (shared, pod) = (shared.clone(), pod.clone());
    longshore_base::spawn(TaskKind::PerItem, "preempt", async move {
        for victim in &candidate.victims {
            if let Err(error) = send_away(&shared, &pod, victim, &candidate.node).await {
                let (namespace, name) = (victim.object.namespace(), victim.object.name());
                tracing::warn!(namespace, name, %error, "a pod does not leave for another one");
                shared.cache.nominate(&pod, "");
                shared.queue.retry(&pod.object);
                return;
            }
        }
        // Less important pods that wait for the same node look for another one.
        let waiting = shared.cache.snapshot().nominated.remove(&candidate.node).unwrap_or_default();
        for other in waiting.iter().filter(|other| other.priority < pod.priority) {
            shared.cache.nominate(other, "");
            let patch = Patch::Strategic(json!({ "status": { "nominatedNodeName": null } }));
            if let Err(error) = patch_status(&shared, other, &patch).await {
                tracing::debug!(name = other.object.name(), %error, "still nominated");
            }
        }
    });
}

/// upstream: pkg/scheduler/framework/preemption/executor.go PreemptPod
async fn send_away(shared: &Shared, pod: &Pod, victim: &Pod, node: &str) -> Result<(), Error> {
    if !victim.object.is_deleting() {
        let now = shared.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let text = format!(
            "{}: preempting to accommodate a higher priority pod",
            match pod.object.str(&["spec", "schedulerName"]) {
                "" => "default-scheduler",
                name => name,
            }
        );
        let patch = Patch::Strategic(json!({
            "metadata": { "uid": victim.uid() },
            "status": { "conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": text, "observedGeneration": victim.object.generation(),
                "lastTransitionTime": now,
            }]},
        }));
        if !patch_status(shared, victim, &patch).await? {
            return Ok(());
        }
        let options = json!({ "preconditions": { "uid": victim.uid() } });
        let (namespace, name) = (victim.object.namespace(), victim.object.name());
        match shared.client.delete(PODS, namespace, name, options).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    let text = format!("Preempted by pod {} on node {node}", pod.uid());
    shared.recorder.action(&victim.object, Severity::Normal, "Preempted", "Preempting", &text);
    Ok(())
}

async fn bind(shared: &Arc<Shared>, pod: &Pod, node: &str) {
    let (namespace, name) = (pod.object.namespace(), pod.object.name());
    match try_bind(shared, pod, node).await {
        Ok(()) => {
            let text = format!("Successfully assigned {namespace}/{name} to {node}");
            shared.recorder.action(&pod.object, Severity::Normal, "Scheduled", "Binding", &text);
        }
        Err(error) => {
            shared.cache.forget(pod.uid());
            shared.note(&crate::events::Event::PodGone(pod.object.clone()));
            if error.is_not_found() {
                return;
            }
            tracing::warn!(namespace, name, node, %error, "a pod could not be bound");
            match shared.client.find(PODS, namespace, name).await {
                Ok(Some(fresh))
                    if fresh.uid() == pod.uid()
                        && fresh.str(&["spec", "nodeName"]).is_empty()
                        && !fresh.is_deleting() =>
                {
                    shared.queue.retry(&Arc::new(fresh));
                }
                Ok(_) => {}
                Err(_) => shared.queue.retry(&pod.object),
            }
        }
    }
}

async fn try_bind(shared: &Arc<Shared>, pod: &Pod, node: &str) -> Result<(), Error> {
    if !pod.claims.is_empty() {
        let on = shared.node(node);
        let on = on.ok_or_else(|| Error::Decode(format!("node {node} is gone")))?;
        let plan = plan(&shared.listers, pod, &on)
            .map_err(|refusal| Error::Decode(refusal.reasons.join(", ")))?;
        volumes::carry_out(shared, &plan, node).await?;
    }
    let (namespace, name) = (pod.object.namespace(), pod.object.name());
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": name, "namespace": namespace, "uid": pod.uid() },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    shared.client.create_subresource(PODS, namespace, name, "binding", &binding).await.map(drop)
}
