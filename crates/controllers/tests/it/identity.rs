//! What says that the API server lives.

use longshore_client::resource::LEASES;
use serde_json::{Value, json};

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn the_server_keeps_a_lease() {
    let cluster = Cluster::start().await;
    cluster
        .until(LEASES, |all| {
            all.iter().any(|lease| {
                // The first 16 bytes of the SHA-256 of "host" and "kube-apiserver" with their lengths before them.
                lease.name() == "apiserver-dd6egxogzxmivwqge6rcnj6rwi"
                    && lease.namespace() == "kube-system"
                    && lease.label("apiserver.kubernetes.io/identity") == Some("kube-apiserver")
                    && lease.label("kubernetes.io/hostname") == Some("host")
                    && lease.str(&["spec", "holderIdentity"]) == format!("{}_1", lease.name())
                    && lease.int(&["spec", "leaseDurationSeconds"]) == Some(3600)
                    && !lease.str(&["spec", "renewTime"]).is_empty()
            })
        })
        .await;
}

fn lease(name: &str, component: &str, renewed: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": name, "namespace": "kube-system",
            "labels": { "apiserver.kubernetes.io/identity": component },
        },
        "spec": {
            "holderIdentity": name, "leaseDurationSeconds": 3600, "renewTime": renewed,
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_dead_servers_go() {
    let (long_ago, far_away) = ("2020-01-01T00:00:00.000000Z", "2200-01-01T00:00:00.000000Z");
    let cluster = Cluster::start_with(&[
        (LEASES, lease("apiserver-dead", "kube-apiserver", long_ago)),
        (LEASES, lease("apiserver-alive", "kube-apiserver", far_away)),
        (LEASES, lease("other", "something-else", long_ago)),
    ])
    .await;
    let gone = |found: Option<&longshore_api::Object>| found.is_none();
    cluster.until_shown(LEASES, "kube-system", "apiserver-dead", gone).await;
    for name in ["apiserver-alive", "other"] {
        let found = cluster.client.find(LEASES, "kube-system", name).await;
        assert!(found.expect("an answer").is_some(), "{name}");
    }
}
