//! What is asked for, as authorizers see it, and their answer.

use longshore_api::StatusError;
use longshore_api::patch::gotext;

use super::user::UserInfo;

/// One thing a user wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a UserInfo,
    /// API verb, or the lower-case method for paths.
    pub verb: &'a str,
    /// API group; empty for core.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Plural.
    pub resource: &'a str,
    /// Subresource; empty for none.
    pub subresource: &'a str,
    /// Namespace; empty for cluster scope and for all namespaces.
    pub namespace: &'a str,
    /// Object name; empty for collections.
    pub name: &'a str,
    /// The `fieldSelector` of a list, watch or deletecollection; empty for none.
    pub field_selector: &'a str,
    /// Path of a request that names no resource.
    pub path: &'a str,
    /// Whether the request names a resource.
    pub resource_request: bool,
}

impl<'a> Attributes<'a> {
    /// A request for a path that is no resource.
    pub fn for_path(user: &'a UserInfo, verb: &'a str, path: &'a str) -> Self {
        Self { path, resource_request: false, ..Self::for_resource(user, verb, "", "", "", "") }
    }

    /// A request for a resource, without version and subresource.
    pub fn for_resource(
        user: &'a UserInfo,
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> Self {
        Self {
            user,
            verb,
            group,
            version: "",
            resource,
            subresource: "",
            namespace,
            name,
            field_selector: "",
            path: "",
            resource_request: true,
        }
    }

    /// Whether the verb changes nothing.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch")
    }
}

/// An authorizer's answer, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow(String),
    /// No, and nobody else is asked.
    Deny(String),
    /// Somebody else may know.
    NoOpinion(String),
}

impl Decision {
    /// Whether the answer is yes.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The reason; may be empty.
    pub fn reason(&self) -> &str {
        match self {
            Self::Allow(reason) | Self::Deny(reason) | Self::NoOpinion(reason) => reason,
        }
    }
}

/// The 403 for a request that was not allowed.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go
pub fn forbidden(a: &Attributes<'_>, reason: &str) -> StatusError {
    let user = gotext::quote(&a.user.name);
    let message = if a.resource_request {
        let slash = if a.subresource.is_empty() { "" } else { "/" };
        let what = gotext::quote(&format!("{}{slash}{}", a.resource, a.subresource));
        let group = gotext::quote(a.group);
        let place = if a.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {}", gotext::quote(a.namespace))
        };
        format!("User {user} cannot {} resource {what} in API group {group} {place}", a.verb)
    } else {
        format!("User {user} cannot {} path {}", a.verb, gotext::quote(a.path))
    };
    let mut message = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    if !reason.is_empty() {
        message.push_str(": ");
        message.push_str(reason);
    }
    if !a.resource_request {
        return StatusError::forbidden("", "", "", &message);
    }
    let mut error = StatusError::forbidden(a.group, a.resource, a.name, &message);
    if a.name.contains(['"', '\\']) {
        // The name is told as Go quotes it.
        let bare = format!("{}{}{}", '"', a.name, '"');
        error.message = error.message.replacen(&bare, &gotext::quote(a.name), 1);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_names_user_verb_resource_and_place() {
        let user = UserInfo::new("jane", &[]);
        let mut a = Attributes::for_resource(&user, "get", "apps", "deployments", "ns", "web");
        assert_eq!(
            forbidden(&a, "").message,
            "deployments.apps \"web\" is forbidden: User \"jane\" cannot get resource \
             \"deployments\" in API group \"apps\" in the namespace \"ns\""
        );
        a.namespace = "";
        a.name = "";
        a.subresource = "scale";
        assert!(forbidden(&a, "why").message.ends_with(
            "resource \"deployments/scale\" in API group \"apps\" at the cluster scope: why"
        ));
        let path = Attributes::for_path(&user, "get", "/metrics");
        assert_eq!(
            forbidden(&path, "").message,
            "forbidden: User \"jane\" cannot get path \"/metrics\""
        );
    }
}
