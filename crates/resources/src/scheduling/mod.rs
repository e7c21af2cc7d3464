//! The resources of the group `scheduling.k8s.io`.

mod priorityclasses;

use crate::table::{Resource, cluster};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass")
            .short(&["pc"])
            .by(priorityclasses::PriorityClasses),
    ]
}
