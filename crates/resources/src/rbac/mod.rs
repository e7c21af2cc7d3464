//! The resources of the group `rbac.authorization.k8s.io`.

use crate::plain::Plain;
use crate::table::{Resource, cluster, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding")
            .by(Plain),
        cluster("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole").by(Plain),
        namespaced("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding").by(Plain),
        namespaced("rbac.authorization.k8s.io", "v1", "roles", "Role").by(Plain),
    ]
}
