//! The resources of the group `admissionregistration.k8s.io`.

use crate::plain::{Plain, Specced};
use crate::table::{Resource, cluster};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster(
            "admissionregistration.k8s.io",
            "v1",
            "mutatingadmissionpolicies",
            "MutatingAdmissionPolicy",
        )
        .categories(&["api-extensions"])
        .by(Plain),
        cluster(
            "admissionregistration.k8s.io",
            "v1",
            "mutatingadmissionpolicybindings",
            "MutatingAdmissionPolicyBinding",
        )
        .categories(&["api-extensions"])
        .by(Plain),
        cluster(
            "admissionregistration.k8s.io",
            "v1",
            "mutatingwebhookconfigurations",
            "MutatingWebhookConfiguration",
        )
        .categories(&["api-extensions"])
        .by(Plain),
        cluster(
            "admissionregistration.k8s.io",
            "v1",
            "validatingadmissionpolicies",
            "ValidatingAdmissionPolicy",
        )
        .categories(&["api-extensions"])
        .status()
        .by(Specced),
        cluster(
            "admissionregistration.k8s.io",
            "v1",
            "validatingadmissionpolicybindings",
            "ValidatingAdmissionPolicyBinding",
        )
        .categories(&["api-extensions"])
        .by(Plain),
        cluster(
            "admissionregistration.k8s.io",
            "v1",
            "validatingwebhookconfigurations",
            "ValidatingWebhookConfiguration",
        )
        .categories(&["api-extensions"])
        .by(Plain),
    ]
}
