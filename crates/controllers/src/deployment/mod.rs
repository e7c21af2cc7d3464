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
use longshore_client::recorder::Severity;
use longshore_client::resource::{DEPLOYMENTS, REPLICA_SETS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Informer, Queue};

use crate::Context;
use crate::common::{Key, claim, follow, follow_owned};

/// Workers side by side.
const WORKERS: usize = 5;

/// The controller.
#[derive(Clone)]
pub(crate) struct Controller {
    ctx: Context,
    deployments: Informer,
    sets: Informer,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (deployments, sets) = (ctx.caches.get(DEPLOYMENTS), ctx.caches.get(REPLICA_SETS));
    follow(&deployments, &queue);
    follow_owned(&sets, "Deployment", &queue);
    let controller = Controller { ctx, deployments, sets };
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
        if deployment.is_deleting() {
            let sets = sets::split(&deployment, claimed);
            return self.update_status(&deployment, &sets).await;
        }
        status::note_pause(&mut deployment, self.ctx.clock.now());
        let sets = sets::split(&deployment, claimed);
        let paused = deployment.bool(&["spec", "paused"]);
        let sets = if paused || sets::was_scaled(&deployment, &sets) {
            let sets = self.find_new_set(&mut deployment, sets, false).await?;
            self.scale(&deployment, sets).await?
        } else if deployment.str(&["spec", "strategy", "type"]) == "Recreate" {
            self.recreate(&mut deployment, sets).await?
        } else {
            self.roll(&mut deployment, sets).await?
        };
        self.update_status(&deployment, &sets).await
    }
}

/// How long to wait before a look that nothing else would cause.
fn after_seconds(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds.max(1)).ok().map(Duration::from_secs)
}
