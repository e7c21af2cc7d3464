//! The resources of the group `node.k8s.io`.

mod runtimeclasses;

use crate::table::{Resource, cluster};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass")
            .by(runtimeclasses::RuntimeClasses),
    ]
}
