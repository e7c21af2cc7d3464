//! Counters of the API server in the Prometheus text format.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/metrics/metrics.go

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;

/// Upper bounds of the duration buckets in seconds.
const BUCKETS: [f64; 10] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 1.0, 5.0, 60.0];
/// Distinct label sets that are counted; more are counted together as `other`.
const SERIES_MAX: usize = 4096;

/// What a request is counted under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: String,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    scope: &'static str,
    code: u16,
}

#[derive(Default)]
struct Series {
    count: u64,
    seconds: f64,
    buckets: [u64; BUCKETS.len()],
}

/// The metrics of one server.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<Labels, Series>>,
}

impl Metrics {
    /// Counts an answered request.
    pub fn request(&self, info: &crate::request_info::RequestInfo, code: u16, took: Duration) {
        let scope = match (info.is_resource, info.name.is_empty(), info.namespace.is_empty()) {
            (false, ..) => "",
            (true, false, _) => "resource",
            (true, true, false) => "namespace",
            (true, true, true) => "cluster",
        };
        let labels = Labels {
            verb: info.verb.to_uppercase(),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            scope,
            code,
        };
        let mut requests = self.requests.lock();
        let full = requests.len() >= SERIES_MAX && !requests.contains_key(&labels);
        let labels = if full { other(code) } else { labels };
        let series = requests.entry(labels).or_default();
        let seconds = took.as_secs_f64();
        series.count += 1;
        series.seconds += seconds;
        for (bucket, bound) in series.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// The text that `/metrics` answers with.
    pub fn render(&self) -> String {
        let requests = self.requests.lock();
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            out.write_fmt(text).expect("writing into a string cannot fail");
        };
        line(format_args!(
            "# HELP apiserver_request_total [STABLE] Requests by verb, resource and code.\n# TYPE apiserver_request_total counter\n"
        ));
        for (labels, series) in requests.iter() {
            line(format_args!("apiserver_request_total{{{labels}}} {}\n", series.count));
        }
        line(format_args!(
            "# HELP apiserver_request_duration_seconds [STABLE] Response latency.\n# TYPE apiserver_request_duration_seconds histogram\n"
        ));
        for (labels, series) in requests.iter() {
            for (count, bound) in series.buckets.iter().zip(BUCKETS) {
                line(format_args!(
                    "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {count}\n"
                ));
            }
            line(format_args!(
                "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {0}\napiserver_request_duration_seconds_sum{{{labels}}} {1}\napiserver_request_duration_seconds_count{{{labels}}} {0}\n",
                series.count, series.seconds
            ));
        }
        out
    }
}

fn other(code: u16) -> Labels {
    let text = || "other".to_owned();
    Labels {
        verb: text(),
        group: text(),
        version: text(),
        resource: text(),
        subresource: text(),
        scope: "",
        code,
    }
}

impl std::fmt::Display for Labels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "code=\"{}\",component=\"apiserver\",group={:?},resource={:?},scope=\"{}\",subresource={:?},verb={:?},version={:?}",
            self.code,
            self.group,
            self.resource,
            self.scope,
            self.subresource,
            self.verb,
            self.version
        )
    }
}
