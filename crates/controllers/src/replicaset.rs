//! ReplicaSets and replication controllers: as many pods as wanted.
//!
//! upstream: pkg/controller/replicaset/replica_set.go

mod rank;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use longshore_api::Object;
use longshore_client::informer::controller_uid;
use longshore_client::resource::{PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, Resource};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Queue};
use serde_json::{Value, json};

use crate::common::{
    Key, claim_where, follow, follow_orphans, follow_owned, gone_is_fine, is_active, is_available,
    is_ready, replicas, rfc3339,
};
use crate::{Context, pods};

/// Workers side by side.
const WORKERS: usize = 5;
/// Pods that one look creates or deletes at most.
///
/// upstream: pkg/controller/replicaset BurstReplicas
const BURST_MAX: usize = 500;

#[derive(Clone)]
struct Controller {
    of: Resource,
    ctx: Context,
    sets: Informer,
    pods: Informer,
}

/// Starts the controller of ReplicaSets.
pub(crate) fn start(ctx: Context) {
    start_for(ctx, REPLICA_SETS, "replicaset-controller");
}

/// Starts the controller of replication controllers, the older form of the same.
///
/// upstream: pkg/controller/replication
pub(crate) fn start_replication(ctx: Context) {
    start_for(ctx, REPLICATION_CONTROLLERS, "replicationcontroller-controller");
}

fn start_for(ctx: Context, of: Resource, name: &'static str) {
    let queue = Queue::new();
    let (sets, pods) = (ctx.caches.get(of), ctx.caches.get(PODS));
    follow(&sets, &queue);
    follow_owned(&pods, of.kind, &queue);
    follow_orphans(&sets, &pods, &queue);
    let controller = Controller { of, ctx, sets, pods };
    let shutdown = controller.ctx.shutdown.clone();
    workers::run(name, queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

impl Controller {
    async fn sync(&self, (namespace, name): Key) -> Outcome {
        self.sets.synced().await;
        self.pods.synced().await;
        let Some(set) = self.sets.get(&namespace, &name) else { return Ok(None) };
        let active = claim_where(&self.ctx.client, PODS, &self.pods, &set, "", is_active).await?;
        let managed = if set.is_deleting() { Ok(()) } else { self.manage(&set, &active).await };
        let own = self.pods.owned_by(set.uid());
        let terminating = own.iter().filter(|pod| is_terminating(pod)).count();
        let failure = managed.as_ref().err();
        let again = self.update_status(&set, &active, terminating, failure).await?;
        managed?;
        Ok(again)
    }

    async fn manage(&self, set: &Object, active: &[Arc<Object>]) -> Result<(), Error> {
        let wanted = usize::try_from(replicas(set)).unwrap_or(0);
        if active.len() < wanted {
            let missing = (wanted - active.len()).min(BURST_MAX);
            let template = set.get(&["spec", "template"]).cloned().unwrap_or_default();
            let new = (0..missing).map(|_| pods::from_template(set, &template)).collect();
            return pods::create_slowly(&self.ctx, &self.pods, set, new).await;
        }
        let surplus = (active.len() - wanted).min(BURST_MAX);
        let mut ranked = active.to_vec();
        // An order is not needed when all go.
        if surplus < ranked.len() {
            let crowds = self.crowds(set);
            let now = self.ctx.clock.now();
            ranked.sort_by(|a, b| rank::compare(a, b, &crowds, now));
        }
        let deletions =
            ranked[..surplus].iter().map(|pod| pods::delete(&self.ctx, &self.pods, set, pod));
        join_all(deletions).await.into_iter().collect()
    }

    /// How many active pods of this set and its siblings are on each node.
    fn crowds(&self, set: &Object) -> HashMap<String, usize> {
        let siblings = match controller_uid(set) {
            None => vec![set.uid().to_owned()],
            Some(uid) => self.sets.owned_by(uid).iter().map(|s| s.uid().to_owned()).collect(),
        };
        let mut crowds = HashMap::new();
        for pod in siblings.iter().flat_map(|uid| self.pods.owned_by(uid)) {
            if is_active(&pod) {
                *crowds.entry(pod.str(&["spec", "nodeName"]).to_owned()).or_default() += 1;
            }
        }
        crowds
    }

    /// Tells what there is. Gives the time after which a pod becomes available.
    async fn update_status(
        &self,
        set: &Object,
        active: &[Arc<Object>],
        terminating: usize,
        failure: Option<&Error>,
    ) -> Result<Option<Duration>, Error> {
        let now = self.ctx.clock.now();
        let min_ready = set.int(&["spec", "minReadySeconds"]).unwrap_or(0);
        let template = set.get(&["spec", "template", "metadata", "labels"]);
        let labelled = |pod: &Object| {
            let wanted = template.and_then(Value::as_object).into_iter().flatten();
            wanted.into_iter().all(|(k, v)| pod.label(k) == v.as_str())
        };
        let (mut ready, mut available, mut full, mut wait) = (0, 0, 0, None::<i64>);
        for pod in active {
            full += i64::from(labelled(pod));
            ready += i64::from(is_ready(pod));
            match is_available(pod, min_ready, now) {
                Ok(()) => available += 1,
                Err(left) => wait = [wait, left].into_iter().flatten().min(),
            }
        }
        let mut status = json!({
            "replicas": active.len(), "fullyLabeledReplicas": full, "readyReplicas": ready,
            "availableReplicas": available, "observedGeneration": set.generation(),
        });
        let conditions = conditions(set, failure, active.len(), &rfc3339(now));
        if !conditions.is_empty() {
            status["conditions"] = conditions.into();
        }
        let fields = status.as_object_mut().expect("built as an object");
        fields.retain(|key, value| key == "replicas" || *value != 0);
        if self.of == REPLICA_SETS {
            status["terminatingReplicas"] = terminating.into();
        }
        let again = wait.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
        if set.get(&["status"]) == Some(&status) {
            return Ok(again);
        }
        let mut changed = set.clone();
        changed.set(&["status"], status);
        let written = self.ctx.client.update_status(self.of, &changed).await;
        if let Some(written) = gone_is_fine(written)? {
            self.sets.wait_for(&written).await;
        }
        Ok(again)
    }
}

fn is_terminating(pod: &Object) -> bool {
    pod.is_deleting() && !matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed")
}

fn conditions(set: &Object, failure: Option<&Error>, active: usize, now: &str) -> Vec<Value> {
    let wanted = usize::try_from(replicas(set)).unwrap_or(0);
    let reason = match active.cmp(&wanted) {
        std::cmp::Ordering::Less => "FailedCreate",
        std::cmp::Ordering::Equal => "",
        std::cmp::Ordering::Greater => "FailedDelete",
    };
    let mut conditions = set.list(&["status", "conditions"]).to_vec();
    let present = conditions.iter().any(|c| c["type"] == "ReplicaFailure");
    match failure {
        None => conditions.retain(|c| c["type"] != "ReplicaFailure"),
        Some(_) if present => {}
        Some(error) => conditions.push(json!({
            "type": "ReplicaFailure", "status": "True", "reason": reason,
            "message": error.to_string(), "lastTransitionTime": now,
        })),
    }
    conditions
}
