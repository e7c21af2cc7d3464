//! What API objects a pod refers to: mirror pods may refer to none.
//!
//! upstream: pkg/api/pod/util.go HasAPIObjectReference

use longshore_api::Object;
use serde_json::Value;

use crate::admission::resources::items;

/// Volume kinds that need nothing of the API.
const PLAIN: [&str; 22] = [
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];
/// Volume kinds that do, and what they need.
const NEEDING: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];
/// The same for the sources of projected volumes.
const PROJECTED: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];
/// Where volumes name a secret, besides those of a kind of their own.
const SECRETS: [(&str, &str); 9] = [
    ("cephfs", "secretRef"),
    ("cinder", "secretRef"),
    ("flexVolume", "secretRef"),
    ("rbd", "secretRef"),
    ("scaleIO", "secretRef"),
    ("iscsi", "secretRef"),
    ("storageos", "secretRef"),
    ("csi", "nodePublishSecretRef"),
    ("azureFile", "secretName"),
];

/// The first thing that a pod refers to, as messages name it; `None` when there is none.
pub(super) fn referenced(pod: &Object) -> Option<&'static str> {
    if !pod.str(&["spec", "serviceAccountName"]).is_empty() {
        return Some("serviceaccounts");
    }
    let volumes = pod.list(&["spec", "volumes"]);
    if !pod.list(&["spec", "imagePullSecrets"]).is_empty()
        || environment_names(pod, "secretRef", "secretKeyRef")
        || volumes.iter().any(names_secret)
    {
        return Some("secrets");
    }
    if environment_names(pod, "configMapRef", "configMapKeyRef")
        || volumes.iter().any(|volume| {
            volume["configMap"].is_object()
                || items(&volume["projected"], "sources").any(|s| s["configMap"].is_object())
        })
    {
        return Some("configmaps");
    }
    if !pod.list(&["spec", "resourceClaims"]).is_empty() {
        return Some("resourceclaims");
    }
    volumes.iter().find_map(needed_by)
}

fn needed_by(volume: &Value) -> Option<&'static str> {
    if PLAIN.iter().any(|kind| volume[kind].is_object()) {
        return None;
    }
    if let Some((_, what)) = NEEDING.iter().find(|(kind, _)| volume[kind].is_object()) {
        return Some(what);
    }
    items(&volume["projected"], "sources").find_map(|source| {
        let found = PROJECTED.iter().find(|(kind, _)| source[kind].is_object());
        found.map(|(_, what)| *what)
    })
}

fn names_secret(volume: &Value) -> bool {
    volume["secret"].is_object()
        || SECRETS.iter().any(|(kind, field)| !volume[kind][field].is_null())
        || items(&volume["projected"], "sources").any(|source| source["secret"].is_object())
}

fn environment_names(pod: &Object, from: &str, key: &str) -> bool {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let mut containers = lists.iter().flat_map(|list| pod.list(&["spec", list]));
    containers.any(|container| {
        items(container, "envFrom").any(|source| source[from].is_object())
            || items(container, "env").any(|env| env["valueFrom"][key].is_object())
    })
}
