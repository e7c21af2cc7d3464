//! The resources of the group `autoscaling`.

mod autoscalers;
mod autoscalers_v1;
pub mod scale;

use crate::table::{Resource, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        namespaced("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
            .short(&["hpa"])
            .categories(&["all"])
            .status()
            .by(autoscalers::Autoscalers),
        namespaced("autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
            .short(&["hpa"])
            .categories(&["all"])
            .status()
            .by(autoscalers_v1::AutoscalersV1),
    ]
}
