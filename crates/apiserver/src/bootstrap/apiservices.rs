//! The API services of the built-in groups: that each version is served here, and in which order
//! clients should prefer it.
//!
//! upstream: pkg/controlplane/apiserver/aggregator.go, cmd/kube-apiserver/app/aggregator.go

use longshore_api::{Gvr, Object};
use serde_json::json;

const GROUP: &str = "apiregistration.k8s.io";
/// Marks the API services that come and go with what is served here.
pub const AUTO_MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Group, version and the priorities of both.
const TABLE: [(&str, &str, i64, i64); 21] = [
    ("", "v1", 18_000, 1),
    ("apps", "v1", 17_800, 15),
    ("events.k8s.io", "v1", 17_750, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
    ("resource.k8s.io", "v1", 16_200, 21),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
];

/// How a built-in version stands among others: the priorities of its group and its own.
pub fn priorities(group: &str, version: &str) -> Option<(i64, i64)> {
    let mut table = TABLE.iter();
    let found = table.find(|(own, of, ..)| *own == group && *of == version);
    found.map(|(_, _, minimum, priority)| (*minimum, *priority))
}

pub(super) fn objects() -> Vec<(Gvr, Object)> {
    let one = |(group, version, minimum, priority): (&str, &str, i64, i64)| {
        let name = format!("{version}.{group}");
        let labels = json!({ AUTO_MANAGED: "onstart" });
        let metadata = json!({ "name": name, "labels": labels });
        let (gvr, mut object) = super::object(GROUP, "v1", "apiservices", "APIService", metadata);
        let mut spec = json!({
            "version": version, "groupPriorityMinimum": minimum, "versionPriority": priority,
        });
        if !group.is_empty() {
            spec["group"] = group.into();
        }
        object.set(&["spec"], spec);
        (gvr, object)
    };
    TABLE.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_served_version_has_an_api_service() {
        let own: BTreeSet<(String, String)> = TABLE
            .iter()
            .map(|(group, version, ..)| (group.to_string(), version.to_string()))
            .collect();
        let served: BTreeSet<(String, String)> = longshore_resources::all()
            .into_iter()
            .map(|r| (r.group.to_string(), r.version.to_string()))
            // The server of API services does not register itself.
            .filter(|(group, _)| group != GROUP)
            .collect();
        assert_eq!(own, served);
    }
}
