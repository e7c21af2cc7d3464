//! The resources of the group `resource.k8s.io`.

use crate::plain::{Plain, Specced};
use crate::table::{Resource, cluster, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("resource.k8s.io", "v1", "deviceclasses", "DeviceClass").by(Plain),
        namespaced("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim").status().by(Specced),
        namespaced("resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate")
            .by(Plain),
        cluster("resource.k8s.io", "v1", "resourceslices", "ResourceSlice").by(Plain),
    ]
}
