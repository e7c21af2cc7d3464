//! What is in use stays.

use longshore_client::resource::{PERSISTENT_VOLUME_CLAIMS, VOLUME_ATTRIBUTES_CLASSES};
use serde_json::{Value, json};

use crate::cluster::Cluster;

fn class(name: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass",
        "metadata": { "name": name }, "driverName": "test", "parameters": { "a": "b" },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_of_attributes_stays_until_no_claim_has_it() {
    let cluster = Cluster::start().await;
    let of = VOLUME_ATTRIBUTES_CLASSES;
    for name in ["used", "unused"] {
        cluster.create(of, class(name)).await;
    }
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": { "name": "claim", "namespace": "default" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "none",
            "resources": { "requests": { "storage": "1Gi" } }, "volumeAttributesClassName": "used",
        },
    });
    cluster.create(PERSISTENT_VOLUME_CLAIMS, claim).await;
    cluster.until(PERSISTENT_VOLUME_CLAIMS, |all| all.iter().any(|c| c.name() == "claim")).await;
    for name in ["used", "unused"] {
        cluster.client.delete(of, "", name, Value::Null).await.expect("it is there");
    }
    cluster.until_shown(of, "", "unused", |found| found.is_none()).await;
    let used = cluster.client.get(of, "", "used").await.expect("it is in use");
    assert!(used.is_deleting());
    let claims = PERSISTENT_VOLUME_CLAIMS;
    cluster.client.delete(claims, "default", "claim", Value::Null).await.expect("it is there");
    cluster.until_shown(of, "", "used", |found| found.is_none()).await;
}
