//! The default roles and bindings.

use longshore_api::{Gvr, Object};
use serde_json::{Value, json};

use super::{lines, words};
use crate::auth::PolicyRule;

const ROLES: &str = include_str!("roles.txt");
const BINDINGS: &str = include_str!("bindings.txt");
const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn objects() -> Vec<(Gvr, Object)> {
    let mut out = roles();
    out.extend(bindings());
    out
}

fn roles() -> Vec<(Gvr, Object)> {
    let mut out: Vec<(Gvr, Object)> = Vec::new();
    for line in lines(ROLES) {
        let Some(rule) = line.strip_prefix("  ") else {
            out.push(role(line));
            continue;
        };
        let (_, role) = out.last_mut().expect("a table starts with a role");
        super::push(role, "rules", rule_of(rule).to_value());
    }
    out
}

fn named(kind: &str, plural: &str, name: &str) -> (Gvr, Object) {
    let mut metadata = json!({
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
    });
    match name.split_once('/') {
        Some((namespace, name)) => {
            metadata["namespace"] = namespace.into();
            metadata["name"] = name.into();
        }
        None => metadata["name"] = name.into(),
    }
    super::object(GROUP, "v1", plural, kind, metadata)
}

fn role(line: &str) -> (Gvr, Object) {
    let mut parts = line.split(' ');
    let cluster = parts.next() == Some("clusterrole");
    let (kind, plural) = if cluster { ("ClusterRole", "clusterroles") } else { ("Role", "roles") };
    let name = parts.next().expect("a role has a name");
    let (gvr, mut role) = named(kind, plural, name);
    for part in parts {
        if let Some(label) = part.strip_prefix("label:") {
            role.set(&["metadata", "labels", label], "true");
        } else if let Some(label) = part.strip_prefix("aggregate:") {
            let selector = json!([{"matchLabels": {label: "true"}}]);
            role.set(&["aggregationRule", "clusterRoleSelectors"], selector);
        }
    }
    (gvr, role)
}

/// `verbs | groups | resources [| names]` or `verbs @ paths`.
pub(super) fn rule_of(line: &str) -> PolicyRule {
    if let Some((verbs, paths)) = line.split_once(" @ ") {
        return PolicyRule {
            verbs: words(verbs),
            non_resource_urls: words(paths),
            ..PolicyRule::default()
        };
    }
    let mut parts = line.split(" | ").map(words);
    let mut next = || parts.next().unwrap_or_default();
    PolicyRule {
        verbs: next(),
        api_groups: next(),
        resources: next(),
        resource_names: next(),
        non_resource_urls: Vec::new(),
    }
}

fn bindings() -> Vec<(Gvr, Object)> {
    let binding = |line: &str| {
        let mut parts = line.split(' ');
        let (kind, plural) = match parts.next() {
            Some("clusterrolebinding") => ("ClusterRoleBinding", "clusterrolebindings"),
            _ => ("RoleBinding", "rolebindings"),
        };
        let (gvr, mut binding) = named(kind, plural, parts.next().expect("a name"));
        let (role_kind, role) = parts.next().and_then(|role| role.split_once('/')).expect("a role");
        let role_ref = json!({"apiGroup": GROUP, "kind": role_kind, "name": role});
        binding.set(&["roleRef"], role_ref);
        let subjects: Vec<Value> = parts.map(subject).collect();
        if !subjects.is_empty() {
            binding.set(&["subjects"], subjects);
        }
        (gvr, binding)
    };
    lines(BINDINGS).map(binding).collect()
}

fn subject(text: &str) -> Value {
    match text.split_once(':').expect("a subject has a kind") {
        ("account", account) => {
            let (namespace, name) = account.split_once('/').expect("an account has a namespace");
            json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
        }
        ("group", name) => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
        (_, name) => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
    }
}
