//! Where events go, and how: at once, or gathered first. Too large ones are cut.
//!
//! upstream: staging/src/k8s.io/apiserver/plugin/pkg/audit/{buffered,truncate},
//! staging/src/k8s.io/apiserver/pkg/server/options/audit.go

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use longshore_base::{Shutdown, TaskKind};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::TaskTracker;

use super::event::Event;
use super::metrics::Metrics;

/// Batches on their way at the same time; more wait for one of them.
const BATCHES_MAX: usize = 64;

/// What takes events in the end.
pub trait Output: Send + Sync + 'static {
    /// Its name in metrics.
    fn name(&self) -> &'static str;

    /// Takes events; the error says why it cannot.
    fn write(&self, events: Vec<Event>) -> BoxFuture<'static, Result<(), String>>;
}

/// How events get to an output.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// Later, many at once.
    Batch(Batch),
    /// Before the request goes on, whatever becomes of them.
    Blocking,
    /// Before the request goes on, which it does not when that fails.
    BlockingStrict,
}

/// How events are gathered.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Events that wait; more are lost.
    pub buffer_max: usize,
    /// Events that are sent at once.
    pub size_max: usize,
    /// How long events wait for more.
    pub wait_max: Duration,
    /// Batches each second, and how many at once after a pause; `None` for no limit.
    pub throttle: Option<(f64, u32)>,
    /// Whether a batch may be sent before the one before has arrived.
    pub side_by_side: bool,
}

/// How large events and batches may be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// One event: a larger one goes without its objects, or not at all.
    pub event_max: usize,
    /// All events that are sent at once.
    pub batch_max: usize,
}

/// A way to an output.
pub struct Backend {
    output: Arc<dyn Output>,
    truncate: Option<Truncate>,
    queue: Option<mpsc::Sender<Event>>,
    strict: bool,
    metrics: Arc<Metrics>,
}

impl Backend {
    /// A way to an output. What waits when `stop` comes is still sent; `tasks` ends then.
    pub(super) fn new(
        output: Arc<dyn Output>,
        mode: Mode,
        truncate: Option<Truncate>,
        metrics: Arc<Metrics>,
        stop: &Shutdown,
        tasks: &TaskTracker,
    ) -> Self {
        let strict = mode == Mode::BlockingStrict;
        let queue = match mode {
            Mode::Batch(batch) => {
                let (sender, receiver) = mpsc::channel(batch.buffer_max);
                let delivery =
                    Delivery { output: output.clone(), truncate, metrics: metrics.clone() };
                let (stop, own) = (stop.clone(), tasks.clone());
                let gathering = gather(receiver, batch, delivery, stop, own);
                let gathering = tasks.track_future(gathering);
                longshore_base::spawn(TaskKind::Critical, "audit batches", gathering);
                Some(sender)
            }
            _ => None,
        };
        Self { output, truncate, queue, strict, metrics }
    }

    /// Takes an event; false when the request must not go on.
    pub(super) async fn take(&self, event: Event) -> bool {
        if let Some(queue) = &self.queue {
            if queue.try_send(event).is_err() {
                self.metrics.failed("buffered", 1);
                tracing::error!("audit buffer queue blocked: an event is lost");
            }
            return true;
        }
        let (output, metrics) = (self.output.clone(), self.metrics.clone());
        let delivery = Delivery { output, truncate: self.truncate, metrics };
        delivery.deliver(vec![event]).await || !self.strict
    }
}

#[derive(Clone)]
struct Delivery {
    output: Arc<dyn Output>,
    truncate: Option<Truncate>,
    metrics: Arc<Metrics>,
}

impl Delivery {
    /// Sends events; false when some of them did not arrive.
    async fn deliver(&self, events: Vec<Event>) -> bool {
        let mut arrived = true;
        for batch in self.cut(events) {
            let count = batch.len();
            if let Err(why) = self.output.write(batch).await {
                let plugin = self.output.name();
                self.metrics.failed(plugin, count);
                tracing::error!(plugin, count, why, "audit events are lost");
                arrived = false;
            }
        }
        arrived
    }

    /// The events as they may be sent together.
    fn cut(&self, events: Vec<Event>) -> Vec<Vec<Event>> {
        let Some(limits) = self.truncate else { return vec![events] };
        let mut batches = vec![Vec::new()];
        let mut bytes = 0;
        for mut event in events {
            let mut size = event.json().len();
            if size > limits.event_max && event.has_objects() {
                event.remove_objects();
                size = event.json().len();
            }
            if size > limits.event_max {
                self.metrics.failed("truncate", 1);
                tracing::error!(size, "an audit event is too large even after truncating");
                continue;
            }
            let full = batches.last().is_some_and(|last: &Vec<Event>| !last.is_empty());
            if full && bytes + size > limits.batch_max {
                batches.push(Vec::new());
                bytes = 0;
            }
            bytes += size;
            batches.last_mut().expect("there is one from the start").push(event);
        }
        batches.retain(|batch| !batch.is_empty());
        batches
    }
}

impl Event {
    fn has_objects(&self) -> bool {
        self.0.contains_key("requestObject") || self.0.contains_key("responseObject")
    }

    fn remove_objects(&mut self) {
        self.0.remove("requestObject");
        self.0.remove("responseObject");
        let annotations = self.0.entry("annotations").or_insert_with(|| json!({}));
        annotations["audit.k8s.io/truncated"] = "true".into();
    }
}

/// Gathers events and sends them, until there are none after `stop`.
async fn gather(
    mut queue: mpsc::Receiver<Event>,
    batch: Batch,
    delivery: Delivery,
    stop: Shutdown,
    tasks: TaskTracker,
) {
    let mut tokens = batch.throttle.map(|(rate, burst)| Tokens::new(rate, burst));
    let turns = Arc::new(Semaphore::new(BATCHES_MAX));
    loop {
        let events = next_batch(&mut queue, &batch, &stop).await;
        if events.is_empty() {
            return;
        }
        if let Some(tokens) = &mut tokens {
            tokens.take().await;
        }
        if !batch.side_by_side {
            delivery.deliver(events).await;
            continue;
        }
        let turn = turns.clone().acquire_owned().await.expect("the semaphore is never closed");
        let delivery = delivery.clone();
        let sending = tasks.track_future(async move {
            delivery.deliver(events).await;
            drop(turn);
        });
        longshore_base::spawn(TaskKind::PerItem, "audit batch", sending);
    }
}

/// The events that are sent next: as many as may be, or those of some time after the first. There
/// are none when it is the end.
async fn next_batch(
    queue: &mut mpsc::Receiver<Event>,
    batch: &Batch,
    stop: &Shutdown,
) -> Vec<Event> {
    let mut events = Vec::new();
    let mut until = Instant::now();
    while events.len() < batch.size_max {
        let event = match queue.try_recv() {
            Ok(event) => Some(event),
            Err(_) if stop.is_cancelled() => break,
            Err(_) => tokio::select! {
                event = queue.recv() => event,
                () = sleep_until(until), if !events.is_empty() => break,
                () = stop.cancelled() => continue,
            },
        };
        let Some(event) = event else { break };
        if events.is_empty() {
            until = Instant::now() + batch.wait_max;
        }
        events.push(event);
    }
    events
}

/// Lets something happen so often each second, and a few times at once after a pause.
struct Tokens {
    rate: f64,
    burst: f64,
    left: f64,
    at: Instant,
}

impl Tokens {
    fn new(rate: f64, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self { rate, burst, left: burst, at: Instant::now() }
    }

    async fn take(&mut self) {
        let now = Instant::now();
        let grown = (now - self.at).as_secs_f64() * self.rate;
        self.left = (self.left + grown).min(self.burst);
        self.at = now;
        if self.left < 1.0 {
            let missing = (1.0 - self.left) / self.rate;
            sleep(Duration::from_secs_f64(missing)).await;
            self.left = 1.0;
            self.at = Instant::now();
        }
        self.left -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use serde_json::{Map, Value};

    use super::*;

    #[derive(Default)]
    struct Kept {
        batches: Mutex<Vec<Vec<Value>>>,
        broken: bool,
    }

    struct Keeper(Arc<Kept>);

    impl Output for Keeper {
        fn name(&self) -> &'static str {
            "keeper"
        }

        fn write(&self, events: Vec<Event>) -> BoxFuture<'static, Result<(), String>> {
            let kept = self.0.clone();
            Box::pin(async move {
                let batch = events.into_iter().map(|event| Value::Object(event.0)).collect();
                kept.batches.lock().push(batch);
                if kept.broken { Err("broken".to_owned()) } else { Ok(()) }
            })
        }
    }

    fn event(number: usize, size: usize) -> Event {
        let value = json!({"n": number, "requestObject": "x".repeat(size)});
        Event(value.as_object().cloned().unwrap_or_else(Map::new))
    }

    fn backend(
        kept: &Arc<Kept>,
        mode: Mode,
        truncate: Option<Truncate>,
    ) -> (Backend, Shutdown, TaskTracker) {
        let (stop, tasks) = (Shutdown::new(), TaskTracker::new());
        let output = Arc::new(Keeper(kept.clone()));
        let backend = Backend::new(output, mode, truncate, Arc::default(), &stop, &tasks);
        (backend, stop, tasks)
    }

    fn batch(buffer_max: usize, size_max: usize) -> Batch {
        let wait_max = Duration::from_secs(30);
        Batch { buffer_max, size_max, wait_max, throttle: Some((10.0, 15)), side_by_side: true }
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_gathered_up_to_a_number_a_time_and_the_end() {
        let kept = Arc::new(Kept::default());
        let (backend, stop, tasks) = backend(&kept, Mode::Batch(batch(100, 3)), None);
        let sizes = || -> Vec<usize> { kept.batches.lock().iter().map(Vec::len).collect() };
        for number in 0..4 {
            assert!(backend.take(event(number, 1)).await);
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(sizes(), [3]);
        sleep(Duration::from_secs(31)).await;
        assert_eq!(sizes(), [3, 1]);
        for number in 4..6 {
            assert!(backend.take(event(number, 1)).await);
        }
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        assert_eq!(sizes(), [3, 1, 2]);
    }

    /// Without a time to wait for more, whoever gathers sleeps all the same until there is something.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_done_while_there_is_no_event() {
        let (sender, mut queue) = mpsc::channel(10);
        let batch = Batch { wait_max: Duration::ZERO, ..batch(10, 10) };
        let stop = Shutdown::new();
        let waiting = next_batch(&mut queue, &batch, &stop);
        let waited = tokio::time::timeout(Duration::from_secs(3600), waiting).await;
        assert!(waited.is_err(), "it waits for the first");
        sender.send(event(1, 1)).await.expect("there is room");
        assert_eq!(next_batch(&mut queue, &batch, &stop).await.len(), 1);
        drop(sender);
        assert!(next_batch(&mut queue, &batch, &stop).await.is_empty(), "the end");
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_room_is_for_is_lost_and_counted() {
        let kept = Arc::new(Kept::default());
        let (backend, stop, tasks) = backend(&kept, Mode::Batch(batch(2, 10)), None);
        for number in 0..5 {
            assert!(backend.take(event(number, 1)).await);
        }
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        assert_eq!(kept.batches.lock().iter().map(Vec::len).sum::<usize>(), 2);
        let text = backend.metrics.render();
        assert!(text.contains("apiserver_audit_error_total{plugin=\"buffered\"} 3\n"), "{text}");
    }

    #[tokio::test]
    async fn only_the_strict_mode_holds_a_request_up() {
        let broken = Arc::new(Kept { broken: true, ..Kept::default() });
        let (blocking, ..) = backend(&broken, Mode::Blocking, None);
        assert!(blocking.take(event(1, 1)).await);
        let (strict, ..) = backend(&broken, Mode::BlockingStrict, None);
        assert!(!strict.take(event(1, 1)).await);
        let text = strict.metrics.render();
        assert!(text.contains("apiserver_audit_error_total{plugin=\"keeper\"} 1\n"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn large_events_lose_their_objects() {
        let kept = Arc::new(Kept::default());
        let limits = Truncate { event_max: 300, batch_max: 400 };
        let (backend, stop, tasks) = backend(&kept, Mode::Batch(batch(100, 10)), Some(limits));
        for (number, size) in [(0, 200), (1, 1000), (2, 200)] {
            backend.take(event(number, size)).await;
        }
        let mut huge = event(3, 0);
        huge.0.insert("verb".to_owned(), "x".repeat(500).into());
        backend.take(huge).await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        let mut all = kept.batches.lock().clone();
        all.sort_by_key(|batch| batch[0]["n"].as_u64());
        // The first two fit together, the third one does not.
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(all[0][1]["annotations"], json!({"audit.k8s.io/truncated": "true"}));
        assert!(all[0][1].get("requestObject").is_none());
        assert_eq!(all[1][0]["n"], 2);
        assert!(backend.metrics.render().contains("{plugin=\"truncate\"} 1\n"));
    }
}
