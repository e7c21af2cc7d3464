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
