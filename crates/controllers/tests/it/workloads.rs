//! The kinds that make pods, from creation through updates to deletion.

use longshore_api::Object;
use longshore_client::Patch;
use longshore_client::resource::{
    DAEMON_SETS, DEPLOYMENTS, JOBS, NODES, PODS, REPLICA_SETS, STATEFUL_SETS,
};
use serde_json::{Value, json};

use crate::cluster::Cluster;

fn template(app: &str, image: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": app } },
        "spec": { "containers": [{ "name": "c", "image": image }] },
    })
}

fn workload(api_version: &str, kind: &str, extra: &Value) -> Value {
    let name = kind.to_lowercase();
    let mut object = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "selector": { "matchLabels": { "app": name } }, "template": template(&name, "a") },
    });
    for (key, value) in extra.as_object().expect("fields") {
        object["spec"][key] = value.clone();
    }
    object
}

fn image(pod: &Object) -> &str {
    pod.list(&["spec", "containers"])[0]["image"].as_str().unwrap_or("")
}

fn new_image() -> Patch {
    Patch::Json(json!([
        { "op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "b" },
    ]))
}

fn count(object: &Object, field: &str) -> i64 {
    object.int(&["status", field]).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_rolls_and_takes_its_pods_with_it() {
    let cluster = Cluster::start().await;
    cluster.create(DEPLOYMENTS, workload("apps/v1", "Deployment", &json!({"replicas": 3}))).await;
    let done = |d: &Object| {
        d.generation() == count(d, "observedGeneration")
            && ["updatedReplicas", "availableReplicas", "replicas"].iter().all(|f| count(d, f) == 3)
    };
    cluster.until(DEPLOYMENTS, |all| all.iter().any(|d| done(d))).await;
    let patched =
        cluster.client.patch(DEPLOYMENTS, "default", "deployment", "", &new_image()).await;
    let generation = patched.expect("a good patch").generation();
    cluster
        .until(DEPLOYMENTS, |all| all.iter().any(|d| d.generation() >= generation && done(d)))
        .await;
    cluster.until(PODS, |all| all.len() == 3 && all.iter().all(|pod| image(pod) == "b")).await;
    cluster.until(REPLICA_SETS, |all| all.len() == 2).await;
    let options = json!({ "propagationPolicy": "Foreground" });
    let deleted = cluster.client.delete(DEPLOYMENTS, "default", "deployment", options).await;
    deleted.expect("it is there");
    cluster.until(DEPLOYMENTS, <[_]>::is_empty).await;
    cluster.until(REPLICA_SETS, <[_]>::is_empty).await;
    cluster.until(PODS, <[_]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stateful_pods_keep_their_names() {
    let cluster = Cluster::start().await;
    let set = workload("apps/v1", "StatefulSet", &json!({"replicas": 2, "serviceName": "s"}));
    cluster.create(STATEFUL_SETS, set).await;
    let names = |all: &[std::sync::Arc<Object>]| -> Vec<String> {
        all.iter().map(|pod| pod.name().to_owned()).collect()
    };
    cluster.until(PODS, |all| names(all) == ["statefulset-0", "statefulset-1"]).await;
    cluster
        .until(STATEFUL_SETS, |all| all.iter().any(|s| count(s, "availableReplicas") == 2))
        .await;
    let patch = new_image();
    let patched = cluster.client.patch(STATEFUL_SETS, "default", "statefulset", "", &patch).await;
    patched.expect("a good patch");
    cluster
        .until(PODS, |all| {
            names(all) == ["statefulset-0", "statefulset-1"] && all.iter().all(|p| image(p) == "b")
        })
        .await;
    cluster
        .until(STATEFUL_SETS, |all| {
            let revision = |s: &Object, field| s.str(&["status", field]).to_owned();
            all.iter().any(|s| revision(s, "currentRevision") == revision(s, "updateRevision"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_count_each_end_once() {
    let cluster = Cluster::start().await;
    let mut template = template("job", "a");
    template["spec"]["restartPolicy"] = "Never".into();
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "job", "namespace": "default" },
        "spec": { "completions": 5, "parallelism": 2, "template": template },
    });
    cluster.create(JOBS, job).await;
    let complete = |job: &Object| {
        let conditions = job.list(&["status", "conditions"]);
        conditions.iter().any(|c| c["type"] == "Complete" && c["status"] == "True")
    };
    cluster.until(JOBS, |all| all.iter().any(|job| complete(job))).await;
    cluster.until(JOBS, |all| all.iter().all(|job| count(job, "succeeded") == 5)).await;
    cluster
        .until(PODS, |all| all.len() == 5 && all.iter().all(|p| p.finalizers().is_empty()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_gets_its_daemon() {
    let cluster = Cluster::start().await;
    cluster.create(DAEMON_SETS, workload("apps/v1", "DaemonSet", &json!({}))).await;
    for name in ["n1", "n2"] {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        cluster.create(NODES, node).await;
    }
    cluster.until(DAEMON_SETS, |all| all.iter().any(|d| count(d, "numberAvailable") == 2)).await;
    cluster
        .until(NODES, |all| all.iter().all(|n| n.str(&["spec", "podCIDR"]).starts_with("10.244.")))
        .await;
    let deleted = cluster.client.delete(NODES, "", "n1", Value::Null).await;
    deleted.expect("it is there");
    cluster.until(PODS, |all| all.len() == 1).await;
}

fn pod(name: &str, app: &str, finalizers: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "labels": { "app": app }, "finalizers": finalizers,
        },
        "spec": { "containers": [{ "name": "c", "image": "a" }] },
    })
}

const TRACKED: &str = "batch.kubernetes.io/job-tracking";

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_a_job_takes_in_are_counted_and_those_it_lets_go_are_free() {
    let cluster = Cluster::start().await;
    cluster.create(PODS, pod("mine", "job", &[])).await;
    let mut template = template("job", "a");
    template["spec"]["restartPolicy"] = "Never".into();
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "job", "namespace": "default" },
        "spec": {
            "manualSelector": true, "selector": { "matchLabels": { "app": "job" } },
            "template": template,
        },
    });
    cluster.create(JOBS, job).await;
    let mine = |wanted: &'static [&'static str]| {
        move |all: &[std::sync::Arc<Object>]| {
            let mut mine = all.iter().filter(|pod| pod.name() == "mine");
            let owners = |pod: &Object| pod.list(&["metadata", "ownerReferences"]).len();
            mine.any(|pod| pod.finalizers() == wanted && owners(pod) == wanted.len())
        }
    };
    cluster.until(PODS, mine(&[TRACKED])).await;
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "app": "other" } } }));
    cluster.client.patch(PODS, "default", "mine", "", &patch).await.expect("a good patch");
    cluster.until(PODS, mine(&[])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_keeps_a_counted_pod_without_a_job() {
    let cluster = Cluster::start().await;
    cluster.create(PODS, pod("lost", "job", &[TRACKED])).await;
    let options = json!({ "gracePeriodSeconds": 0 });
    cluster.client.delete(PODS, "default", "lost", options).await.expect("it is there");
    cluster.until(PODS, <[_]>::is_empty).await;
}
