//! The resources of the group `admissionregistration.k8s.io`.

mod policies;
pub(crate) mod webhooks;

use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::core::pods::tree::{list, opt_text, texts};
use crate::core::pods::validation::common::one_of;
use crate::table::{Resource, cluster};

const GROUP: &str = "admissionregistration.k8s.io";
/// Selectors that say what is watched.
const LABEL_SELECTORS: [&str; 2] = ["namespaceSelector", "objectSelector"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    let entry = |plural, kind| cluster(GROUP, "v1", plural, kind).categories(&["api-extensions"]);
    vec![
        entry("mutatingadmissionpolicies", "MutatingAdmissionPolicy")
            .by(policies::Policies { mutating: true }),
        entry("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding")
            .by(policies::Bindings { mutating: true }),
        entry("mutatingwebhookconfigurations", "MutatingWebhookConfiguration")
            .by(webhooks::Webhooks { mutating: true }),
        entry("validatingadmissionpolicies", "ValidatingAdmissionPolicy")
            .status()
            .by(policies::Policies { mutating: false }),
        entry("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding")
            .by(policies::Bindings { mutating: false }),
        entry("validatingwebhookconfigurations", "ValidatingWebhookConfiguration")
            .by(webhooks::Webhooks { mutating: false }),
    ]
}

/// A list in which `*` stands alone.
fn lone_wildcard(rule: &Value, key: &str, what: &str, path: &Path, errors: &mut ErrorList) {
    let items = texts(rule, key);
    if items.is_empty() {
        errors.push(Error::required(&path.child(key), ""));
    }
    if items.len() > 1 && items.contains(&"*") {
        let why = format!("if '*' is present, must not specify other {what}");
        errors.push(Error::invalid(&path.child(key), items, &why));
    }
}

/// upstream: pkg/apis/admissionregistration/validation/validation.go validateRuleWithOperations
fn rule_with_operations(rule: &Value, path: &Path, errors: &mut ErrorList) {
    lone_wildcard(rule, "operations", "operations", path, errors);
    for (i, operation) in texts(rule, "operations").into_iter().enumerate() {
        one_of(operation, &OPERATIONS, &path.child("operations").index(i), errors);
    }
    lone_wildcard(rule, "apiGroups", "API groups", path, errors);
    lone_wildcard(rule, "apiVersions", "API versions", path, errors);
    for (i, version) in texts(rule, "apiVersions").into_iter().enumerate() {
        if version.is_empty() {
            errors.push(Error::required(&path.child("apiVersions").index(i), ""));
        }
    }
    resources(rule, &path.child("resources"), errors);
    if let Some(scope) = opt_text(rule, "scope") {
        one_of(scope, &["*", "Cluster", "Namespaced"], &path.child("scope"), errors);
    }
}

/// upstream: validateResources
fn resources(rule: &Value, path: &Path, errors: &mut ErrorList) {
    let items = texts(rule, "resources");
    if items.is_empty() {
        errors.push(Error::required(path, ""));
    }
    let (mut all_of, mut of_all): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    let mut plain = false;
    for (i, item) in items.iter().enumerate() {
        let at = path.index(i);
        let Some((resource, sub)) = item.split_once('/') else {
            if item.is_empty() {
                errors.push(Error::required(&at, ""));
            } else {
                plain = *item != "*";
            }
            continue;
        };
        if all_of.contains(&resource) {
            let why = format!("if '{resource}/*' is present, must not specify {item}");
            errors.push(Error::invalid(&at, *item, &why));
        }
        if of_all.contains(&sub) {
            let why = format!("if '*/{sub}' is present, must not specify {item}");
            errors.push(Error::invalid(&at, *item, &why));
        }
        if sub == "*" {
            all_of.push(resource);
        }
        if resource == "*" {
            of_all.push(sub);
        }
    }
    if items.len() > 1 && items.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(Error::invalid(path, items.clone(), why));
    }
    if items.contains(&"*") && plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(Error::invalid(path, items, why));
    }
}

/// The number of items of a list field.
fn count(holder: &Value, key: &str) -> usize {
    list(holder, key).len()
}
