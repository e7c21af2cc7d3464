//! Owners that are custom objects, and go with their definition.

use longshore_api::Object;
use longshore_client::Resource;
use longshore_client::resource::{CUSTOM_RESOURCE_DEFINITIONS, JOBS, PODS};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// The name of the definition.
const NAME: &str = "widgets.example.com";
/// How often a definition is made and deleted.
const ROUNDS: usize = 10;

fn definition() -> Value {
    let schema = json!({ "type": "object" });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": NAME },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": schema },
            }],
        },
    })
}

fn pod(name: &str, owner: &Object) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default",
            "ownerReferences": [{
                "apiVersion": "example.com/v1", "kind": "Widget",
                "name": owner.name(), "uid": owner.uid(),
            }],
        },
        "spec": { "containers": [{ "name": "c", "image": "a" }] },
    })
}

fn widget(name: &str) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": { "name": name, "namespace": "default" },
    })
}

/// A widget that has lost its owner.
fn orphan() -> Value {
    let mut widget = widget("orphan");
    widget["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "v1", "kind": "Pod", "name": "none", "uid": "none" }]);
    widget
}

/// When the collector learns that an owner is gone, its kind may be gone as well, so that nobody can
/// be asked for it: the dependents stayed for ever.
#[tokio::test(flavor = "multi_thread")]
async fn dependents_go_with_owners_whose_definition_is_deleted() {
    let cluster = Cluster::start().await;
    let widgets = Resource::named("example.com", "v1", "widgets", "Widget").expect("few names");
    for _ in 0..ROUNDS {
        let definitions = CUSTOM_RESOURCE_DEFINITIONS;
        cluster.create(definitions, definition()).await;
        let established = |definition: &Object| {
            let mut conditions = definition.list(&["status", "conditions"]).iter();
            conditions.any(|c| c["type"] == "Established" && c["status"] == "True")
        };
        let is = |found: Option<&Object>| found.is_some_and(established);
        cluster.until_shown(definitions, "", NAME, is).await;
        let owner = cluster.create(widgets, widget("owner")).await;
        for name in ["one", "two"] {
            cluster.create(PODS, pod(name, &owner)).await;
        }
        // When this one is gone, the collector has seen the owner as well.
        cluster.create(widgets, orphan()).await;
        cluster.until_shown(widgets, "default", "orphan", |found| found.is_none()).await;
        cluster.client.delete(definitions, "", NAME, Value::Null).await.expect("it is there");
        for name in ["one", "two"] {
            cluster.until_shown(PODS, "default", name, |found| found.is_none()).await;
        }
        cluster.until_shown(definitions, "", NAME, |found| found.is_none()).await;
    }
}

/// Owners and dependents are told of by watches of their own: one that was made just before its owner
/// was deleted, and was to stay, may be seen only after the owner has gone. It was deleted then.
#[tokio::test(flavor = "multi_thread")]
async fn dependents_that_were_to_stay_do_when_they_come_late() {
    let cluster = Cluster::start().await;
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "owner", "namespace": "default" },
        "spec": { "suspend": true, "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "c", "image": "a" }],
        }}},
    });
    let owner = cluster.create(JOBS, job).await;
    let options = json!({ "propagationPolicy": "Orphan" });
    cluster.client.delete(JOBS, "default", "owner", options).await.expect("it is there");
    cluster.until_shown(JOBS, "default", "owner", |found| found.is_none()).await;
    let mut late = pod("late", &owner);
    let reference = &mut late["metadata"]["ownerReferences"][0];
    (reference["apiVersion"], reference["kind"]) = ("batch/v1".into(), "Job".into());
    cluster.create(PODS, late).await;
    let is_free = |found: Option<&Object>| {
        let found = found.expect("it stays");
        found.list(&["metadata", "ownerReferences"]).is_empty()
    };
    cluster.until_shown(PODS, "default", "late", is_free).await;
}
