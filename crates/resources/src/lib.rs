//! The built-in resources: one file each, one line each in its group's table.
//!
//! Invariant: everything here is pure. A resource states only what differs from the generic
//! behaviour in `apiserver`; it never stores, authorizes or answers a request.

mod admissionregistration;
pub mod amounts;
pub mod apiextensions;
mod apiregistration;
mod apps;
mod authentication;
mod authorization;
pub mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod events;
mod flowcontrol;
mod networking;
mod node;
pub mod plain;
mod policy;
pub mod quota;
mod rbac;
mod resource;
pub mod rules;
mod scheduling;
mod storage;
pub mod strategy;
pub mod table;

pub use core::services;
pub use resource::rights;
pub use strategy::{Context, DeleteContext, MetadataRules, Strategy, Unheard, Warnings};
pub use table::{Column, Custom, Heading, Resource, ScalePaths, Scope, Subresource};

/// Every built-in resource, in the order of discovery.
pub fn all() -> Vec<Resource> {
    let groups: [fn() -> Vec<Resource>; 21] = [
        core::table,
        apiregistration::table,
        apps::table,
        events::table,
        authentication::table,
        authorization::table,
        autoscaling::table,
        batch::table,
        certificates::table,
        networking::table,
        policy::table,
        rbac::table,
        storage::table,
        admissionregistration::table,
        apiextensions::table,
        scheduling::table,
        coordination::table,
        node::table,
        discovery::table,
        resource::table,
        flowcontrol::table,
    ];
    groups.into_iter().flat_map(|table| table()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    /// Kind, scope and verbs of every resource and subresource of the published API.
    fn published() -> Option<BTreeMap<[String; 4], [String; 3]>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
        let text = std::fs::read_to_string(root.join("shared/facts/resources-v1.36.tsv")).ok()?;
        let rows = text.lines().skip(1).map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            let mut next = || fields.next().unwrap_or_default();
            let key = [next(), next(), next(), next()];
            (key, [next(), next().to_lowercase(), next()])
        });
        Some(rows.collect())
    }

    #[test]
    fn rows_have_a_cell_for_each_column() {
        let empty = longshore_api::Object::default();
        for resource in all() {
            let (columns, row) =
                (resource.strategy.columns(), |now| resource.strategy.row(&empty, now));
            assert_eq!(row(jiff::Timestamp::UNIX_EPOCH).len(), columns.len(), "{}", resource.kind);
        }
    }

    #[test]
    fn the_tables_agree_with_the_published_api() {
        let Some(published) = published() else {
            println!("skipped: ../shared/facts is not here");
            return;
        };
        for resource in all() {
            let own = [(String::new(), resource.kind.to_string(), &resource.verbs)];
            let subs = resource.subresources.iter();
            let subs = subs.map(|s| (s.name.to_string(), s.kind.kind.clone(), &s.verbs));
            for (sub, kind, verbs) in own.into_iter().chain(subs) {
                let group = if resource.group.is_empty() { "core" } else { &*resource.group };
                let key = [
                    group.to_owned(),
                    resource.version.to_string(),
                    resource.plural.to_string(),
                    sub,
                ];
                let mut verbs: Vec<&str> = verbs.iter().map(|v| &**v).collect();
                verbs.retain(|verb| *verb != "watch");
                verbs.sort_unstable();
                let own = [kind, resource.namespaced().to_string(), verbs.join(",")];
                let mut found = published.get(&key).cloned();
                // streams and proxies are published as one verb, which stands for their methods
                if let Some(found) = found.as_mut().filter(|found| found[2] == "connect") {
                    found[2].clone_from(&own[2]);
                }
                assert_eq!(found, Some(own), "{key:?}");
            }
        }
    }
}
