//! Discovery of what is served here together with what other servers serve.
//!
//! upstream: staging/src/k8s.io/kube-aggregator/pkg/apiserver/handler_apis.go,
//! staging/src/k8s.io/apiserver/pkg/endpoints/discovery/aggregated/handler.go

use std::collections::BTreeSet;

use longshore_api::gvk::compare_versions;
use serde_json::{Map, Value, json};

use super::aggregated_resources;
use crate::aggregate::Told;
use crate::bootstrap;
use crate::registry::ServedTable;

/// The group of API services comes before all others.
///
/// upstream: handler_discovery.go APIRegistrationGroupPriority
const FIRST: (&str, i64) = ("apiregistration.k8s.io", 20_001);
/// How custom groups stand among others, and their versions among each other.
const CUSTOM: (i64, i64) = (1000, 100);

/// A version of a group, and how both stand among others.
struct Ranked {
    name: String,
    group: String,
    version: String,
    group_priority: i64,
    version_priority: i64,
    elsewhere: Option<Value>,
}

impl Ranked {
    fn served_here(group: &str, version: &str) -> Self {
        let own = bootstrap::priorities(group, version).unwrap_or(CUSTOM);
        let (group_priority, version_priority) = if group == FIRST.0 { (FIRST.1, 0) } else { own };
        Self {
            name: format!("{version}.{group}"),
            group: group.to_owned(),
            version: version.to_owned(),
            group_priority,
            version_priority,
            elsewhere: None,
        }
    }

    fn told(told: &Told) -> Self {
        Self {
            name: told.name.clone(),
            group: told.group.clone(),
            version: told.version.clone(),
            group_priority: told.group_priority,
            version_priority: told.version_priority,
            elsewhere: told.elsewhere.clone(),
        }
    }
}

/// The versions that are served here.
fn served_here(table: &ServedTable) -> BTreeSet<(String, String)> {
    let all = super::groups(table).into_iter();
    all.flat_map(|(group, versions)| versions.into_iter().map(move |v| (group.clone(), v)))
        .collect()
}

fn sort_versions(versions: &mut [Ranked]) {
    versions.sort_by(|a, b| {
        let by_priority = b.version_priority.cmp(&a.version_priority);
        by_priority.then_with(|| compare_versions(&b.version, &a.version))
    });
}

/// The groups as `/apis` lists them, each with its versions: what the API services say, and what is
/// served here and has none yet.
pub(super) fn groups(table: &ServedTable, told: &[Told]) -> Vec<(String, Vec<String>)> {
    let mut here = served_here(table);
    let mut ranked = Vec::new();
    for one in told {
        let is_here = here.remove(&(one.group.clone(), one.version.clone()));
        // Those that come and go with what is served here may come and go a little later.
        if is_here || one.elsewhere.is_some() || !one.managed {
            ranked.push(Ranked::told(one));
        }
    }
    ranked.extend(here.iter().map(|(group, version)| Ranked::served_here(group, version)));
    ranked
        .sort_by(|a, b| b.group_priority.cmp(&a.group_priority).then_with(|| a.name.cmp(&b.name)));
    let mut groups: Vec<(String, Vec<Ranked>)> = Vec::new();
    for one in ranked {
        match groups.iter_mut().find(|(name, _)| *name == one.group) {
            Some((_, versions)) => versions.push(one),
            None => groups.push((one.group.clone(), vec![one])),
        }
    }
    let in_order = |(name, mut versions): (String, Vec<Ranked>)| {
        sort_versions(&mut versions);
        (name, versions.into_iter().map(|one| one.version).collect())
    };
    groups.into_iter().map(in_order).collect()
}

/// The items of the aggregated document of `/api` (`core`) or `/apis`. A version that another server
/// has counts more than one that is served here.
pub(super) fn aggregated(table: &ServedTable, told: &[Told], core: bool) -> Vec<Value> {
    let mut here = served_here(table);
    let mut groups: Vec<(String, i64, Vec<Ranked>)> = Vec::new();
    let elsewhere = told.iter().filter(|one| one.elsewhere.is_some());
    let mut all: Vec<Ranked> = Vec::new();
    for one in elsewhere {
        here.remove(&(one.group.clone(), one.version.clone()));
        all.push(Ranked::told(one));
    }
    all.extend(here.iter().map(|(group, version)| Ranked::served_here(group, version)));
    for one in all.into_iter().filter(|one| one.group.is_empty() == core) {
        match groups.iter_mut().find(|(name, ..)| *name == one.group) {
            Some((_, priority, versions)) => {
                *priority = one.group_priority.max(*priority);
                versions.push(one);
            }
            None => groups.push((one.group.clone(), one.group_priority, vec![one])),
        }
    }
    groups.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let item = |(name, _, mut versions): (String, i64, Vec<Ranked>)| {
        sort_versions(&mut versions);
        let mut metadata = Map::new();
        if !name.is_empty() {
            metadata.insert("name".into(), name.as_str().into());
        }
        let version = |one: Ranked| {
            one.elsewhere.unwrap_or_else(|| {
                json!({
                    "version": one.version, "freshness": "Current",
                    "resources": aggregated_resources(table, &one.group, &one.version),
                })
            })
        };
        let versions: Vec<Value> = versions.into_iter().map(version).collect();
        json!({ "metadata": metadata, "versions": versions })
    };
    groups.into_iter().map(item).collect()
}
