//! Which watchers a change concerns: an index, so that a change costs what is interested in it and
//! not all that is open.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use bytes::Bytes;

use super::path_of;
use super::watcher::{Change, Interest, Sender};

/// Watchers are looked through for closed ones when there are this many, and then each time their
/// number has doubled.
const SWEEP_MIN: usize = 1024;

/// All watchers of a resource, each in exactly one list.
pub(super) struct Fanout {
    /// The field of `by_field`.
    indexed: Option<&'static str>,
    all: Vec<Sender>,
    by_namespace: HashMap<String, Vec<Sender>>,
    by_path: HashMap<Bytes, Vec<Sender>>,
    by_name: HashMap<String, Vec<Sender>>,
    by_field: HashMap<String, Vec<Sender>>,
    open: usize,
    sweep_at: usize,
}

impl Default for Fanout {
    fn default() -> Self {
        Self {
            indexed: None,
            all: Vec::new(),
            by_namespace: HashMap::new(),
            by_path: HashMap::new(),
            by_name: HashMap::new(),
            by_field: HashMap::new(),
            open: 0,
            sweep_at: SWEEP_MIN,
        }
    }
}

impl Fanout {
    /// No watchers yet, of a resource with such an indexed field.
    pub(super) fn new(indexed: Option<&'static str>) -> Self {
        Self { indexed, ..Self::default() }
    }

    /// How many watchers there are; some may be closed already.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// Adds a watcher.
    pub(super) fn add(&mut self, interest: &Interest, sender: Sender) {
        if self.open >= self.sweep_at {
            self.sweep();
            self.sweep_at = SWEEP_MIN.max(2 * self.open);
        }
        let namespace = &interest.namespace;
        let value = self.indexed.and_then(|field| interest.equal(field));
        let list = match (interest.name(), value) {
            (Some(name), _) if namespace.is_empty() => {
                self.by_name.entry(name.to_owned()).or_default()
            }
            (Some(name), _) => self.by_path.entry(path_of(namespace, name)).or_default(),
            (None, Some(value)) => self.by_field.entry(value.to_owned()).or_default(),
            (None, None) if namespace.is_empty() => &mut self.all,
            (None, None) => self.by_namespace.entry(namespace.clone()).or_default(),
        };
        list.push(sender);
        self.open += 1;
    }

    /// Queues a change for every watcher that it concerns, and lets go of those that are closed or
    /// too slow.
    pub(super) fn offer(&mut self, change: &Arc<Change>) {
        let entry = &change.entry;
        let (namespace, name) = (entry.namespace(), entry.name());
        let mut gone = offer_list(&mut self.all, change);
        gone += offer_key(&mut self.by_name, name, change);
        if !namespace.is_empty() {
            gone += offer_key(&mut self.by_namespace, namespace, change);
            if !self.by_path.is_empty() {
                gone += offer_key(&mut self.by_path, &path_of(namespace, name)[..], change);
            }
        }
        let Some(field) = self.indexed.filter(|_| !self.by_field.is_empty()) else {
            self.open -= gone;
            return;
        };
        if let Some(value) = entry.field(field) {
            gone += offer_key(&mut self.by_field, value, change);
            let before = change.previous.as_ref().and_then(|previous| previous.field(field));
            if let Some(before) = before.filter(|before| *before != value) {
                gone += offer_key(&mut self.by_field, before, change);
            }
        }
        self.open -= gone;
    }

    /// Lets go of watchers that nobody listens to any more. Lists without changes would keep them.
    fn sweep(&mut self) {
        fn open<K>(lists: &mut HashMap<K, Vec<Sender>>) -> usize {
            lists.retain(|_, list| {
                list.retain(Sender::is_open);
                !list.is_empty()
            });
            lists.values().map(Vec::len).sum()
        }
        self.all.retain(Sender::is_open);
        self.open = self.all.len()
            + open(&mut self.by_namespace)
            + open(&mut self.by_path)
            + open(&mut self.by_name)
            + open(&mut self.by_field);
    }
}

fn offer_list(list: &mut Vec<Sender>, change: &Arc<Change>) -> usize {
    let (before, all) = (list.len(), change.seen_by_all());
    list.retain(|sender| sender.offer(change, all));
    before - list.len()
}

fn offer_key<K, Q>(lists: &mut HashMap<K, Vec<Sender>>, key: &Q, change: &Arc<Change>) -> usize
where
    K: Borrow<Q> + Hash + Eq,
    Q: Hash + Eq + ?Sized,
{
    let Some(list) = lists.get_mut(key) else { return 0 };
    let gone = offer_list(list, change);
    if list.is_empty() {
        lists.remove(key);
    }
    gone
}
