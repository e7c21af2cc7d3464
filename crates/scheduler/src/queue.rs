//! Pods that wait for a node: those to be tried now by priority, and those that are tried again
//! after a pause or when something changes.
//!
//! upstream: pkg/scheduler/backend/queue/scheduling_queue.go

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use longshore_api::Object;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::Pod;

/// The first pause of a pod that found no node.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod is tried again after this time even when nothing changed.
///
/// upstream: pkg/scheduler DefaultPodMaxInUnschedulablePodsDuration
const FLUSH: Duration = Duration::from_secs(300);

struct Waiting {
    pod: Arc<Pod>,
    attempts: u32,
    order: u64,
    /// Not before this time.
    ready: Instant,
    /// Whether something changed since it was tried.
    awake: bool,
    since: Instant,
}

#[derive(Default)]
struct State {
    pods: HashMap<String, Waiting>,
    next: u64,
    /// Changes that happened while pods were being tried.
    changes: u64,
}

/// The queue.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

impl Queue {
    /// A pod without a node is new or changed.
    pub(crate) fn add(&self, object: &Arc<Object>) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let pod = Arc::new(Pod::new(object));
        if let Some(present) = state.pods.get_mut(object.uid()) {
            let status_only = present.pod.object.get(&["spec"]) == object.get(&["spec"])
                && present.pod.object.get(&["metadata", "labels"])
                    == object.get(&["metadata", "labels"]);
            present.pod = pod;
            present.awake |= !status_only;
        } else {
            let order = state.next;
            state.next += 1;
            let waiting = Waiting { pod, attempts: 0, order, ready: now, awake: true, since: now };
            state.pods.insert(object.uid().to_owned(), waiting);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// A pod needs no node any more.
    pub(crate) fn remove(&self, uid: &str) {
        self.state.lock().pods.remove(uid);
    }

    /// Something changed that may help any pod.
    pub(crate) fn wake_all(&self) {
        let mut state = self.state.lock();
        state.changes += 1;
        state.pods.values_mut().for_each(|w| w.awake = true);
        drop(state);
        self.wake.notify_one();
    }

    /// The number of changes so far: what is tried now has seen them.
    pub(crate) fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// The next pod to try: the highest priority first, then the one that waits longest.
    pub(crate) async fn next(&self) -> Arc<Pod> {
        loop {
            let notified = self.wake.notified();
            let soonest = {
                let mut state = self.state.lock();
                let now = Instant::now();
                let mut ready: BTreeMap<(Reverse<i64>, u64), String> = BTreeMap::new();
                let mut soonest: Option<Instant> = None;
                for (uid, w) in &state.pods {
                    let at = if w.awake { w.ready } else { w.since + FLUSH };
                    if at <= now {
                        ready.insert((Reverse(w.pod.priority), w.order), uid.clone());
                    } else {
                        soonest = Some(soonest.map_or(at, |s| s.min(at)));
                    }
                }
                if let Some((_, uid)) = ready.pop_first() {
                    let waiting = state.pods.get_mut(&uid).expect("it was just found");
                    waiting.attempts += 1;
                    let pause = BACKOFF_MIN * (1 << (waiting.attempts - 1).min(4));
                    waiting.ready = now + pause.min(BACKOFF_MAX);
                    waiting.since = now;
                    waiting.awake = false;
                    return waiting.pod.clone();
                }
                soonest
            };
            match soonest {
                Some(at) => {
                    tokio::select! {
                        () = notified => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => notified.await,
            }
        }
    }

    /// A pod found no node; `seen` is the number of changes that the attempt had seen.
    pub(crate) fn failed(&self, uid: &str, seen: u64) {
        let mut state = self.state.lock();
        let missed = state.changes != seen;
        if let Some(waiting) = state.pods.get_mut(uid) {
            waiting.awake |= missed;
        }
        drop(state);
        self.wake.notify_one();
    }

    /// A pod could not be bound: it is tried again after its pause.
    pub(crate) fn retry(&self, uid: &str) {
        if let Some(waiting) = self.state.lock().pods.get_mut(uid) {
            waiting.awake = true;
        }
        self.wake.notify_one();
    }
}
