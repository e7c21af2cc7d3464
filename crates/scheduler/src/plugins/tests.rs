use longshore_api::Object;
use serde_json::{Value, json};

use super::*;

fn object(value: Value) -> Arc<Object> {
    Arc::new(Object::from_value(value).expect("an object"))
}

fn node(name: &str, spec: Value, labels: Value) -> Arc<Node> {
    Arc::new(Node::new(&object(json!({
        "metadata": { "name": name, "labels": labels }, "spec": spec,
        "status": { "allocatable": { "cpu": "2", "memory": "1Gi", "pods": "2" } },
    }))))
}

fn pod(spec: Value) -> Arc<Pod> {
    Arc::new(Pod::new(&object(json!({
        "metadata": { "name": "p", "namespace": "d", "uid": "u", "labels": { "app": "a" } },
        "spec": spec,
    }))))
}

/// The reasons of all plugins for one node.
fn reasons(pod: &Arc<Pod>, nodes: &[Arc<Node>], at: usize) -> Vec<String> {
    let cycle = Cycle { pod, nodes };
    TABLE.iter().filter_map(|(_, _, p)| p.filter(&cycle, &nodes[at]).err()).flatten().collect()
}

#[test]
fn nodes_are_refused_with_upstreams_words() {
    let small = json!({ "containers": [{ "resources": { "requests": { "cpu": "1" } } }] });
    let cases = [
        (json!({}), json!({}), small.clone(), None),
        (
            json!({}),
            json!({}),
            json!({ "containers": [{ "resources": { "requests": { "cpu": "3" } } }] }),
            Some("Insufficient cpu"),
        ),
        (
            json!({ "taints": [{ "key": "k", "value": "v", "effect": "NoSchedule" }] }),
            json!({}),
            small.clone(),
            Some("node(s) had untolerated taint {k: v}"),
        ),
        (
            json!({ "taints": [{ "key": "k", "value": "v", "effect": "NoSchedule" }] }),
            json!({}),
            json!({ "tolerations": [{ "key": "k", "operator": "Exists" }] }),
            None,
        ),
        (json!({ "unschedulable": true }), json!({}), small, Some("node(s) were unschedulable")),
        (
            json!({}),
            json!({ "disk": "hdd" }),
            json!({ "nodeSelector": { "disk": "ssd" } }),
            Some("node(s) didn't match Pod's node affinity/selector"),
        ),
        (
            json!({}),
            json!({ "disk": "ssd" }),
            json!({ "affinity": { "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                    { "matchExpressions": [{ "key": "disk", "operator": "In", "values": ["ssd"] }] },
                ]},
            }}}),
            None,
        ),
    ];
    for (spec, labels, wanted, why) in cases {
        let nodes = [node("n", spec, labels)];
        let found = reasons(&pod(wanted.clone()), &nodes, 0);
        assert_eq!(found.first().map(String::as_str), why, "{wanted}");
    }
}

#[test]
fn pods_and_ports_are_counted() {
    let mut full = (*node("n", json!({}), json!({}))).clone();
    let port = json!({ "containers": [{ "ports": [{ "hostPort": 80, "containerPort": 80 }] }] });
    full.add(pod(port.clone()));
    full.add(pod(json!({})));
    let nodes = [Arc::new(full)];
    let found = reasons(&pod(port), &nodes, 0);
    assert!(found.contains(&"Too many pods".to_owned()), "{found:?}");
    assert!(found.iter().any(|r| r.contains("free ports")), "{found:?}");
}

#[test]
fn anti_affinity_keeps_pods_apart() {
    let spec = json!({ "affinity": { "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "zone", "labelSelector": { "matchLabels": { "app": "a" } },
        }],
    }}});
    let mut taken = (*node("a", json!({}), json!({ "zone": "1" }))).clone();
    taken.add(pod(json!({})));
    let nodes = [Arc::new(taken), node("b", json!({}), json!({ "zone": "2" }))];
    assert!(!reasons(&pod(spec.clone()), &nodes, 0).is_empty());
    assert!(reasons(&pod(spec), &nodes, 1).is_empty());
}
