use longshore_api::Object;
use serde_json::{Value, json};

use super::*;
use crate::cache::Snapshot;
use crate::framework::Choice;

fn object(value: Value) -> Arc<Object> {
    Arc::new(Object::from_value(value).expect("an object"))
}

fn node(name: &str, spec: Value, labels: Value, status: Value) -> Node {
    let mut node = json!({
        "metadata": { "name": name, "labels": labels }, "spec": spec,
        "status": { "allocatable": { "cpu": "2", "memory": "1Gi", "pods": "3" } },
    });
    for (key, value) in status.as_object().into_iter().flatten() {
        node["status"][key] = value.clone();
    }
    Node::new(&object(node))
}

fn plain(name: &str) -> Node {
    node(name, json!({}), json!({ "zone": name }), json!({}))
}

fn pod(uid: &str, labels: Value, spec: Value) -> Arc<Pod> {
    Arc::new(Pod::new(&object(json!({
        "metadata": { "name": uid, "namespace": "d", "uid": uid, "labels": labels },
        "spec": spec,
    }))))
}

fn app(uid: &str, spec: Value) -> Arc<Pod> {
    pod(uid, json!({ "app": "a" }), spec)
}

/// The node that is chosen, or the text of the refusal.
fn place(pod: &Arc<Pod>, nodes: Vec<Node>) -> Result<String, String> {
    let nodes = nodes.into_iter().map(Arc::new).collect();
    let snapshot = Snapshot { nodes, nominated: Default::default() };
    let listers = Listers::empty();
    let ask = Ask { pod, nodes: &snapshot.nodes, listers: &listers };
    Choice { ask, snapshot: &snapshot, offset: &mut 0, dice: 0 }.make().map_err(|m| m.message)
}

fn cpu(amount: &str) -> Value {
    json!({ "containers": [{ "resources": { "requests": { "cpu": amount } } }] })
}

#[test]
fn nodes_are_refused_with_upstreams_words() {
    let taint = json!({ "taints": [{ "key": "k", "value": "v", "effect": "NoSchedule" }] });
    let by_name = |name: &str| {
        json!({ "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{
                "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [name] }],
            }]},
        }}})
    };
    let cases = [
        (json!({}), cpu("1"), None),
        (json!({}), cpu("3"), Some("Insufficient cpu")),
        (taint.clone(), cpu("1"), Some("node(s) had untolerated taint(s)")),
        (taint, json!({ "tolerations": [{ "key": "k", "operator": "Exists" }] }), None),
        (json!({ "unschedulable": true }), cpu("1"), Some("node(s) were unschedulable")),
        (
            json!({}),
            json!({ "nodeSelector": { "disk": "ssd" } }),
            Some("node(s) didn't match Pod's node affinity/selector"),
        ),
        (json!({}), by_name("n"), None),
        (json!({}), by_name("m"), Some("node(s) didn't satisfy plugin(s) [NodeAffinity]")),
        (
            json!({}),
            json!({ "topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "absent", "whenUnsatisfiable": "DoNotSchedule",
            }]}),
            Some("node(s) didn't match pod topology spread constraints (missing required label)"),
        ),
    ];
    for (spec, wanted, why) in cases {
        let found = place(&app("p", wanted.clone()), vec![node("n", spec, json!({}), json!({}))]);
        let want = match why {
            None => Ok("n".to_owned()),
            Some(why) => Err(format!("0/1 nodes are available: 1 {why}.")),
        };
        assert_eq!(found, want, "{wanted}");
    }
}

#[test]
fn pods_and_ports_are_counted() {
    let mut full = plain("n");
    let port = json!({ "containers": [{ "ports": [{ "hostPort": 80, "containerPort": 80 }] }] });
    full.add(app("a", port.clone()));
    let why = place(&app("p", port), vec![full.clone()]).expect_err("the port is taken");
    assert!(why.contains("free ports"), "{why}");
    full.add(app("b", json!({})));
    full.add(app("c", json!({})));
    let why = place(&app("p", json!({})), vec![full]).expect_err("the node is full");
    assert!(why.contains("Too many pods"), "{why}");
}

fn affinity(kind: &str) -> Value {
    json!({ "affinity": { kind: { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": "zone", "labelSelector": { "matchLabels": { "app": "a" } },
    }]}}})
}

#[test]
fn pods_keep_apart_or_together() {
    let nodes = || {
        let mut taken = plain("x");
        taken.add(app("a", json!({})));
        vec![taken, plain("y")]
    };
    assert_eq!(place(&app("p", affinity("podAntiAffinity")), nodes()).as_deref(), Ok("y"));
    assert_eq!(place(&app("p", affinity("podAffinity")), nodes()).as_deref(), Ok("x"));
    let alone = place(&app("p", affinity("podAffinity")), vec![plain("x")]);
    assert_eq!(alone.as_deref(), Ok("x"), "the first of a group may start anywhere");
    let mut shunning = plain("x");
    shunning.add(app("a", affinity("podAntiAffinity")));
    assert_eq!(place(&app("p", json!({})), vec![shunning, plain("y")]).as_deref(), Ok("y"));
}

#[test]
fn spreading_and_preferences_choose_among_nodes() {
    let spread = json!({ "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "a" } },
    }]});
    let mut taken = plain("x");
    taken.add(app("a", json!({})));
    assert_eq!(place(&app("p", spread), vec![taken, plain("y")]).as_deref(), Ok("y"));

    let prefers = json!({ "affinity": { "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1, "preference": {
            "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["y"] }],
        }}],
    }}});
    assert_eq!(place(&app("p", prefers), vec![plain("x"), plain("y")]).as_deref(), Ok("y"));

    let soft = json!({ "taints": [{ "key": "k", "effect": "PreferNoSchedule" }] });
    let tainted = node("x", soft, json!({}), json!({}));
    assert_eq!(place(&app("p", json!({})), vec![tainted, plain("y")]).as_deref(), Ok("y"));

    let images = json!({ "images": [{ "names": ["i:latest"], "sizeBytes": 2_000_000_000 }] });
    let having = node("y", json!({}), json!({}), images);
    let wants = json!({ "containers": [{ "image": "i" }] });
    assert_eq!(place(&app("p", wants), vec![plain("x"), having]).as_deref(), Ok("y"));

    let big = json!({ "allocatable": { "cpu": "8", "memory": "4Gi", "pods": "3" } });
    let big = node("y", json!({}), json!({}), big);
    assert_eq!(place(&app("p", cpu("1")), vec![plain("x"), big]).as_deref(), Ok("y"));
}
