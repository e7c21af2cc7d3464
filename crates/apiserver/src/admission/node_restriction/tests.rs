use longshore_api::Object;
use serde_json::{Value, json};

use crate::admission::Operation;
use crate::admission::tests::{Ask, Setup, object};
use crate::auth::UserInfo;

const GOOD: &str = "";

fn node(name: &str) -> UserInfo {
    UserInfo::new(&format!("system:node:{name}"), &["system:nodes"])
}

/// What node `n1` is told when it writes something; empty when it may.
async fn told(
    setup: &Setup,
    what: (&str, &str, &str),
    operation: Operation,
    (namespace, name): (&str, &str),
    new: Option<Value>,
    old: Option<Value>,
) -> String {
    let ask = Ask { what, operation, namespace, name, user: node("n1") };
    let (mut new, old): (Option<Object>, Option<Object>) = (new.map(object), old.map(object));
    let verdict = setup.run(&ask, new.as_mut(), old.as_ref()).await;
    verdict.err().map_or(String::new(), |error| error.message)
}

#[tokio::test]
async fn nodes_write_about_themselves_only() {
    let setup = Setup::new();
    setup.reader.put("", "namespaces", json!({"metadata": {"name": "kube-node-lease"}}));
    for (name, on) in [("mine", "n1"), ("theirs", "n2")] {
        let pod = json!({"metadata": {"name": name, "namespace": "a", "uid": name},
            "spec": {"nodeName": on}});
        setup.reader.put("", "pods", pod);
    }
    use Operation::{Create, Delete, Update};
    let labelled = |key: &str| Some(json!({"metadata": {"name": "n1", "labels": {key: "x"}}}));
    let bare = || Some(json!({"metadata": {"name": "n1"}}));
    let tainted = || {
        Some(
            json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
        )
    };
    let on = |node: &str| Some(json!({"metadata": {"name": "p"}, "spec": {"nodeName": node}}));
    let token = |uid: &str| {
        Some(json!({"spec": {"boundObjectRef":
            {"apiVersion": "v1", "kind": "Pod", "name": "mine", "uid": uid}}}))
    };
    let (nodes, pods) = (("", "nodes", ""), ("", "pods", ""));
    let status = ("", "pods", "status");
    let tokens = ("", "serviceaccounts", "token");
    let rows = [
        (nodes, Create, ("", "n1"), bare(), None, GOOD),
        (nodes, Create, ("", "n1"), labelled("kubernetes.io/hostname"), None, GOOD),
        (nodes, Create, ("", "n1"), labelled("example.com/x"), None, GOOD),
        (nodes, Create, ("", "n1"), labelled("a.kubelet.kubernetes.io/x"), None, GOOD),
        (
            nodes,
            Create,
            ("", "n1"),
            labelled("xkubelet.kubernetes.io/x"),
            None,
            "nodes \"n1\" is forbidden: node \"n1\" is not allowed to set the following labels: xkubelet.kubernetes.io/x",
        ),
        (
            nodes,
            Update,
            ("", "n1"),
            labelled("node-restriction.kubernetes.io/x"),
            bare(),
            "nodes \"n1\" is forbidden: is not allowed to modify labels: node-restriction.kubernetes.io/x",
        ),
        (nodes, Update, ("", "n1"), labelled("k8s.io/x"), labelled("k8s.io/x"), GOOD),
        (
            nodes,
            Update,
            ("", "n1"),
            bare(),
            tainted(),
            "nodes \"n1\" is forbidden: node \"n1\" is not allowed to modify taints",
        ),
        (
            nodes,
            Delete,
            ("", "n2"),
            None,
            bare(),
            "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\"",
        ),
        (
            pods,
            Create,
            ("a", "p"),
            on("n1"),
            None,
            "pods \"p\" is forbidden: pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods",
        ),
        (pods, Delete, ("a", "mine"), None, on("n1"), GOOD),
        (
            pods,
            Delete,
            ("a", "theirs"),
            None,
            on("n2"),
            "pods \"theirs\" is forbidden: node \"n1\" can only delete pods with spec.nodeName set to itself",
        ),
        (pods, Delete, ("a", "gone"), None, None, "pod \"gone\" not found"),
        (status, Update, ("a", "p"), on("n1"), on("n1"), GOOD),
        (
            status,
            Update,
            ("a", "p"),
            on("n2"),
            on("n2"),
            "pods \"p\" is forbidden: node \"n1\" can only update pod status for pods with spec.nodeName set to itself",
        ),
        (
            tokens,
            Create,
            ("a", "default"),
            token(""),
            None,
            "serviceaccounts \"default\" is forbidden: node requested token with a pod binding without a uid",
        ),
        (
            tokens,
            Create,
            ("a", "default"),
            token("other"),
            None,
            "serviceaccounts \"default\" is forbidden: the UID in the bound object reference (other) does not match the UID in record. The object might have been deleted and then recreated",
        ),
        (
            ("coordination.k8s.io", "leases", ""),
            Update,
            ("kube-node-lease", "n1"),
            bare(),
            bare(),
            GOOD,
        ),
        (
            ("coordination.k8s.io", "leases", ""),
            Update,
            ("a", "n1"),
            bare(),
            bare(),
            "leases.coordination.k8s.io \"n1\" is forbidden: can only access leases in the \"kube-node-lease\" system namespace",
        ),
        (
            ("coordination.k8s.io", "leases", ""),
            Update,
            ("kube-node-lease", "n2"),
            bare(),
            bare(),
            "leases.coordination.k8s.io \"n2\" is forbidden: can only access node lease with the same name as the requesting node",
        ),
    ];
    for (what, operation, place, new, old, want) in rows {
        let shown = format!("{operation:?} {what:?} {place:?} {new:?}");
        assert_eq!(told(&setup, what, operation, place, new, old).await, want, "{shown}");
    }
}

#[test]
fn a_pod_refers_to_objects_of_the_api() {
    let rows = [
        (json!({"serviceAccountName": "x"}), Some("serviceaccounts")),
        (json!({"imagePullSecrets": [{"name": "x"}]}), Some("secrets")),
        (
            json!({"containers": [{"envFrom": [{"configMapRef": {"name": "x"}}]}]}),
            Some("configmaps"),
        ),
        (json!({"volumes": [{"csi": {"driver": "x"}}]}), Some("csidrivers (via CSI volumes)")),
        (
            json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {"path": "x"}}]}}]}),
            Some("serviceaccounts (via projected volumes)"),
        ),
        (json!({"volumes": [{"hostPath": {"path": "/"}}, {"emptyDir": {}}]}), None),
    ];
    for (spec, want) in rows {
        assert_eq!(super::referenced(&object(json!({ "spec": spec }))), want);
    }
}
