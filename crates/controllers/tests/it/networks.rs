//! Ranges of service addresses tell whether they can be used.

use longshore_api::Object;
use longshore_client::resource::SERVICE_CIDRS;
use serde_json::json;

use crate::cluster::Cluster;

/// Status, reason and message of each condition.
fn told(range: &Object) -> Vec<[&str; 3]> {
    let conditions = range.list(&["status", "conditions"]).iter();
    conditions
        .map(|c| ["status", "reason", "message"].map(|key| c[key].as_str().unwrap_or("")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_told_to_be_ready() {
    let cluster = Cluster::start().await;
    let ready = [["True", "", "Kubernetes Service CIDR is ready"]];
    let is_ready = |range: &Object| {
        told(range) == ready && range.finalizers() == ["networking.k8s.io/service-cidr-finalizer"]
    };
    // The first one, too: what its own controller said before does not stay.
    cluster
        .until(SERVICE_CIDRS, |all| all.iter().any(|r| r.name() == "kubernetes" && is_ready(r)))
        .await;
    let range = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": { "name": "more" }, "spec": { "cidrs": ["10.200.0.0/24"] },
    });
    cluster.create(SERVICE_CIDRS, range).await;
    cluster.until(SERVICE_CIDRS, |all| all.iter().any(|r| r.name() == "more" && is_ready(r))).await;
}
