//! The scheduler: chooses a node for each pod that has none.
//!
//! Invariant: what is decided is taken into account at once ([`cache::Cache::assume`]), so that the
//! next pod sees it before the API server does.
//!
//! upstream: pkg/scheduler

mod cache;
mod cycle;
mod model;
mod plugins;
mod queue;

use std::sync::Arc;

use longshore_base::rng::Rng;
use longshore_base::{Shutdown, TaskKind};
use longshore_client::informer::Change;
use longshore_client::resource::{NODES, PODS};
use longshore_client::{Client, EventRecorder, Factory};

use cache::Cache;
use queue::Queue;

/// The settings of a scheduler.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods with this `schedulerName` are ours.
    pub scheduler_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { scheduler_name: "default-scheduler".into() }
    }
}

/// What the parts of the scheduler share.
pub(crate) struct Shared {
    client: Client,
    recorder: EventRecorder,
    cache: Cache,
    queue: Queue,
    rng: Arc<dyn Rng>,
}

/// Starts the scheduler; it runs until shutdown.
pub fn start(
    config: Config,
    client: Client,
    caches: &Factory,
    recorder: EventRecorder,
    rng: Arc<dyn Rng>,
    shutdown: &Shutdown,
) {
    let shared = Arc::new(Shared {
        client,
        recorder,
        cache: Cache::default(),
        queue: Queue::default(),
        rng,
    });
    let (nodes, pods) = (caches.get(NODES), caches.get(PODS));
    let on_node = shared.clone();
    nodes.on_change(move |change| {
        match change {
            Change::Applied { new, .. } => on_node.cache.set_node(new),
            Change::Deleted(node) => on_node.cache.remove_node(node.name()),
        }
        on_node.queue.wake_all();
    });
    let on_pod = shared.clone();
    let name = config.scheduler_name;
    pods.on_change(move |change| on_pod.note_pod(change, &name));
    let shutdown = shutdown.clone();
    longshore_base::spawn(TaskKind::Critical, "scheduler", async move {
        nodes.synced().await;
        pods.synced().await;
        loop {
            let pod = tokio::select! {
                () = shutdown.cancelled() => return,
                pod = shared.queue.next() => pod,
            };
            cycle::run(&shared, pod).await;
        }
    });
}

impl Shared {
    /// Keeps cache and queue up to date with one pod.
    fn note_pod(&self, change: &Change, scheduler_name: &str) {
        let pod = change.object();
        let ended = matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed");
        let deleted = matches!(change, Change::Deleted(_));
        if !pod.str(&["spec", "nodeName"]).is_empty() {
            self.queue.remove(pod.uid());
            if ended || deleted {
                self.cache.remove_pod(pod.uid());
                self.queue.wake_all();
            } else if self.cache.set_pod(pod) {
                self.queue.wake_all();
            }
            return;
        }
        let name = match pod.str(&["spec", "schedulerName"]) {
            "" => "default-scheduler",
            name => name,
        };
        let ours = name == scheduler_name;
        let gated = !pod.list(&["spec", "schedulingGates"]).is_empty();
        if ours && !gated && !ended && !deleted && !pod.is_deleting() {
            self.queue.add(pod);
        } else {
            self.queue.remove(pod.uid());
        }
    }
}
