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
/// After what nobody waits for found no room on the disk, it is tried again.
const NO_SPACE_WAIT: Duration = Duration::from_secs(5);
/// A full disk is told about at most so often.
const NO_SPACE_LOG: Duration = Duration::from_secs(60);

/// What callers ask the writer for.
pub(super) enum Command {
    /// Compare and write.
    Txn(Txn, oneshot::Sender<Result<TxnOutcome, Error>>),
    /// Raise the compaction floor.
    Compact(Revision, oneshot::Sender<Result<(), Error>>),
}

/// A transaction with who waits for it.
type Asked = (Txn, oneshot::Sender<Result<TxnOutcome, Error>>);

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
    full: Full,
    /// Newest revision at recent times: how the age of history is known.
    marks: VecDeque<(Instant, Revision)>,
}

/// The changes of a batch that is being decided, on top of the index.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    /// The last change of each key in this batch, by position.
    last: HashMap<Bytes, usize>,
    /// What each transaction has come to.
    outcomes: Vec<Result<TxnOutcome, Error>>,
    /// The deadlines that are over, when this is committed.
    expired: Vec<(i64, Revision)>,
}

/// What is known of a full disk.
#[derive(Default)]
struct Full {
    /// Why, while it is full.
    why: Option<String>,
    /// What nobody waits for is not tried before.
    paused_until: Option<Instant>,
    told: Option<Instant>,
}

impl Full {
    fn paused(&self) -> bool {
        self.paused_until.is_some_and(|until| Instant::now() < until)
    }

    /// There was no room for what nobody waits for.
    fn pause(&mut self, why: &str) {
        self.paused_until = Some(Instant::now() + NO_SPACE_WAIT);
        self.tell(why);
    }

    fn tell(&mut self, why: &str) {
        if self.told.is_none_or(|at| at.elapsed() >= NO_SPACE_LOG) {
            self.told = Some(Instant::now());
            let error = Error::NoSpace(why.to_owned());
            tracing::error!(%error, "the data directory has no room for a write");
        }
    }
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
        let full = Full::default();
        Self { engine, shared, queue, options, deadlines, untidy: true, full, marks }
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
        if let Some(until) = self.full.paused_until {
            at_most(until.saturating_duration_since(Instant::now()));
        } else {
            if self.untidy {
                at_most(Duration::ZERO);
            }
            if let Some(((at, _), _)) = self.deadlines.first_key_value() {
                let wait = u64::try_from(at.saturating_sub(now_ms())).unwrap_or(0);
                at_most(Duration::from_millis(wait));
            }
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
        let mut asked: Vec<Asked> = Vec::new();
        let mut bytes = 0;
        let mut compactions = Vec::new();
        let mut next = first;
        while let Some(command) = next {
            match command {
                Command::Txn(txn, reply) => {
                    if let Op::Put { value, .. } = &txn.op {
                        bytes += value.len();
                    }
                    asked.push((txn, reply));
                }
                Command::Compact(floor, reply) => compactions.push((floor, reply)),
            }
            let enough = asked.len() >= BATCH_MAX || bytes >= BATCH_BYTES_MAX;
            next = if enough { None } else { self.queue.try_recv().ok() };
        }
        let idle = asked.is_empty();
        if !self.full.paused() {
            self.full.paused_until = None;
        }
        self.commit(asked)?;
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
        if self.full.paused() {
            return Ok(());
        }
        match self.engine.tidy(idle) {
            Ok(more) => self.untidy = more,
            Err(Error::NoSpace(why)) => self.full.pause(&why),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Deletes keys whose time is over.
    fn expire(&self, batch: &mut Batch) {
        if self.full.paused() {
            return;
        }
        let due = ..=(now_ms(), Revision(u64::MAX));
        for ((at, revision), key) in self.deadlines.range(due).take(EXPIRE_MAX) {
            batch.expired.push((*at, *revision));
            // A key that was written again has another revision and another deadline.
            let present = self.shared.index.read().get(key);
            if present.is_some_and(|kv| kv.mod_revision == *revision) {
                let (key, next) = (key.clone(), self.next_revision(batch));
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
        let Some(at) = batch.last.get(key) else { return self.shared.index.read().get(key) };
        let change = &batch.changes[*at];
        Some(KeyValue {
            key: key.clone(),
            value: change.value.clone()?,
            mod_revision: change.revision,
        })
    }

    fn decide(&self, batch: &mut Batch, txn: &Txn) -> Result<TxnOutcome, Error> {
        let present = self.present(batch, &txn.key);
        let seen = present.as_ref().map_or(Revision(0), |kv| kv.mod_revision);
        if seen != txn.expect {
            return Ok(TxnOutcome::Conflict(present));
        }
        let revision = self.next_revision(batch);
        let (value, expires_at) = match &txn.op {
            Op::Put { value, ttl, ends } => {
                if let (Some(why), false) = (&self.full.why, ends) {
                    return Err(Error::NoSpace(why.clone()));
                }
                let ttl_ms = ttl.map(|t| i64::try_from(t.as_millis()).unwrap_or(i64::MAX));
                (Some(value.clone()), ttl_ms.map(|ms| now_ms().saturating_add(ms)))
            }
            // Deleting what is absent changes nothing and makes no revision.
            Op::Delete if present.is_none() => {
                return Ok(TxnOutcome::Committed(Revision(revision.0 - 1)));
            }
            Op::Delete => (None, None),
        };
        batch.push(Change { key: txn.key.clone(), value, revision, expires_at });
        Ok(TxnOutcome::Committed(revision))
    }

    /// Decides what is asked for and writes it; nothing is visible yet.
    fn write(&mut self, asked: &[Asked]) -> (Batch, Result<(), Error>) {
        let mut batch = Batch::default();
        self.expire(&mut batch);
        for (txn, _) in asked {
            let outcome = self.decide(&mut batch, txn);
            batch.outcomes.push(outcome);
        }
        let written = match batch.changes.is_empty() {
            true => Ok(()),
            false => self.engine.commit(&batch.changes),
        };
        (batch, written)
    }

    /// Makes a batch durable, then visible, then acknowledged.
    fn commit(&mut self, asked: Vec<Asked>) -> Result<(), Error> {
        if asked.iter().any(|(txn, _)| matches!(txn.op, Op::Put { ends: false, .. })) {
            self.recover();
        }
        let (mut batch, mut written) = self.write(&asked);
        if let (Err(Error::NoSpace(why)), None) = (&written, &self.full.why) {
            // What makes room may use what was kept aside for it, and nothing else.
            self.fill_up(why.clone());
            (batch, written) = self.write(&asked);
        }
        let outcomes = match &written {
            Ok(()) => {
                for deadline in &batch.expired {
                    self.deadlines.remove(deadline);
                }
                self.publish(batch.changes);
                batch.outcomes
            }
            Err(error) => {
                if let (Error::NoSpace(why), false) = (error, batch.expired.is_empty()) {
                    self.full.pause(why);
                }
                // Also those that lost: what they lost against was not written.
                vec![Err(error.clone()); asked.len()]
            }
        };
        for ((_, reply), outcome) in asked.into_iter().zip(outcomes) {
            // A caller that went away does not need its answer.
            drop(reply.send(outcome));
        }
        match written {
            Err(Error::NoSpace(_)) => Ok(()),
            other => other,
        }
    }

    /// The disk is full: only what makes room is written until there is some.
    fn fill_up(&mut self, why: String) {
        self.full.tell(&why);
        self.full.why = Some(why);
        self.engine.release();
        self.untidy = true;
    }

    /// Looks whether a full disk has room again.
    fn recover(&mut self) {
        if self.full.why.is_some() && self.engine.recover() {
            self.full.why = None;
            self.full.paused_until = None;
        }
    }

    fn publish(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
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
        match self.engine.set_floor(floor) {
            Err(Error::NoSpace(why)) if self.full.why.is_none() => {
                self.fill_up(why);
                self.engine.set_floor(floor)?;
            }
            done => done?,
        }
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
        // On a full disk the history ends, so that what was superseded can go.
        let full = self.full.why.is_some() && !self.full.paused();
        let floor = if full { Some(self.shared.index.read().newest()) } else { too_large };
        if let Some(floor) = floor {
            self.compact_later(floor)?;
        }
        if self.marks.back().is_some_and(|(at, _)| at.elapsed() < COMPACT_INTERVAL) {
            return Ok(());
        }
        self.marks.push_back((Instant::now(), self.shared.index.read().newest()));
        let mut floor = None;
        while self.marks.front().is_some_and(|(at, _)| at.elapsed() >= keep) {
            floor = self.marks.pop_front().map(|(_, revision)| revision);
        }
        floor.map_or(Ok(()), |floor| self.compact_later(floor))
    }

    /// Compacts, or does so another time when there is no room even for that.
    fn compact_later(&mut self, floor: Revision) -> Result<(), Error> {
        match self.compact(floor) {
            Err(Error::NoSpace(why)) => {
                self.full.pause(&why);
                Ok(())
            }
            done => done,
        }
    }
}

impl Batch {
    fn push(&mut self, change: Change) {
        self.last.insert(change.key.clone(), self.changes.len());
        self.changes.push(change);
    }
}
