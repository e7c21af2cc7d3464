//! Counters of the API server in the Prometheus text format.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/metrics/metrics.go

pub mod families;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
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
    requests: Mutex<Requests>,
}

/// All series by the hash of their labels, so that counting makes no copies of them.
#[derive(Default)]
struct Requests {
    by_hash: HashMap<u64, Vec<(Labels, Series)>>,
    count: usize,
}

/// The labels of a request, borrowed.
#[derive(Clone, Copy, Hash, PartialEq, Eq)]
struct Key<'a> {
    verb: &'a str,
    group: &'a str,
    version: &'a str,
    resource: &'a str,
    subresource: &'a str,
    scope: &'static str,
    code: u16,
}

impl Requests {
    fn series(&mut self, key: Key<'_>) -> &mut Series {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let hash = hasher.finish();
        let known = self.by_hash.get(&hash).is_some_and(|own| own.iter().any(|s| s.0.key() == key));
        // One series for each code stands for all that are too many.
        if !known && self.count >= SERIES_MAX && key.verb != OTHER {
            return self.series(Key::other(key.code));
        }
        let own = self.by_hash.entry(hash).or_default();
        let at = own.iter().position(|(labels, _)| labels.key() == key).unwrap_or_else(|| {
            own.push((key.to_labels(), Series::default()));
            own.len() - 1
        });
        self.count += usize::from(!known);
        &mut own[at].1
    }

    fn sorted(&self) -> Vec<&(Labels, Series)> {
        let mut all: Vec<_> = self.by_hash.values().flatten().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
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
        let key = Key {
            verb: info.verb,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            scope,
            code,
        };
        let mut requests = self.requests.lock();
        let series = requests.series(key);
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
        let requests = requests.sorted();
        let mut out = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            out.write_fmt(text).expect("writing into a string cannot fail");
        };
        line(format_args!(
            "# HELP apiserver_request_total [STABLE] Requests by verb, resource and code.\n# TYPE apiserver_request_total counter\n"
        ));
        for (labels, series) in &requests {
            line(format_args!("apiserver_request_total{{{labels}}} {}\n", series.count));
        }
        line(format_args!(
            "# HELP apiserver_request_duration_seconds [STABLE] Response latency.\n# TYPE apiserver_request_duration_seconds histogram\n"
        ));
        for (labels, series) in &requests {
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

/// What stands in the labels of requests that are counted together.
const OTHER: &str = "other";

impl Key<'_> {
    fn other(code: u16) -> Self {
        Self {
            verb: OTHER,
            group: OTHER,
            version: OTHER,
            resource: OTHER,
            subresource: OTHER,
            scope: "",
            code,
        }
    }

    fn to_labels(self) -> Labels {
        Labels {
            verb: self.verb.to_owned(),
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            resource: self.resource.to_owned(),
            subresource: self.subresource.to_owned(),
            scope: self.scope,
            code: self.code,
        }
    }
}

impl Labels {
    fn key(&self) -> Key<'_> {
        Key {
            verb: &self.verb,
            group: &self.group,
            version: &self.version,
            resource: &self.resource,
            subresource: &self.subresource,
            scope: self.scope,
            code: self.code,
        }
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
            self.verb.to_uppercase(),
            self.version
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_info::RequestInfo;

    #[test]
    fn requests_are_counted_by_their_labels_up_to_a_limit() {
        let metrics = Metrics::default();
        let mut info = RequestInfo { verb: "get", is_resource: true, ..RequestInfo::default() };
        for number in 0..SERIES_MAX + 10 {
            info.resource = format!("r{number}");
            metrics.request(&info, 404, Duration::from_millis(1));
            metrics.request(&info, 404, Duration::from_millis(1));
        }
        let text = metrics.render();
        assert!(text.contains(
            "resource=\"r1\",scope=\"cluster\",subresource=\"\",verb=\"GET\",version=\"\"} 2\n"
        ));
        assert!(text.contains("resource=\"other\",scope=\"\",subresource=\"other\",verb=\"OTHER\",version=\"other\"} 20\n"));
        assert_eq!(metrics.requests.lock().by_hash.len(), SERIES_MAX + 1);
    }
}
