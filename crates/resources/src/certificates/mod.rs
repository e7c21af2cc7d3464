//! The resources of the group `certificates.k8s.io`.

mod requests;

use crate::table::{Resource, cluster};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster(
            "certificates.k8s.io",
            "v1",
            "certificatesigningrequests",
            "CertificateSigningRequest",
        )
        .short(&["csr"])
        .sub(
            "approval",
            ("certificates.k8s.io", "v1", "CertificateSigningRequest"),
            &["get", "patch", "update"],
        )
        .status()
        .by(requests::SigningRequests),
    ]
}
