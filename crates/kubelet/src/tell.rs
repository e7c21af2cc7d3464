//! How the status of a pod gets to the API.
//!
//! upstream: pkg/kubelet/status/status_manager.go

use longshore_api::Object;
use longshore_client::resource::PODS;
use longshore_client::{Error, Patch};
use serde_json::{Value, json};

use crate::Shared;

/// Lists whose items are joined with those that are there; they have to be replaced.
const JOINED: [&str; 2] = ["podIPs", "hostIPs"];

/// Writes a status: what was told, if the pod still was there to be told of.
pub(crate) async fn tell(
    shared: &Shared,
    pod: &Object,
    status: Option<Value>,
) -> Result<Option<Value>, Error> {
    let Some(status) = status else { return Ok(None) };
    let patch = Patch::Strategic(patch(pod, &status));
    let (namespace, name) = (pod.namespace(), pod.name());
    match shared.client.patch(PODS, namespace, name, "status", &patch).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(None),
        outcome => outcome.map(|_| Some(status)),
    }
}

/// The patch that makes a pod's status what it should be, and leaves what others write.
fn patch(pod: &Object, status: &Value) -> Value {
    let mut status = status.clone();
    for field in JOINED {
        if let Some(list) = status.get_mut(field).and_then(Value::as_array_mut) {
            list.insert(0, json!({ "$patch": "replace" }));
        }
    }
    let now = status["conditions"].as_array().cloned().unwrap_or_default();
    let had = pod.list(&["status", "conditions"]).iter();
    let gone = had.filter(|c| !now.iter().any(|n| n["type"] == c["type"]));
    let gone: Vec<Value> = gone.map(|c| json!({ "$patch": "delete", "type": c["type"] })).collect();
    if let Some(list) = status.get_mut("conditions").and_then(Value::as_array_mut) {
        list.extend(gone);
    }
    json!({ "metadata": { "uid": pod.uid() }, "status": status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gone_conditions_and_addresses_go() {
        let pod = Object::from_value(json!({ "metadata": { "uid": "u" }, "status": {
            "podIPs": [{ "ip": "10.0.0.1" }],
            "conditions": [{ "type": "Ready", "status": "True" }, { "type": "PodResizeInProgress" }],
        }}))
        .expect("an object");
        let ready = json!({ "type": "Ready", "status": "False" });
        let status = json!({ "podIPs": [{ "ip": "10.0.0.2" }], "conditions": [ready] });
        assert_eq!(
            patch(&pod, &status),
            json!({ "metadata": { "uid": "u" }, "status": {
                "podIPs": [{ "$patch": "replace" }, { "ip": "10.0.0.2" }],
                "conditions": [ready, { "$patch": "delete", "type": "PodResizeInProgress" }],
            }})
        );
    }
}
