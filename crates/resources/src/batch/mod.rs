//! The resources of the group `batch`.

mod cronjobs;
mod jobs;
mod schedule;
mod validation;

use crate::table::{Resource, namespaced};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        namespaced("batch", "v1", "cronjobs", "CronJob")
            .short(&["cj"])
            .categories(&["all"])
            .status()
            .by(cronjobs::CronJobs),
        namespaced("batch", "v1", "jobs", "Job").categories(&["all"]).status().by(jobs::Jobs),
    ]
}
