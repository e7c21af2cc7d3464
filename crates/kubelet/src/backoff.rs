//! Growing pauses between attempts.
//!
//! upstream: staging/src/k8s.io/client-go/util/flowcontrol/backoff.go

use std::collections::HashMap;

use jiff::Timestamp;

/// The first pause in seconds.
///
/// upstream: pkg/kubelet/kubelet.go backOffPeriod
const FIRST: i64 = 10;
/// The longest pause.
///
/// upstream: pkg/kubelet/kubelet.go MaxCrashLoopBackOff
const LONGEST: i64 = 300;

#[derive(Clone, Copy)]
struct Entry {
    pause: i64,
    since: Timestamp,
}

/// Pauses by key.
#[derive(Default)]
pub(crate) struct Backoff(HashMap<String, Entry>);

impl Backoff {
    /// Asks to try again after something ended at `ended`: `Ok` to go ahead (the next pause grows),
    /// `Err` with the whole pause and the seconds that are left of it.
    pub(crate) fn attempt(
        &mut self,
        key: &str,
        ended: Timestamp,
        now: Timestamp,
    ) -> Result<(), (i64, i64)> {
        if let Some(entry) = self.0.get(key) {
            let forgotten = now.as_second() - entry.since.as_second() > 2 * LONGEST;
            let left = entry.pause - (now.as_second() - ended.as_second());
            if !forgotten && left > 0 {
                return Err((entry.pause, left));
            }
            let pause = if forgotten { FIRST } else { (entry.pause * 2).min(LONGEST) };
            self.0.insert(key.to_owned(), Entry { pause, since: now });
            return Ok(());
        }
        self.0.insert(key.to_owned(), Entry { pause: FIRST, since: now });
        Ok(())
    }

    /// Forgets all keys that begin so.
    pub(crate) fn forget(&mut self, start: &str) {
        self.0.retain(|key, _| !key.starts_with(start));
    }

    /// When the last attempt was.
    pub(crate) fn last(&self, key: &str) -> Option<Timestamp> {
        self.0.get(key).map(|entry| entry.since)
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn pauses_double_and_are_forgotten() {
        let start = Timestamp::from_second(1_000_000).expect("in range");
        let at = |s: i64| start + SignedDuration::from_secs(s);
        let mut backoff = Backoff::default();
        assert_eq!(backoff.attempt("a", at(0), at(0)), Ok(()));
        assert_eq!(backoff.attempt("a", at(1), at(4)), Err((10, 7)));
        assert_eq!(backoff.attempt("a", at(1), at(11)), Ok(()));
        assert_eq!(backoff.attempt("a", at(12), at(13)), Err((20, 19)));
        assert_eq!(backoff.attempt("a", at(900), at(2000)), Ok(()));
    }
}
