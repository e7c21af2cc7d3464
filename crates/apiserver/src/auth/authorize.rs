//! The authorizers in order, and who may write RBAC objects.
//!
//! upstream: pkg/kubeapiserver/authorizer/config.go, pkg/registry/rbac

use std::sync::Arc;

use longshore_api::patch::gotext;
use longshore_api::{Object, StatusError};

use super::node::NodeAuthorizer;
use super::rbac::{GROUP, Rbac};
use super::rule::{PolicyRule, go_list, missing};
use super::user::{MASTERS, UserInfo};
use super::{Attributes, Decision};
use crate::reader::Reader;

/// What a user may do in a namespace, for SelfSubjectRulesReview.
#[derive(Clone, Debug, Default)]
pub struct RulesFor {
    /// Rules about resources.
    pub resource_rules: Vec<PolicyRule>,
    /// Rules about paths.
    pub non_resource_rules: Vec<PolicyRule>,
    /// Whether there may be more that cannot be told as rules.
    pub incomplete: bool,
    /// What could not be resolved; empty for nothing.
    pub error: String,
}

/// The authorizers: `system:masters` may do everything, then Node, then RBAC.
pub struct Authorization {
    node: NodeAuthorizer,
    rbac: Rbac,
}

impl Authorization {
    /// The authorizers of a cluster; `node_rules` is what all nodes may do (the rules of the
    /// cluster role `system:node`).
    pub fn new(reader: Arc<dyn Reader>, node_rules: Vec<PolicyRule>) -> Self {
        Self { node: NodeAuthorizer::new(reader.clone(), node_rules), rbac: Rbac::new(reader) }
    }

    /// Whether the request is allowed. Anything but [`Decision::Allow`] means no.
    pub fn authorize(&self, a: &Attributes<'_>) -> Decision {
        if a.user.in_group(MASTERS) {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        for decision in [self.node.authorize(a), self.rbac.authorize(a)] {
            match decision {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    /// The rules that apply to a user in a namespace.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> RulesFor {
        let mut out = RulesFor::default();
        let mut errors = Vec::new();
        if user.is_node() {
            out.incomplete = true;
            errors.push("node authorizer does not support user rule resolution".to_owned());
        }
        let (rules, unresolved) = self.rbac.rules_for(user, namespace);
        errors.extend(unresolved);
        for rule in rules {
            if !rule.resources.is_empty() {
                out.resource_rules
                    .push(PolicyRule { non_resource_urls: Vec::new(), ..rule.clone() });
            }
            if !rule.non_resource_urls.is_empty() {
                let PolicyRule { verbs, non_resource_urls, .. } = rule;
                out.non_resource_rules.push(PolicyRule {
                    verbs,
                    non_resource_urls,
                    ..PolicyRule::default()
                });
            }
        }
        out.error = match errors.as_slice() {
            [one] => one.clone(),
            [] => String::new(),
            many => format!("[{}]", many.join(", ")),
        };
        out
    }

    /// Whether a user may write a role or binding: nobody gives away more than they have, unless
    /// they may `escalate` or `bind`. `name` is the request's (empty on create); `old` is the
    /// stored object on update. Call it before the object is stored; other resources pass.
    pub fn check_rbac_write(
        &self,
        user: &UserInfo,
        resource: &str,
        namespace: &str,
        name: &str,
        new: &Object,
        old: Option<&Object>,
    ) -> Result<(), StatusError> {
        if user.in_group(MASTERS) || old.is_some_and(|old| only_collector_fields(new, old)) {
            return Ok(());
        }
        let refused = |why: String| StatusError::forbidden(GROUP, resource, new.name(), &why);
        if resource == "roles" || resource == "clusterroles" {
            if self.may(user, "escalate", GROUP, resource, namespace, name) {
                return Ok(());
            }
            let rules = PolicyRule::list_from(new.list(&["rules"]));
            self.confirm_no_escalation(user, namespace, &rules).map_err(refused)?;
            if aggregates(new) || old.is_some_and(aggregates) {
                let everything = PolicyRule::full_authority();
                let text = "must have cluster-admin privileges to use the aggregationRule";
                return self
                    .confirm_no_escalation(user, namespace, &everything)
                    .map_err(|_| refused(text.to_owned()));
            }
            return Ok(());
        }
        if resource != "rolebindings" && resource != "clusterrolebindings" {
            return Ok(());
        }
        let Some(role_ref) = new.get(&["roleRef"]) else { return Ok(()) };
        let text = |key: &str| role_ref[key].as_str().unwrap_or("");
        let role = match text("kind") {
            "ClusterRole" => "clusterroles",
            "Role" => "roles",
            // Validation refuses other kinds.
            _ => return Ok(()),
        };
        if self.may(user, "bind", text("apiGroup"), role, namespace, text("name")) {
            return Ok(());
        }
        let rules = self.rbac.role_rules(role_ref, namespace);
        let rules = rules.map_err(|_| StatusError::not_found(GROUP, resource, text("name")))?;
        self.confirm_no_escalation(user, namespace, &rules).map_err(refused)
    }

    fn may(
        &self,
        user: &UserInfo,
        verb: &str,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> bool {
        let ask = Attributes {
            version: "*",
            ..Attributes::for_resource(user, verb, group, resource, namespace, name)
        };
        self.authorize(&ask).is_allowed()
    }

    // upstream: pkg/registry/rbac/validation/rule.go ConfirmNoEscalation
    fn confirm_no_escalation(
        &self,
        user: &UserInfo,
        namespace: &str,
        rules: &[PolicyRule],
    ) -> Result<(), String> {
        let (owned, errors) = self.rbac.rules_for(user, namespace);
        let missing = missing(&owned, rules);
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<String> = missing.into_iter().collect();
        let mut text = format!(
            "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            gotext::quote(&user.name),
            go_list(&user.groups),
            missing.join("\n")
        );
        if !errors.is_empty() {
            // Here upstream names the resource.
            let named =
                |error: String| error.replacen(&format!(".{GROUP} "), &format!("s.{GROUP} "), 1);
            let errors: Vec<String> = errors.into_iter().map(named).collect();
            text.push_str(&format!("; resolution errors: [{}]", errors.join(" ")));
        }
        Err(text)
    }
}

fn aggregates(role: &Object) -> bool {
    !role.list(&["aggregationRule", "clusterRoleSelectors"]).is_empty()
}

/// Whether an update changes only what the garbage collector needs.
///
/// upstream: pkg/registry/rbac/helpers.go IsOnlyMutatingGCFields
fn only_collector_fields(new: &Object, old: &Object) -> bool {
    let strip = |object: &Object| {
        let mut object = object.clone();
        for key in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
            object.metadata_mut().remove(key);
        }
        object
    };
    strip(new) == strip(old)
}
