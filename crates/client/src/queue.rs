//! The work queue: each key is in it at most once, and is worked on by one worker at a time.
//!
//! Invariant: a key that is added while it is worked on is worked on once more afterwards; nothing
//! that happened is missed, however often it happened.
//!
//! upstream counterpart: staging/src/k8s.io/client-go/util/workqueue

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use longshore_base::TaskKind;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The first pause after a failure; each further failure doubles it.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(1000);

struct State<T> {
    waiting: VecDeque<T>,
    /// In `waiting`, or to be put there when its worker is done.
    dirty: HashSet<T>,
    working: HashSet<T>,
    failures: HashMap<T, u32>,
    /// When a key is added that waits for a time; the earliest counts.
    delayed: HashMap<T, Instant>,
    closed: bool,
}

/// A queue of keys. Cheap to clone; all clones are the same queue.
pub struct Queue<T> {
    state: Arc<Mutex<State<T>>>,
    wake: Arc<Notify>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), wake: self.wake.clone() }
    }
}

impl<T: Clone + Eq + Hash + Send + 'static> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Eq + Hash + Send + 'static> Queue<T> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            failures: HashMap::new(),
            delayed: HashMap::new(),
            closed: false,
        };
        Self { state: Arc::new(Mutex::new(state)), wake: Arc::new(Notify::new()) }
    }

    /// Adds a key.
    pub fn add(&self, key: T) {
        let mut state = self.state.lock();
        if state.closed || !state.dirty.insert(key.clone()) || state.working.contains(&key) {
            return;
        }
        state.waiting.push_back(key);
        drop(state);
        self.wake.notify_one();
    }

    /// Adds a key after a time. A key waits for one time only, the earliest.
    pub fn add_after(&self, key: T, after: Duration) {
        if after.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + after;
        {
            let mut state = self.state.lock();
            if state.closed || state.delayed.get(&key).is_some_and(|other| *other <= at) {
                return;
            }
            state.delayed.insert(key.clone(), at);
        }
        let queue = self.clone();
        longshore_base::spawn(TaskKind::PerItem, "delayed key", async move {
            tokio::time::sleep_until(at).await;
            let mut state = queue.state.lock();
            if state.delayed.get(&key) == Some(&at) {
                state.delayed.remove(&key);
                drop(state);
                queue.add(key);
            }
        });
    }

    /// Adds a key again after a failure, later each time.
    pub fn add_rate_limited(&self, key: T) {
        let failures = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures += 1;
            *failures
        };
        let pause = BACKOFF_MIN.saturating_mul(1 << (failures - 1).min(20)).min(BACKOFF_MAX);
        self.add_after(key, pause);
    }

    /// Forgets a key's failures.
    pub fn forget(&self, key: &T) {
        self.state.lock().failures.remove(key);
    }

    /// The next key; `None` when the queue is closed. The key has to be given back with
    /// [`Queue::done`].
    pub async fn next(&self) -> Option<T> {
        loop {
            let notified = self.wake.notified();
            {
                let mut state = self.state.lock();
                if state.closed {
                    return None;
                }
                if let Some(key) = state.waiting.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    if !state.waiting.is_empty() {
                        self.wake.notify_one();
                    }
                    return Some(key);
                }
            }
            notified.await;
        }
    }

    /// A worker is done with a key.
    pub fn done(&self, key: &T) {
        let mut state = self.state.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.waiting.push_back(key.clone());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Keys that wait.
    pub fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Whether no key waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ends the queue: workers get no more keys.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_waiters();
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_worked_on_by_one_worker_and_once_more_when_added_meanwhile() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        queue.add("a");
        assert!(queue.is_empty(), "it is being worked on");
        queue.done(&"a");
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.next().await, Some("a"));
        queue.done(&"a");
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_back_off() {
        let queue = Queue::new();
        let start = tokio::time::Instant::now();
        for _ in 0..4 {
            queue.add_rate_limited("a");
            assert_eq!(queue.next().await, Some("a"));
            queue.done(&"a");
        }
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(5 + 10 + 20 + 40), "{took:?}");
        queue.forget(&"a");
        let start = tokio::time::Instant::now();
        queue.add_rate_limited("a");
        assert_eq!(queue.next().await, Some("a"));
        assert!(start.elapsed() < Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_for_the_earliest_time_only() {
        let queue = Queue::new();
        let start = tokio::time::Instant::now();
        for seconds in [9, 2, 5] {
            queue.add_after("a", Duration::from_secs(seconds));
        }
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(start.elapsed().as_secs(), 2);
        queue.done(&"a");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(queue.is_empty(), "the other times are forgotten");
    }

    #[tokio::test]
    async fn a_closed_queue_ends() {
        let queue: Queue<&str> = Queue::new();
        queue.close();
        assert_eq!(queue.next().await, None);
    }
}
