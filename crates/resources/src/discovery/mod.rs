//! The resources of the group `discovery.k8s.io`.

mod endpointslices;

use crate::table::{Resource, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        namespaced("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
            .by(endpointslices::EndpointSlices),
    ]
}
