//! What a selection is looked for among: not all objects where a name or an indexed field says
//! more.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::{Entry, Interest, ResourceCache, Snapshot, State, path_of, range};

/// Objects among which are all that an interest selects.
pub enum Candidates {
    /// A few, in order of their paths.
    Few(Vec<Arc<Entry>>),
    /// All of the resource.
    All(Snapshot),
}

impl Candidates {
    /// Those that are selected, in order of their paths.
    pub fn select(self, interest: &Interest) -> Vec<Arc<Entry>> {
        match self {
            Self::Few(mut entries) => {
                entries.retain(|entry| interest.matches(entry));
                entries
            }
            Self::All(snapshot) => range(&snapshot, &interest.namespace, None)
                .filter(|(_, entry)| interest.matches(entry))
                .map(|(_, entry)| entry.clone())
                .collect(),
        }
    }
}

/// The objects by the value of one field, and then by their paths.
#[derive(Default)]
pub(super) struct ByField(HashMap<Box<str>, BTreeMap<Bytes, Arc<Entry>>>);

impl ByField {
    /// Takes note of the new state of an object.
    pub(super) fn put(&mut self, field: &str, path: &Bytes, entry: &Arc<Entry>) {
        let value = entry.field(field).unwrap_or_default();
        match self.0.get_mut(value) {
            Some(of_value) => {
                of_value.insert(path.clone(), entry.clone());
            }
            None => {
                let of_value = BTreeMap::from([(path.clone(), entry.clone())]);
                self.0.insert(value.into(), of_value);
            }
        }
    }

    /// Forgets the last state of an object.
    pub(super) fn remove(&mut self, field: &str, path: &Bytes, entry: &Entry) {
        let value = entry.field(field).unwrap_or_default();
        if let Some(of_value) = self.0.get_mut(value) {
            of_value.remove(path);
            if of_value.is_empty() {
                self.0.remove(value);
            }
        }
    }

    fn find(&self, value: &str, namespace: &str) -> Vec<Arc<Entry>> {
        let Some(of_value) = self.0.get(value) else { return Vec::new() };
        if namespace.is_empty() {
            return of_value.values().cloned().collect();
        }
        let start = path_of(namespace, "");
        let own = of_value.range(start.clone()..).take_while(|(path, _)| path.starts_with(&start));
        own.map(|(_, entry)| entry.clone()).collect()
    }
}

impl ResourceCache {
    /// Objects as of now among which are all that an interest selects, and the revision of the
    /// newest change to any object.
    pub fn candidates(&self, interest: &Interest) -> (Candidates, u64) {
        self.prepare(interest);
        let state = self.state.read();
        (self.candidates_in(&state, interest), state.revision)
    }

    /// Makes the index that an interest needs. Nothing is locked for long: what takes long is to read
    /// the values of objects from before this server started, which keep them.
    pub(super) fn prepare(&self, interest: &Interest) {
        let Some(field) = self.indexed else { return };
        let there = || self.state.read().by_field.is_some();
        if interest.equal(field).is_none() || there() {
            return;
        }
        let _one = self.indexing.lock();
        if there() {
            return;
        }
        for (_, entry) in self.snapshot().0.iter() {
            entry.field(field);
        }
        // Nothing is applied from here on; see `apply`.
        let _watchers = self.watchers.lock();
        let mut state = self.state.write();
        let mut index = ByField::default();
        for (path, entry) in state.objects.iter() {
            index.put(field, path, entry);
        }
        state.by_field = Some(index);
    }

    pub(super) fn candidates_in(&self, state: &State, interest: &Interest) -> Candidates {
        let namespace = interest.namespace.as_str();
        if let Some(name) = interest.name() {
            let in_namespaces =
                state.objects.first().is_some_and(|(_, entry)| !entry.namespace().is_empty());
            if !namespace.is_empty() || !in_namespaces {
                let found = state.objects.get(&path_of(namespace, name));
                return Candidates::Few(found.cloned().into_iter().collect());
            }
        }
        let value = self.indexed.and_then(|field| interest.equal(field));
        match (value, &state.by_field) {
            (Some(value), Some(index)) => Candidates::Few(index.find(value, namespace)),
            _ => Candidates::All(state.objects.clone()),
        }
    }
}
