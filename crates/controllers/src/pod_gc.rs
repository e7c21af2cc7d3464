//! Pods that nobody else ends: those of nodes that are gone or out of service, those that were
//! deleted before they got a node, and the oldest of very many that have ended.
//!
//! upstream: pkg/controller/podgc/gc_controller.go

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_client::informer::Change;
use longshore_client::resource::{NODES, PODS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Patch, Queue};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::Context;
use crate::common::{Key, condition, follow, gone_is_fine, key_of, pod_phase_is_final, rfc3339};

/// How long a missing node may come back before its pods go.
///
/// upstream: pkg/controller/podgc quarantineTime
const QUARANTINE: Duration = Duration::from_secs(40);
/// Ended pods that are kept.
///
/// upstream: --terminated-pod-gc-threshold
const ENDED_MAX: usize = 12_500;
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Ended pods in the order in which they go: evicted ones, then the oldest.
type Ended = BTreeSet<(bool, String, String, String)>;

#[derive(Clone)]
struct Controller {
    ctx: Context,
    pods: Informer,
    nodes: Informer,
    /// Since when nodes that pods name are missing.
    missing: Arc<Mutex<HashMap<String, Timestamp>>>,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (pods, nodes) = (ctx.caches.get(PODS), ctx.caches.get(NODES));
    follow(&pods, &queue);
    follow_ended(&pods, &queue);
    let controller = Controller { ctx, pods, nodes, missing: Arc::default() };
    let (again, all) = (queue.clone(), controller.clone());
    controller.nodes.on_change(move |change| {
        let node = change.object();
        let gone = matches!(change, Change::Deleted(_));
        if !gone {
            all.missing.lock().remove(node.name());
        }
        if gone || is_out_of_service(node) {
            for pod in all.pods.list() {
                if pod.str(&["spec", "nodeName"]) == node.name() {
                    again.add(key_of(&pod));
                }
            }
        }
    });
    let shutdown = controller.ctx.shutdown.clone();
    let name = "pod-garbage-collector-controller";
    workers::run(name, queue, 1, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

/// Puts the ended pods that are too many into the queue, marked by a deletion that has no name.
fn follow_ended(pods: &Informer, queue: &Queue<Key>) {
    let (ended, queue) = (Mutex::new(Ended::new()), queue.clone());
    pods.on_change(move |change| {
        let pod = change.object();
        let entry = (
            pod.str(&["status", "reason"]) != "Evicted",
            pod.str(&["metadata", "creationTimestamp"]).to_owned(),
            pod.name().to_owned(),
            pod.namespace().to_owned(),
        );
        let mut ended = ended.lock();
        if matches!(change, Change::Deleted(_)) || !has_ended(pod) {
            ended.remove(&entry);
            return;
        }
        ended.insert(entry);
        if ended.len() > ENDED_MAX
            && let Some((_, _, name, namespace)) = ended.pop_first()
        {
            queue.add((namespace, format!("{name}{SURPLUS}")));
        }
    });
}

/// Ends the key of a pod that goes because there are too many; no name has it.
const SURPLUS: &str = "!";

fn has_ended(pod: &Object) -> bool {
    !matches!(pod.str(&["status", "phase"]), "Pending" | "Running" | "Unknown" | "")
}

fn is_out_of_service(node: &Object) -> bool {
    let ready = condition(node, "Ready").is_some_and(|c| c["status"] == "True");
    !ready && node.list(&["spec", "taints"]).iter().any(|t| t["key"] == OUT_OF_SERVICE)
}

impl Controller {
    async fn sync(&self, (namespace, name): Key) -> Outcome {
        self.nodes.synced().await;
        let (name, surplus) = match name.strip_suffix(SURPLUS) {
            Some(name) => (name, true),
            None => (name.as_str(), false),
        };
        let Some(pod) = self.pods.get(&namespace, name) else { return Ok(None) };
        if surplus && has_ended(&pod) {
            self.end(&pod, None).await?;
            return Ok(None);
        }
        let node_name = pod.str(&["spec", "nodeName"]);
        if node_name.is_empty() {
            if pod.is_deleting() {
                self.end(&pod, None).await?;
            }
            return Ok(None);
        }
        if let Some(node) = self.nodes.get("", node_name) {
            if pod.is_deleting() && is_out_of_service(&node) {
                self.end(&pod, None).await?;
            }
            return Ok(None);
        }
        let now = self.ctx.clock.now();
        let since = *self.missing.lock().entry(node_name.to_owned()).or_insert(now);
        let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        if waited < QUARANTINE {
            return Ok(Some(QUARANTINE - waited));
        }
        if self.ctx.client.find(NODES, "", node_name).await?.is_none() {
            let why = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "lastTransitionTime": rfc3339(now),
            });
            self.end(&pod, Some(why)).await?;
        }
        Ok(None)
    }

    /// Marks a pod as failed, unless it has ended, and deletes it at once.
    async fn end(&self, pod: &Object, why: Option<Value>) -> Result<(), Error> {
        let (namespace, name) = (pod.namespace(), pod.name());
        if !pod_phase_is_final(pod.str(&["status", "phase"])) {
            let mut status = json!({ "phase": "Failed", "observedGeneration": pod.generation() });
            if let Some(mut why) = why {
                why["observedGeneration"] = pod.generation().into();
                status["conditions"] = json!([why]);
            }
            let patch = json!({ "metadata": { "uid": pod.uid() }, "status": status });
            let patch = Patch::Strategic(patch);
            let marked = self.ctx.client.patch(PODS, namespace, name, "status", &patch).await;
            if gone_is_fine(marked)?.is_none() {
                return Ok(());
            }
        }
        let options = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": pod.uid() } });
        gone_is_fine(self.ctx.client.delete(PODS, namespace, name, options).await).map(drop)
    }
}
