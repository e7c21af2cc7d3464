//! The embedded store: a log, one writer thread with group commit, all reads from memory.
//!
//! Layout, correctness and limits are told in docs/design/store.md.
//!
//! Invariant: a transaction is acknowledged after its batch was synced, and after its event was
//! queued for every watcher.

mod engine;
mod index;
mod log;
mod watchers;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, oneshot};

pub use engine::{Change, Engine, Garbage, Loaded};
use index::Index;
pub use log::{Disk, LogEngine, SystemDisk};
use watchers::Watchers;
use writer::{Command, Writer};

use crate::{
    BoxFuture, Error, KeyValue, RangeRequest, RangeResponse, Revision, Store, Txn, TxnOutcome,
    WatchStream,
};

/// Transactions that may wait for the writer at the same time; more wait for their turn.
const QUEUE_MAX: usize = 4096;

/// Called when the disk failed: what is in memory may no longer be what is on disk.
pub type OnFatal = Box<dyn Fn(&Error) + Send>;

/// How the store behaves.
pub struct Options {
    /// How long superseded states stay readable and watchable; `None` keeps them until
    /// [`Store::compact`] is called.
    pub history: Option<Duration>,
    /// Called once, from the writer thread, when a write failed. The default logs and aborts the
    /// process: after a failed sync the kernel may have dropped the pages.
    pub on_fatal: OnFatal,
}

impl Default for Options {
    fn default() -> Self {
        let on_fatal = |error: &Error| {
            tracing::error!(%error, "a write to the data directory failed, stopping the process");
            std::process::abort();
        };
        Self { history: Some(Duration::from_secs(300)), on_fatal: Box::new(on_fatal) }
    }
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("the database {0} is in use by another process: stop it, or choose another --data-dir")]
    Locked(String),
    /// It was written by a newer version.
    #[error(
        "the database {path} has format {found}, this version knows up to {known}: use a newer longshore"
    )]
    NewerFormat {
        /// The file.
        path: String,
        /// Its format version.
        found: i64,
        /// The newest format this version reads.
        known: i64,
    },
    /// It was written by a version that kept its data in another way.
    #[error(
        "the database {path} is of a version that is not read any more: save the objects with the longshore that wrote it (kubectl get -o yaml), move {path} away, and create them again"
    )]
    OlderFormat {
        /// The file.
        path: String,
    },
    /// It cannot be read as a database of ours.
    #[error(
        "the database is damaged at {path} ({why}): restore a copy of its folder, or move the folder away to start empty"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What does not hold.
        why: String,
    },
    /// The disk or the file system says no.
    #[error("the database {path} cannot be opened: {why}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        why: String,
    },
}

struct Shared {
    index: RwLock<Index>,
    watchers: Mutex<Watchers>,
    queue_slots: Arc<Semaphore>,
}

/// The embedded store. Dropping it finishes the queued writes and closes the files.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens or creates the database in a folder, whose parent is there.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        Self::with_engine(Box::new(LogEngine::open(dir)?), options)
    }

    /// Opens a store on any engine; for tests that inject faults.
    pub fn with_engine(mut engine: Box<dyn Engine>, options: Options) -> Result<Self, OpenError> {
        let loaded = engine.load()?;
        let mut index = Index::new();
        let (mut deadlines, mut garbage) = (Vec::new(), Vec::new());
        for change in loaded.changes {
            if change.value.is_none() && index.get(&change.key).is_none() {
                // What it deleted has left the disk already.
                garbage.push(Garbage::new(change.revision, &change.key, None));
                continue;
            }
            if let Some(at) = change.expires_at {
                deadlines.push((at, change.key.clone(), change.revision));
            }
            index.apply(change.key, change.value, change.revision);
        }
        index.set_newest(loaded.newest);
        garbage.extend(index.compact(loaded.floor));
        engine.discard(&garbage);
        let shared = Arc::new(Shared {
            index: RwLock::new(index),
            watchers: Mutex::default(),
            queue_slots: Arc::new(Semaphore::new(QUEUE_MAX)),
        });
        let (commands, queue) = mpsc::channel();
        let writer = Writer::new(engine, shared.clone(), queue, options, deadlines);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::Io { path: String::new(), why: error.to_string() })?;
        Ok(Self { shared, commands, thread: Some(thread) })
    }

    async fn send<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command,
    ) -> Result<T, Error> {
        let slot = self.shared.queue_slots.clone().acquire_owned().await;
        let _slot = slot.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.commands.send(make(reply)).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // The writer ends when the last sender is gone.
        let (closed, _) = mpsc::channel();
        self.commands = closed;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

impl Store for EmbeddedStore {
    fn current_revision(&self) -> BoxFuture<'_, Result<Revision, Error>> {
        Box::pin(async { Ok(self.shared.index.read().newest()) })
    }

    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<KeyValue>, Error>> {
        let found = self.shared.index.read().get(key);
        Box::pin(async { Ok(found) })
    }

    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, Error>> {
        Box::pin(async move { self.shared.index.read().range(&request) })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnOutcome, Error>> {
        Box::pin(self.send(|reply| Command::Txn(txn, reply)))
    }

    fn watch(
        &self,
        prefix: &[u8],
        after: Revision,
    ) -> BoxFuture<'_, Result<Box<dyn WatchStream>, Error>> {
        let prefix = Bytes::copy_from_slice(prefix);
        Box::pin(async move {
            // The lock order is watchers, then index, as in the writer: a change is either in the
            // history read here or in the stream.
            let mut watchers = self.shared.watchers.lock();
            let index = self.shared.index.read();
            let missed = index.history_after(after)?;
            Ok(watchers.open(prefix, missed))
        })
    }

    fn compact(&self, floor: Revision) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.send(move |reply| Command::Compact(floor, reply)))
    }
}
