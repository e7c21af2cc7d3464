//! The resources of the group `apiregistration.k8s.io`.

mod apiservices;

use crate::table::{Resource, cluster};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("apiregistration.k8s.io", "v1", "apiservices", "APIService")
            .categories(&["api-extensions"])
            .status()
            .stored("apiregistration.k8s.io/apiservices", apiservices::ApiServices),
    ]
}
