//! Pods leave nodes whose NoExecute taints they do not tolerate, at once or after the time that
//! they tolerate them.
//!
//! upstream: pkg/controller/tainteviction/taint_eviction.go

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_api::{Object, placement};
use longshore_client::informer::Change;
use longshore_client::recorder::Severity;
use longshore_client::resource::{NODES, PODS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Patch, Queue};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Context;
use crate::common::{Key, gone_is_fine, key_of, rfc3339};

/// Workers side by side.
const WORKERS: usize = 8;

#[derive(Clone)]
struct Controller {
    ctx: Context,
    nodes: Informer,
    pods: Informer,
    /// When pods leave that tolerate their node's taints for a while.
    planned: Arc<Mutex<HashMap<Key, Instant>>>,
}

pub(crate) fn start(ctx: Context) {
    let (nodes, pods) = (ctx.caches.get(NODES), ctx.caches.get(PODS));
    let queue = Queue::new();
    let again = queue.clone();
    pods.on_change(move |change| {
        if let Change::Applied { old: Some(old), new } = change {
            let same = |path: &[&str]| old.get(path) == new.get(path);
            if same(&["spec", "tolerations"]) && same(&["spec", "nodeName"]) {
                return;
            }
        }
        again.add(key_of(change.object()));
    });
    let (again, all) = (queue.clone(), pods.clone());
    nodes.on_change(move |change| {
        let Change::Applied { old, new } = change else { return };
        if old.as_ref().map_or_else(Vec::new, |old| hard_taints(old)) == hard_taints(new) {
            return;
        }
        for pod in all.list().iter().filter(|p| p.str(&["spec", "nodeName"]) == new.name()) {
            again.add(key_of(pod));
        }
    });
    let shutdown = ctx.shutdown.clone();
    let controller = Controller { ctx, nodes, pods, planned: Arc::default() };
    workers::run("taint-eviction-controller", queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

fn hard_taints(node: &Object) -> Vec<Value> {
    let taints = node.list(&["spec", "taints"]).iter();
    taints.filter(|taint| taint["effect"] == "NoExecute").cloned().collect()
}

/// For how long a pod puts up with all taints: `None` for not at all, `Some(None)` for ever. Of
/// each taint the first toleration counts that fits.
fn patience(tolerations: &[Value], taints: &[Value]) -> Option<Option<u64>> {
    let mut least = None;
    for taint in taints {
        let fits = |t: &&Value| placement::tolerated(std::slice::from_ref(*t), taint);
        let toleration = tolerations.iter().find(fits)?;
        if let Some(seconds) = toleration["tolerationSeconds"].as_i64() {
            let seconds = u64::try_from(seconds).unwrap_or(0);
            least = Some(least.map_or(seconds, |l: u64| l.min(seconds)));
        }
    }
    Some(least)
}

impl Controller {
    async fn sync(&self, key: Key) -> Outcome {
        self.nodes.synced().await;
        let Some(pod) = self.pods.get(&key.0, &key.1) else {
            self.cancel(&key, None);
            return Ok(None);
        };
        let now = Instant::now();
        let planned = self.planned.lock().get(&key).copied();
        if planned.is_some_and(|at| at <= now) {
            self.planned.lock().remove(&key);
            self.evict(&pod).await?;
            return Ok(None);
        }
        let node_name = pod.str(&["spec", "nodeName"]);
        let node = if node_name.is_empty() { None } else { self.nodes.get("", node_name) };
        let taints = node.map_or_else(Vec::new, |node| hard_taints(&node));
        if taints.is_empty() {
            self.cancel(&key, Some(&pod));
            return Ok(None);
        }
        match patience(pod.list(&["spec", "tolerations"]), &taints) {
            Some(None) => {
                self.cancel(&key, Some(&pod));
                Ok(None)
            }
            None | Some(Some(0)) => {
                self.cancel(&key, Some(&pod));
                self.evict(&pod).await?;
                Ok(None)
            }
            // What was planned first stays.
            Some(Some(_)) if planned.is_some() => Ok(planned.map(|at| at - now)),
            Some(Some(seconds)) => {
                let after = Duration::from_secs(seconds);
                self.planned.lock().insert(key, now + after);
                Ok(Some(after))
            }
        }
    }

    fn cancel(&self, key: &Key, pod: Option<&Object>) {
        if self.planned.lock().remove(key).is_some() {
            let gone = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": key.1, "namespace": key.0 },
            });
            let text = format!("Cancelling deletion of Pod {}/{}", key.0, key.1);
            let gone = Object::from_value(gone).expect("built as an object");
            let about = pod.unwrap_or(&gone);
            self.ctx.recorder.event(about, Severity::Normal, "TaintManagerEviction", &text);
        }
    }

    async fn evict(&self, pod: &Object) -> Result<(), Error> {
        let (namespace, name) = (pod.namespace(), pod.name());
        let text = format!("Marking for deletion Pod {namespace}/{name}");
        self.ctx.recorder.event(pod, Severity::Normal, "TaintManagerEviction", &text);
        let why = Patch::Strategic(json!({
            "metadata": { "uid": pod.uid() },
            "status": { "conditions": [{
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
                "message": "Taint manager: deleting due to NoExecute taint",
                "observedGeneration": pod.generation(),
                "lastTransitionTime": rfc3339(self.ctx.clock.now()),
            }]},
        }));
        let marked = self.ctx.client.patch(PODS, namespace, name, "status", &why).await;
        if gone_is_fine(marked)?.is_none() {
            return Ok(());
        }
        let options = json!({ "preconditions": { "uid": pod.uid() } });
        gone_is_fine(self.ctx.client.delete(PODS, namespace, name, options).await).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_toleration_that_fits_counts() {
        let taints = [json!({ "key": "a", "value": "x", "effect": "NoExecute" })];
        let for_seconds =
            |s: i64| json!({ "key": "a", "operator": "Exists", "tolerationSeconds": s });
        for (tolerations, want) in [
            (vec![], None),
            (vec![json!({ "operator": "Exists" })], Some(None)),
            (vec![for_seconds(5), json!({ "operator": "Exists" })], Some(Some(5))),
            (vec![for_seconds(-1)], Some(Some(0))),
            (vec![json!({ "key": "b", "operator": "Exists" })], None),
            (vec![json!({ "key": "a", "value": "x" }), for_seconds(5)], Some(None)),
        ] {
            assert_eq!(patience(&tolerations, &taints), want, "{tolerations:?}");
        }
    }
}
