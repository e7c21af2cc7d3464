//! The resources of the group `networking.k8s.io`.

use crate::plain::{Plain, Specced};
use crate::table::{Resource, cluster, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("networking.k8s.io", "v1", "ingressclasses", "IngressClass").by(Plain),
        namespaced("networking.k8s.io", "v1", "ingresses", "Ingress")
            .short(&["ing"])
            .status()
            .stored("ingress", Specced),
        cluster("networking.k8s.io", "v1", "ipaddresses", "IPAddress").short(&["ip"]).by(Plain),
        namespaced("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
            .short(&["netpol"])
            .by(Plain),
        cluster("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR").status().by(Specced),
    ]
}
