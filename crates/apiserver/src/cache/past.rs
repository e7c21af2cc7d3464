//! The state of a resource as it was: the present one with the recent changes taken back.

use super::{ResourceCache, Snapshot};

impl ResourceCache {
    /// All objects as of a revision, `None` when the kept history does not reach back to it. A
    /// revision that is still to come gives the present state.
    pub fn at(&self, revision: u64) -> Option<Snapshot> {
        let watchers = self.watchers.lock();
        if revision < watchers.floor {
            return None;
        }
        let (mut snapshot, _) = self.snapshot();
        for change in watchers.history.iter().rev().take_while(|c| c.revision > revision) {
            let path = change.entry.key.slice(self.prefix.len()..);
            match &change.previous {
                Some(previous) => snapshot.insert_mut(path, previous.clone()),
                None => {
                    snapshot.remove_mut(&path);
                }
            }
        }
        Some(snapshot)
    }
}
