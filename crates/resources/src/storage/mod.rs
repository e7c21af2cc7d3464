//! The resources of the group `storage.k8s.io`.

use crate::plain::{Plain, Specced};
use crate::table::{Resource, cluster, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("storage.k8s.io", "v1", "csidrivers", "CSIDriver").by(Plain),
        cluster("storage.k8s.io", "v1", "csinodes", "CSINode").by(Plain),
        namespaced("storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity").by(Plain),
        cluster("storage.k8s.io", "v1", "storageclasses", "StorageClass").short(&["sc"]).by(Plain),
        cluster("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment")
            .status()
            .by(Specced),
        cluster("storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass")
            .short(&["vac"])
            .by(Plain),
    ]
}
