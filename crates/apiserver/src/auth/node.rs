//! The Node authorizer: a node sees what its pods need and writes about itself.
//!
//! Upstream keeps a graph of all pods; here the few pods of the namespace in question are looked
//! at when a node asks.
//!
//! upstream: plugin/pkg/auth/authorizer/node/node_authorizer.go

use std::sync::Arc;

use longshore_api::Object;
use longshore_api::patch::gotext;
use longshore_api::selector::FieldSelector;
use serde_json::Value;

use super::rule::PolicyRule;
use super::{Attributes, Decision};
use crate::reader::Reader;

/// Marks pods that only mirror what a node runs from its own files.
const MIRROR_POD: &str = "kubernetes.io/config.mirror";

/// Authorizes requests of nodes.
pub struct NodeAuthorizer {
    reader: Arc<dyn Reader>,
    /// What all nodes may do.
    rules: Vec<PolicyRule>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ResourceClaim,
    Attachment,
    Account,
    Slice,
    Pod,
}

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion(reason.into())
}

fn yes() -> Decision {
    Decision::Allow(String::new())
}

impl NodeAuthorizer {
    /// An authorizer with the rules of the cluster role `system:node`.
    pub fn new(reader: Arc<dyn Reader>, rules: Vec<PolicyRule>) -> Self {
        Self { reader, rules }
    }

    /// Whether a node may do something; other users get no opinion.
    pub fn authorize(&self, a: &Attributes<'_>) -> Decision {
        if !a.user.is_node() {
            return no("");
        }
        let Some(node) = a.user.node_name() else {
            return no(format!("unknown node for user {}", gotext::quote(&a.user.name)));
        };
        if a.resource_request {
            match (a.group, a.resource) {
                ("", "secrets") => return self.read(node, Target::Secret, a),
                ("", "configmaps") => return self.read(node, Target::ConfigMap, a),
                ("", "persistentvolumeclaims") if a.subresource == "status" => {
                    return match a.verb {
                        "update" | "patch" => self.related(node, Target::Claim, a),
                        _ => no("can only get/update/patch this type"),
                    };
                }
                ("", "persistentvolumeclaims") => return self.get(node, Target::Claim, a),
                ("", "persistentvolumes") => return self.get(node, Target::Volume, a),
                ("resource.k8s.io", "resourceclaims") => {
                    return self.get(node, Target::ResourceClaim, a);
                }
                ("storage.k8s.io", "volumeattachments") => {
                    return self.get(node, Target::Attachment, a);
                }
                ("", "serviceaccounts") => return self.service_account(node, a),
                ("coordination.k8s.io", "leases") => return lease(node, a),
                ("storage.k8s.io", "csinodes") => return csi_node(node, a),
                ("resource.k8s.io", "resourceslices") => return self.slice(node, a),
                ("", "nodes") => return own_node(node, a),
                ("", "pods") => return self.pod(node, a),
                ("certificates.k8s.io", "podcertificaterequests") => return no(""),
                _ => {}
            }
        }
        if self.rules.iter().any(|rule| rule.allows(a)) { yes() } else { no("") }
    }

    fn read(&self, node: &str, target: Target, a: &Attributes<'_>) -> Decision {
        if !a.is_read_only() {
            return no("can only read resources of this type");
        }
        if !a.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if a.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(node, target, a)
    }

    fn get(&self, node: &str, target: Target, a: &Attributes<'_>) -> Decision {
        if a.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !a.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(node, target, a)
    }

    fn related(&self, node: &str, target: Target, a: &Attributes<'_>) -> Decision {
        if a.name.is_empty() {
            return no("No Object name found");
        }
        if self.is_related(node, target, a.namespace, a.name) {
            return yes();
        }
        no(format!("no relationship found between node '{node}' and this object"))
    }

    fn service_account(&self, node: &str, a: &Attributes<'_>) -> Decision {
        if a.verb == "get" && a.subresource.is_empty() {
            return self.read(node, Target::Account, a);
        }
        if a.verb != "create" || a.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if a.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(node, Target::Account, a)
    }

    fn slice(&self, node: &str, a: &Attributes<'_>) -> Decision {
        if !a.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match a.verb {
            // Admission checks that the new object is the node's own.
            "create" => yes(),
            "get" | "update" | "patch" | "delete" => self.related(node, Target::Slice, a),
            "watch" | "list" | "deletecollection" if selects(a, "spec.nodeName", node) => yes(),
            "watch" | "list" | "deletecollection" => no(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => no("only the following verbs are allowed for a ResourceSlice: get, watch, list, \
                     create, update, patch, delete, deletecollection"),
        }
    }

    fn pod(&self, node: &str, a: &Attributes<'_>) -> Decision {
        match (a.subresource, a.verb) {
            ("", "get") => self.get(node, Target::Pod, a),
            ("", "list" | "watch") if selects(a, "spec.nodeName", node) => yes(),
            ("", "list" | "watch") if !a.name.is_empty() => self.related(node, Target::Pod, a),
            ("", "list" | "watch") => {
                no("can only list/watch pods with spec.nodeName field selector")
            }
            // Admission limits these to mirror pods and to the node's own pods.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                yes()
            }
            _ => no(""),
        }
    }

    fn is_related(&self, node: &str, target: Target, namespace: &str, name: &str) -> bool {
        let on_node = |group: &str, resource: &str| {
            self.reader
                .get(group, resource, "", name)
                .is_some_and(|object| object.str(&["spec", "nodeName"]) == node)
        };
        match target {
            Target::Pod => self
                .reader
                .get("", "pods", namespace, name)
                .is_some_and(|pod| pod.str(&["spec", "nodeName"]) == node),
            Target::Attachment => on_node("storage.k8s.io", "volumeattachments"),
            Target::Slice => on_node("resource.k8s.io", "resourceslices"),
            Target::Volume => self
                .reader
                .get("", "persistentvolumes", "", name)
                .is_some_and(|volume| self.volume_used(node, &volume)),
            Target::Secret => {
                self.pod_uses(node, namespace, |pod| uses_secret(pod, name))
                    || self.volume_secret(node, namespace, name)
            }
            Target::ConfigMap => self.pod_uses(node, namespace, |pod| uses_config(pod, name)),
            Target::Claim => self.pod_uses(node, namespace, |pod| uses_claim(pod, name)),
            Target::ResourceClaim => {
                self.pod_uses(node, namespace, |pod| uses_resource_claim(pod, name))
            }
            Target::Account => self
                .pod_uses(node, namespace, |pod| pod.str(&["spec", "serviceAccountName"]) == name),
        }
    }

    fn pod_uses(&self, node: &str, namespace: &str, uses: impl Fn(&Object) -> bool) -> bool {
        // A node may make mirror pods: they must not open anything to it.
        self.reader.list("", "pods", namespace).iter().any(|pod| {
            pod.str(&["spec", "nodeName"]) == node
                && pod.annotation(MIRROR_POD).is_none()
                && uses(pod)
        })
    }

    fn volume_used(&self, node: &str, volume: &Object) -> bool {
        let claim = |key: &str| volume.str(&["spec", "claimRef", key]);
        !claim("name").is_empty()
            && self.pod_uses(node, claim("namespace"), |pod| uses_claim(pod, claim("name")))
    }

    /// Secrets that a volume names for the node that mounts it.
    fn volume_secret(&self, node: &str, namespace: &str, name: &str) -> bool {
        const PUBLISHED: [&str; 3] =
            ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"];
        self.reader.list("", "persistentvolumes", "").iter().any(|volume| {
            PUBLISHED.iter().any(|key| {
                let part = |field: &str| volume.str(&["spec", "csi", key, field]);
                part("name") == name && part("namespace") == namespace
            }) && self.volume_used(node, volume)
        })
    }
}

/// Whether the request's field selector demands a value.
fn selects(a: &Attributes<'_>, field: &str, value: &str) -> bool {
    FieldSelector::parse(a.field_selector).is_ok_and(|selector| {
        selector.requirements().iter().any(|r| r.field == field && r.equal && r.value == value)
    })
}

fn own_node(node: &str, a: &Attributes<'_>) -> Decision {
    match (a.subresource, a.verb) {
        // Admission limits these to the node's own object.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => yes(),
        ("", "get" | "list" | "watch") if a.name == node => yes(),
        ("", "get" | "list" | "watch") if a.name.is_empty() => {
            no(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            no(format!("node '{node}' cannot read '{}', only its own Node object", a.name))
        }
        _ => no(""),
    }
}

fn lease(node: &str, a: &Attributes<'_>) -> Decision {
    if !matches!(a.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if a.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    if a.verb != "create" && a.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    yes()
}

fn csi_node(node: &str, a: &Attributes<'_>) -> Decision {
    if !matches!(a.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !a.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if a.verb != "create" && a.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    yes()
}

fn containers(pod: &Object) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| pod.list(&["spec", list]))
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// Whether environment variables refer to a secret (`secretRef`, `secretKeyRef`) or config map.
fn env_uses(pod: &Object, from: &str, key_ref: &str, name: &str) -> bool {
    containers(pod).any(|container| {
        items(container, "envFrom").any(|e| e[from]["name"] == name)
            || items(container, "env").any(|e| e["valueFrom"][key_ref]["name"] == name)
    })
}

// upstream: pkg/api/v1/pod/util.go VisitPodSecretNames
fn uses_secret(pod: &Object, name: &str) -> bool {
    const NAMED: [&str; 6] = ["cephfs", "rbd", "iscsi", "flexVolume", "scaleIO", "storageos"];
    pod.list(&["spec", "imagePullSecrets"]).iter().any(|secret| secret["name"] == name)
        || env_uses(pod, "secretRef", "secretKeyRef", name)
        || pod.list(&["spec", "volumes"]).iter().any(|volume| {
            volume["secret"]["secretName"] == name
                || volume["azureFile"]["secretName"] == name
                || volume["csi"]["nodePublishSecretRef"]["name"] == name
                || NAMED.iter().any(|kind| volume[kind]["secretRef"]["name"] == name)
                || items(&volume["projected"], "sources").any(|s| s["secret"]["name"] == name)
        })
}

// upstream: pkg/api/v1/pod/util.go VisitPodConfigmapNames
fn uses_config(pod: &Object, name: &str) -> bool {
    env_uses(pod, "configMapRef", "configMapKeyRef", name)
        || pod.list(&["spec", "volumes"]).iter().any(|volume| {
            volume["configMap"]["name"] == name
                || items(&volume["projected"], "sources").any(|s| s["configMap"]["name"] == name)
        })
}

fn uses_claim(pod: &Object, name: &str) -> bool {
    pod.list(&["spec", "volumes"]).iter().any(|volume| {
        volume["persistentVolumeClaim"]["claimName"] == name
            || (volume["ephemeral"].is_object()
                && name.strip_prefix(pod.name()).and_then(|rest| rest.strip_prefix('-'))
                    == volume["name"].as_str())
    })
}

fn uses_resource_claim(pod: &Object, name: &str) -> bool {
    pod.list(&["spec", "resourceClaims"]).iter().any(|claim| claim["resourceClaimName"] == name)
        || pod
            .list(&["status", "resourceClaimStatuses"])
            .iter()
            .any(|status| status["resourceClaimName"] == name)
        || pod.str(&["status", "extendedResourceClaimStatus", "resourceClaimName"]) == name
}
