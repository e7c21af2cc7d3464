//! The storage contract: an ordered, multi-version key-value store in bytes and revisions, and its
//! implementations.
//!
//! Invariant: a write that was acknowledged is durable, is seen by every later read, and reaches
//! every watch in revision order exactly once.
//!
//! upstream counterpart: staging/src/k8s.io/apiserver/pkg/storage/interfaces.go and etcd's KV API.

pub mod contract;
pub mod embedded;
mod memory;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

pub use embedded::{EmbeddedStore, OpenError, Options};
pub use memory::MemoryStore;

/// A boxed future, so that [`Store`] can be used as `dyn Store`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A point in the store's history. Each committed write makes the next one; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A key with its value as of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The value, shared with the store and with everyone who read it.
    pub value: Bytes,
    /// The revision of the last write to the key.
    pub mod_revision: Revision,
}

/// A read of keys in order.
#[derive(Clone, Debug, Default)]
pub struct RangeRequest {
    /// First key (inclusive).
    pub start: Bytes,
    /// End key (exclusive); empty means no end. See [`prefix_end`].
    pub end: Bytes,
    /// The revision to read at; `None` for the newest.
    pub at: Option<Revision>,
    /// At most this many keys; 0 for no limit.
    pub limit: usize,
}

/// The answer to a [`RangeRequest`].
#[derive(Clone, Debug, Default)]
pub struct RangeResponse {
    /// Keys and values in key order.
    pub kvs: Vec<KeyValue>,
    /// The store's newest revision when the read was made (not the one read at).
    pub revision: Revision,
    /// Whether the limit cut keys off.
    pub more: bool,
    /// Keys in the range, also those beyond the limit.
    pub count: usize,
}

/// What a transaction does when its condition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes the value. With a time to live the key is deleted after that time unless it is
    /// written again first.
    Put {
        /// The new value.
        value: Bytes,
        /// Time to live.
        ttl: Option<Duration>,
        /// Whether it leads to the key's deletion: such a write may use the space that is kept
        /// aside for a full disk.
        ends: bool,
    },
    /// Deletes the key.
    Delete,
}

/// A compare-and-swap of one key: the only way to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// The key.
    pub key: Bytes,
    /// The key's `mod_revision` that the caller saw; [`Revision`] 0 means the key must be absent.
    pub expect: Revision,
    /// What to do when `expect` holds.
    pub op: Op,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    /// Written, durable and visible, at this revision.
    Committed(Revision),
    /// The key was not as expected; its present state.
    Conflict(Option<KeyValue>),
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Bytes,
    /// The revision of the change.
    pub revision: Revision,
    /// The new state; `None` for a deletion.
    pub current: Option<KeyValue>,
    /// The state before; `None` for a creation. For a deletion always set.
    pub previous: Option<KeyValue>,
}

/// What a watch delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// Changes in revision order, never empty.
    Events(Vec<Event>),
    /// Everything up to this revision has been delivered.
    Progress(Revision),
}

/// An open watch. Dropping it ends it.
pub trait WatchStream: Send {
    /// The next item; waits for it. `Err(Error::Compacted)` or `Err(Error::SlowWatcher)` ends the
    /// watch: the reader has to list again. Cancel safe.
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem, Error>>;
}

/// Why the store could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The revision is below the compaction floor.
    #[error("revision {requested:?} has been compacted, the oldest is {floor:?}")]
    Compacted {
        /// What was asked for.
        requested: Revision,
        /// The oldest revision that can be read or watched from.
        floor: Revision,
    },
    /// The revision is above the newest one.
    #[error("revision {requested:?} is in the future, the newest is {current:?}")]
    FutureRevision {
        /// What was asked for.
        requested: Revision,
        /// The newest revision.
        current: Revision,
    },
    /// The watch fell further behind than its buffer.
    #[error("the watch fell too far behind")]
    SlowWatcher,
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
    /// There is no room for the write; nothing was written. Reads, and what makes room, go on.
    #[error(
        "database space exceeded: the disk of the data directory is full ({0}): free space on it, or delete objects; until then only deletions are written"
    )]
    NoSpace(String),
    /// The backend failed; the outcome of a write is unknown.
    #[error("storage failed: {0}")]
    Backend(String),
}

/// The ordered key-value store. All implementations pass [`contract`].
pub trait Store: Send + Sync + 'static {
    /// The newest committed revision, as of now. For a remote store this asks the leader, so that
    /// reads that wait for it are linearizable.
    fn current_revision(&self) -> BoxFuture<'_, Result<Revision, Error>>;

    /// The newest state of one key.
    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<KeyValue>, Error>>;

    /// Reads keys in order at one revision.
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, Error>>;

    /// Compares and writes one key. On `Ok(Committed)` the write is durable.
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnOutcome, Error>>;

    /// Delivers every change under `prefix` with a revision greater than `after`.
    fn watch(
        &self,
        prefix: &[u8],
        after: Revision,
    ) -> BoxFuture<'_, Result<Box<dyn WatchStream>, Error>>;

    /// Forgets superseded states below `floor`: reads and watches from below it fail with
    /// [`Error::Compacted`], also after a restart. Raising the floor to where it is is a no-op.
    fn compact(&self, floor: Revision) -> BoxFuture<'_, Result<(), Error>>;
}

/// The end key of the range of all keys with this prefix; empty (no end) for an all-0xff prefix.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::new()
}
