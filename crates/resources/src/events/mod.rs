//! The resources of the group `events.k8s.io`.

use crate::core::events::Events;
use crate::table::{Resource, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        namespaced("events.k8s.io", "v1", "events", "Event")
            .short(&["ev"])
            .by(Events { core: false }),
    ]
}
