//! The resources of the group `apps`.

mod controllerrevisions;
mod daemonsets;
mod deployments;
pub(crate) mod replicasets;
mod statefulsets;
pub(crate) mod validation;
pub(crate) mod workload;

use crate::table::{Resource, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        namespaced("apps", "v1", "controllerrevisions", "ControllerRevision")
            .by(controllerrevisions::ControllerRevisions),
        namespaced("apps", "v1", "daemonsets", "DaemonSet")
            .short(&["ds"])
            .categories(&["all"])
            .status()
            .by(daemonsets::DaemonSets),
        namespaced("apps", "v1", "deployments", "Deployment")
            .short(&["deploy"])
            .categories(&["all"])
            .scale()
            .status()
            .by(deployments::Deployments),
        namespaced("apps", "v1", "replicasets", "ReplicaSet")
            .short(&["rs"])
            .categories(&["all"])
            .scale()
            .status()
            .by(replicasets::ReplicaSets),
        namespaced("apps", "v1", "statefulsets", "StatefulSet")
            .short(&["sts"])
            .categories(&["all"])
            .scale()
            .status()
            .by(statefulsets::StatefulSets),
    ]
}
