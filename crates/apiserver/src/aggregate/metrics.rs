//! Which API services cannot be used, as metrics.
//!
//! upstream: staging/src/k8s.io/kube-aggregator/pkg/controllers/status/metrics/metrics.go

use std::collections::BTreeMap;
use std::fmt::Write as _;

use parking_lot::Mutex;

/// Names and reasons that are counted; more are not.
const SERIES_MAX: usize = 4096;

#[derive(Default)]
struct State {
    available: BTreeMap<String, bool>,
    lost: BTreeMap<(String, &'static str), u64>,
}

/// The metrics of API services.
#[derive(Default)]
pub(super) struct Metrics(Mutex<State>);

impl Metrics {
    /// Notes whether an API service can be used.
    pub(super) fn set(&self, name: &str, available: bool) {
        let mut state = self.0.lock();
        if state.available.len() < SERIES_MAX || state.available.contains_key(name) {
            state.available.insert(name.to_owned(), available);
        }
    }

    /// An API service could be used and cannot any more.
    pub(super) fn lost(&self, name: &str, reason: &'static str) {
        let mut state = self.0.lock();
        let key = (name.to_owned(), reason);
        if state.lost.len() < SERIES_MAX || state.lost.contains_key(&key) {
            *state.lost.entry(key).or_default() += 1;
        }
    }

    /// An API service is gone.
    pub(super) fn forget(&self, name: &str) {
        self.0.lock().available.remove(name);
    }

    /// The Prometheus text.
    pub(super) fn render(&self) -> String {
        let state = self.0.lock();
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            out.write_fmt(text).expect("writing into a string cannot fail");
        };
        if !state.available.is_empty() {
            line(format_args!(
                "# HELP aggregator_unavailable_apiservice [ALPHA] API services that cannot be used, by name.\n# TYPE aggregator_unavailable_apiservice gauge\n"
            ));
        }
        for (name, available) in &state.available {
            let value = u8::from(!available);
            line(format_args!("aggregator_unavailable_apiservice{{name={name:?}}} {value}\n"));
        }
        if !state.lost.is_empty() {
            line(format_args!(
                "# HELP aggregator_unavailable_apiservice_total [ALPHA] How often API services became unusable, by name and reason.\n# TYPE aggregator_unavailable_apiservice_total counter\n"
            ));
        }
        for ((name, reason), count) in &state.lost {
            line(format_args!(
                "aggregator_unavailable_apiservice_total{{name={name:?},reason={reason:?}}} {count}\n"
            ));
        }
        out
    }
}
