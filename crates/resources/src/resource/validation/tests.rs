use serde_json::json;

use super::*;

fn fields(errors: &ErrorList) -> Vec<&str> {
    errors.iter().map(|e| e.field.as_str()).collect()
}

#[test]
fn claims_say_what_is_wrong_with_them() {
    let check = |devices: Value, want: &[&str]| {
        let mut errors = ErrorList::new();
        claim(&json!({"devices": devices}), &Path::new("spec"), &mut errors);
        assert_eq!(fields(&errors), want, "{devices}");
    };
    let exact = |more: Value| {
        let mut one = json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
        for (key, value) in more.as_object().expect("an object") {
            one[key] = value.clone();
        }
        json!({"requests": [{"name": "r", "exactly": one}]})
    };
    check(exact(json!({})), &[]);
    check(exact(json!({"count": 0})), &["spec.devices.requests[0].exactly.count"]);
    check(exact(json!({"allocationMode": "All"})), &["spec.devices.requests[0].exactly.count"]);
    check(
        exact(json!({"selectors": [{}]})),
        &["spec.devices.requests[0].exactly.selectors[0].cel"],
    );
    check(
        exact(json!({"tolerations": [{"operator": "Exists", "value": "v", "effect": "x"}]})),
        &[
            "spec.devices.requests[0].exactly.tolerations[0].value",
            "spec.devices.requests[0].exactly.tolerations[0].effect",
        ],
    );
    check(json!({"requests": [{"name": "r"}]}), &["spec.devices.requests[0]"]);
    let sub = json!({"name": "s", "deviceClassName": "c", "allocationMode": "All"});
    let requests = json!([{"name": "r", "firstAvailable": [sub]}]);
    check(
        json!({"requests": requests, "constraints": [
            {"requests": ["r/s", "r"], "matchAttribute": "a.example/b"},
            {"requests": ["r/x", "q"], "matchAttribute": "b"},
            {"requests": ["r/s/t"]},
        ]}),
        &[
            "spec.devices.constraints[1].requests[0]",
            "spec.devices.constraints[1].requests[1]",
            "spec.devices.constraints[1].matchAttribute",
            "spec.devices.constraints[2].requests[0]",
            "spec.devices.constraints[2]",
        ],
    );
    check(
        json!({"config": [{}, {"opaque": {"driver": "d", "parameters": [1]}}]}),
        &["spec.devices.config[0].opaque", "spec.devices.config[1].opaque.parameters"],
    );
}

#[test]
fn slices_say_what_is_wrong_with_them() {
    let check = |more: Value, want: &[&str]| {
        let mut spec = json!({"driver": "d", "nodeName": "n",
            "pool": {"name": "p", "resourceSliceCount": 1}});
        for (key, value) in more.as_object().expect("an object") {
            spec[key] = value.clone();
        }
        let mut errors = ErrorList::new();
        slices::slice(&spec, None, &mut errors);
        assert_eq!(fields(&errors), want, "{more}");
    };
    check(json!({}), &[]);
    check(json!({"allNodes": true}), &["spec"]);
    check(json!({"nodeName": ""}), &["spec.nodeName", "spec"]);
    check(json!({"pool": {"name": "a/-b"}}), &["spec.pool.name", "spec.pool.resourceSliceCount"]);
    let device = |device: Value| json!({"devices": [device]});
    check(device(json!({"name": "d", "allNodes": true})), &["spec.devices[0]"]);
    check(
        device(
            json!({"name": "d", "attributes": {"a": {"version": "1.0"}, "b": {}, "-": {"int": 1}}}),
        ),
        &[
            "spec.devices[0].attributes",
            "spec.devices[0].attributes[a].version",
            "spec.devices[0].attributes[b]",
        ],
    );
    check(
        device(json!({"name": "d", "bindingConditions": ["a"], "taints": [{"key": "k"}]})),
        &["spec.devices[0].taints[0].effect", "spec.devices[0].bindingFailureConditions"],
    );
    let policy = |policy: Value| {
        json!({"devices": [{"name": "d", "allowMultipleAllocations": true,
            "capacity": {"m": {"value": "10Gi", "requestPolicy": policy}}}]})
    };
    let at = "spec.devices[0].capacity[m].requestPolicy";
    check(policy(json!({"validValues": ["1Gi"]})), &[&format!("{at}.default")]);
    check(
        policy(json!({"default": "2Gi", "validValues": ["3Gi", "1Gi", "11Gi"]})),
        &[
            &format!("{at}.validValues[1]"),
            &format!("{at}.validValues[2]"),
            &format!("{at}.validValues"),
        ],
    );
    check(
        policy(
            json!({"default": "4Gi", "validRange": {"min": "1Gi", "max": "6Gi", "step": "2Gi"}}),
        ),
        &[&format!("{at}.validRange.step"), &format!("{at}.validRange.step")],
    );
    check(
        policy(json!({"default": "1Gi", "validRange": {"min": "1Gi", "step": "0"}})),
        &[&format!("{at}.validRange.step")],
    );
}

#[test]
fn states_of_claims_fit_what_was_asked_for() {
    let spec = json!({"devices": {"requests": [{"name": "r"}]}});
    let check = |new: Value, old: Value, deleting: bool, want: &[&str]| {
        let mut errors = ErrorList::new();
        status::status(&new, &old, &spec, deleting, &Path::new("status"), &mut errors);
        assert_eq!(fields(&errors), want, "{new}");
    };
    let none = || json!({});
    let result = |request: &str, device: &str| json!({"request": request, "driver": "d.io", "pool": "p", "device": device});
    let given = json!({"devices": {"results": [result("r", "a")]}});
    let user = |uid: &str| json!({"resource": "pods", "name": "n", "uid": uid});
    let reserved = json!({"allocation": given, "reservedFor": [user("1")]});
    check(reserved.clone(), none(), false, &[]);
    let wrong = json!({"devices": {"results": [result("q", "A")], "config": [{"source": "x"}]},
        "nodeSelector": {}});
    check(
        json!({"allocation": wrong}),
        none(),
        false,
        &[
            "status.allocation.devices.results[0].request",
            "status.allocation.devices.results[0].device",
            "status.allocation.devices.config[0].source",
            "status.allocation.devices.config[0].opaque",
            "status.allocation.nodeSelector.nodeSelectorTerms",
        ],
    );
    check(json!({"reservedFor": [user("1")]}), none(), false, &["status.reservedFor"]);
    let more = json!({"allocation": given, "reservedFor": [user("1"), user("2")]});
    check(more.clone(), reserved.clone(), false, &[]);
    check(more, reserved, true, &["status.reservedFor"]);
    let twice = json!({"allocation": given, "reservedFor": [user("1"), user("1"), {"uid": "3"}]});
    let names = ["status.reservedFor[2].resource", "status.reservedFor[2].name"];
    check(twice, none(), false, &[names[0], names[1], "status.reservedFor[1]"]);
    let state = |more: Value| {
        let mut device = json!({"driver": "d.io", "pool": "p", "device": "a"});
        for (key, value) in more.as_object().expect("an object") {
            device[key] = value.clone();
        }
        json!({"allocation": given, "devices": [device]})
    };
    check(state(none()), none(), false, &[]);
    check(state(json!({"device": "b"})), none(), false, &["status.devices[0]"]);
    check(state(json!({"data": [1]})), none(), false, &["status.devices[0].data"]);
    let network = json!({"networkData": {"ips": ["10.0.0.1", "10.0.0.1/8", "::1/129", "::01/1"]}});
    let ips = |i: usize| format!("status.devices[0].networkData.ips[{i}]");
    check(state(network), none(), false, &[&ips(0), &ips(2), &ips(3)]);
    let condition = json!({"conditions": [{"type": "A", "status": "B", "reason": "-"}]});
    let at = |key: &str| format!("status.devices[0].conditions[0].{key}");
    check(
        state(condition),
        none(),
        false,
        &[&at("status"), &at("lastTransitionTime"), &at("reason")],
    );
}

#[test]
fn who_may_write_a_state_depends_on_what_changes() {
    use crate::rights::{asks_for_admin, changed_drivers, node_of};
    let none = json!({});
    let admin = json!([{"exactly": {}}, {"exactly": {"adminAccess": true}}]);
    let spec = json!({"devices": {"requests": admin}});
    let path = asks_for_admin(&spec, &none).map(|path| path.to_string());
    assert_eq!(path.as_deref(), Some("spec.devices.requests[1].adminAccess"));
    let status = json!({"allocation": {"devices": {"results": [{"adminAccess": true}]}}});
    let path = asks_for_admin(&none, &status).map(|path| path.to_string());
    assert_eq!(path.as_deref(), Some("status.allocation.devices.results[0].adminAccess"));
    assert!(asks_for_admin(&none, &none).is_none());
    let [a, b] = ["a", "b"].map(|driver| json!({"devices": [{"driver": driver}]}));
    assert_eq!(changed_drivers(&a, &b), ["a", "b"].map(str::to_owned).into());
    assert!(changed_drivers(&a, &a).is_empty());
    let field = json!({"key": "metadata.name", "operator": "In", "values": ["n"]});
    let terms = json!([{"matchFields": [field]}]);
    let bound = json!({"allocation": {"nodeSelector": {"nodeSelectorTerms": terms}}});
    assert_eq!(node_of(&bound), Some("n"));
    assert_eq!(node_of(&none), None);
}
