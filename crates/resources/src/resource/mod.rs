//! The resources of the group `resource.k8s.io`.

pub mod rights;
mod strategies;
mod validation;

use crate::table::{Resource, cluster, namespaced};
use strategies::{DeviceClasses, ResourceClaimTemplates, ResourceClaims, ResourceSlices};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("resource.k8s.io", "v1", "deviceclasses", "DeviceClass").by(DeviceClasses),
        namespaced("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim")
            .status()
            .by(ResourceClaims),
        namespaced("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate")
            .by(ResourceClaimTemplates),
        cluster("resource.k8s.io", "v1", "resourceslices", "ResourceSlice").by(ResourceSlices),
    ]
}
