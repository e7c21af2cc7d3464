//! The resources of the group `resource.k8s.io`.

mod columns;

use crate::table::{Resource, cluster, namespaced};
use columns::{Named, ResourceClaims, ResourceSlices};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("resource.k8s.io", "v1", "deviceclasses", "DeviceClass")
            .by(Named { counted: true }),
        namespaced("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim")
            .status()
            .by(ResourceClaims),
        namespaced("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate")
            .by(Named { counted: false }),
        cluster("resource.k8s.io", "v1", "resourceslices", "ResourceSlice").by(ResourceSlices),
    ]
}
