use serde_json::json;

use super::*;

fn told_by(level: Level, version: Option<u32>, spec: Value) -> String {
    let metadata = json!({});
    let found = evaluate(Policy { level, version }, &Pod::new(&metadata, &spec));
    let texts: Vec<String> = found.iter().map(|v| format!("{} ({})", v.reason, v.detail)).collect();
    texts.join(", ")
}

/// A container that breaks no rule, changed by `with`.
fn container(with: Value) -> Value {
    let mut security = json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}});
    for (key, value) in with.as_object().into_iter().flatten() {
        security[key] = value.clone();
    }
    json!({"name": "c", "securityContext": security})
}

#[test]
fn rules_hold_from_their_versions_on() {
    use Level::{Baseline, Restricted};
    let privileged = json!({"containers": [container(json!({"privileged": true}))]});
    let host = json!({"hostNetwork": true, "hostPID": true, "containers": []});
    let volume = json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]});
    let tcp_rmem = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
    let add = json!({"containers": [container(json!({"capabilities": {"add": ["CHOWN"], "drop": ["ALL"]}}))]});
    let windows = json!({"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true},
        "containers": [{"name": "c"}]});
    let unmasked =
        json!({"hostUsers": false, "containers": [container(json!({"procMount": "Unmasked"}))]});
    let none = json!({"containers": [container(json!({}))]});
    let rows = [
        (
            Baseline,
            None,
            &privileged,
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (Baseline, None, &host, "host namespaces (hostNetwork=true, hostPID=true)"),
        (Baseline, None, &volume, "hostPath volumes (volume \"v\")"),
        (
            Restricted,
            None,
            &volume,
            "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")",
        ),
        (Baseline, Some(31), &tcp_rmem, "forbidden sysctls (net.ipv4.tcp_rmem)"),
        (Baseline, Some(32), &tcp_rmem, ""),
        (Baseline, None, &add, ""),
        (Restricted, Some(21), &add, ""),
        (
            Restricted,
            Some(22),
            &add,
            "unrestricted capabilities (container \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (Restricted, Some(25), &windows, ""),
        (
            Baseline,
            Some(34),
            &unmasked,
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (Baseline, Some(35), &unmasked, ""),
        (
            Restricted,
            Some(99),
            &unmasked,
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (Restricted, None, &none, ""),
        (Level::Privileged, None, &privileged, ""),
    ];
    for (level, version, spec, want) in rows {
        assert_eq!(told_by(level, version, spec.clone()), want, "{level:?} {version:?} {spec}");
    }
}

#[test]
fn labels_choose_policies() {
    let read = |labels: Value| {
        let labels: serde_json::Map<String, Value> = labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, v)| (format!("pod-security.kubernetes.io/{k}"), v.clone()))
            .collect();
        let object =
            Object::from_value(json!({"metadata": {"labels": labels}})).expect("an object");
        let (policies, errors) = policies(&object);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("{} {} {} {}", policies.enforce, policies.audit, policies.warn, errors.join("; "))
    };
    let rows = [
        (json!({}), "privileged:latest privileged:latest privileged:latest "),
        (
            json!({"enforce": "baseline", "enforce-version": "v1.20"}),
            "baseline:v1.20 privileged:latest baseline:v1.20 ",
        ),
        (
            json!({"enforce": "baseline", "warn": "privileged"}),
            "baseline:latest privileged:latest privileged:latest ",
        ),
        (
            json!({"enforce": "baseline", "warn": "restricted", "warn-version": "v1.0"}),
            "baseline:latest privileged:latest restricted:v1.0 ",
        ),
        (
            json!({"audit": "x"}),
            "privileged:latest privileged:latest privileged:latest metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"x\": must be one of privileged, baseline, restricted",
        ),
        (
            json!({"enforce": "x"}),
            "restricted:latest privileged:latest privileged:latest metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted",
        ),
        (
            json!({"warn-version": "v1.01"}),
            "privileged:latest privileged:latest privileged:latest metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\"",
        ),
    ];
    for (labels, want) in rows {
        assert_eq!(read(labels.clone()), want, "{labels}");
    }
}
