//! Deployments: a ReplicaSet for each version of the template, and the way from one to the next.
//!
//! upstream: pkg/controller/deployment

pub(crate) mod hash;
mod rollout;
mod sets;
mod status;

use std::sync::Arc;
use std::time::Duration;

use longshore_api::Object;
use longshore_client::informer::Change;
use longshore_client::recorder::Severity;
use longshore_client::resource::{DEPLOYMENTS, PODS, REPLICA_SETS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Informer, Queue};

use crate::Context;
use crate::common::{Key, claim, controller_of, follow, follow_owned, pod_phase_is_final};

/// Workers side by side.
const WORKERS: usize = 5;

/// The controller.
#[derive(Clone)]
pub(crate) struct Controller {
    ctx: Context,
    deployments: Informer,
    sets: Informer,
    pods: Informer,
}

/// A recreation goes on when the last old pod has ended.
fn follow_last_pods(sets: &Informer, pods: &Informer, queue: &Queue<Key>) {
    let (sets, queue) = (sets.clone(), queue.clone());
    pods.on_change(move |change| {
        let pod = change.object();
        let gone = matches!(change, Change::Deleted(_));
        if !gone && !pod_phase_is_final(pod.str(&["status", "phase"])) {
            return;
        }
        let Some(owner) = controller_of(pod, "ReplicaSet") else { return };
        let set = sets.get(pod.namespace(), owner);
        if let Some(name) = set.as_ref().and_then(|set| controller_of(set, "Deployment")) {
            queue.add((pod.namespace().to_owned(), name.to_owned()));
        }
    });
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (deployments, sets) = (ctx.caches.get(DEPLOYMENTS), ctx.caches.get(REPLICA_SETS));
    let pods = ctx.caches.get(PODS);
    follow(&deployments, &queue);
    follow_owned(&sets, "Deployment", &queue);
    follow_last_pods(&sets, &pods, &queue);
    let controller = Controller { ctx, deployments, sets, pods };
    let shutdown = controller.ctx.shutdown.clone();
    workers::run("deployment-controller", queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

/// A deployment's ReplicaSets: the one of the present template, if there is one, and the others,
/// oldest first.
#[derive(Clone, Default)]
struct Sets {
    new: Option<Arc<Object>>,
    old: Vec<Arc<Object>>,
}

impl Sets {
    fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.old.iter().chain(&self.new)
    }
}

impl Controller {
    async fn sync(&self, (namespace, name): Key) -> Outcome {
        self.deployments.synced().await;
        self.sets.synced().await;
        let Some(deployment) = self.deployments.get(&namespace, &name) else { return Ok(None) };
        let empty = deployment
            .get(&["spec", "selector"])
            .and_then(|s| s.as_object())
            .is_none_or(serde_json::Map::is_empty);
        if empty {
            let text = "This deployment is selecting all pods. A non-empty selector is required.";
            self.ctx.recorder.event(&deployment, Severity::Warning, "SelectingAll", text);
            return Ok(None);
        }
        let claimed = claim(&self.ctx.client, REPLICA_SETS, &self.sets, &deployment).await?;
        let mut deployment = (*deployment).clone();
        let sets = sets::split(&deployment, claimed);
        if deployment.is_deleting() {
            return self.update_status(&mut deployment, &sets, false).await;
        }
        if status::note_pause(&mut deployment, self.ctx.clock.now()) {
            self.write(&mut deployment).await?;
        }
        if deployment.bool(&["spec", "paused"]) || sets::was_scaled(&deployment, &sets) {
            let sets = self.find_new_set(&mut deployment, sets, false).await?;
            let sets = self.scale(&deployment, sets).await?;
            if deployment.bool(&["spec", "paused"]) {
                self.clean_up(&deployment, &sets).await?;
            }
            return self.update_status(&mut deployment, &sets, false).await;
        }
        let sets = if deployment.str(&["spec", "strategy", "type"]) == "Recreate" {
            self.recreate(&mut deployment, sets).await?
        } else {
            self.roll(&mut deployment, sets).await?
        };
        self.update_status(&mut deployment, &sets, true).await
    }
}

/// How long to wait before a look that nothing else would cause.
fn after_seconds(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds.max(1)).ok().map(Duration::from_secs)
}
