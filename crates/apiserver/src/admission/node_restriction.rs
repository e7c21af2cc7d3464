//! Nodes write only about themselves and their pods, whatever the Node authorizer cannot see in
//! the path of a request.
//!
//! upstream: plugin/pkg/admission/noderestriction/admission.go

mod references;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_api::patch::gotext;
use longshore_api::{Object, StatusError, gostruct};
use serde_json::Value;

use self::references::referenced;
use super::certificates::common_name;
use super::resources::items;
use super::{Attributes, Operation, Plugin, Tools, Verdict};
use crate::auth::{self, Authorization};
use crate::reader::Reader;

const MIRROR_POD: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// Signers of the certificates that nodes ask for.
const SIGNERS: [&str; 2] =
    ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
/// Labels of Kubernetes that a node may set on itself.
///
/// upstream: staging/src/k8s.io/kubelet/pkg/apis/well_known_labels.go
const LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
/// Label prefixes that belong to nodes, with those below them.
const LABEL_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

pub(super) struct NodeRestriction {
    reader: Arc<dyn Reader>,
    authorization: Arc<Authorization>,
}

/// A request of a node.
struct Request<'a> {
    node: &'a str,
    a: &'a Attributes<'a>,
    object: Option<&'a Object>,
    old: Option<&'a Object>,
}

impl Request<'_> {
    fn refuse(&self, why: impl AsRef<str>) -> Verdict {
        Err(self.a.forbidden(self.object.or(self.old), why.as_ref()))
    }

    /// The node's name as it stands in messages.
    fn quoted(&self) -> String {
        gotext::quote(self.node)
    }

    fn unexpected(&self) -> Verdict {
        let operation = match self.a.operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        };
        self.refuse(format!("unexpected operation {}", gotext::quote(operation)))
    }

    /// Whether a field differs between the two states.
    fn changes(&self, path: &[&str]) -> bool {
        part(self.object, path) != part(self.old, path)
    }

    /// Name in the object for creates, in the path for other requests.
    fn name(&self) -> &str {
        if self.a.creates() { self.object.map_or("", Object::name) } else { self.a.name }
    }
}

fn part<'a>(object: Option<&'a Object>, path: &[&str]) -> Option<&'a Value> {
    object.and_then(|object| object.get(path)).and_then(meaning)
}

/// An empty list or object means nothing.
fn meaning(value: &Value) -> Option<&Value> {
    let empty = match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    (!empty).then_some(value)
}

impl NodeRestriction {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone(), authorization: tools.authorization.clone() }
    }

    fn admit(&self, a: &Attributes<'_>, object: Option<&Object>, old: Option<&Object>) -> Verdict {
        if !a.user.is_node() || a.operation == Operation::Connect {
            return Ok(());
        }
        let Some(node) = a.user.node_name() else {
            let user = gotext::quote(&a.user.name);
            return Err(a.forbidden(object, &format!("could not determine node from user {user}")));
        };
        let r = Request { node, a, object, old };
        match (&*a.resource.group, &*a.resource.plural, a.subresource) {
            ("", "pods", "") => self.pod(&r),
            ("", "pods", "status") => pod_status(&r),
            ("", "pods", "eviction") => self.eviction(&r),
            ("", "pods", other) => r.refuse(format!(
                "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
                gotext::quote(other)
            )),
            ("", "nodes", _) => own_node(&r),
            ("", "persistentvolumeclaims", "status") => claim_status(&r),
            ("", "persistentvolumeclaims", _) => r.refuse("may only update PVC status"),
            ("", "serviceaccounts", "token") => self.token(&r),
            ("certificates.k8s.io", "podcertificaterequests", _) => {
                r.refuse("PodCertificateRequest feature gate is disabled")
            }
            ("coordination.k8s.io", "leases", _) => lease(&r),
            ("storage.k8s.io", "csinodes", _) if r.name() != node => {
                r.refuse("can only access CSINode with the same name as the requesting node")
            }
            ("resource.k8s.io", "resourceslices", _) => slice(&r),
            ("certificates.k8s.io", "certificatesigningrequests", _) => signing(&r),
            _ => Ok(()),
        }
    }

    fn existing_pod(&self, namespace: &str, name: &str) -> Result<Arc<Object>, StatusError> {
        let found = self.reader.get("", "pods", namespace, name);
        found.ok_or_else(|| StatusError::not_found("", "pod", name))
    }

    fn pod(&self, r: &Request<'_>) -> Verdict {
        match (r.a.operation, r.object) {
            (Operation::Create, Some(pod)) => self.mirror_pod(r, pod),
            (Operation::Delete, _) => {
                let pod = self.existing_pod(r.a.namespace, r.a.name)?;
                if pod.str(&["spec", "nodeName"]) == r.node {
                    return Ok(());
                }
                let node = r.quoted();
                r.refuse(format!(
                    "node {node} can only delete pods with spec.nodeName set to itself"
                ))
            }
            _ => r.refuse(format!(
                "unexpected operation \"UPDATE\", node {} can only create and delete mirror pods",
                r.quoted()
            )),
        }
    }

    fn mirror_pod(&self, r: &Request<'_>, pod: &Object) -> Verdict {
        let node = r.quoted();
        if pod.annotation(MIRROR_POD).is_none() {
            return r.refuse(format!(
                "pod does not have \"{MIRROR_POD}\" annotation, node {node} can only create mirror pods"
            ));
        }
        if pod.str(&["spec", "nodeName"]) != r.node {
            return r.refuse(format!(
                "node {node} can only create pods with spec.nodeName set to itself"
            ));
        }
        let none =
            format!("node {node} can only create pods with an owner reference set to itself");
        let owner = match pod.list(&["metadata", "ownerReferences"]) {
            [] => return r.refuse(none),
            [owner] => owner,
            _ => {
                return r.refuse(format!(
                    "node {node} can only create pods with a single owner reference set to itself"
                ));
            }
        };
        if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != r.node {
            return r.refuse(none);
        }
        if owner["controller"] != true {
            return r.refuse(format!(
                "node {node} can only create pods with a controller owner reference set to itself"
            ));
        }
        if owner["blockOwnerDeletion"] == true {
            return r.refuse(format!(
                "node {node} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let own = self.reader.get("", "nodes", "", r.node);
        let own = own.ok_or_else(|| StatusError::not_found("", "node", r.node))?;
        if owner["uid"] != own.uid() {
            let uid = owner["uid"].as_str().unwrap_or("");
            let why = format!("node {} UID mismatch: expected {uid} got {}", r.node, own.uid());
            return r.refuse(why);
        }
        match referenced(pod) {
            Some(what) => {
                r.refuse(format!("node {node} can not create pods that reference {what}"))
            }
            None => Ok(()),
        }
    }

    fn eviction(&self, r: &Request<'_>) -> Verdict {
        if !r.a.creates() {
            return r.unexpected();
        }
        let own = r.object.map_or("", Object::name);
        let name = if r.a.name.is_empty() { own } else { r.a.name };
        if name.is_empty() {
            return r.refuse("could not determine pod from request data");
        }
        let pod = self.existing_pod(r.a.namespace, name)?;
        if pod.str(&["spec", "nodeName"]) == r.node {
            return Ok(());
        }
        r.refuse(format!("node {} can only evict pods with spec.nodeName set to itself", r.node))
    }

    fn token(&self, r: &Request<'_>) -> Verdict {
        let Some(request) = r.object.filter(|_| r.a.creates()) else { return Ok(()) };
        let bound = |key: &str| request.str(&["spec", "boundObjectRef", key]);
        if bound("apiVersion") != "v1" || bound("kind") != "Pod" || bound("name").is_empty() {
            return r.refuse("node requested token not bound to a pod");
        }
        if bound("uid").is_empty() {
            return r.refuse("node requested token with a pod binding without a uid");
        }
        let pod = self.existing_pod(r.a.namespace, bound("name"))?;
        if bound("uid") != pod.uid() {
            return r.refuse(format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                bound("uid")
            ));
        }
        if pod.str(&["spec", "nodeName"]) != r.node {
            return r.refuse("node requested token bound to a pod scheduled on a different node");
        }
        let audience = match request.list(&["spec", "audiences"]) {
            [] => "",
            [one] => one.as_str().unwrap_or(""),
            _ => return r.refuse("node may only request 0 or 1 audiences"),
        };
        self.audience(r, &pod, audience)
    }

    /// A node gets tokens for the audiences that the volumes of its pod name, or that it has a
    /// right to.
    fn audience(&self, r: &Request<'_>, pod: &Object, audience: &str) -> Verdict {
        let mut errors = Vec::new();
        for volume in pod.list(&["spec", "volumes"]) {
            let tokens = items(&volume["projected"], "sources").map(|s| &s["serviceAccountToken"]);
            let mut own = tokens.filter(|token| token.is_object());
            if own.any(|token| token["audience"].as_str().unwrap_or("") == audience) {
                return Ok(());
            }
            match self.driver_has(pod, volume, audience) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => errors.push(error.message),
            }
        }
        let quoted = gotext::quote(audience);
        match errors.as_slice() {
            [] => {}
            [one] => return r.refuse(format!("error validating audience {quoted}: {one}")),
            all => {
                let all = all.join(", ");
                return r.refuse(format!("error validating audience {quoted}: [{all}]"));
            }
        }
        let verb = "request-serviceaccounts-token-audience";
        let (namespace, name) = (r.a.namespace, r.a.name);
        let ask = auth::Attributes {
            version: "v1",
            ..auth::Attributes::for_resource(r.a.user, verb, "", audience, namespace, name)
        };
        if self.authorization.authorize(&ask).is_allowed() {
            return Ok(());
        }
        r.refuse(format!(
            "audience {quoted} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            r.a.user.name
        ))
    }

    /// Whether the CSI driver behind a volume asks for tokens of an audience.
    fn driver_has(
        &self,
        pod: &Object,
        volume: &Value,
        audience: &str,
    ) -> Result<bool, StatusError> {
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let claim = if volume["ephemeral"]["volumeClaimTemplate"].is_object() {
            format!("{}-{}", pod.name(), text(&volume["name"]))
        } else {
            text(&volume["persistentVolumeClaim"]["claimName"])
        };
        let find = |resource: &str, kind: &str, namespace: &str, name: &str| {
            let group = if resource == "csidrivers" { "storage.k8s.io" } else { "" };
            let found = self.reader.get(group, resource, namespace, name);
            found.ok_or_else(|| StatusError::not_found(group, kind, name))
        };
        let driver = if claim.is_empty() {
            text(&volume["csi"]["driver"])
        } else {
            let namespace = pod.namespace();
            let kind = "persistentvolumeclaim";
            let claim = find("persistentvolumeclaims", kind, namespace, &claim)?;
            let name = claim.str(&["spec", "volumeName"]);
            let volume = find("persistentvolumes", "persistentvolume", "", name)?;
            volume.str(&["spec", "csi", "driver"]).to_owned()
        };
        if driver.is_empty() {
            return Ok(false);
        }
        let driver = find("csidrivers", "csidriver", "", &driver)?;
        let mut requests = driver.list(&["spec", "tokenRequests"]).iter();
        Ok(requests.any(|request| request["audience"].as_str().unwrap_or("") == audience))
    }
}

fn pod_status(r: &Request<'_>) -> Verdict {
    if !r.a.updates() {
        return r.unexpected();
    }
    let node = r.quoted();
    if r.old.map_or("", |old| old.str(&["spec", "nodeName"])) != r.node {
        return r.refuse(format!(
            "node {node} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if r.changes(&["metadata", "labels"]) {
        return r.refuse(format!("node {node} cannot update labels through pod status"));
    }
    if r.changes(&["status", "resourceClaimStatuses"]) {
        return r.refuse(format!("node {node} cannot update resource claim statues"));
    }
    if r.changes(&["status", "extendedResourceClaimStatus"]) {
        return r.refuse(format!("node {node} cannot update extended resource claim status"));
    }
    Ok(())
}

fn own_node(r: &Request<'_>) -> Verdict {
    let node = r.quoted();
    let name = r.a.name;
    if name != r.node {
        let other = gotext::quote(name);
        return r.refuse(format!("node {node} is not allowed to modify node {other}"));
    }
    let has_source = r
        .object
        .is_some_and(|o| o.get(&["spec", "configSource"]).is_some_and(|source| !source.is_null()));
    let labels = forbidden_labels(r);
    match r.a.operation {
        Operation::Create if has_source => r.refuse(format!(
            "node {node} is not allowed to create pods with a non-nil configSource"
        )),
        Operation::Create if !labels.is_empty() => {
            r.refuse(format!("node {node} is not allowed to set the following labels: {labels}"))
        }
        Operation::Update if has_source && r.changes(&["spec", "configSource"]) => {
            r.refuse(format!(
                "node {node} is not allowed to update configSource to a new non-nil configSource"
            ))
        }
        Operation::Update if r.changes(&["spec", "taints"]) => {
            r.refuse(format!("node {node} is not allowed to modify taints"))
        }
        Operation::Update if r.changes(&["metadata", "ownerReferences"]) => {
            r.refuse(format!("node {node} is not allowed to modify ownerReferences"))
        }
        Operation::Update if !labels.is_empty() => {
            r.refuse(format!("is not allowed to modify labels: {labels}"))
        }
        _ => Ok(()),
    }
}

/// The changed labels that a node may not change, as a list.
fn forbidden_labels(r: &Request<'_>) -> String {
    let all = |object: Option<&Object>| -> BTreeSet<(String, String)> {
        let labels = object.and_then(Object::labels).into_iter().flatten();
        labels.map(|(key, value)| (key.clone(), value.to_string())).collect()
    };
    let (new, old) = (all(r.object), all(r.old));
    let changed: BTreeSet<&str> =
        new.symmetric_difference(&old).map(|(key, _)| key.as_str()).collect();
    let forbidden: Vec<&str> = changed.into_iter().filter(|key| is_forbidden(key)).collect();
    forbidden.join(", ")
}

fn is_forbidden(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| {
        domain.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let ours = within("kubernetes.io") || within("k8s.io");
    let allowed = LABELS.contains(&label) || LABEL_DOMAINS.iter().any(|domain| within(domain));
    within(RESTRICTED) || ours && !allowed
}

fn claim_status(r: &Request<'_>) -> Verdict {
    if !r.a.updates() {
        return r.unexpected();
    }
    let (Some(new), Some(old)) = (r.object, r.old) else { return Ok(()) };
    let compared = |object: &Object| {
        let mut object = object.clone();
        for field in ["resourceVersion", "managedFields"] {
            object.remove(&["metadata", field]);
        }
        for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            object.remove(&["status", field]);
        }
        object
    };
    let (new, old) = (compared(new), compared(old));
    let (old, new) = (old.into_value(), new.into_value());
    if same(&old, &new) {
        return Ok(());
    }
    r.refuse(format!(
        "node {} is not allowed to update fields other than status.quantity and status.conditions: {}",
        r.quoted(),
        gostruct::difference("core/v1.PersistentVolumeClaim", &old, &new)
    ))
}

/// Whether two trees mean the same.
fn same(old: &Value, new: &Value) -> bool {
    match (old, new) {
        _ if meaning(old) == meaning(new) => true,
        (Value::Object(a), Value::Object(b)) => {
            let mut keys = a.keys().chain(b.keys());
            keys.all(|key| same(&old[key], &new[key]))
        }
        _ => false,
    }
}

fn lease(r: &Request<'_>) -> Verdict {
    if r.a.namespace != LEASES {
        return r.refuse(format!("can only access leases in the \"{LEASES}\" system namespace"));
    }
    if r.name() != r.node {
        return r.refuse("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn slice(r: &Request<'_>) -> Verdict {
    let (word, slice) = match r.a.operation {
        Operation::Create => ("create", r.object),
        Operation::Delete => ("delete", r.old),
        _ => return Ok(()),
    };
    if slice.map_or("", |slice| slice.str(&["spec", "nodeName"])) == r.node {
        return Ok(());
    }
    r.refuse(format!("can only {word} ResourceSlice with the same NodeName as the requesting node"))
}

fn signing(r: &Request<'_>) -> Verdict {
    let Some(request) = r.object.filter(|_| r.a.creates()) else { return Ok(()) };
    if !SIGNERS.contains(&request.str(&["spec", "signerName"])) {
        return Ok(());
    }
    match common_name(request.str(&["spec", "request"])) {
        Err(why) => r.refuse(format!("unable to parse csr: {why}")),
        Ok(name) if name == r.a.user.name => Ok(()),
        Ok(_) => r.refuse(format!("can only create a node CSR with CN=system:node:{}", r.node)),
    }
}

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn mutate<'a>(
        &'a self,
        a: &'a Attributes<'a>,
        object: Option<&'a mut Object>,
        old: Option<&'a Object>,
    ) -> BoxFuture<'a, Verdict> {
        std::future::ready(self.admit(a, object.as_deref(), old)).boxed()
    }
}

#[cfg(test)]
mod tests;
