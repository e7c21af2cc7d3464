//! What is counted of policies.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/{validating,mutating}/metrics

use std::time::Duration;

use crate::metrics::families::Histograms;

/// Upper bounds of the duration buckets in seconds.
const BUCKETS: [f64; 5] = [0.000_000_5, 0.001, 0.01, 0.1, 1.0];

/// The counters of all policies.
pub struct Metrics {
    validating: Histograms<{ BUCKETS.len() }>,
    mutating: Histograms<{ BUCKETS.len() }>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { validating: Histograms::new(BUCKETS), mutating: Histograms::new(BUCKETS) }
    }
}

fn labels([policy, binding, error]: [&str; 3]) -> String {
    format!("error_type={error:?},policy={policy:?},policy_binding={binding:?}")
}

impl Metrics {
    /// Counts one check: policy, binding, what went wrong, and what was done.
    pub fn validated(&self, [policy, binding, error, action]: [&str; 4], took: Duration) {
        let labels = labels([policy, binding, error]);
        self.validating.observe(format!("enforcement_action={action:?},{labels}"), took);
    }

    /// Counts one change: policy, binding and what went wrong.
    pub fn mutated(&self, of: [&str; 3], took: Duration) {
        self.mutating.observe(labels(of), took);
    }

    /// Their text.
    pub fn render(&self, out: &mut String) {
        for (kind, help, times) in [
            ("validating", "[BETA] Checks of validating admission policies.", &self.validating),
            ("mutating", "[BETA] Changes by mutating admission policies.", &self.mutating),
        ] {
            let base = format!("apiserver_{kind}_admission_policy_check");
            times.render_counts(out, &format!("{base}_total"), help);
            let name = format!("{base}_duration_seconds");
            times.render(out, &name, "[BETA] How long they took.");
        }
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
