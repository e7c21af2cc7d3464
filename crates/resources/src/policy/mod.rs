//! The resources of the group `policy`.

mod poddisruptionbudgets;

use crate::table::{Resource, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        namespaced("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
            .short(&["pdb"])
            .status()
            .by(poddisruptionbudgets::PodDisruptionBudgets),
    ]
}
