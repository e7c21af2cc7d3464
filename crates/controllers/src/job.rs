//! Jobs: pods that run to their end, as often as wanted.
//!
//! A pod keeps a finalizer until its end has been counted, so that no end is missed and none counts
//! twice: its uid is noted in the status, then the finalizer goes, then the count is raised.
//!
//! upstream: pkg/controller/job

mod indexes;
mod policy;
mod state;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use longshore_api::Object;
use longshore_client::informer::controller_uid;
use longshore_client::recorder::Severity;
use longshore_client::resource::{JOBS, PODS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Patch, Queue};
use serde_json::{Value, json};

use crate::common::{
    Key, claim_where, follow, follow_orphans, follow_owned, gone_is_fine, is_ready, key_of, rfc3339,
};
use crate::{Context, pods};
use state::State;

/// Workers side by side.
const WORKERS: usize = 5;
/// Keeps a pod until its end is counted.
const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The controller that `spec.managedBy` names when it is this one.
const SELF: &str = "kubernetes.io/job-controller";
/// Pods that are created at once at most.
///
/// upstream: pkg/controller/job/job_controller.go MaxPodCreateDeletePerSync
const BURST_MAX: usize = 500;
/// The pause after the first failure; each further failure doubles it.
const BACKOFF_MIN: i64 = 10;
/// The longest pause between pods.
const BACKOFF_MAX: i64 = 600;

#[derive(Clone)]
struct Controller {
    ctx: Context,
    jobs: Informer,
    pods: Informer,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (jobs, pods) = (ctx.caches.get(JOBS), ctx.caches.get(PODS));
    follow(&jobs, &queue);
    follow_owned(&pods, "Job", &queue);
    follow_orphans(&jobs, &pods, &queue);
    let orphans = Queue::new();
    follow_lost(&pods, &orphans);
    let controller = Controller { ctx, jobs, pods };
    let shutdown = controller.ctx.shutdown.clone();
    let of_orphans = controller.clone();
    workers::run("job-controller orphans", orphans, 1, &shutdown, move |key| {
        let controller = of_orphans.clone();
        async move { controller.release_lost(key).await }
    });
    workers::run("job-controller", queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

/// Pods that are deleted and that no job counts: somebody took their owner away.
///
/// upstream: pkg/controller/job/job_controller.go deletePod
fn follow_lost(pods: &Informer, queue: &Queue<Key>) {
    let queue = queue.clone();
    pods.on_change(move |change| {
        if is_lost(change.object()) {
            queue.add(key_of(change.object()));
        }
    });
}

fn is_lost(pod: &Object) -> bool {
    pod.is_deleting() && is_tracked(pod) && controller_uid(pod).is_none()
}

/// Whether a condition of this type is true.
fn has(job: &Object, kind: &str) -> bool {
    crate::common::condition(job, kind).is_some_and(|c| c["status"] == "True")
}

/// Whether a job has come to its end.
pub(crate) fn is_finished(job: &Object) -> bool {
    has(job, "Complete") || has(job, "Failed")
}

fn is_ours(job: &Object) -> bool {
    let manager = job.str(&["spec", "managedBy"]);
    manager.is_empty() || manager == SELF
}

fn is_tracked(pod: &Object) -> bool {
    pod.finalizers().contains(&FINALIZER)
}

impl Controller {
    async fn sync(&self, (namespace, name): Key) -> Outcome {
        self.jobs.synced().await;
        self.pods.synced().await;
        let job = self.jobs.get(&namespace, &name);
        self.release_leftovers(&namespace, &name, job.as_deref()).await?;
        let Some(job) = job else { return Ok(None) };
        if !is_ours(&job) || is_finished(&job) {
            return Ok(None);
        }
        let pods =
            claim_where(&self.ctx.client, PODS, &self.pods, &job, FINALIZER, |_| true).await?;
        let mut state = State::new(&job, pods, self.ctx.clock.now());
        state.decide();
        let acted = self.act(&mut state).await;
        let written = self.track(&mut state).await;
        acted?;
        written?;
        Ok(state.again)
    }

    /// Pods whose job is gone or over need not be counted any more.
    async fn release_leftovers(
        &self,
        namespace: &str,
        name: &str,
        job: Option<&Object>,
    ) -> Result<(), Error> {
        if job.is_some_and(|job| !is_ours(job)) {
            return Ok(());
        }
        let open = job.filter(|job| !is_finished(job)).map(Object::uid);
        for pod in self.pods.list_namespace(namespace) {
            let mut owners = pod.list(&["metadata", "ownerReferences"]).iter();
            let Some(owner) = owners.find(|o| o["controller"] == true) else { continue };
            if is_tracked(&pod)
                && owner["kind"] == "Job"
                && owner["name"] == name
                && owner["uid"].as_str() != open
            {
                self.release(&pod).await?;
            }
        }
        Ok(())
    }

    async fn release_lost(&self, (namespace, name): Key) -> Outcome {
        if let Some(pod) = self.pods.get(&namespace, &name).filter(|pod| is_lost(pod)) {
            self.release(&pod).await?;
        }
        Ok(None)
    }

    async fn release(&self, pod: &Object) -> Result<(), Error> {
        let patch = Patch::Strategic(json!({ "metadata": {
            "uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER],
        }}));
        let patched = self.ctx.client.patch(PODS, pod.namespace(), pod.name(), "", &patch).await;
        if let Some(pod) = gone_is_fine(patched)? {
            self.pods.wait_for(&pod).await;
        }
        Ok(())
    }

    /// Creates and deletes pods.
    async fn act(&self, state: &mut State) -> Result<(), Error> {
        let surplus = state.surplus();
        let deletions = surplus.iter().map(|p| pods::delete(&self.ctx, &self.pods, &state.job, p));
        let outcome: Result<(), Error> = join_all(deletions).await.into_iter().collect();
        outcome?;
        for pod in &surplus {
            state.active.retain(|active| active.uid() != pod.uid());
        }
        state.terminating += i64::try_from(surplus.len()).unwrap_or(0);
        let new = state.missing(BURST_MAX);
        if new.is_empty() {
            return Ok(());
        }
        let count = new.len();
        let made = pods::create_slowly(&self.ctx, &self.pods, &state.job, new).await;
        if made.is_ok() {
            state.created = i64::try_from(count).unwrap_or(0);
        }
        made
    }

    /// Counts the pods that ended and writes the status.
    async fn track(&self, state: &mut State) -> Result<(), Error> {
        let before = state.job.get(&["status"]).cloned().unwrap_or_else(|| json!({}));
        let ended = state.note_ended();
        let interim = state.interim_condition();
        let status = state.status();
        if state.has_uncounted() || interim {
            self.write(state, status).await?;
        }
        for pod in &ended {
            self.release(pod).await?;
        }
        state.count_noted(&BTreeSet::new());
        let finished = state.finish();
        let mut status = state.status();
        if finished && status.get("startTime").is_none() {
            status["startTime"] = rfc3339(state.now).into();
        }
        if status != before {
            self.write(state, status).await?;
        }
        state.tell(&self.ctx.recorder, finished);
        Ok(())
    }

    async fn write(&self, state: &mut State, status: Value) -> Result<(), Error> {
        if state.job.get(&["status"]) == Some(&status) {
            return Ok(());
        }
        let mut changed = (*state.job).clone();
        changed.set(&["status"], status);
        let written = self.ctx.client.update_status(JOBS, &changed).await;
        if let Some(written) = gone_is_fine(written)? {
            self.jobs.wait_for(&written).await;
            state.job = Arc::new(written);
        }
        Ok(())
    }
}

/// The seconds until the next pod after failures, counted from `last`.
fn backoff(failures: usize) -> i64 {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    (BACKOFF_MIN << doublings).min(BACKOFF_MAX)
}

fn seconds(count: i64) -> Option<Duration> {
    u64::try_from(count).ok().map(Duration::from_secs)
}

fn ready_count(pods: &[Arc<Object>]) -> usize {
    pods.iter().filter(|pod| is_ready(pod)).count()
}

fn severity_of(kind: &str) -> Severity {
    if kind == "Failed" { Severity::Warning } else { Severity::Normal }
}
