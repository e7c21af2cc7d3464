//! What is counted of admission webhooks.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/metrics/metrics.go

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;

/// Upper bounds of the duration buckets in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Series of one metric; what would be more is not counted.
const SERIES_MAX: usize = 4096;

#[derive(Default)]
struct Histogram {
    count: u64,
    seconds: f64,
    buckets: [u64; BUCKETS.len()],
}

/// By the labels as they are written.
type Counters = Mutex<BTreeMap<String, u64>>;

/// The counters of one server.
#[derive(Default)]
pub struct Metrics {
    durations: Mutex<BTreeMap<String, Histogram>>,
    requests: Counters,
    rejections: Counters,
    fail_opens: Counters,
    exclusions: Counters,
}

fn count(counters: &Counters, labels: String) {
    let mut counters = counters.lock();
    if counters.len() < SERIES_MAX || counters.contains_key(&labels) {
        *counters.entry(labels).or_default() += 1;
    }
}

impl Metrics {
    pub(super) fn request(
        &self,
        name: &str,
        step: &str,
        operation: &str,
        code: u16,
        rejected: bool,
        took: Duration,
    ) {
        let labels = format!(
            "code=\"{code}\",name={name:?},operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\""
        );
        count(&self.requests, labels);
        let labels = format!(
            "name={name:?},operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\""
        );
        let mut durations = self.durations.lock();
        if durations.len() >= SERIES_MAX && !durations.contains_key(&labels) {
            return;
        }
        let histogram = durations.entry(labels).or_default();
        let seconds = took.as_secs_f64();
        histogram.count += 1;
        histogram.seconds += seconds;
        for (bucket, bound) in histogram.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    pub(super) fn rejection(&self, name: &str, step: &str, operation: &str, kind: &str, code: u16) {
        let labels = format!(
            "error_type=\"{kind}\",name={name:?},operation=\"{operation}\",rejection_code=\"{code}\",type=\"{step}\""
        );
        count(&self.rejections, labels);
    }

    pub(super) fn fail_open(&self, name: &str, step: &str) {
        count(&self.fail_opens, format!("name={name:?},type=\"{step}\""));
    }

    pub(super) fn excluded(&self, name: &str, step: &str, operation: &str) {
        let labels =
            format!("kind=\"webhook\",name={name:?},operation=\"{operation}\",type=\"{step}\"");
        count(&self.exclusions, labels);
    }

    /// The text that `/metrics` answers with.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            out.write_fmt(text).expect("writing into a string cannot fail");
        };
        for (name, help, counters) in [
            ("apiserver_admission_webhook_request_total", "Calls of webhooks.", &self.requests),
            (
                "apiserver_admission_webhook_rejection_count",
                "Requests that webhooks, or failed calls of them, refused.",
                &self.rejections,
            ),
            (
                "apiserver_admission_webhook_fail_open_count",
                "Failed calls that were passed over.",
                &self.fail_opens,
            ),
            (
                "apiserver_admission_match_condition_exclusions_total",
                "Webhooks that were not called for their match conditions.",
                &self.exclusions,
            ),
        ] {
            let counters = counters.lock();
            if counters.is_empty() {
                continue;
            }
            line(format_args!("# HELP {name} [ALPHA] {help}\n# TYPE {name} counter\n"));
            for (labels, count) in counters.iter() {
                line(format_args!("{name}{{{labels}}} {count}\n"));
            }
        }
        let durations = self.durations.lock();
        let name = "apiserver_admission_webhook_admission_duration_seconds";
        if !durations.is_empty() {
            line(format_args!(
                "# HELP {name} [STABLE] How long webhooks take.\n# TYPE {name} histogram\n"
            ));
        }
        for (labels, histogram) in durations.iter() {
            for (count, bound) in histogram.buckets.iter().zip(BUCKETS) {
                line(format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {count}\n"));
            }
            line(format_args!(
                "{name}_bucket{{{labels},le=\"+Inf\"}} {0}\n{name}_sum{{{labels}}} {1}\n{name}_count{{{labels}}} {0}\n",
                histogram.count, histogram.seconds
            ));
        }
        out
    }
}
