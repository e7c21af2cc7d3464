//! The reference model: the whole history as a list of changes, and every answer derived from it
//! by replay. Slow and obviously right; the other stores are tested against it.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{
    BoxFuture, Error, Event, KeyValue, Op, RangeRequest, RangeResponse, Revision, Store, Txn,
    TxnOutcome, WatchItem, WatchStream,
};

/// The in-memory reference store. Clones share one state.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    newest: watch::Sender<Revision>,
}

#[derive(Default)]
struct State {
    /// Every change ever made; the revision of a change is its position plus one.
    log: Vec<Event>,
    floor: Revision,
    /// When keys with a time to live end.
    deadlines: Vec<(Instant, Bytes)>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self { state: Arc::default(), newest: watch::channel(Revision(0)).0 }
    }

    fn commit(&self, state: &mut State, key: &Bytes, value: Option<Bytes>) -> Revision {
        let revision = Revision(state.log.len() as u64 + 1);
        let previous = state.get(key, revision);
        let current =
            value.map(|value| KeyValue { key: key.clone(), value, mod_revision: revision });
        state.log.push(Event { key: key.clone(), revision, current, previous });
        self.newest.send_replace(revision);
        revision
    }

    fn expire(&self, state: &mut State) {
        let now = Instant::now();
        let due: Vec<Bytes> =
            state.deadlines.iter().filter(|(at, _)| *at <= now).map(|(_, k)| k.clone()).collect();
        state.deadlines.retain(|(at, _)| *at > now);
        for key in due {
            if state.get(&key, Revision(u64::MAX)).is_some() {
                self.commit(state, &key, None);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.state.lock().deadlines.iter().map(|(at, _)| *at).min()
    }
}

impl State {
    fn newest(&self) -> Revision {
        Revision(self.log.len() as u64)
    }

    fn get(&self, key: &[u8], at: Revision) -> Option<KeyValue> {
        let last = self.log.iter().rev().find(|e| e.revision <= at && e.key == key)?;
        last.current.clone()
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let at = request.at.unwrap_or(self.newest());
        if at > self.newest() {
            return Err(Error::FutureRevision { requested: at, current: self.newest() });
        }
        if at < self.floor {
            return Err(Error::Compacted { requested: at, floor: self.floor });
        }
        let mut keys: Vec<&Bytes> = self
            .log
            .iter()
            .filter(|e| e.revision <= at)
            .map(|e| &e.key)
            .filter(|k| **k >= request.start && (request.end.is_empty() || **k < request.end))
            .collect();
        keys.sort();
        keys.dedup();
        let mut kvs: Vec<KeyValue> = keys.into_iter().filter_map(|k| self.get(k, at)).collect();
        let count = kvs.len();
        if request.limit > 0 {
            kvs.truncate(request.limit);
        }
        let more = kvs.len() < count;
        Ok(RangeResponse { kvs, revision: self.newest(), more, count })
    }
}

impl Store for MemoryStore {
    fn current_revision(&self) -> BoxFuture<'_, Result<Revision, Error>> {
        Box::pin(async {
            let mut state = self.state.lock();
            self.expire(&mut state);
            Ok(state.newest())
        })
    }

    fn get(&self, key: &[u8]) -> BoxFuture<'_, Result<Option<KeyValue>, Error>> {
        let key = Bytes::copy_from_slice(key);
        Box::pin(async move {
            let mut state = self.state.lock();
            self.expire(&mut state);
            Ok(state.get(&key, Revision(u64::MAX)))
        })
    }

    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, Error>> {
        Box::pin(async move {
            let mut state = self.state.lock();
            self.expire(&mut state);
            state.range(&request)
        })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnOutcome, Error>> {
        Box::pin(async move {
            let mut state = self.state.lock();
            self.expire(&mut state);
            let present = state.get(&txn.key, Revision(u64::MAX));
            let seen = present.as_ref().map_or(Revision(0), |kv| kv.mod_revision);
            if seen != txn.expect {
                return Ok(TxnOutcome::Conflict(present));
            }
            let value = match txn.op {
                Op::Put { value, ttl, .. } => {
                    state.deadlines.retain(|(_, key)| *key != txn.key);
                    if let Some(ttl) = ttl {
                        state.deadlines.push((Instant::now() + ttl, txn.key.clone()));
                    }
                    Some(value)
                }
                // Deleting what is absent changes nothing and makes no revision.
                Op::Delete if present.is_none() => {
                    return Ok(TxnOutcome::Committed(state.newest()));
                }
                Op::Delete => None,
            };
            Ok(TxnOutcome::Committed(self.commit(&mut state, &txn.key, value)))
        })
    }

    fn watch(
        &self,
        prefix: &[u8],
        after: Revision,
    ) -> BoxFuture<'_, Result<Box<dyn WatchStream>, Error>> {
        let prefix = Bytes::copy_from_slice(prefix);
        Box::pin(async move {
            let floor = self.state.lock().floor;
            if after < floor {
                return Err(Error::Compacted { requested: after, floor });
            }
            let newest = self.newest.subscribe();
            let store = self.clone();
            let stream: Box<dyn WatchStream> = Box::new(Stream { store, newest, prefix, after });
            Ok(stream)
        })
    }

    fn compact(&self, floor: Revision) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let mut state = self.state.lock();
            if floor > state.newest() {
                return Err(Error::FutureRevision { requested: floor, current: state.newest() });
            }
            state.floor = state.floor.max(floor);
            Ok(())
        })
    }
}

struct Stream {
    store: MemoryStore,
    newest: watch::Receiver<Revision>,
    prefix: Bytes,
    after: Revision,
}

impl WatchStream for Stream {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem, Error>> {
        Box::pin(async move {
            loop {
                self.newest.borrow_and_update();
                let deadline = {
                    let mut state = self.store.state.lock();
                    self.store.expire(&mut state);
                    let missed = state.log.iter().filter(|e| e.revision > self.after);
                    let events: Vec<Event> =
                        missed.filter(|e| e.key.starts_with(&self.prefix)).cloned().collect();
                    let newest = state.newest();
                    if newest > self.after {
                        self.after = newest;
                        return Ok(if events.is_empty() {
                            WatchItem::Progress(newest)
                        } else {
                            WatchItem::Events(events)
                        });
                    }
                    drop(state);
                    self.store.next_deadline()
                };
                let far = Instant::now() + std::time::Duration::from_secs(3600);
                tokio::select! {
                    changed = self.newest.changed() => changed.map_err(|_| Error::Closed)?,
                    () = tokio::time::sleep_until(deadline.unwrap_or(far)) => {}
                }
            }
        })
    }
}
