//! Pod failure policies: which ends of pods fail the job, which do not count.
//!
//! upstream: pkg/controller/job/pod_failure_policy.go

use longshore_api::Object;
use serde_json::Value;

/// What the policy says about a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Counts against the backoff limit.
    Count,
    /// Does not count.
    Ignore,
    /// Fails the whole job, with this message.
    FailJob(String),
    /// Fails the pod's index.
    FailIndex,
}

/// The first rule that matches decides.
pub(super) fn judge(job: &Object, pod: &Object) -> Verdict {
    for (at, rule) in job.list(&["spec", "podFailurePolicy", "rules"]).iter().enumerate() {
        let action = rule["action"].as_str().unwrap_or("");
        let matched = match rule.get("onExitCodes").filter(|codes| !codes.is_null()) {
            Some(codes) => exit_code(codes, pod, action, at),
            None => condition(rule, pod, action, at),
        };
        let Some(message) = matched else { continue };
        return match action {
            "FailJob" => Verdict::FailJob(message),
            "FailIndex" => Verdict::FailIndex,
            "Ignore" => Verdict::Ignore,
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn exit_code(rule: &Value, pod: &Object, action: &str, at: usize) -> Option<String> {
    let lists = [["status", "containerStatuses"], ["status", "initContainerStatuses"]];
    for status in lists.iter().flat_map(|path| pod.list(path)) {
        let only = rule["containerName"].as_str();
        if only.is_some_and(|name| status["name"] != name) {
            continue;
        }
        let Some(code) = status["state"]["terminated"]["exitCode"].as_i64() else { continue };
        let listed = rule["values"].as_array().is_some_and(|v| v.iter().any(|v| *v == code));
        let matched = match rule["operator"].as_str().unwrap_or("") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        if code != 0 && matched {
            let name = status["name"].as_str().unwrap_or("");
            return Some(format!(
                "Container {name} for pod {}/{} failed with exit code {code} matching {action} rule at index {at}",
                pod.namespace(),
                pod.name(),
            ));
        }
    }
    None
}

fn condition(rule: &Value, pod: &Object, action: &str, at: usize) -> Option<String> {
    let patterns = rule["onPodConditions"].as_array()?;
    let conditions = pod.list(&["status", "conditions"]);
    let matched = conditions.iter().find(|condition| {
        patterns.iter().any(|pattern| {
            let status = pattern["status"].as_str().unwrap_or("True");
            condition["type"] == pattern["type"] && condition["status"] == status
        })
    })?;
    Some(format!(
        "Pod {}/{} has condition {} matching {action} rule at index {at}",
        pod.namespace(),
        pod.name(),
        matched["type"].as_str().unwrap_or(""),
    ))
}
