//! The resources of the group `apiextensions.k8s.io`.

mod definitions;

use crate::table::{Resource, cluster};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster(
            "apiextensions.k8s.io",
            "v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
        )
        .short(&["crd", "crds"])
        .categories(&["api-extensions"])
        .status()
        .stored("apiextensions.k8s.io/customresourcedefinitions", definitions::Definitions),
    ]
}
