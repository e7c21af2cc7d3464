//! Keys, versions and recent history in memory: what all reads are answered from.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use super::engine::Garbage;
use crate::{Error, Event, KeyValue, RangeRequest, RangeResponse, Revision};

/// One state of a key.
struct Version {
    revision: Revision,
    /// `None` for a deletion.
    value: Option<Bytes>,
}

/// The ordered multi-version index.
pub(super) struct Index {
    keys: BTreeMap<Bytes, Vec<Version>>,
    history: VecDeque<Event>,
    history_bytes: usize,
    newest: Revision,
    floor: Revision,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            history: VecDeque::new(),
            history_bytes: 0,
            newest: Revision(0),
            floor: Revision(0),
        }
    }

    /// Sets the newest revision after loading: deletions that were removed count too.
    pub(super) fn set_newest(&mut self, newest: Revision) {
        self.newest = self.newest.max(newest);
    }

    /// The oldest revision that can be read or watched from.
    pub(super) fn floor(&self) -> Revision {
        self.floor
    }

    pub(super) fn newest(&self) -> Revision {
        self.newest
    }

    /// Adds a change; its revision is newer than all of its key.
    pub(super) fn apply(&mut self, key: Bytes, value: Option<Bytes>, revision: Revision) {
        // Most keys have one version.
        let versions = self.keys.entry(key.clone()).or_insert_with(|| Vec::with_capacity(1));
        let before = versions.last().and_then(|v| key_value(&key, v));
        let version = Version { revision, value };
        let current = key_value(&key, &version);
        assert!(versions.last().is_none_or(|v| v.revision < revision), "revisions only grow");
        versions.push(version);
        self.newest = self.newest.max(revision);
        if revision > self.floor && (current.is_some() || before.is_some()) {
            let event = Event { key, revision, current, previous: before };
            self.history_bytes += bytes_of(&event);
            self.history.push_back(event);
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<KeyValue> {
        let (key, versions) = self.keys.get_key_value(key)?;
        key_value(key, versions.last()?)
    }

    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let at = request.at.unwrap_or(self.newest);
        if at > self.newest {
            return Err(Error::FutureRevision { requested: at, current: self.newest });
        }
        if at < self.floor {
            return Err(Error::Compacted { requested: at, floor: self.floor });
        }
        let mut response = RangeResponse { revision: self.newest, ..RangeResponse::default() };
        if !request.end.is_empty() && request.end <= request.start {
            return Ok(response);
        }
        let end = match request.end.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(request.end.clone()),
        };
        for (key, versions) in self.keys.range((Bound::Included(request.start.clone()), end)) {
            let visible = versions.partition_point(|v| v.revision <= at);
            let version = visible.checked_sub(1).map(|i| &versions[i]);
            let Some(kv) = version.and_then(|v| key_value(key, v)) else { continue };
            response.count += 1;
            if request.limit == 0 || response.kvs.len() < request.limit {
                response.kvs.push(kv);
            }
        }
        response.more = response.kvs.len() < response.count;
        Ok(response)
    }

    /// The memory that the history takes, about.
    pub(super) fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    /// The revision whose compaction makes the history at most so large.
    pub(super) fn revision_within(&self, bytes: usize) -> Revision {
        let mut left = self.history_bytes;
        let cut = self.history.iter().take_while(|event| {
            let over = left > bytes;
            left -= bytes_of(event);
            over
        });
        cut.last().map_or(self.floor, |event| event.revision)
    }

    /// The changes after a revision, oldest first.
    pub(super) fn history_after(&self, after: Revision) -> Result<Vec<Event>, Error> {
        if after < self.floor {
            return Err(Error::Compacted { requested: after, floor: self.floor });
        }
        let start = self.history.partition_point(|e| e.revision <= after);
        Ok(self.history.range(start..).cloned().collect())
    }

    /// Raises the floor: superseded states below it go. Returns the changes that nothing needs any
    /// more.
    pub(super) fn compact(&mut self, floor: Revision) -> Vec<Garbage> {
        let mut garbage = Vec::new();
        while self.history.front().is_some_and(|e| e.revision <= floor) {
            let event = self.history.pop_front().expect("checked just above");
            self.history_bytes -= bytes_of(&event);
            let Some(versions) = self.keys.get_mut(&event.key) else { continue };
            // The newest version at or below the floor is still what a read at the floor sees.
            let visible = versions.partition_point(|v| v.revision <= floor);
            let superseded = versions.drain(..visible.saturating_sub(1));
            garbage.extend(
                superseded.map(|v| Garbage::new(v.revision, &event.key, v.value.as_deref())),
            );
            if versions.len() == 1 && versions[0].value.is_none() && versions[0].revision <= floor {
                garbage.push(Garbage::new(versions[0].revision, &event.key, None));
                self.keys.remove(&event.key);
            }
        }
        self.floor = self.floor.max(floor);
        garbage
    }
}

/// The memory that an event takes, about; a value counts with the event that brought it.
fn bytes_of(event: &Event) -> usize {
    size_of::<Event>() + event.current.as_ref().map_or(0, |kv| kv.value.len())
}

fn key_value(key: &Bytes, version: &Version) -> Option<KeyValue> {
    Some(KeyValue {
        key: key.clone(),
        value: version.value.clone()?,
        mod_revision: version.revision,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_cut_to_what_fits() {
        let mut index = Index::new();
        for revision in 1..=100 {
            let (key, value) = (Bytes::from(format!("k{}", revision % 7)), vec![0; 1000].into());
            index.apply(key, Some(value), Revision(revision));
        }
        let whole = index.history_bytes();
        assert_eq!(index.revision_within(whole), Revision(0), "it fits");
        let floor = index.revision_within(whole / 2);
        assert_eq!(floor, Revision(50));
        let garbage = index.compact(floor);
        assert_eq!(index.history_bytes(), whole / 2);
        assert_eq!(garbage.len(), 43, "the newest of each key stays");
        assert_eq!(index.history_after(floor).expect("kept").len(), 50);
        assert!(index.history_after(Revision(49)).is_err());
    }
}
