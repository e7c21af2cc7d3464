//! What is counted of conversion webhooks.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/conversion/metrics.go

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;

/// Upper bounds of the buckets of `apiserver_conversion_webhook_duration_seconds`.
const CALL_BUCKETS: [f64; 15] =
    [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];
/// Upper bounds of the buckets of `apiserver_crd_conversion_webhook_duration_seconds`.
const DEFINITION_BUCKETS: [f64; 15] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];
/// Series of one metric; what would be more is not counted.
const SERIES_MAX: usize = 4096;

#[derive(Default)]
struct Histogram {
    count: u64,
    seconds: f64,
    buckets: [u64; 15],
}

/// By the labels as they are written.
type Histograms = Mutex<BTreeMap<String, Histogram>>;

/// The counters of one server.
#[derive(Default)]
pub struct Metrics {
    calls: Histograms,
    definitions: Histograms,
}

fn observe(histograms: &Histograms, labels: String, bounds: &[f64; 15], took: Duration) {
    let mut histograms = histograms.lock();
    if histograms.len() >= SERIES_MAX && !histograms.contains_key(&labels) {
        return;
    }
    let histogram = histograms.entry(labels).or_default();
    let seconds = took.as_secs_f64();
    histogram.count += 1;
    histogram.seconds += seconds;
    for (bucket, bound) in histogram.buckets.iter_mut().zip(bounds) {
        *bucket += u64::from(seconds <= *bound);
    }
}

impl Metrics {
    /// Counts a call: definition, version before and after, and what went wrong.
    pub(super) fn conversion(
        &self,
        [definition, from, to]: [&str; 3],
        failure: Option<&str>,
        took: Duration,
    ) {
        let result = if failure.is_none() { "success" } else { "failure" };
        let kind = failure.unwrap_or("");
        let labels = format!("failure_type=\"{kind}\",result=\"{result}\"");
        observe(&self.calls, labels, &CALL_BUCKETS, took);
        let succeeded = failure.is_none();
        let labels = format!(
            "crd_name=\"{definition}\",from_version=\"{from}\",succeeded=\"{succeeded}\",to_version=\"{to}\""
        );
        observe(&self.definitions, labels, &DEFINITION_BUCKETS, took);
    }

    /// The text that `/metrics` answers with.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            out.write_fmt(text).expect("writing into a string cannot fail");
        };
        let calls = self.calls.lock();
        let name = "apiserver_conversion_webhook_request_total";
        if !calls.is_empty() {
            line(format_args!(
                "# HELP {name} [ALPHA] Calls of conversion webhooks.\n# TYPE {name} counter\n"
            ));
        }
        for (labels, histogram) in calls.iter() {
            line(format_args!("{name}{{{labels}}} {}\n", histogram.count));
        }
        drop(calls);
        for (name, help, histograms, bounds) in [
            (
                "apiserver_conversion_webhook_duration_seconds",
                "How long calls of conversion webhooks take.",
                &self.calls,
                &CALL_BUCKETS,
            ),
            (
                "apiserver_crd_conversion_webhook_duration_seconds",
                "How long conversions of a definition take.",
                &self.definitions,
                &DEFINITION_BUCKETS,
            ),
        ] {
            let histograms = histograms.lock();
            if histograms.is_empty() {
                continue;
            }
            line(format_args!("# HELP {name} [ALPHA] {help}\n# TYPE {name} histogram\n"));
            for (labels, histogram) in histograms.iter() {
                for (count, bound) in histogram.buckets.iter().zip(bounds) {
                    line(format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {count}\n"));
                }
                line(format_args!(
                    "{name}_bucket{{{labels},le=\"+Inf\"}} {0}\n{name}_sum{{{labels}}} {1}\n{name}_count{{{labels}}} {0}\n",
                    histogram.count, histogram.seconds
                ));
            }
        }
        out
    }
}
