//! Roles and cluster roles.
//!
//! upstream: pkg/apis/rbac/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::segment_name;
use crate::core::pods::tree::{list, or_null};
use crate::core::pods::validation::common::label_selector;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// The rules of roles; `namespaced` tells them from cluster roles.
pub(super) struct Roles {
    /// Whether they are roles in a namespace.
    pub(super) namespaced: bool,
}

impl Strategy for Roles {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        self.check(object)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, _old: &Object) -> ErrorList {
        self.check(new)
    }

    fn validate_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        segment_name(name)
    }

    fn columns(&self) -> Vec<Column> {
        vec![crate::core::pods::cells::NAME, super::CREATED]
    }

    fn row(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), object.str(&["metadata", "creationTimestamp"]).into()]
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

impl Roles {
    fn check(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        for (i, rule) in object.list(&["rules"]).iter().enumerate() {
            policy_rule(rule, self.namespaced, &Path::new("rules").index(i), &mut errors);
        }
        if let Some(aggregation) = object.get(&["aggregationRule"]).filter(|_| !self.namespaced) {
            let path = Path::new("aggregationRule").child("clusterRoleSelectors");
            let selectors = list(aggregation, "clusterRoleSelectors");
            if selectors.is_empty() {
                let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.push(Error::required(&path, why));
            }
            for (i, selector) in selectors.iter().enumerate() {
                let before = errors.len();
                label_selector(Some(selector), &path.index(i), false, &mut errors);
                // Upstream prints the selector that it could not make: none.
                if errors.len() > before {
                    let why = "invalid label selector.";
                    errors.push(Error::invalid_text(&path.index(i), "null", why));
                }
            }
        }
        errors
    }
}

fn policy_rule(rule: &Value, namespaced: bool, path: &Path, errors: &mut ErrorList) {
    let empty = |key: &str| list(rule, key).is_empty();
    if empty("verbs") {
        let why = "verbs must contain at least one value";
        errors.push(Error::required(&path.child("verbs"), why));
    }
    if !empty("nonResourceURLs") {
        let path = path.child("nonResourceURLs");
        let urls = or_null(rule, "nonResourceURLs");
        if namespaced {
            let why = "namespaced rules cannot apply to non-resource URLs";
            errors.push(Error::invalid(&path, urls.clone(), why));
        }
        if !(empty("apiGroups") && empty("resources") && empty("resourceNames")) {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            errors.push(Error::invalid(&path, urls, why));
        }
        return;
    }
    if empty("apiGroups") {
        let why = "resource rules must supply at least one api group";
        errors.push(Error::required(&path.child("apiGroups"), why));
    }
    if empty("resources") {
        let why = "resource rules must supply at least one resource";
        errors.push(Error::required(&path.child("resources"), why));
    }
}
