//! The resources of the group `apiextensions.k8s.io`.

pub mod conditions;
mod conversion;
pub mod custom;
mod defaults;
mod definitions;
mod expressions;
mod internal;
pub(crate) mod paths;
mod printed;
mod rules;
mod schema;
mod structural;
#[cfg(test)]
mod tests;

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
