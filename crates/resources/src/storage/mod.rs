//! The resources of the group `storage.k8s.io`.

mod attachments;
mod classes;
mod csi;

use crate::table::{Resource, cluster, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("storage.k8s.io", "v1", "csidrivers", "CSIDriver").by(csi::CsiDrivers),
        cluster("storage.k8s.io", "v1", "csinodes", "CSINode").by(csi::CsiNodes),
        namespaced("storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity")
            .by(csi::CsiStorageCapacities),
        cluster("storage.k8s.io", "v1", "storageclasses", "StorageClass")
            .short(&["sc"])
            .by(classes::StorageClasses),
        cluster("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment")
            .status()
            .by(attachments::VolumeAttachments),
        cluster("storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass")
            .short(&["vac"])
            .by(classes::VolumeAttributesClasses),
    ]
}
