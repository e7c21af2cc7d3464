//! What is counted of admission webhooks.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/metrics/metrics.go

use std::time::Duration;

use crate::metrics::families::{Counters, Histograms};

/// Upper bounds of the duration buckets in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];

/// The counters of one server.
pub struct Metrics {
    durations: Histograms<{ BUCKETS.len() }>,
    requests: Counters,
    rejections: Counters,
    fail_opens: Counters,
    exclusions: Counters,
}

impl Default for Metrics {
    fn default() -> Self {
        let (requests, rejections, fail_opens, exclusions) = Default::default();
        let durations = Histograms::new(BUCKETS);
        Self { durations, requests, rejections, fail_opens, exclusions }
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
            "name={name:?},operation=\"{operation}\",rejected=\"{rejected}\",type=\"{step}\""
        );
        self.requests.count(format!("code=\"{code}\",{labels}"));
        self.durations.observe(labels, took);
    }

    pub(super) fn rejection(&self, name: &str, step: &str, operation: &str, kind: &str, code: u16) {
        self.rejections.count(format!(
            "error_type=\"{kind}\",name={name:?},operation=\"{operation}\",rejection_code=\"{code}\",type=\"{step}\""
        ));
    }

    pub(super) fn fail_open(&self, name: &str, step: &str) {
        self.fail_opens.count(format!("name={name:?},type=\"{step}\""));
    }

    pub(super) fn excluded(&self, name: &str, step: &str, operation: &str) {
        self.exclusions.count(format!(
            "kind=\"webhook\",name={name:?},operation=\"{operation}\",type=\"{step}\""
        ));
    }

    /// The text that `/metrics` answers with.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let name = "apiserver_admission_webhook_request_total";
        self.requests.render(&mut out, name, "[ALPHA] Calls of webhooks.");
        let name = "apiserver_admission_webhook_rejection_count";
        let help = "[ALPHA] Requests that webhooks, or failed calls of them, refused.";
        self.rejections.render(&mut out, name, help);
        let name = "apiserver_admission_webhook_fail_open_count";
        self.fail_opens.render(&mut out, name, "[ALPHA] Failed calls that were passed over.");
        let name = "apiserver_admission_match_condition_exclusions_total";
        let help = "[ALPHA] Webhooks that were not called for their match conditions.";
        self.exclusions.render(&mut out, name, help);
        let name = "apiserver_admission_webhook_admission_duration_seconds";
        self.durations.render(&mut out, name, "[STABLE] How long webhooks take.");
        out
    }
}
