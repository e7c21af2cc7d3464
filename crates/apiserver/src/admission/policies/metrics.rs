//! What is counted of policies.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/{validating,mutating}/metrics

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;

/// Upper bounds of the duration buckets in seconds.
const BUCKETS: [f64; 5] = [0.000_000_5, 0.001, 0.01, 0.1, 1.0];
/// Distinct label sets that are counted; more are not.
const SERIES_MAX: usize = 4096;

#[derive(Clone, Default)]
struct Series {
    count: u64,
    seconds: f64,
    buckets: [u64; BUCKETS.len()],
}

/// By the values of the labels.
type Family = Mutex<BTreeMap<Vec<String>, Series>>;

/// The counters of all policies.
#[derive(Default)]
pub struct Metrics {
    validating: Family,
    mutating: Family,
}

fn observe(family: &Family, labels: &[&str], took: Duration) {
    let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
    let mut family = family.lock();
    if family.len() >= SERIES_MAX && !family.contains_key(&labels) {
        return;
    }
    let series = family.entry(labels).or_default();
    let seconds = took.as_secs_f64();
    series.count += 1;
    series.seconds += seconds;
    for (bucket, bound) in series.buckets.iter_mut().zip(BUCKETS) {
        *bucket += u64::from(seconds <= bound);
    }
}

impl Metrics {
    /// Counts one check: policy, binding, what went wrong, and what was done.
    pub fn validated(&self, labels: [&str; 4], took: Duration) {
        observe(&self.validating, &labels, took);
    }

    /// Counts one change: policy, binding and what went wrong.
    pub fn mutated(&self, labels: [&str; 3], took: Duration) {
        observe(&self.mutating, &labels, took);
    }

    /// Their text.
    pub fn render(&self, out: &mut String) {
        let validating = self.validating.lock();
        let names = ["policy", "policy_binding", "error_type", "enforcement_action"];
        render(out, "validating", "Checks of validating admission policies.", &names, &validating);
        let mutating = self.mutating.lock();
        render(out, "mutating", "Changes by mutating admission policies.", &names[..3], &mutating);
    }
}

fn render(
    out: &mut String,
    kind: &str,
    help: &str,
    names: &[&str],
    family: &BTreeMap<Vec<String>, Series>,
) {
    if family.is_empty() {
        return;
    }
    let base = format!("apiserver_{kind}_admission_policy_check");
    let mut line = |text: std::fmt::Arguments<'_>| {
        out.write_fmt(text).expect("writing into a string cannot fail");
    };
    let told = |labels: &[String]| {
        let mut pairs: Vec<String> =
            names.iter().zip(labels).map(|(name, value)| format!("{name}={value:?}")).collect();
        pairs.sort();
        pairs.join(",")
    };
    line(format_args!("# HELP {base}_total [BETA] {help}\n# TYPE {base}_total counter\n"));
    for (labels, series) in family {
        line(format_args!("{base}_total{{{}}} {}\n", told(labels), series.count));
    }
    let base = format!("{base}_duration_seconds");
    line(format_args!("# HELP {base} [BETA] How long they took.\n# TYPE {base} histogram\n"));
    for (labels, series) in family {
        let labels = told(labels);
        for (count, bound) in series.buckets.iter().zip(BUCKETS) {
            line(format_args!("{base}_bucket{{{labels},le=\"{bound}\"}} {count}\n"));
        }
        line(format_args!(
            "{base}_bucket{{{labels},le=\"+Inf\"}} {0}\n{base}_sum{{{labels}}} {1}\n{base}_count{{{labels}}} {0}\n",
            series.count, series.seconds
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_counted_by_policy() {
        let metrics = Metrics::default();
        metrics.validated(["p", "b", "no_error", "deny"], Duration::from_millis(5));
        metrics.validated(["p", "b", "no_error", "deny"], Duration::from_millis(500));
        let mut text = String::new();
        metrics.render(&mut text);
        let labels =
            r#"enforcement_action="deny",error_type="no_error",policy="p",policy_binding="b""#;
        let base = "apiserver_validating_admission_policy_check";
        assert!(text.contains(&format!("{base}_total{{{labels}}} 2\n")), "{text}");
        let bucket = format!("{base}_duration_seconds_bucket{{{labels},le=\"0.01\"}} 1\n");
        assert!(text.contains(&bucket), "{text}");
        assert!(!text.contains("mutating"), "{text}");
    }
}
