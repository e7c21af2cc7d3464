//! Targets of autoscalers follow what is measured.

use longshore_api::Object;
use longshore_client::resource::{
    CUSTOM_RESOURCE_DEFINITIONS, DEPLOYMENTS, EVENTS, HORIZONTAL_POD_AUTOSCALERS, PODS,
};
use longshore_client::{Patch, Resource};
use serde_json::{Value, json};

use crate::cluster::Cluster;

const METRICS: Resource =
    Resource { group: "metrics.k8s.io", version: "v1beta1", plural: "pods", kind: "PodMetrics" };

/// Serves the API of metrics from objects that the test writes.
async fn serve_metrics(cluster: &Cluster) {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "pods.metrics.k8s.io",
            "annotations": { "api-approved.kubernetes.io": "unapproved, for a test" },
        },
        "spec": {
            "group": "metrics.k8s.io", "scope": "Namespaced",
            "names": { "plural": "pods", "kind": "PodMetrics" },
            "versions": [{
                "name": "v1beta1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }},
            }],
        },
    });
    cluster.create(CUSTOM_RESOURCE_DEFINITIONS, definition).await;
    let established = |found: Option<&Object>| {
        let conditions = found.map_or(&[][..], |object| object.list(&["status", "conditions"]));
        conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True")
    };
    let of = CUSTOM_RESOURCE_DEFINITIONS;
    cluster.until_shown(of, "", "pods.metrics.k8s.io", established).await;
}

/// Says that a pod uses so much memory.
async fn measure(cluster: &Cluster, pod: &str, memory: &str) {
    let metrics = json!({
        "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
        "metadata": { "name": pod, "namespace": "default", "labels": { "app": "web" } },
        "timestamp": "2026-01-01T00:00:00Z", "window": "30s",
        "containers": [{ "name": "c", "usage": { "memory": memory } }],
    });
    if cluster.client.find(METRICS, "default", pod).await.expect("an answer").is_none() {
        cluster.create(METRICS, metrics).await;
    } else {
        let patched =
            cluster.client.patch(METRICS, "default", pod, "", &Patch::Merge(metrics)).await;
        patched.expect("a good patch");
    }
}

fn condition<'a>(autoscaler: &'a Object, kind: &str) -> &'a Value {
    let conditions = autoscaler.list(&["status", "conditions"]);
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_grows_and_shrinks_with_what_its_pods_use() {
    let cluster = Cluster::start().await;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{
                    "name": "c", "image": "a", "resources": { "requests": { "memory": "100Mi" } },
                }]},
            },
        },
    });
    cluster.create(DEPLOYMENTS, deployment).await;
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
            "minReplicas": 1, "maxReplicas": 5,
            "metrics": [{ "type": "Resource", "resource": {
                "name": "memory", "target": { "type": "Utilization", "averageUtilization": 50 },
            }}],
            "behavior": { "scaleDown": { "stabilizationWindowSeconds": 0 } },
        },
    });
    cluster.create(HORIZONTAL_POD_AUTOSCALERS, autoscaler).await;
    // Nobody measures yet.
    let nothing = "failed to get memory utilization: unable to get metrics for resource memory: \
                   unable to fetch metrics from resource metrics API: the server could not find \
                   the requested resource (get pods.metrics.k8s.io)";
    cluster
        .until(HORIZONTAL_POD_AUTOSCALERS, |all| {
            all.iter().any(|autoscaler| {
                let active = condition(autoscaler, "ScalingActive");
                active["reason"] == "FailedGetResourceMetric"
                    && active["message"].as_str().is_some_and(|text| text.ends_with(nothing))
            })
        })
        .await;
    serve_metrics(&cluster).await;
    let names = |all: &[std::sync::Arc<Object>]| -> Vec<String> {
        let alive = all.iter().filter(|pod| pod.label("app") == Some("web") && !pod.is_deleting());
        alive.map(|pod| pod.name().to_owned()).collect()
    };
    cluster.until(PODS, |all| names(all).len() == 1).await;
    let pods = cluster.client.list(PODS, "default", &Default::default()).await.expect("a list");
    let first = pods.items.iter().find(|pod| pod.label("app") == Some("web")).expect("one pod");
    // All that was asked for is twice the target. A second pod is needed, and enough.
    measure(&cluster, first.name(), "100Mi").await;
    let settled = |autoscaler: &Object, count: i64| {
        autoscaler.int(&["status", "currentReplicas"]) == Some(count)
            && autoscaler.int(&["status", "desiredReplicas"]) == Some(count)
            && condition(autoscaler, "ScalingActive")["reason"] == "ValidMetricFound"
    };
    cluster.until(HORIZONTAL_POD_AUTOSCALERS, |all| all.iter().any(|a| settled(a, 2))).await;
    cluster.until(PODS, |all| names(all).len() == 2).await;
    let rescaled = |event: &Object| {
        event.str(&["reason"]) == "SuccessfulRescale"
            && event.str(&["message"])
                == "New size: 2; reason: memory resource utilization (percentage of request) above \
                    target"
    };
    cluster.until(EVENTS, |all| all.iter().any(|event| rescaled(event))).await;
    let list = cluster.client.list(PODS, "default", &Default::default()).await.expect("a list");
    let all: Vec<_> = list.items.into_iter().map(std::sync::Arc::new).collect();
    for pod in names(&all) {
        measure(&cluster, &pod, "10Mi").await;
    }
    cluster.until(HORIZONTAL_POD_AUTOSCALERS, |all| all.iter().any(|a| settled(a, 1))).await;
    cluster.until(PODS, |all| names(all).len() == 1).await;
    let autoscaler = cluster.client.get(HORIZONTAL_POD_AUTOSCALERS, "default", "web").await;
    let autoscaler = autoscaler.expect("it is there");
    let metric = &autoscaler.list(&["status", "currentMetrics"])[0];
    let current = json!({ "averageUtilization": 10, "averageValue": "10Mi" });
    assert_eq!(metric["resource"]["current"], current);
    assert!(!autoscaler.str(&["status", "lastScaleTime"]).is_empty());
}
