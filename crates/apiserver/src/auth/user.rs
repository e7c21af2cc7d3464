//! The requester.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/authentication/user/user.go

use std::collections::BTreeMap;

use longshore_api::names;

/// User name of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// Group of requests without credentials.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Group of all requests with good credentials.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group that may do everything.
pub const MASTERS: &str = "system:masters";
/// Group of nodes.
pub const NODES: &str = "system:nodes";
/// Prefix of node user names.
pub const NODE_PREFIX: &str = "system:node:";
/// Prefix of service-account user names.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// Group of all service accounts.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// Extra key: which credential was used.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// Extra key: the pod a token is bound to.
pub const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// Extra key: its uid.
pub const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// Extra key: the node of that pod.
pub const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// Extra key: its uid.
pub const NODE_UID: &str = "authentication.kubernetes.io/node-uid";

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// User name.
    pub name: String,
    /// Stable identifier; often empty.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user with groups and nothing else.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The user of requests without credentials.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, &[UNAUTHENTICATED])
    }

    /// The user of a service account, with its groups.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let mut user = Self::new(
            &format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
            &[SERVICE_ACCOUNTS, AUTHENTICATED],
        );
        user.groups.insert(1, format!("{SERVICE_ACCOUNTS}:{namespace}"));
        user
    }

    /// Whether the user is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The first value of an extra key; empty when missing.
    pub fn extra(&self, key: &str) -> &str {
        self.extra.get(key).and_then(|values| values.first()).map_or("", String::as_str)
    }

    /// Whether the user is a node at all, known or not.
    pub fn is_node(&self) -> bool {
        self.name.starts_with(NODE_PREFIX) && self.in_group(NODES)
    }

    /// The node's name when the user is a node.
    pub fn node_name(&self) -> Option<&str> {
        if !self.in_group(NODES) {
            return None;
        }
        self.name.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty())
    }

    /// Namespace and name when the user is a service account.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        split_service_account(&self.name)
    }
}

/// Namespace and name of a service account's user name.
pub fn split_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    // upstream: staging/src/k8s.io/apiserver/pkg/authentication/serviceaccount/util.go SplitUsername
    let good = names::is_dns1123_label(namespace).is_empty()
        && names::is_dns1123_subdomain(name).is_empty();
    good.then_some((namespace, name))
}
