//! The resources of the group `flowcontrol.apiserver.k8s.io`.

use crate::plain::Specced;
use crate::table::{Resource, cluster};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema")
            .status()
            .by(Specced),
        cluster(
            "flowcontrol.apiserver.k8s.io",
            "v1",
            "prioritylevelconfigurations",
            "PriorityLevelConfiguration",
        )
        .status()
        .by(Specced),
    ]
}
