//! Which clients an endpoint is meant for, when a service asks for near ones.
//!
//! upstream: staging/src/k8s.io/endpointslice/trafficdist

use longshore_api::Object;
use serde_json::{Value, json};

/// Gives ready endpoints hints: the zone they are in, and with `PreferSameNode` their node.
pub(super) fn set(service: &Object, endpoints: &mut [Value]) {
    let wanted = service.str(&["spec", "trafficDistribution"]);
    let nodes = wanted == "PreferSameNode";
    if !nodes && !matches!(wanted, "PreferClose" | "PreferSameZone") {
        return;
    }
    for endpoint in endpoints.iter_mut().filter(|e| e["conditions"]["ready"] == true) {
        let mut hints = json!({});
        if let Some(zone) = endpoint["zone"].as_str() {
            hints["forZones"] = json!([{ "name": zone }]);
        }
        if nodes && let Some(node) = endpoint["nodeName"].as_str() {
            hints["forNodes"] = json!([{ "name": node }]);
        }
        if hints.as_object().is_some_and(|hints| !hints.is_empty()) {
            endpoint["hints"] = hints;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_follow_the_wish() {
        for (wish, hints) in [
            ("", Value::Null),
            ("PreferClose", json!({ "forZones": [{ "name": "z" }] })),
            (
                "PreferSameNode",
                json!({
                    "forZones": [{ "name": "z" }], "forNodes": [{ "name": "n" }],
                }),
            ),
        ] {
            let service = json!({ "spec": { "trafficDistribution": wish } });
            let service = Object::from_value(service).unwrap();
            let ready = json!({ "zone": "z", "nodeName": "n", "conditions": { "ready": true } });
            let mut endpoints = vec![ready, json!({ "zone": "z", "conditions": {} })];
            set(&service, &mut endpoints);
            assert_eq!(endpoints[0]["hints"], hints, "{wish}");
            assert!(endpoints[1].get("hints").is_none());
        }
    }
}
