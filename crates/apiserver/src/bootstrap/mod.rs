//! The objects every cluster starts with, and bringing a cluster's up to date.
//!
//! The facts are in the text tables beside this file; their first lines tell the form.
//!
//! upstream: plugin/pkg/auth/authorizer/rbac/bootstrappolicy, pkg/registry/rbac/rest/storage_rbac.go

mod apiservices;
mod flows;
mod rbac;
pub mod trust;

use futures_util::future::BoxFuture;
use longshore_api::{Gvr, Object, StatusError};
use serde_json::{Value, json};

use crate::auth::PolicyRule;
pub use apiservices::{AUTO_MANAGED, priorities};

/// Reads and writes objects as the API server itself.
pub trait Writer: Send + Sync {
    /// The stored object, or `None`. `namespace` is empty for cluster scope.
    fn get<'a>(
        &'a self,
        gvr: &'a Gvr,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Object>, StatusError>>;

    /// Creates an object; its namespace is in its metadata.
    fn create<'a>(&'a self, gvr: &'a Gvr, object: Object)
    -> BoxFuture<'a, Result<(), StatusError>>;

    /// Replaces an object; its resource version is the one that was read.
    fn update<'a>(&'a self, gvr: &'a Gvr, object: Object)
    -> BoxFuture<'a, Result<(), StatusError>>;
}

/// Every default object with the resource it belongs to, in the order to create them: namespaces
/// first.
pub fn objects() -> Vec<(Gvr, Object)> {
    let mut out = Vec::new();
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        let labels = json!({"kubernetes.io/metadata.name": name});
        out.push(object(
            "",
            "v1",
            "namespaces",
            "Namespace",
            json!({"labels": labels, "name": name}),
        ));
    }
    for (name, value, description) in PRIORITY_CLASSES {
        let (gvr, mut object) = object(
            "scheduling.k8s.io",
            "v1",
            "priorityclasses",
            "PriorityClass",
            json!({ "name": name }),
        );
        object.set(&["value"], value);
        object.set(&["description"], description);
        object.set(&["preemptionPolicy"], "PreemptLowerPriority");
        out.push((gvr, object));
    }
    out.extend(flows::objects());
    out.extend(apiservices::objects());
    out.extend(rbac::objects());
    out
}

/// upstream: pkg/apis/scheduling/v1/helpers.go
const PRIORITY_CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another \
         node if necessary.",
    ),
];

/// What all nodes may do: the rules of the cluster role `system:node`.
pub fn node_rules() -> Vec<PolicyRule> {
    rbac::objects()
        .into_iter()
        .find(|(gvr, role)| gvr.resource == "clusterroles" && role.name() == "system:node")
        .map(|(_, role)| PolicyRule::list_from(role.list(&["rules"])))
        .unwrap_or_default()
}

fn object(
    group: &str,
    version: &str,
    resource: &str,
    kind: &str,
    metadata: Value,
) -> (Gvr, Object) {
    let gvr = Gvr::new(group, version, resource);
    let api_version = longshore_api::gvk::api_version(group, version);
    let value = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata});
    (gvr, Object::from_value(value).expect("built as an object"))
}

/// How often an object is looked at again that others change at the same time.
///
/// upstream: client-go/util/retry DefaultBackoff
const ATTEMPTS: usize = 5;

/// Creates an object that is missing, or brings it up to date; what an administrator changed is
/// kept. An object that others make or change at the same time is looked at again.
///
/// # Errors
/// What reading or writing has answered.
pub async fn ensure(writer: &dyn Writer, gvr: &Gvr, wanted: &Object) -> Result<(), StatusError> {
    for _ in 0..ATTEMPTS {
        match ensure_once(writer, gvr, wanted).await {
            Err(error) if error.code == 409 => {
                tracing::debug!(resource = %gvr, %error, "a default object changed meanwhile");
            }
            other => return other,
        }
    }
    let name = wanted.name();
    tracing::warn!(resource = %gvr, name, "a default object changes all the time: it stays as it is");
    Ok(())
}

async fn ensure_once(writer: &dyn Writer, gvr: &Gvr, wanted: &Object) -> Result<(), StatusError> {
    match writer.get(gvr, wanted.namespace(), wanted.name()).await? {
        None => writer.create(gvr, wanted.clone()).await,
        Some(found) => match reconcile(&found, wanted) {
            Some(changed) => writer.update(gvr, changed).await,
            None => Ok(()),
        },
    }
}

const RBAC_AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const FLOW_AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// The object to write so that `found` has what `wanted` has; `None` when nothing is to do.
///
/// upstream: pkg/registry/rbac/reconciliation
pub fn reconcile(found: &Object, wanted: &Object) -> Option<Object> {
    let mut changed = found.clone();
    match wanted.kind() {
        "ClusterRole" | "Role" | "ClusterRoleBinding" | "RoleBinding" => {
            if found.annotation(RBAC_AUTO_UPDATE) == Some("false") {
                return None;
            }
            for map in ["labels", "annotations"] {
                let entries = wanted.get(&["metadata", map]).and_then(Value::as_object);
                for (key, value) in entries.into_iter().flatten() {
                    if found.get(&["metadata", map]).and_then(|m| m.get(key)).is_none() {
                        changed.set(&["metadata", map, key], value.clone());
                    }
                }
            }
            if wanted.get(&["aggregationRule"]).is_some() {
                let rule = wanted.get(&["aggregationRule"]).cloned();
                if found.get(&["aggregationRule"]).is_none() {
                    changed.set(&["aggregationRule"], rule.unwrap_or_default());
                }
            }
            add_missing_rules(&mut changed, wanted);
            for subject in wanted.list(&["subjects"]) {
                if !changed.list(&["subjects"]).contains(subject) {
                    push(&mut changed, "subjects", subject.clone());
                }
            }
        }
        "FlowSchema" | "PriorityLevelConfiguration" => {
            if found.annotation(FLOW_AUTO_UPDATE) != Some("true") {
                return None;
            }
            changed.set(&["spec"], wanted.get(&["spec"]).cloned().unwrap_or_default());
        }
        // What was changed since the server started stays until it starts again.
        "APIService" if found.label(AUTO_MANAGED).is_some() => {
            changed.set(&["spec"], wanted.get(&["spec"]).cloned().unwrap_or_default());
        }
        "ConfigMap" if wanted.name() == trust::NAME => changed = trust::combine(found, wanted),
        _ => return None,
    }
    (changed != *found).then_some(changed)
}

fn push(object: &mut Object, list: &str, item: Value) {
    match object.get_mut(&[list]).and_then(Value::as_array_mut) {
        Some(items) => items.push(item),
        None => object.set(&[list], vec![item]),
    }
}

fn add_missing_rules(role: &mut Object, wanted: &Object) {
    let owned = PolicyRule::list_from(role.list(&["rules"]));
    let needed = PolicyRule::list_from(wanted.list(&["rules"]));
    for rule in PolicyRule::uncovered(&owned, &needed) {
        push(role, "rules", rule.to_value());
    }
}

/// Splits `a,b` and turns `core` into the core group's empty name.
fn words(text: &str) -> Vec<String> {
    let words = text.trim().split(',').filter(|word| !word.is_empty());
    words.map(|word| if word == "core" { String::new() } else { word.to_owned() }).collect()
}

/// The lines of a table without comments.
fn lines(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty())
}

#[cfg(test)]
mod tests;
