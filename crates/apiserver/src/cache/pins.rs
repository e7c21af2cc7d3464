//! Recent snapshots by revision: what continue tokens and exact lists read.
//!
//! A snapshot shares its objects with the live state, so a pin costs what changed since.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Snapshot;

/// How long a list can be continued.
///
/// upstream: etcd's default compaction interval
const PIN_AGE_MAX: Duration = Duration::from_secs(300);
/// Pinned snapshots of all resources together.
const PINS_MAX: usize = 256;

struct Pin {
    prefix: Bytes,
    revision: u64,
    snapshot: Snapshot,
    since: Instant,
}

/// The pinned snapshots of a server, oldest first.
#[derive(Default)]
pub struct Pins(Mutex<VecDeque<Pin>>);

impl Pins {
    /// Keeps a snapshot for later pages, if it is of `newest` or later: reading a state that was old already does not
    /// make it last longer.
    pub fn put(&self, prefix: &Bytes, revision: u64, snapshot: &Snapshot, newest: u64) {
        if revision < newest {
            return;
        }
        let now = Instant::now();
        let mut pins = self.0.lock();
        while pins.front().is_some_and(|pin| now - pin.since > PIN_AGE_MAX)
            || pins.len() >= PINS_MAX
        {
            pins.pop_front();
        }
        if !pins.iter().any(|pin| pin.prefix == *prefix && pin.revision == revision) {
            pins.push_back(Pin {
                prefix: prefix.clone(),
                revision,
                snapshot: snapshot.clone(),
                since: now,
            });
        }
    }

    /// The snapshot of a resource at a revision, when it is still kept.
    pub fn get(&self, prefix: &Bytes, revision: u64) -> Option<Snapshot> {
        let now = Instant::now();
        let pins = self.0.lock();
        pins.iter()
            .find(|pin| pin.prefix == *prefix && pin.revision == revision)
            .filter(|pin| now - pin.since <= PIN_AGE_MAX)
            .map(|pin| pin.snapshot.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn reading_an_old_state_does_not_keep_it() {
        let (pins, prefix, snapshot) =
            (Pins::default(), Bytes::from_static(b"p"), Snapshot::default());
        pins.put(&prefix, 5, &snapshot, 5);
        tokio::time::advance(PIN_AGE_MAX).await;
        pins.put(&prefix, 5, &snapshot, 6);
        assert!(pins.get(&prefix, 5).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(pins.get(&prefix, 5).is_none());
        // The next page was read from what the cache still had.
        pins.put(&prefix, 5, &snapshot, 6);
        assert!(pins.get(&prefix, 5).is_none());
    }
}
