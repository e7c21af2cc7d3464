//! The resources of the group `coordination.k8s.io`.

mod leases;

use crate::table::{Resource, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![namespaced("coordination.k8s.io", "v1", "leases", "Lease").by(leases::Leases)]
}
