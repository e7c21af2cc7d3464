//! Counters of the audit log.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/audit/metrics.go

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::policy::Level;

/// Counters of the audit log.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    events: AtomicU64,
    rejected: AtomicU64,
    levels: Mutex<BTreeMap<&'static str, u64>>,
    errors: Mutex<BTreeMap<&'static str, u64>>,
}

impl Metrics {
    /// An event was made.
    pub(super) fn event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was refused because it could not be written down.
    pub(super) fn rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is written down so far.
    pub(super) fn level(&self, level: Level) {
        *self.levels.lock().entry(level.name()).or_default() += 1;
    }

    /// Events were lost.
    pub(super) fn failed(&self, plugin: &'static str, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        *self.errors.lock().entry(plugin).or_default() += count;
    }

    /// The Prometheus text.
    pub(super) fn render(&self) -> String {
        let mut out = String::new();
        let mut family = |name: &str, help: &str, series: &[(String, u64)]| {
            if series.is_empty() {
                return;
            }
            let write = write!(
                out,
                "# HELP apiserver_audit_{name} [ALPHA] {help}\n# TYPE apiserver_audit_{name} counter\n"
            );
            write.expect("writing into a string cannot fail");
            for (labels, value) in series {
                let write = writeln!(out, "apiserver_audit_{name}{labels} {value}");
                write.expect("writing into a string cannot fail");
            }
        };
        let labelled = |label: &str, of: &Mutex<BTreeMap<&'static str, u64>>| -> Vec<_> {
            let of = of.lock();
            of.iter().map(|(name, count)| (format!("{{{label}={name:?}}}"), *count)).collect()
        };
        let plain = |of: &AtomicU64| [(String::new(), of.load(Ordering::Relaxed))];
        family("error_total", "Audit events that were lost.", &labelled("plugin", &self.errors));
        family("event_total", "Audit events.", &plain(&self.events));
        family("level_total", "Requests by level.", &labelled("level", &self.levels));
        family(
            "requests_rejected_total",
            "Requests refused because they could not be written down.",
            &plain(&self.rejected),
        );
        out
    }
}
