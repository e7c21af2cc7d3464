//! The resources of the group `authorization.k8s.io`.

use crate::table::{Resource, cluster, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        namespaced(
            "authorization.k8s.io",
            "v1",
            "localsubjectaccessreviews",
            "LocalSubjectAccessReview",
        )
        .verbs(&["create"])
        .virtual_kind(),
        cluster(
            "authorization.k8s.io",
            "v1",
            "selfsubjectaccessreviews",
            "SelfSubjectAccessReview",
        )
        .verbs(&["create"])
        .virtual_kind(),
        cluster("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview")
            .verbs(&["create"])
            .virtual_kind(),
        cluster("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview")
            .verbs(&["create"])
            .virtual_kind(),
    ]
}
