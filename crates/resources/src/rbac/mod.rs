//! The resources of the group `rbac.authorization.k8s.io`.

mod bindings;
mod roles;

use crate::table::{Column, Resource, cluster, namespaced};

/// The API group.
const GROUP: &str = "rbac.authorization.k8s.io";

/// The column of the creation time, which these kinds show instead of an age.
const CREATED: Column = Column {
    name: "Created At",
    kind: "date",
    format: "",
    description: "When the object was created.",
    priority: 0,
};

/// Names here may be anything that can stand in a path.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/api/validate/content IsPathSegmentName
pub(crate) fn segment_name(name: &str) -> Vec<String> {
    if matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    let parts = ["/", "%"].into_iter().filter(|part| name.contains(part));
    parts.map(|part| format!("may not contain '{part}'")).collect()
}

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding")
            .by(bindings::Bindings { namespaced: false }),
        cluster("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole")
            .by(roles::Roles { namespaced: false }),
        namespaced("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
            .by(bindings::Bindings { namespaced: true }),
        namespaced("rbac.authorization.k8s.io", "v1", "roles", "Role")
            .by(roles::Roles { namespaced: true }),
    ]
}
