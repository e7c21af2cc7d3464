//! Which pods go first when a set has too many.
//!
//! upstream: pkg/controller/controller_utils.go ActivePodsWithRanks

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use jiff::Timestamp;
use longshore_api::Object;

use crate::common::{condition, is_ready};

/// The order in which pods go: without a node before with one, pending before running, unready
/// before ready, cheap before dear, from crowded nodes before others, then those that have been
/// ready for less time, that restarted more often, and that are younger. Times count by their order
/// of magnitude, so that chance decides among pods of about the same age.
pub(super) fn compare(
    a: &Object,
    b: &Object,
    crowds: &HashMap<String, usize>,
    now: Timestamp,
) -> Ordering {
    let crowd = |pod: &Object| crowds.get(pod.str(&["spec", "nodeName"])).copied().unwrap_or(0);
    let key = |pod: &Object| {
        let assigned = !pod.str(&["spec", "nodeName"]).is_empty();
        (assigned, phase(pod), is_ready(pod), cost(pod), Reverse(crowd(pod)))
    };
    key(a)
        .cmp(&key(b))
        .then_with(|| match (is_ready(a), is_ready(b)) {
            (true, true) => by_age(ready_since(a), ready_since(b), now, a, b),
            _ => Ordering::Equal,
        })
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| by_age(created(a), created(b), now, a, b))
}

fn phase(pod: &Object) -> u8 {
    match pod.str(&["status", "phase"]) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    }
}

fn cost(pod: &Object) -> i64 {
    let cost = pod.annotation("controller.kubernetes.io/pod-deletion-cost");
    cost.and_then(|c| c.parse::<i32>().ok()).map_or(0, i64::from)
}

fn created(pod: &Object) -> Option<Timestamp> {
    pod.str(&["metadata", "creationTimestamp"]).parse().ok()
}

fn ready_since(pod: &Object) -> Option<Timestamp> {
    condition(pod, "Ready")?["lastTransitionTime"].as_str()?.parse().ok()
}

/// The most restarts of a container, and of a sidecar.
fn restarts(pod: &Object) -> (i64, i64) {
    let most = |list: &str| {
        let statuses = pod.list(&["status", list]).iter();
        statuses.filter_map(|s| s["restartCount"].as_i64()).max().unwrap_or(0)
    };
    let sidecars = pod.list(&["spec", "initContainers"]).iter();
    let any_sidecar = sidecars.into_iter().any(|c| c["restartPolicy"] == "Always");
    (most("containerStatuses"), if any_sidecar { most("initContainerStatuses") } else { 0 })
}

/// The younger goes first; no time at all is youngest. The uid decides between equal magnitudes.
fn by_age(
    a: Option<Timestamp>,
    b: Option<Timestamp>,
    now: Timestamp,
    pod_a: &Object,
    pod_b: &Object,
) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let (Some(a), Some(b)) = (a, b) else { return a.is_some().cmp(&b.is_some()) };
    magnitude(a, now).cmp(&magnitude(b, now)).then_with(|| pod_a.uid().cmp(pod_b.uid()))
}

/// The binary order of magnitude of an age in nanoseconds; -1 for none.
fn magnitude(since: Timestamp, now: Timestamp) -> i64 {
    let age = now.as_nanosecond() - since.as_nanosecond();
    u128::try_from(age).ok().filter(|age| *age > 0).map_or(-1, |age| i64::from(age.ilog2()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value, status: Value, annotations: Value) -> Object {
        let created = "2026-01-01T00:00:00Z";
        Object::from_value(json!({
            "metadata": { "uid": "u", "creationTimestamp": created, "annotations": annotations },
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn ready(since: &str) -> Value {
        json!({ "phase": "Running", "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": since },
        ]})
    }

    #[test]
    fn each_rule_decides_before_the_next() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let node = json!({ "nodeName": "n" });
        let (old, young) = ("2026-01-01T00:00:00Z", "2026-01-01T23:59:00Z");
        let cost = |c: &str| json!({ "controller.kubernetes.io/pod-deletion-cost": c });
        let restarted = json!({ "phase": "Running", "containerStatuses": [{ "restartCount": 3 }] });
        let running = json!({ "phase": "Running" });
        let cases = [
            (
                pod(json!({}), ready(old), json!({})),
                pod(node.clone(), json!({"phase": "Pending"}), json!({})),
            ),
            (
                pod(node.clone(), json!({"phase": "Pending"}), json!({})),
                pod(node.clone(), running.clone(), json!({})),
            ),
            (
                pod(node.clone(), running.clone(), cost("9")),
                pod(node.clone(), ready(old), cost("1")),
            ),
            (pod(node.clone(), ready(old), cost("1")), pod(node.clone(), ready(young), cost("2"))),
            (
                pod(node.clone(), ready(old), json!({})),
                pod(json!({"nodeName": "m"}), ready(young), json!({})),
            ),
            (pod(node.clone(), ready(young), json!({})), pod(node.clone(), ready(old), json!({}))),
            (pod(node.clone(), restarted, json!({})), pod(node, running, json!({}))),
        ];
        let crowds = HashMap::from([("n".to_owned(), 2), ("m".to_owned(), 1)]);
        for (at, (first, second)) in cases.iter().enumerate() {
            assert_eq!(compare(first, second, &crowds, now), Ordering::Less, "case {at}");
            assert_eq!(compare(second, first, &crowds, now), Ordering::Greater, "case {at}");
        }
    }
}
