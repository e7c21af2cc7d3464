//! What is counted of conversion webhooks.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/conversion/metrics.go

use std::time::Duration;

use crate::metrics::families::Histograms;

/// Upper bounds of the buckets of `apiserver_conversion_webhook_duration_seconds`.
const CALL_BUCKETS: [f64; 15] =
    [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];
/// Upper bounds of the buckets of `apiserver_crd_conversion_webhook_duration_seconds`.
const DEFINITION_BUCKETS: [f64; 15] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
];

/// The counters of one server.
pub struct Metrics {
    calls: Histograms<15>,
    definitions: Histograms<15>,
}

impl Default for Metrics {
    fn default() -> Self {
        let (calls, definitions) = (CALL_BUCKETS, DEFINITION_BUCKETS);
        Self { calls: Histograms::new(calls), definitions: Histograms::new(definitions) }
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
        let succeeded = failure.is_none();
        let (kind, result) = (failure.unwrap_or(""), if succeeded { "success" } else { "failure" });
        self.calls.observe(format!("failure_type=\"{kind}\",result=\"{result}\""), took);
        let labels = format!(
            "crd_name=\"{definition}\",from_version=\"{from}\",succeeded=\"{succeeded}\",to_version=\"{to}\""
        );
        self.definitions.observe(labels, took);
    }

    /// The text that `/metrics` answers with.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let name = "apiserver_conversion_webhook_request_total";
        self.calls.render_counts(&mut out, name, "[ALPHA] Calls of conversion webhooks.");
        let name = "apiserver_conversion_webhook_duration_seconds";
        self.calls.render(&mut out, name, "[ALPHA] How long calls of conversion webhooks take.");
        let name = "apiserver_crd_conversion_webhook_duration_seconds";
        let help = "[ALPHA] How long conversions of a definition take.";
        self.definitions.render(&mut out, name, help);
        out
    }
}
