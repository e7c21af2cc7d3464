//! All pods of the node: a worker for each, and a look at the runtime that tells workers when their
//! containers changed.
//!
//! upstream: pkg/kubelet/pod_workers.go, pkg/kubelet/pleg/generic.go

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use longshore_api::Object;
use longshore_base::{Shutdown, TaskKind};
use longshore_client::Informer;
use longshore_client::informer::Change;
use longshore_cri::v1::*;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{Notify, watch};

use crate::Shared;
use crate::observe::labels;
use crate::worker::Worker;

/// How often the runtime is asked what changed.
///
/// upstream: pkg/kubelet/kubelet.go genericPlegRelistPeriod
const RELIST: Duration = Duration::from_secs(1);

struct Handle {
    pod: watch::Sender<Option<Arc<Object>>>,
    poke: Arc<Notify>,
}

/// The workers by the uid of their pod.
#[derive(Clone)]
pub(crate) struct Pods {
    shared: Arc<Shared>,
    informer: Informer,
    handles: Arc<Mutex<HashMap<String, Handle>>>,
    /// The uids of the pods that the runtime may have something of; `None` until it was asked.
    present: Arc<Mutex<Option<HashSet<String>>>>,
    shutdown: Shutdown,
}

impl Pods {
    /// No workers yet.
    pub(crate) fn new(shared: Arc<Shared>, informer: Informer, shutdown: Shutdown) -> Self {
        Self { shared, informer, handles: Arc::default(), present: Arc::default(), shutdown }
    }

    /// Runs until shutdown.
    pub(crate) async fn run(self) {
        let pods = self.clone();
        self.informer.on_change(move |change| match change {
            Change::Applied { new, .. } => pods.apply(new),
            Change::Deleted(pod) => pods.remove(pod.uid()),
        });
        self.informer.synced().await;
        self.adopt().await;
        let mut seen = HashMap::new();
        let mut tick = tokio::time::interval(RELIST);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            if self.handles.lock().is_empty() {
                continue;
            }
            if let Err(error) = self.relist(&mut seen).await {
                tracing::warn!(%error, "the runtime does not tell its containers");
            }
        }
    }

    fn apply(&self, pod: &Arc<Object>) {
        let mut handles = self.handles.lock();
        if let Some(handle) = handles.get(pod.uid()) {
            handle.pod.send_replace(Some(pod.clone()));
            return;
        }
        self.start(&mut handles, pod.clone(), Some(pod.clone()));
    }

    fn start(
        &self,
        handles: &mut HashMap<String, Handle>,
        pod: Arc<Object>,
        wanted: Option<Arc<Object>>,
    ) {
        let (sender, receiver) = watch::channel(wanted);
        let poke = Arc::new(Notify::new());
        let fresh =
            self.present.lock().as_mut().is_some_and(|all| all.insert(pod.uid().to_owned()));
        let worker = Worker::new(self.shared.clone(), receiver, pod.clone(), poke.clone(), fresh);
        handles.insert(pod.uid().to_owned(), Handle { pod: sender, poke });
        let (pods, uid, shutdown) = (self.clone(), pod.uid().to_owned(), self.shutdown.clone());
        longshore_base::spawn(TaskKind::PerItem, "pod worker", async move {
            Box::pin(worker.run(shutdown)).await;
            if let Some(present) = pods.present.lock().as_mut() {
                present.remove(&uid);
            }
            pods.handles.lock().remove(&uid);
        });
    }

    /// Makes the worker of a pod look again.
    pub(crate) fn poke(&self, uid: &str) {
        if let Some(handle) = self.handles.lock().get(uid) {
            handle.poke.notify_one();
        }
    }

    fn remove(&self, uid: &str) {
        if let Some(handle) = self.handles.lock().get(uid) {
            handle.pod.send_replace(None);
        }
    }

    /// Sandboxes whose pods went away while we were not there get a worker that ends them.
    async fn adopt(&self) {
        let list =
            match self.shared.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await {
                Ok(list) => list.items,
                Err(error) => {
                    return tracing::warn!(%error, "the runtime does not tell its sandboxes");
                }
            };
        let uids = list.iter().filter_map(|sandbox| sandbox.labels.get(labels::POD_UID).cloned());
        *self.present.lock() = Some(uids.collect());
        for sandbox in list {
            let text = |key: &str| sandbox.labels.get(key).cloned().unwrap_or_default();
            let uid = text(labels::POD_UID);
            let mut handles = self.handles.lock();
            if uid.is_empty() || handles.contains_key(&uid) {
                continue;
            }
            let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": {
                "name": text(labels::POD_NAME), "namespace": text(labels::POD_NAMESPACE), "uid": uid,
            }});
            let pod = Arc::new(Object::from_value(pod).expect("built as an object"));
            self.start(&mut handles, pod, None);
        }
    }

    /// Compares what the runtime has with what it had, and wakes the workers of what changed.
    async fn relist(
        &self,
        seen: &mut HashMap<String, (String, i32)>,
    ) -> Result<(), longshore_cri::Error> {
        let runtime = &self.shared.runtime;
        let containers = runtime.list_containers(ListContainersRequest::default());
        let sandboxes = runtime.list_pod_sandbox(ListPodSandboxRequest::default());
        let (containers, sandboxes) = tokio::try_join!(containers, sandboxes)?;
        let uid = |labels: &HashMap<String, String>| {
            labels.get(labels::POD_UID).cloned().unwrap_or_default()
        };
        let mut now: HashMap<String, (String, i32)> = HashMap::new();
        for c in containers.containers {
            now.insert(c.id, (uid(&c.labels), c.state));
        }
        for s in sandboxes.items {
            now.insert(s.id, (uid(&s.labels), s.state));
        }
        let changed = now.iter().filter(|(id, state)| seen.get(*id) != Some(state));
        let gone = seen.iter().filter(|(id, _)| !now.contains_key(*id));
        {
            let handles = self.handles.lock();
            for (_, (uid, _)) in changed.chain(gone) {
                if let Some(handle) = handles.get(uid) {
                    handle.poke.notify_one();
                }
            }
        }
        *seen = now;
        Ok(())
    }
}
