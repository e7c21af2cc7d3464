//! The resources of the group `core`.

mod configmaps;
mod endpoints;
pub(crate) mod events;
mod limitranges;
mod namespaces;
mod nodes;
mod persistentvolumeclaims;
pub(crate) mod persistentvolumes;
pub(crate) mod pods;
mod podtemplates;
mod resourcequotas;
mod secrets;
mod serviceaccounts;
pub mod services;

use crate::apps::replicasets::ReplicationControllers;
use crate::table::{Resource, cluster, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        namespaced("", "v1", "bindings", "Binding").verbs(&["create"]).virtual_kind(),
        cluster("", "v1", "componentstatuses", "ComponentStatus")
            .short(&["cs"])
            .deprecated("v1 ComponentStatus is deprecated in v1.19+")
            .verbs(&["get", "list"])
            .virtual_kind(),
        namespaced("", "v1", "configmaps", "ConfigMap").short(&["cm"]).by(configmaps::ConfigMaps),
        namespaced("", "v1", "endpoints", "Endpoints")
            .short(&["ep"])
            .deprecated(
                "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
            )
            .stored("services/endpoints", endpoints::Endpoints),
        namespaced("", "v1", "events", "Event").short(&["ev"]).by(events::Events { core: true }),
        namespaced("", "v1", "limitranges", "LimitRange")
            .short(&["limits"])
            .by(limitranges::LimitRanges),
        cluster("", "v1", "namespaces", "Namespace")
            .short(&["ns"])
            .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
            .sub("finalize", ("", "v1", "Namespace"), &["update"])
            .status()
            .by(namespaces::Namespaces),
        cluster("", "v1", "nodes", "Node")
            .short(&["no"])
            .sub(
                "proxy",
                ("", "v1", "NodeProxyOptions"),
                &["create", "delete", "get", "patch", "update"],
            )
            .status()
            .stored("minions", nodes::Nodes),
        namespaced("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
            .short(&["pvc"])
            .status()
            .by(persistentvolumeclaims::PersistentVolumeClaims),
        cluster("", "v1", "persistentvolumes", "PersistentVolume")
            .short(&["pv"])
            .status()
            .by(persistentvolumes::PersistentVolumes),
        namespaced("", "v1", "pods", "Pod")
            .short(&["po"])
            .categories(&["all"])
            .sub("attach", ("", "v1", "PodAttachOptions"), &["create", "get"])
            .sub("binding", ("", "v1", "Binding"), &["create"])
            .sub("ephemeralcontainers", ("", "v1", "Pod"), &["get", "patch", "update"])
            .sub("eviction", ("policy", "v1", "Eviction"), &["create"])
            .sub("exec", ("", "v1", "PodExecOptions"), &["create", "get"])
            .sub("log", ("", "v1", "Pod"), &["get"])
            .sub("portforward", ("", "v1", "PodPortForwardOptions"), &["create", "get"])
            .sub(
                "proxy",
                ("", "v1", "PodProxyOptions"),
                &["create", "delete", "get", "patch", "update"],
            )
            .sub("resize", ("", "v1", "Pod"), &["get", "patch", "update"])
            .status()
            .by(pods::Pods),
        namespaced("", "v1", "podtemplates", "PodTemplate").by(podtemplates::PodTemplates),
        namespaced("", "v1", "replicationcontrollers", "ReplicationController")
            .short(&["rc"])
            .categories(&["all"])
            .scale()
            .status()
            .stored("controllers", ReplicationControllers),
        namespaced("", "v1", "resourcequotas", "ResourceQuota")
            .short(&["quota"])
            .status()
            .by(resourcequotas::ResourceQuotas),
        namespaced("", "v1", "secrets", "Secret").by(secrets::Secrets),
        namespaced("", "v1", "serviceaccounts", "ServiceAccount")
            .short(&["sa"])
            .sub("token", ("authentication.k8s.io", "v1", "TokenRequest"), &["create"])
            .by(serviceaccounts::ServiceAccounts),
        namespaced("", "v1", "services", "Service")
            .short(&["svc"])
            .categories(&["all"])
            .sub(
                "proxy",
                ("", "v1", "ServiceProxyOptions"),
                &["create", "delete", "get", "patch", "update"],
            )
            .status()
            .stored("services/specs", services::Services),
    ]
}
