//! Pods that wait for a node: those to be tried now by priority, those that are tried again after a
//! pause, and those that wait for something to change.
//!
//! Invariant: a change that happens while a pod is tried counts for it as if it came after.
//!
//! upstream: pkg/scheduler/backend/queue/scheduling_queue.go

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use longshore_api::Object;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::events::Event;
use crate::model::Pod;
use crate::plugins::TABLE;

/// The first pause of a pod that found no node.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A pod is tried again after this time even when nothing changed.
///
/// upstream: pkg/scheduler DefaultPodMaxInUnschedulablePodsDuration
const FLUSH: Duration = Duration::from_secs(300);
/// Changes that are remembered while a pod is tried; with more, it is simply tried again.
const CHANGES_MAX: usize = 1000;

type Plugins = BTreeSet<&'static str>;

enum Place {
    /// To be tried now.
    Active,
    /// After a failure, until a time.
    Backoff(Instant),
    /// For something to change.
    Waiting { plugins: Plugins, flush: Instant },
    /// Being tried.
    Tried(Vec<Event>),
}

struct Entry {
    pod: Arc<Pod>,
    attempts: u32,
    order: u64,
    last: Instant,
    place: Place,
}

#[derive(Default)]
struct State {
    pods: HashMap<String, Entry>,
    next: u64,
    /// By priority and order.
    active: BTreeSet<(Reverse<i64>, u64, String)>,
    /// When pods leave their places by themselves.
    timers: BTreeSet<(Instant, String)>,
    /// Pods that failed for want of room and may be tried early when nothing else is to do.
    early: BTreeSet<(Instant, String)>,
    /// Those that wait for something to change.
    waiting: BTreeSet<String>,
    tried: BTreeSet<String>,
}

/// The queue.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

/// Whether an event may help a pod that these plugins refused.
fn helps(pod: &Pod, plugins: &Plugins, event: &Event) -> bool {
    plugins.is_empty()
        || TABLE.iter().any(|(name, _, plugin)| plugins.contains(name) && plugin.helps(pod, event))
}

fn pause(attempts: u32) -> Duration {
    (BACKOFF_MIN * (1 << attempts.saturating_sub(1).min(4))).min(BACKOFF_MAX)
}

impl State {
    /// Puts a pod into a place, out of the one it was in.
    fn put(&mut self, uid: &str, place: Place) {
        self.clear(uid);
        let Some(entry) = self.pods.get_mut(uid) else { return };
        let uid = uid.to_owned();
        match &place {
            Place::Active => {
                self.active.insert((Reverse(entry.pod.priority), entry.order, uid));
            }
            Place::Backoff(until) => {
                self.timers.insert((*until, uid));
            }
            Place::Waiting { flush, .. } => {
                self.timers.insert((*flush, uid.clone()));
                self.waiting.insert(uid);
            }
            Place::Tried(_) => {
                self.tried.insert(uid);
            }
        }
        entry.place = place;
    }

    fn clear(&mut self, uid: &str) {
        let Some(entry) = self.pods.get(uid) else { return };
        let key = uid.to_owned();
        match &entry.place {
            Place::Active => {
                self.active.remove(&(Reverse(entry.pod.priority), entry.order, key));
            }
            Place::Backoff(until) => {
                self.early.remove(&(*until, key.clone()));
                self.timers.remove(&(*until, key));
            }
            Place::Waiting { flush, .. } => {
                self.waiting.remove(uid);
                self.timers.remove(&(*flush, key));
            }
            Place::Tried(_) => {
                self.tried.remove(uid);
            }
        }
    }

    /// A waiting pod is tried again, after what is left of its pause.
    fn wake(&mut self, uid: &str, now: Instant) {
        let Some(entry) = self.pods.get(uid) else { return };
        let until = entry.last + pause(entry.attempts);
        if entry.attempts == 0 || until <= now {
            self.put(uid, Place::Active);
        } else {
            self.put(uid, Place::Backoff(until));
            self.early.insert((until, uid.to_owned()));
        }
    }
}

impl Queue {
    /// A pod without a node is new or changed.
    pub(crate) fn add(&self, object: &Arc<Object>) {
        let mut state = self.state.lock();
        let (uid, now) = (object.uid().to_owned(), Instant::now());
        let pod = Arc::new(Pod::new(object));
        match state.pods.get_mut(&uid) {
            None => {
                let order = state.next;
                state.next += 1;
                let place = Place::Tried(Vec::new());
                let entry = Entry { pod, attempts: 0, order, last: now, place };
                state.pods.insert(uid.clone(), entry);
                state.put(&uid, Place::Active);
            }
            Some(entry) => {
                let (old, same) = (entry.pod.object.clone(), |path: &[&str], old: &Object| {
                    old.get(path) == object.get(path)
                });
                let unchanged = same(&["spec"], &old) && same(&["metadata", "labels"], &old);
                let before = (Reverse(entry.pod.priority), entry.order, uid.clone());
                entry.pod = pod;
                let after = (Reverse(entry.pod.priority), entry.order, uid.clone());
                match &mut entry.place {
                    Place::Active => {
                        state.active.remove(&before);
                        state.active.insert(after);
                    }
                    Place::Tried(events) if !unchanged => events.push(Event::Own),
                    Place::Waiting { .. } if !unchanged => state.wake(&uid, now),
                    _ => {}
                }
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// A pod needs no node any more.
    pub(crate) fn remove(&self, uid: &str) {
        let mut state = self.state.lock();
        state.clear(uid);
        state.pods.remove(uid);
    }

    /// Something changed.
    pub(crate) fn note(&self, event: &Event) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let tried: Vec<String> = state.tried.iter().cloned().collect();
        for uid in tried {
            if let Some(Entry { place: Place::Tried(events), .. }) = state.pods.get_mut(&uid)
                && events.len() <= CHANGES_MAX
            {
                events.push(event.clone());
            }
        }
        let helped = state.waiting.iter().filter(|uid| {
            state.pods.get(*uid).is_some_and(|entry| match &entry.place {
                Place::Waiting { plugins, .. } => helps(&entry.pod, plugins, event),
                _ => false,
            })
        });
        let helped: Vec<String> = helped.cloned().collect();
        if helped.is_empty() {
            return;
        }
        helped.iter().for_each(|uid| state.wake(uid, now));
        drop(state);
        self.wake.notify_one();
    }

    /// The next pod to try: the highest priority first, then the one that came first. When nothing
    /// else is to do, a pod whose pause is not over.
    pub(crate) async fn next(&self) -> Arc<Pod> {
        loop {
            let notified = self.wake.notified();
            let soonest = {
                let mut state = self.state.lock();
                let now = Instant::now();
                while let Some((at, uid)) = state.timers.first().cloned()
                    && at <= now
                {
                    state.put(&uid, Place::Active);
                }
                let first = state.active.first().map(|(_, _, uid)| uid.clone());
                let first = first.or_else(|| state.early.first().map(|(_, uid)| uid.clone()));
                if let Some(uid) = first {
                    state.put(&uid, Place::Tried(Vec::new()));
                    let entry = state.pods.get_mut(&uid).expect("it was just found");
                    entry.attempts += 1;
                    entry.last = now;
                    return entry.pod.clone();
                }
                state.timers.first().map(|(at, _)| *at)
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

    /// A pod was refused by these plugins.
    pub(crate) fn failed(&self, uid: &str, plugins: Plugins) {
        let mut state = self.state.lock();
        let now = Instant::now();
        let Some(entry) = state.pods.get(uid) else { return };
        let missed = match &entry.place {
            Place::Tried(events) => {
                events.len() > CHANGES_MAX
                    || events.iter().any(|event| helps(&entry.pod, &plugins, event))
            }
            _ => return,
        };
        if missed {
            state.wake(uid, now);
        } else {
            state.put(uid, Place::Waiting { plugins, flush: now + FLUSH });
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Something went wrong with a pod: it is tried again after its pause.
    pub(crate) fn retry(&self, object: &Arc<Object>) {
        self.add(object);
        let mut state = self.state.lock();
        let uid = object.uid();
        if let Some(entry) = state.pods.get_mut(uid) {
            entry.attempts = entry.attempts.max(1);
            let until = Instant::now() + pause(entry.attempts);
            state.put(uid, Place::Backoff(until));
        }
        drop(state);
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, priority: i64) -> Arc<Object> {
        let pod = json!({ "metadata": { "uid": uid }, "spec": { "priority": priority } });
        Arc::new(Object::from_value(pod).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn important_pods_go_first_and_refused_ones_wait_for_what_helps() {
        let queue = Queue::default();
        queue.add(&pod("a", 0));
        queue.add(&pod("b", 9));
        assert_eq!(queue.next().await.uid(), "b");
        assert_eq!(queue.next().await.uid(), "a");
        queue.failed("a", BTreeSet::from(["NodePorts"]));
        queue.failed("b", BTreeSet::from(["NodeResourcesFit"]));
        let start = Instant::now();
        queue.note(&Event::PodGone(pod("x", 0)));
        assert_eq!(queue.next().await.uid(), "b", "only room helps it");
        assert_eq!(start.elapsed(), Duration::ZERO, "nothing else is to do");
        queue.remove("b");
        assert_eq!(queue.next().await.uid(), "a");
        assert_eq!(start.elapsed(), FLUSH);
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_during_a_try_counts() {
        let queue = Queue::default();
        queue.add(&pod("a", 0));
        assert_eq!(queue.next().await.uid(), "a");
        queue.note(&Event::PodGone(pod("x", 0)));
        queue.failed("a", BTreeSet::from(["NodeResourcesFit"]));
        let start = Instant::now();
        assert_eq!(queue.next().await.uid(), "a");
        assert!(start.elapsed() < FLUSH);
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_error_the_pause_is_kept() {
        let queue = Queue::default();
        queue.add(&pod("a", 0));
        assert_eq!(queue.next().await.uid(), "a");
        queue.retry(&pod("a", 0));
        let start = Instant::now();
        assert_eq!(queue.next().await.uid(), "a");
        assert_eq!(start.elapsed(), BACKOFF_MIN);
    }
}
