//! The resources of the group `apps`.

use crate::plain::{Plain, Specced};
use crate::table::{Resource, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        namespaced("apps", "v1", "controllerrevisions", "ControllerRevision").by(Plain),
        namespaced("apps", "v1", "daemonsets", "DaemonSet")
            .short(&["ds"])
            .categories(&["all"])
            .status()
            .by(Specced),
        namespaced("apps", "v1", "deployments", "Deployment")
            .short(&["deploy"])
            .categories(&["all"])
            .scale()
            .status()
            .by(Specced),
        namespaced("apps", "v1", "replicasets", "ReplicaSet")
            .short(&["rs"])
            .categories(&["all"])
            .scale()
            .status()
            .by(Specced),
        namespaced("apps", "v1", "statefulsets", "StatefulSet")
            .short(&["sts"])
            .categories(&["all"])
            .scale()
            .status()
            .by(Specced),
    ]
}
