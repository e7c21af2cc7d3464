//! The hub: loads all caches at start, follows the store, and knows how fresh the caches are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use longshore_base::Shutdown;
use longshore_store::{Event, RangeRequest, Revision, Store, WatchItem, prefix_end};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{Entry, Parts, ResourceCache};

/// The root of all keys.
pub const ROOT: &str = "/registry/";

/// All caches of a server, fed by one watch of the store.
pub struct Hub {
    store: Arc<dyn Store>,
    caches: RwLock<BTreeMap<Bytes, Slot>>,
    applied: watch::Sender<u64>,
    announced: Announced,
}

/// A cache at its place.
enum Slot {
    /// It follows the store.
    Live(Arc<ResourceCache>),
    /// Its objects are being read; the changes since then wait.
    Loading(Mutex<Waiting>),
}

/// Changes that a cache that is being loaded gets later.
#[derive(Default)]
struct Waiting {
    events: Vec<Event>,
    /// There were more than [`WAITING_MAX`]: the load has to start again.
    lost: bool,
}

/// Changes that may wait for a cache.
const WAITING_MAX: usize = 65_536;

/// Values on their way through the store whose writer has said what there is to know of them, by
/// the address of their bytes. What is not here is parsed when it arrives.
#[derive(Default)]
struct Announced(Mutex<HashMap<usize, (Bytes, Parts)>>);

/// Values that may be announced at the same time.
const ANNOUNCED_MAX: usize = 8192;

/// An announcement; withdrawn on drop unless the value was committed.
pub struct Announcement<'a> {
    hub: &'a Hub,
    value: Option<Bytes>,
}

impl Announcement<'_> {
    /// The value was committed: it will arrive.
    pub fn committed(mut self) {
        self.value = None;
    }
}

impl Drop for Announcement<'_> {
    fn drop(&mut self) {
        if let Some(value) = &self.value {
            self.hub.announced.0.lock().remove(&value.as_ptr().addr());
        }
    }
}

/// Why the caches cannot answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] longshore_store::Error),
    /// A stored object cannot be read.
    #[error(transparent)]
    Damaged(#[from] super::entry::Damaged),
    /// The server is stopping.
    #[error("the watch cache has stopped")]
    Stopped,
}

impl Hub {
    /// Loads every object of the store into the given caches.
    pub async fn load(
        store: Arc<dyn Store>,
        caches: Vec<Arc<ResourceCache>>,
    ) -> Result<Arc<Self>, Error> {
        let mut by_prefix = BTreeMap::new();
        let mut revision = 0;
        let root = store
            .range(RangeRequest {
                start: Bytes::from_static(ROOT.as_bytes()),
                end: prefix_end(ROOT.as_bytes()),
                ..RangeRequest::default()
            })
            .await?;
        revision = revision.max(root.revision.0);
        for cache in caches {
            let prefix = cache.prefix().clone();
            let start = root.kvs.partition_point(|kv| kv.key < prefix);
            let own = root.kvs[start..].iter().take_while(|kv| kv.key.starts_with(&prefix));
            let entries: Vec<_> = own
                .map(|kv| cache.decode(&kv.key, &kv.value, kv.mod_revision.0))
                .collect::<Result<_, _>>()?;
            cache.load(entries.into_iter(), revision);
            by_prefix.insert(prefix, Slot::Live(cache));
        }
        let (applied, _) = watch::channel(revision);
        let announced = Announced::default();
        Ok(Arc::new(Self { store, caches: RwLock::new(by_prefix), applied, announced }))
    }

    /// Follows the store until shutdown or until the store fails.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) -> Result<(), Error> {
        let after = Revision(*self.applied.borrow());
        let mut stream = self.store.watch(ROOT.as_bytes(), after).await?;
        loop {
            let item = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                item = stream.next() => item?,
            };
            match item {
                WatchItem::Progress(revision) => self.advance(revision.0),
                WatchItem::Events(events) => {
                    for event in events {
                        self.apply(&event)?;
                    }
                }
            }
        }
    }

    fn apply(&self, event: &Event) -> Result<(), Error> {
        // What was announced has arrived, also when no cache takes it now.
        let value = event.current.as_ref().map(|kv| kv.value.as_ptr().addr());
        let announced = value.and_then(|at| self.announced.0.lock().remove(&at));
        if let Some(cache) = self.cache_of(event) {
            apply_to(&cache, event, announced)?;
        }
        self.advance(event.revision.0);
        Ok(())
    }

    /// Loads a cache and lets it follow the store from then on.
    ///
    /// # Errors
    /// When the store cannot be read or holds damaged objects.
    pub async fn add(&self, cache: &Arc<ResourceCache>) -> Result<(), Error> {
        let outcome = self.fill(cache).await;
        if outcome.is_err() {
            self.remove(cache);
        }
        outcome
    }

    async fn fill(&self, cache: &Arc<ResourceCache>) -> Result<(), Error> {
        let prefix = cache.prefix();
        loop {
            // From here on no change is missed; the cache leaves out those that the read has already.
            self.caches.write().insert(prefix.clone(), Slot::Loading(Mutex::default()));
            let request = RangeRequest {
                start: prefix.clone(),
                end: prefix_end(prefix),
                ..RangeRequest::default()
            };
            let read = self.store.range(request).await?;
            let revision = read.revision.0;
            let entries: Vec<_> = (read.kvs.iter())
                .map(|kv| cache.decode(&kv.key, &kv.value, kv.mod_revision.0))
                .collect::<Result<_, _>>()?;
            cache.load(entries.into_iter(), revision);
            let mut caches = self.caches.write();
            let waiting = match caches.get(prefix) {
                Some(Slot::Loading(waiting)) => std::mem::take(&mut *waiting.lock()),
                // Somebody else has put it there, or taken it away.
                _ => return Ok(()),
            };
            if waiting.lost {
                continue;
            }
            for event in &waiting.events {
                apply_to(cache, event, None)?;
            }
            caches.insert(prefix.clone(), Slot::Live(cache.clone()));
            return Ok(());
        }
    }

    /// Lets go of a cache and ends its watches.
    pub fn remove(&self, cache: &ResourceCache) {
        self.caches.write().remove(cache.prefix());
        cache.close();
    }

    /// Says what there is to know of a value that is about to be written.
    pub fn announce(&self, value: &Bytes, parts: Parts) -> Announcement<'_> {
        let mut announced = self.announced.0.lock();
        if announced.len() >= ANNOUNCED_MAX {
            return Announcement { hub: self, value: None };
        }
        announced.insert(value.as_ptr().addr(), (value.clone(), parts));
        Announcement { hub: self, value: Some(value.clone()) }
    }

    /// The cache that a change belongs to, unless it is still being loaded and gets it later.
    fn cache_of(&self, event: &Event) -> Option<Arc<ResourceCache>> {
        let caches = self.caches.read();
        let (prefix, slot) = caches.range::<Bytes, _>(..=&event.key).next_back()?;
        match slot {
            _ if !event.key.starts_with(prefix) => None,
            Slot::Live(cache) => Some(cache.clone()),
            Slot::Loading(waiting) => {
                let mut waiting = waiting.lock();
                if waiting.events.len() < WAITING_MAX {
                    waiting.events.push(event.clone());
                } else {
                    *waiting = Waiting { events: Vec::new(), lost: true };
                }
                None
            }
        }
    }

    fn advance(&self, revision: u64) {
        self.applied.send_if_modified(|applied| {
            let newer = revision > *applied;
            if newer {
                *applied = revision;
            }
            newer
        });
    }

    /// The revision up to which all caches are complete.
    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Waits until the caches hold everything that is in the store now: what is read from them
    /// afterwards is linearizable.
    pub async fn fresh(&self) -> Result<u64, Error> {
        let now = self.store.current_revision().await?.0;
        self.wait_for(now).await?;
        Ok(self.applied().max(now))
    }

    /// Waits until the caches are complete up to a revision.
    pub async fn wait_for(&self, revision: u64) -> Result<(), Error> {
        if self.applied() >= revision {
            return Ok(());
        }
        let mut applied = self.applied.subscribe();
        applied.wait_for(|at| *at >= revision).await.map(|_| ()).map_err(|_| Error::Stopped)
    }

    /// Whether the store still has the state of a revision: it is not compacted away.
    pub async fn readable(&self, revision: u64) -> Result<bool, Error> {
        // Any read tells; this one finds nothing.
        let nothing = Bytes::from_static(ROOT.as_bytes());
        let request = RangeRequest {
            start: nothing.clone(),
            end: nothing,
            at: Some(Revision(revision)),
            limit: 1,
        };
        match self.store.range(request).await {
            Ok(_) => Ok(true),
            Err(longshore_store::Error::Compacted { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The store behind the caches.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

/// Applies a change to the cache that it belongs to.
fn apply_to(
    cache: &ResourceCache,
    event: &Event,
    announced: Option<(Bytes, Parts)>,
) -> Result<(), Error> {
    let revision = event.revision.0;
    let current = match (&event.current, announced) {
        // The announcement held the bytes: nothing else can have been at their address.
        (Some(kv), Some((value, parts))) => Some(Entry::new(&kv.key, &value, revision, parts)),
        (Some(kv), None) => Some(cache.decode(&kv.key, &kv.value, revision)?),
        (None, _) => None,
    };
    Ok(cache.apply(&event.key, revision, current)?)
}
