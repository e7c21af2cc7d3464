use serde_json::json;

use super::*;

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn used(group: &str, resource: &str, value: Value) -> String {
    let counted = Counted::of(group, resource).expect("a counted resource");
    let used = counted.usage(&object(value)).into_iter();
    let texts: Vec<String> = used.map(|(name, amount)| format!("{name}={amount}")).collect();
    texts.join(" ")
}

#[test]
fn objects_use() {
    let containers = json!({"spec": {"containers": [
            {"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}}},
            {"resources": {"requests": {"cpu": "200m", "example.com/x": "1"}, "limits": {"cpu": "1"}}}],
        "initContainers": [{"resources": {"requests": {"cpu": "500m"}}}]}});
    let ports = json!([{"nodePort": 30000}, {}]);
    let balanced = json!({"spec": {"type": "LoadBalancer", "ports": ports,
        "allocateLoadBalancerNodePorts": false}});
    let claim = json!({"spec": {"storageClassName": "gold",
        "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"allocatedResources": {"storage": "2Gi"}}});
    let devices = json!({"spec": {"devices": {"requests": [
        {"exactly": {"deviceClassName": "a", "allocationMode": "ExactCount", "count": 2}},
        {"firstAvailable": [
            {"deviceClassName": "a", "allocationMode": "ExactCount", "count": 1},
            {"deviceClassName": "a", "allocationMode": "ExactCount", "count": 3}]}]}}});
    let rows = [
        ("", "configmaps", json!({}), "configmaps=1 count/configmaps=1"),
        ("apps", "deployments", json!({}), "count/deployments.apps=1"),
        ("", "pods", json!({"status": {"phase": "Succeeded"}}), "count/pods=1"),
        (
            "",
            "pods",
            containers,
            "count/pods=1 cpu=500m limits.cpu=1 memory=1Gi pods=1 \
            requests.cpu=500m requests.example.com/x=1 requests.memory=1Gi",
        ),
        (
            "",
            "services",
            json!({"spec": {"type": "NodePort", "ports": ports}}),
            "count/services=1 services=1 services.loadbalancers=0 services.nodeports=2",
        ),
        (
            "",
            "services",
            balanced,
            "count/services=1 services=1 services.loadbalancers=1 services.nodeports=1",
        ),
        (
            "",
            "persistentvolumeclaims",
            claim,
            "count/persistentvolumeclaims=1 \
            gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
            gold.storageclass.storage.k8s.io/requests.storage=2Gi \
            persistentvolumeclaims=1 requests.storage=2Gi",
        ),
        (
            "resource.k8s.io",
            "resourceclaims",
            devices,
            "a.deviceclass.resource.k8s.io/devices=5 count/resourceclaims.resource.k8s.io=1",
        ),
    ];
    for (group, resource, value, want) in rows {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(&used(group, resource, value)), words(want), "{group}/{resource}");
    }
    assert_eq!(Counted::of("", "events"), None);
}

#[test]
fn scopes_take_in() {
    let pods = Counted::of("", "pods").expect("counted");
    let deadline = json!({"spec": {"activeDeadlineSeconds": 5}});
    let class = json!({"spec": {"priorityClassName": "high"}});
    let asking = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}});
    let far = json!({"spec": {"affinity": {"podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}}}});
    let scope = |name: &str| json!({"spec": {"scopes": [name]}});
    let choose = |operator: &str| {
        json!({"spec": {"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}]}}})
    };
    let rows = [
        (json!({}), &deadline, true),
        (scope("Terminating"), &deadline, true),
        (scope("NotTerminating"), &deadline, false),
        (scope("BestEffort"), &class, true),
        (scope("BestEffort"), &asking, false),
        (scope("NotBestEffort"), &asking, true),
        (scope("PriorityClass"), &class, true),
        (scope("PriorityClass"), &deadline, false),
        (choose("In"), &class, true),
        (choose("In"), &deadline, false),
        (choose("NotIn"), &deadline, true),
        (choose("DoesNotExist"), &class, false),
        (scope("CrossNamespacePodAffinity"), &far, true),
        (scope("CrossNamespacePodAffinity"), &class, false),
    ];
    for (quota, pod, want) in rows {
        let taken = pods.in_scope(&object(quota.clone()), &object(pod.clone()));
        assert_eq!(taken, want, "{quota} {pod}");
    }
    let other = Counted::of("", "secrets").expect("counted");
    assert!(!other.in_scope(&object(scope("BestEffort")), &object(json!({}))));
}

#[test]
fn limited_names_have_to_be_said() {
    let pods = Counted::of("", "pods").expect("counted");
    let spec = json!({"spec": {
        "containers": [{"name": "b", "resources": {"limits": {"cpu": "1"}}}, {"name": "a"}]}});
    let told = pods.constraints(&["limits.cpu", "memory", "pods"], &object(spec));
    assert_eq!(told, Err("must specify limits.cpu for: a; memory for: a,b".to_owned()));
    let whole =
        json!({"spec": {"resources": {"limits": {"cpu": "1"}}, "containers": [{"name": "a"}]}});
    assert_eq!(pods.constraints(&["limits.cpu"], &object(whole)), Ok(()));
}
