//! The resources of the group `authentication.k8s.io`.

use crate::table::{Resource, cluster};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview")
            .verbs(&["create"])
            .virtual_kind(),
        cluster("authentication.k8s.io", "v1", "tokenreviews", "TokenReview")
            .verbs(&["create"])
            .virtual_kind(),
    ]
}
