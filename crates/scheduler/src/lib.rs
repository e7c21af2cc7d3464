//! The scheduler: chooses a node for each pod that has none.
//!
//! Invariant: what is decided is taken into account at once ([`cache::Cache::assume`]), so that the
//! next pod sees it before the API server does.
//!
//! upstream: pkg/scheduler

mod cache;
mod cycle;
mod events;
mod framework;
mod listers;
mod model;
mod plugins;
mod preemption;
mod queue;
mod volumes;

use std::sync::Arc;

use longshore_api::Object;
use longshore_base::rng::Rng;
use longshore_base::{Clock, Shutdown, TaskKind};
use longshore_client::informer::Change;
use longshore_client::resource::{NODES, PODS};
use longshore_client::{Client, EventRecorder, Factory, Informer};
use tokio::sync::Notify;

use cache::Cache;
use events::Event;
use listers::Listers;
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
    listers: Listers,
    nodes: Informer,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    /// Wakes those who wait for claims to get their volumes.
    claim_changed: Notify,
}

/// Starts the scheduler; it runs until shutdown.
pub fn start(
    config: Config,
    client: Client,
    caches: &Factory,
    recorder: EventRecorder,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    shutdown: &Shutdown,
) {
    let (nodes, pods) = (caches.get(NODES), caches.get(PODS));
    let shared = Arc::new(Shared {
        client,
        recorder,
        cache: Cache::default(),
        queue: Queue::default(),
        listers: Listers::new(caches),
        nodes: nodes.clone(),
        clock,
        rng,
        claim_changed: Notify::new(),
    });
    let on_node = shared.clone();
    nodes.on_change(move |change| on_node.note_node(change));
    let on_pod = shared.clone();
    let name = config.scheduler_name;
    pods.on_change(move |change| on_pod.note_pod(change, &name));
    let listers = &shared.listers;
    for cache in [&listers.claims, &listers.volumes, &listers.classes, &listers.csi_nodes] {
        let on_storage = shared.clone();
        cache.on_change(move |_| {
            on_storage.claim_changed.notify_waiters();
            on_storage.queue.note(&Event::Storage);
        });
    }
    let shutdown = shutdown.clone();
    longshore_base::spawn(TaskKind::Critical, "scheduler", async move {
        nodes.synced().await;
        pods.synced().await;
        shared.listers.synced().await;
        let mut offset = 0;
        loop {
            let pod = tokio::select! {
                () = shutdown.cancelled() => return,
                pod = shared.queue.next() => pod,
            };
            cycle::run(&shared, pod, &mut offset).await;
        }
    });
}

/// Whether something that plugins look at differs between two states of a node.
fn differs(old: &Object, new: &Object) -> bool {
    let paths: [&[&str]; 4] =
        [&["metadata", "labels"], &["spec"], &["status", "allocatable"], &["status", "images"]];
    paths.iter().any(|path| old.get(path) != new.get(path))
}

impl Shared {
    fn note(&self, event: &Event) {
        self.queue.note(event);
    }

    fn node(&self, name: &str) -> Option<Arc<Object>> {
        self.nodes.get("", name)
    }

    /// Keeps cache and queue up to date with one node.
    fn note_node(&self, change: &Change) {
        match change {
            Change::Applied { old: None, new } => {
                self.cache.set_node(new);
                self.note(&Event::NodeAdded(new.clone()));
            }
            Change::Applied { old: Some(old), new } => {
                // Heartbeats change nothing for us.
                if differs(old, new) {
                    self.cache.set_node(new);
                    self.note(&Event::NodeChanged(old.clone(), new.clone()));
                }
            }
            Change::Deleted(node) => self.cache.remove_node(node.name()),
        }
    }

    /// Keeps cache and queue up to date with one pod.
    fn note_pod(&self, change: &Change, scheduler_name: &str) {
        let pod = change.object();
        let ended = matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed");
        let deleted = matches!(change, Change::Deleted(_));
        if !pod.str(&["spec", "nodeName"]).is_empty() {
            self.queue.remove(pod.uid());
            if ended || deleted {
                self.cache.remove_pod(pod.uid());
                self.note(&Event::PodGone(pod.clone()));
            } else if self.cache.set_pod(pod) {
                self.note(&Event::PodPlaced(pod.clone()));
            } else if let Change::Applied { old: Some(old), new } = change
                && (old.get(&["spec"]) != new.get(&["spec"]) || old.labels() != new.labels())
            {
                self.note(&Event::PodChanged(old.clone(), new.clone()));
            }
            return;
        }
        let name = match pod.str(&["spec", "schedulerName"]) {
            "" => "default-scheduler",
            name => name,
        };
        let ours = name == scheduler_name;
        let gated = !pod.list(&["spec", "schedulingGates"]).is_empty();
        if self.cache.is_assumed(pod.uid()) && !deleted {
            return; // it is being bound
        }
        if ours && !gated && !ended && !deleted && !pod.is_deleting() {
            let nominated = pod.str(&["status", "nominatedNodeName"]);
            if !nominated.is_empty() {
                self.cache.nominate(&Arc::new(model::Pod::new(pod)), nominated);
            }
            self.queue.add(pod);
        } else {
            self.queue.remove(pod.uid());
            self.cache.remove_pod(pod.uid());
            if ours && deleted && !pod.str(&["status", "nominatedNodeName"]).is_empty() {
                self.note(&Event::PodGone(pod.clone()));
            }
        }
    }
}
