//! Open watches: bounded buffers that the writer fills and readers empty.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{BoxFuture, Error, Event, Revision, WatchItem, WatchStream};

/// Batches that may wait for one slow watcher before it is cut off.
const BUFFER_MAX: usize = 1024;

/// One committed batch, shared by all watchers.
pub(super) type Batch = Arc<Vec<Event>>;

/// The writer's ends of all open watches.
#[derive(Default)]
pub(super) struct Watchers(Vec<mpsc::Sender<Batch>>);

impl Watchers {
    /// Opens a watch that begins with changes it has missed.
    pub(super) fn open(&mut self, prefix: Bytes, missed: Vec<Event>) -> Box<dyn WatchStream> {
        let (sender, queue) = mpsc::channel(BUFFER_MAX);
        self.0.push(sender);
        let missed = (!missed.is_empty()).then(|| Arc::new(missed));
        Box::new(Stream { prefix, missed, queue })
    }

    /// Queues a batch for every watcher; those that are gone or too slow are dropped.
    pub(super) fn publish(&mut self, batch: &Batch) {
        self.0.retain(|sender| sender.try_send(batch.clone()).is_ok());
    }
}

struct Stream {
    prefix: Bytes,
    missed: Option<Batch>,
    queue: mpsc::Receiver<Batch>,
}

impl WatchStream for Stream {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem, Error>> {
        Box::pin(async move {
            let batch = match self.missed.take() {
                Some(batch) => batch,
                // The sender goes away only when this watcher was too slow or the store closed.
                None => self.queue.recv().await.ok_or(Error::SlowWatcher)?,
            };
            let newest = batch.last().map_or(Revision(0), |e| e.revision);
            let is_own = |event: &Event| event.key.starts_with(&self.prefix);
            let own = if batch.iter().all(is_own) {
                // Most often nobody else holds the batch any more.
                Arc::unwrap_or_clone(batch)
            } else {
                batch.iter().filter(|event| is_own(event)).cloned().collect()
            };
            Ok(if own.is_empty() { WatchItem::Progress(newest) } else { WatchItem::Events(own) })
        })
    }
}
