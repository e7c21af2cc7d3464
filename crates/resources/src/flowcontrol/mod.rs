//! The resources of the group `flowcontrol.apiserver.k8s.io`.

mod flowschemas;
mod mandatory;
mod prioritylevels;

use std::collections::BTreeSet;

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};

use crate::core::pods::tree::text;
use crate::table::{Resource, cluster};

/// The group's table: one entry for each resource.
pub fn table() -> Vec<Resource> {
    vec![
        cluster("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema")
            .status()
            .by(flowschemas::FlowSchemas),
        cluster(
            "flowcontrol.apiserver.k8s.io",
            "v1",
            "prioritylevelconfigurations",
            "PriorityLevelConfiguration",
        )
        .status()
        .by(prioritylevels::PriorityLevels),
    ]
}

/// Conditions have types, each its own.
fn conditions(object: &Object, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (i, condition) in object.list(&["status", "conditions"]).iter().enumerate() {
        let path = Path::new("status").child("conditions").index(i).child("type");
        let kind = text(condition, "type");
        if !seen.insert(kind) {
            errors.push(Error::duplicate(&path, kind));
        }
        if kind.is_empty() {
            errors.push(Error::required(&path, ""));
        }
    }
}
