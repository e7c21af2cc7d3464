//! The writer thread: decides transactions in memory, commits them in batches, tells watchers, and
//! then acknowledges; in between it expires keys and cuts old history.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Change, Engine, Options, Shared};
use crate::{Error, KeyValue, Op, Revision, Txn, TxnOutcome};

/// Transactions in one commit.
const BATCH_MAX: usize = 512;
/// Bytes of values in one commit; the last one may be over it.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How often old history is cut off.
const COMPACT_INTERVAL: Duration = Duration::from_secs(60);
/// Memory that the history may take, about: a storm of writes shortens the time that it reaches
/// back. It is cut to half of this.
const HISTORY_BYTES_MAX: usize = 128 << 20;
/// Keys that may expire in one batch.
const EXPIRE_MAX: usize = 512;

/// What callers ask the writer for.
pub(super) enum Command {
    /// Compare and write.
    Txn(Txn, oneshot::Sender<Result<TxnOutcome, Error>>),
    /// Raise the compaction floor.
    Compact(Revision, oneshot::Sender<Result<(), Error>>),
}

type Reply = (oneshot::Sender<Result<TxnOutcome, Error>>, TxnOutcome);

/// The state of the writer thread.
pub(super) struct Writer {
    engine: Box<dyn Engine>,
    shared: Arc<Shared>,
    queue: Receiver<Command>,
    options: Options,
    /// Keys with a time to live, by end (milliseconds since 1970) and revision.
    deadlines: BTreeMap<(i64, Revision), Bytes>,
    /// Whether the engine has something to do while nobody writes.
    untidy: bool,
    /// Newest revision at recent times: how the age of history is known.
    marks: VecDeque<(Instant, Revision)>,
}

/// The changes of a batch that is being decided, on top of the index.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    /// The last change of each key in this batch, by position.
    last: HashMap<Bytes, usize>,
    /// Bytes of its values.
    bytes: usize,
    replies: Vec<Reply>,
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Writer {
    pub(super) fn new(
        engine: Box<dyn Engine>,
        shared: Arc<Shared>,
        queue: Receiver<Command>,
        options: Options,
        deadlines: Vec<(i64, Bytes, Revision)>,
    ) -> Self {
        let deadlines = deadlines.into_iter().map(|(at, key, rev)| ((at, rev), key)).collect();
        let marks = VecDeque::from([(Instant::now(), shared.index.read().newest())]);
        Self { engine, shared, queue, options, deadlines, untidy: true, marks }
    }

    /// Works until all senders are gone or the engine fails.
    pub(super) fn run(mut self) {
        loop {
            let first = match self.wait() {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Err(error) = self.step(first) {
                (self.options.on_fatal)(&error);
                return;
            }
        }
    }

    /// Waits for a command, or until there is something to do without one.
    fn wait(&self) -> Result<Command, RecvTimeoutError> {
        let mut timeout: Option<Duration> = None;
        let mut at_most = |wait: Duration| timeout = Some(timeout.map_or(wait, |t| t.min(wait)));
        if self.untidy {
            at_most(Duration::ZERO);
        }
        if let Some(((at, _), _)) = self.deadlines.first_key_value() {
            let wait = u64::try_from(at.saturating_sub(now_ms())).unwrap_or(0);
            at_most(Duration::from_millis(wait));
        }
        let newest = self.shared.index.read().newest();
        if self.options.history.is_some() && self.shared.index.read().floor() < newest {
            let last = self.marks.back().map_or(COMPACT_INTERVAL, |(at, _)| at.elapsed());
            at_most(COMPACT_INTERVAL.saturating_sub(last));
        }
        match timeout {
            Some(timeout) => self.queue.recv_timeout(timeout),
            None => self.queue.recv().map_err(|mpsc::RecvError| RecvTimeoutError::Disconnected),
        }
    }

    fn step(&mut self, first: Option<Command>) -> Result<(), Error> {
        let mut batch = Batch::default();
        let mut compactions = Vec::new();
        let mut next = first;
        self.expire(&mut batch);
        while let Some(command) = next {
            match command {
                Command::Txn(txn, reply) => {
                    let outcome = self.decide(&mut batch, txn);
                    batch.replies.push((reply, outcome));
                }
                Command::Compact(floor, reply) => compactions.push((floor, reply)),
            }
            let full = batch.replies.len() >= BATCH_MAX || batch.bytes >= BATCH_BYTES_MAX;
            next = if full { None } else { self.queue.try_recv().ok() };
        }
        let idle = batch.replies.is_empty();
        self.commit(batch)?;
        for (floor, reply) in compactions {
            let done = self.compact(floor);
            let fatal = matches!(done, Err(Error::Backend(_)));
            let result = done.clone();
            drop(reply.send(done));
            if fatal {
                return result;
            }
        }
        self.cut_history()?;
        self.untidy = self.engine.tidy(idle)?;
        Ok(())
    }

    /// Deletes keys whose time is over.
    fn expire(&mut self, batch: &mut Batch) {
        let now = now_ms();
        for _ in 0..EXPIRE_MAX {
            let due = self.deadlines.first_key_value().is_some_and(|((at, _), _)| *at <= now);
            let Some(((_, revision), key)) = due.then(|| self.deadlines.pop_first()).flatten()
            else {
                return;
            };
            // A key that was written again has another revision and another deadline.
            let present = self.shared.index.read().get(&key);
            if present.is_some_and(|kv| kv.mod_revision == revision) {
                let next = self.next_revision(batch);
                batch.push(Change { key, value: None, revision: next, expires_at: None });
            }
        }
    }

    fn next_revision(&self, batch: &Batch) -> Revision {
        let newest = batch.changes.last().map(|c| c.revision);
        Revision(newest.unwrap_or_else(|| self.shared.index.read().newest()).0 + 1)
    }

    /// A key's state after the batch so far.
    fn present(&self, batch: &Batch, key: &Bytes) -> Option<KeyValue> {
        let committed = self.shared.index.read().get(key);
        let Some(at) = batch.last.get(key) else { return committed };
        let change = &batch.changes[*at];
        // The creation is needed only in conflict answers; a key created in this very batch
        // reports its first revision in it.
        let created = batch
            .changes
            .iter()
            .rev()
            .filter(|c| c.key == *key)
            .take_while(|c| c.value.is_some())
            .last()
            .map(|c| c.revision);
        let removed_here = batch.changes.iter().any(|c| c.key == *key && c.value.is_none());
        let create_revision = match committed {
            Some(kv) if !removed_here => kv.create_revision,
            _ => created.unwrap_or(change.revision),
        };
        Some(KeyValue {
            key: key.clone(),
            value: change.value.clone()?,
            create_revision,
            mod_revision: change.revision,
        })
    }

    fn decide(&self, batch: &mut Batch, txn: Txn) -> TxnOutcome {
        let present = self.present(batch, &txn.key);
        let seen = present.as_ref().map_or(Revision(0), |kv| kv.mod_revision);
        if seen != txn.expect {
            return TxnOutcome::Conflict(present);
        }
        let revision = self.next_revision(batch);
        let (value, expires_at) = match txn.op {
            Op::Put { value, ttl } => {
                let ttl_ms = ttl.map(|t| i64::try_from(t.as_millis()).unwrap_or(i64::MAX));
                (Some(value), ttl_ms.map(|ms| now_ms().saturating_add(ms)))
            }
            // Deleting what is absent changes nothing and makes no revision.
            Op::Delete if present.is_none() => {
                return TxnOutcome::Committed(Revision(revision.0 - 1));
            }
            Op::Delete => (None, None),
        };
        batch.push(Change { key: txn.key, value, revision, expires_at });
        TxnOutcome::Committed(revision)
    }

    /// Makes a batch durable, then visible, then acknowledged.
    fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        if !batch.changes.is_empty() {
            if let Err(error) = self.engine.commit(&batch.changes) {
                for (reply, _) in batch.replies {
                    drop(reply.send(Err(error.clone())));
                }
                return Err(error);
            }
            self.publish(batch.changes);
        }
        for (reply, outcome) in batch.replies {
            // A caller that went away does not need its answer.
            drop(reply.send(Ok(outcome)));
        }
        Ok(())
    }

    fn publish(&mut self, changes: Vec<Change>) {
        let mut watchers = self.shared.watchers.lock();
        let mut index = self.shared.index.write();
        let before = index.newest();
        for change in changes {
            if let Some(at) = change.expires_at {
                self.deadlines.insert((at, change.revision), change.key.clone());
            }
            index.apply(change.key, change.value, change.revision);
        }
        let events = index.history_after(before).expect("the floor is never above the newest");
        drop(index);
        watchers.publish(&Arc::new(events));
    }

    fn compact(&mut self, floor: Revision) -> Result<(), Error> {
        let (newest, present) = {
            let index = self.shared.index.read();
            (index.newest(), index.floor())
        };
        if floor > newest {
            return Err(Error::FutureRevision { requested: floor, current: newest });
        }
        if floor <= present {
            return Ok(());
        }
        // Nobody else writes to the index: readers need not wait for the disk.
        self.engine.set_floor(floor)?;
        let garbage = self.shared.index.write().compact(floor);
        self.engine.discard(&garbage);
        self.untidy = true;
        Ok(())
    }

    /// Compacts what is older than the history to keep.
    fn cut_history(&mut self) -> Result<(), Error> {
        let Some(keep) = self.options.history else { return Ok(()) };
        let too_large = {
            let index = self.shared.index.read();
            let over = index.history_bytes() > HISTORY_BYTES_MAX;
            over.then(|| index.revision_within(HISTORY_BYTES_MAX / 2))
        };
        if let Some(floor) = too_large {
            self.compact(floor)?;
        }
        if self.marks.back().is_some_and(|(at, _)| at.elapsed() < COMPACT_INTERVAL) {
            return Ok(());
        }
        self.marks.push_back((Instant::now(), self.shared.index.read().newest()));
        let mut floor = None;
        while self.marks.front().is_some_and(|(at, _)| at.elapsed() >= keep) {
            floor = self.marks.pop_front().map(|(_, revision)| revision);
        }
        floor.map_or(Ok(()), |floor| self.compact(floor))
    }
}

impl Batch {
    fn push(&mut self, change: Change) {
        self.last.insert(change.key.clone(), self.changes.len());
        self.bytes += change.value.as_ref().map_or(0, Bytes::len);
        self.changes.push(change);
    }
}
