//! The resources of the group `networking.k8s.io`.

mod addresses;
mod ingressclasses;
mod ingresses;
mod networkpolicies;

use longshore_api::field::{ErrorList, Path};
use serde_json::Value;

use crate::core::pods::tree::{opt_text, text};
use crate::core::pods::validation::common::{dns_subdomain, each, required};
use crate::rbac::segment_name;
use crate::table::{Resource, cluster, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("networking.k8s.io", "v1", "ingressclasses", "IngressClass")
            .by(ingressclasses::IngressClasses),
        namespaced("networking.k8s.io", "v1", "ingresses", "Ingress")
            .short(&["ing"])
            .status()
            .stored("ingress", ingresses::Ingresses),
        cluster("networking.k8s.io", "v1", "ipaddresses", "IPAddress")
            .short(&["ip"])
            .by(addresses::IpAddresses),
        namespaced("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
            .short(&["netpol"])
            .by(networkpolicies::NetworkPolicies),
        cluster("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR")
            .status()
            .by(addresses::ServiceCidrs),
    ]
}

/// A reference to an object by kind and name.
fn reference(target: &Value, path: &Path, errors: &mut ErrorList) {
    if let Some(group) = opt_text(target, "apiGroup") {
        dns_subdomain(group, &path.child("apiGroup"), errors);
    }
    for key in ["kind", "name"] {
        let value = text(target, key);
        required(value, &path.child(key), errors);
        each(value, &path.child(key), &segment_name(value), errors);
    }
}
