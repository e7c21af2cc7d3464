//! The watch cache: the newest state of every resource in memory, its recent history, and the
//! fan-out of changes to watchers.
//!
//! Invariant: a watcher gets every change after its start in revision order exactly once, or an
//! end of its stream; nothing is skipped.
//!
//! upstream counterpart: staging/src/k8s.io/apiserver/pkg/storage/cacher

pub mod entry;
mod fanout;
mod find;
pub mod hub;
mod layout;
mod past;
pub mod pins;
pub mod view;
pub mod watcher;

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use longshore_api::Object;
use parking_lot::{Mutex, RwLock};
use rpds::RedBlackTreeMapSync;

pub use entry::{Entry, Parts};
use fanout::Fanout;
use find::ByField;
pub use find::Candidates;
pub use hub::Hub;
pub use pins::Pins;
pub use view::View;
use watcher::channel;
pub use watcher::{Change, ChangeKind, Interest, Receiver};

/// Changes kept per resource for watches that start in the past.
const HISTORY_MAX: usize = 4096;
/// Changes that may wait for one slow watcher before it is cut off.
const WATCHER_BUFFER_MAX: usize = 4096;
/// Open watches per resource.
const WATCHERS_MAX: usize = 200_000;

/// Objects by their path below the resource: `namespace/name` or `name`.
pub type Snapshot = RedBlackTreeMapSync<Bytes, Arc<Entry>>;

/// Why a watch cannot start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchRefused {
    /// The start lies before the kept history.
    TooOld {
        /// The oldest revision a watch can start after.
        oldest: u64,
    },
    /// [`WATCHERS_MAX`] watches are open.
    TooMany,
}

/// The state and history of one storage location.
pub struct ResourceCache {
    prefix: Bytes,
    view: RwLock<Arc<dyn View>>,
    state: RwLock<State>,
    watchers: Mutex<Watchers>,
    /// The field by which many readers divide the objects among them; see [`View::indexed_field`].
    indexed: Option<&'static str>,
    /// Held by who makes the index.
    indexing: Mutex<()>,
    /// Held by whoever creates an object, for writing by [`ResourceCache::seal`]: whether nothing
    /// new is taken.
    sealed: tokio::sync::RwLock<bool>,
}

/// As long as it is there, a resource takes a new object.
pub struct CreateGuard<'a>(
    #[expect(dead_code, reason = "held")] tokio::sync::RwLockReadGuard<'a, bool>,
);

struct State {
    objects: Snapshot,
    /// The index of the field, once somebody has selected by it.
    by_field: Option<ByField>,
    /// The revision of the newest change to this resource.
    revision: u64,
}

#[derive(Default)]
struct Watchers {
    history: VecDeque<Arc<Change>>,
    /// Watches can start after this revision or a later one.
    floor: u64,
    fanout: Fanout,
    /// No watch starts any more.
    closed: bool,
}

impl ResourceCache {
    /// An empty cache of the objects under a store prefix (with its trailing slash).
    pub fn new(prefix: Bytes, view: Arc<dyn View>) -> Self {
        let state = State { objects: Snapshot::default(), by_field: None, revision: 0 };
        let indexed = view.indexed_field();
        let watchers = Watchers { fanout: Fanout::new(indexed), ..Watchers::default() };
        Self {
            prefix,
            view: RwLock::new(view),
            state: RwLock::new(state),
            watchers: Mutex::new(watchers),
            indexed,
            indexing: Mutex::default(),
            sealed: tokio::sync::RwLock::new(false),
        }
    }

    /// The store key of an object.
    pub fn key(&self, namespace: &str, name: &str) -> Bytes {
        let mut key = self.prefix.to_vec();
        key.extend_from_slice(&path_of(namespace, name));
        key.into()
    }

    /// The store prefix with its trailing slash.
    pub fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    /// Reads a stored value of this resource.
    pub fn decode(
        &self,
        key: &Bytes,
        stored: &Bytes,
        revision: u64,
    ) -> Result<Entry, entry::Damaged> {
        Entry::decode(key, stored, revision, &self.view())
    }

    /// Encodes an object for the store, with what an entry of it needs to know.
    pub fn encode(&self, object: &Object) -> (Bytes, Parts) {
        Parts::of(object, &self.view())
    }

    /// An object as it would be read if it were stored.
    pub fn as_read(&self, mut object: Object) -> Object {
        self.view().restore(&mut object);
        object
    }

    fn view(&self) -> Arc<dyn View> {
        self.view.read().clone()
    }

    /// Shows all objects as another view sees them from now on. What watchers were told stays
    /// told; no change is made up for them.
    ///
    /// # Errors
    /// When an object cannot be read any more; then nothing changes.
    pub fn set_view(&self, view: &Arc<dyn View>) -> Result<(), entry::Damaged> {
        let before = self.snapshot().0;
        let mut objects = Snapshot::default();
        for (path, entry) in before.iter() {
            objects.insert_mut(path.clone(), Arc::new(entry.seen_by(view)?));
        }
        // Nothing is applied from here on; see `apply`. Most has not changed since.
        let watchers = self.watchers.lock();
        let present = self.snapshot().0;
        for (path, entry) in present.iter() {
            if !before.get(path).is_some_and(|seen| Arc::ptr_eq(seen, entry)) {
                objects.insert_mut(path.clone(), Arc::new(entry.seen_by(view)?));
            }
        }
        for (path, _) in before.iter().filter(|(path, _)| !present.contains_key(*path)) {
            objects.remove_mut(path);
        }
        *self.view.write() = view.clone();
        let mut state = self.state.write();
        state.objects = objects;
        state.by_field = None;
        drop(state);
        drop(watchers);
        Ok(())
    }

    /// Lets an object be created; none when nothing new is taken any more.
    pub async fn begin_create(&self) -> Option<CreateGuard<'_>> {
        let sealed = self.sealed.read().await;
        (!*sealed).then(|| CreateGuard(sealed))
    }

    /// Takes nothing new from now on, and waits for the creates that are under way: what is in the
    /// store then is all that there will be.
    pub async fn seal(&self) {
        *self.sealed.write().await = true;
    }

    /// Ends all watches and lets go of all objects: the resource is not served any more, whoever
    /// still holds it.
    pub fn close(&self) {
        let mut watchers = self.watchers.lock();
        *watchers = Watchers { closed: true, ..Watchers::default() };
        let mut state = self.state.write();
        state.objects = Snapshot::default();
        state.by_field = None;
    }

    /// Whether the resource is not served any more.
    pub fn is_closed(&self) -> bool {
        self.watchers.lock().closed
    }

    /// The revision of the newest change.
    pub fn revision(&self) -> u64 {
        self.state.read().revision
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.state.read().objects.get(&path_of(namespace, name)).cloned()
    }

    /// All objects as of now, and the revision of the newest change to them.
    pub fn snapshot(&self) -> (Snapshot, u64) {
        let state = self.state.read();
        (state.objects.clone(), state.revision)
    }

    /// Fills the cache at start, before changes are applied.
    pub(crate) fn load(&self, entries: impl Iterator<Item = Entry>, revision: u64) {
        let mut state = self.state.write();
        state.objects = Snapshot::default();
        state.by_field = None;
        for entry in entries {
            let path = entry.key.slice(self.prefix.len()..);
            state.objects.insert_mut(path, Arc::new(entry));
        }
        state.revision = revision;
        self.watchers.lock().floor = revision;
    }

    /// Applies one change from the store and tells the watchers. What was there when the cache was
    /// loaded is left out.
    ///
    /// # Errors
    /// When the object cannot be read.
    pub(crate) fn apply(
        &self,
        key: &Bytes,
        revision: u64,
        mut current: Option<Entry>,
    ) -> Result<(), entry::Damaged> {
        let path = key.slice(self.prefix.len()..);
        // The watchers' lock is taken first: a watch that starts sees a change either in the
        // snapshot or in its stream, never in both and never in neither.
        let mut watchers = self.watchers.lock();
        // The view may have changed since somebody wrote or read the object.
        let view = self.view.read();
        if let Some(entry) = current.as_ref().filter(|entry| !entry.is_seen_by(&view)) {
            current = Some(entry.seen_by(&view)?);
        }
        drop(view);
        let change = {
            let mut state = self.state.write();
            if watchers.closed || revision <= state.revision {
                return Ok(());
            }
            let State { objects, by_field, revision: newest } = &mut *state;
            *newest = revision;
            let previous = objects.get(&path).cloned();
            let mut index = self.indexed.zip(by_field.as_mut());
            if let (Some((field, index)), Some(previous)) = (&mut index, &previous) {
                index.remove(field, &path, previous);
            }
            match (current, previous) {
                (Some(entry), previous) => {
                    let entry = Arc::new(entry);
                    if let Some((field, index)) = &mut index {
                        index.put(field, &path, &entry);
                    }
                    objects.insert_mut(path, entry.clone());
                    Change::put(entry, previous)
                }
                (None, Some(previous)) => {
                    objects.remove_mut(&path);
                    Change::deleted(&previous, revision)
                }
                (None, None) => return Ok(()),
            }
        };
        watchers.publish(Arc::new(change));
        Ok(())
    }

    /// Opens a watch of the changes after `after`; `None` starts now. Also returns the state at
    /// the start that it may be interested in, of which the stream is the continuation.
    pub fn watch(
        &self,
        after: Option<u64>,
        interest: Interest,
    ) -> Result<(Receiver, Candidates, u64), WatchRefused> {
        if after.is_none() {
            self.prepare(&interest);
        }
        let mut watchers = self.watchers.lock();
        if watchers.fanout.len() >= WATCHERS_MAX {
            return Err(WatchRefused::TooMany);
        }
        let (present, revision) = {
            let state = self.state.read();
            let present = match after {
                None => self.candidates_in(&state, &interest),
                Some(_) => Candidates::All(state.objects.clone()),
            };
            (present, state.revision)
        };
        let mut backlog = Vec::new();
        if let Some(after) = after {
            if after < watchers.floor {
                return Err(WatchRefused::TooOld { oldest: watchers.floor });
            }
            let missed = watchers.history.partition_point(|c| c.revision <= after);
            backlog.extend(watchers.history.range(missed..).cloned());
        }
        let interest = Arc::new(interest);
        let (sender, receiver) = channel(interest.clone(), backlog, WATCHER_BUFFER_MAX);
        // The reader of a closed cache gets to its end at once.
        if !watchers.closed {
            watchers.fanout.add(&interest, sender);
        }
        Ok((receiver, present, revision))
    }
}

impl Watchers {
    fn publish(&mut self, change: Arc<Change>) {
        self.fanout.offer(&change);
        if self.history.len() == HISTORY_MAX {
            let oldest = self.history.pop_front().expect("the history is full");
            self.floor = oldest.revision;
        }
        self.history.push_back(change);
    }
}

/// The path of an object below its resource.
pub fn path_of(namespace: &str, name: &str) -> Bytes {
    if namespace.is_empty() {
        Bytes::copy_from_slice(name.as_bytes())
    } else {
        Bytes::from(format!("{namespace}/{name}"))
    }
}

/// The part of a snapshot in one namespace (all of it for an empty one), from a path on.
pub fn range<'a>(
    snapshot: &'a Snapshot,
    namespace: &str,
    start: Option<&[u8]>,
) -> impl Iterator<Item = (&'a Bytes, &'a Arc<Entry>)> {
    let prefix =
        if namespace.is_empty() { Bytes::new() } else { Bytes::from(format!("{namespace}/")) };
    let start = Bound::Included(start.map_or_else(|| prefix.clone(), Bytes::copy_from_slice));
    snapshot.range((start, Bound::Unbounded)).take_while(move |(path, _)| path.starts_with(&prefix))
}
