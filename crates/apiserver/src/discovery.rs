//! Discovery: what is served, derived from the resource table.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/discovery

#[cfg(test)]
mod tests;

mod merge;

use base64::Engine as _;
use longshore_api::Gvk;
use longshore_api::gvk::compare_versions;
use longshore_resources::{Resource, Scope, Subresource};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::aggregate::Told;
use crate::registry::ServedTable;

/// The groups in the order of the table, each with its versions, preferred first.
pub fn groups(table: &ServedTable) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for resource in listed(table) {
        let (group, version) = (resource.group.as_ref(), resource.version.as_ref());
        match groups.iter_mut().find(|(name, _)| name == group) {
            Some((_, versions)) if versions.iter().any(|v| v == version) => {}
            Some((_, versions)) => versions.push(version.to_owned()),
            None => groups.push((group.to_owned(), vec![version.to_owned()])),
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by(|a, b| compare_versions(b, a));
    }
    groups
}

/// The resources that discovery tells of.
fn listed(table: &ServedTable) -> impl Iterator<Item = &Resource> {
    let resources = table.iter().map(|served| &*served.resource);
    resources.filter(|resource| resource.custom.as_ref().is_none_or(|custom| custom.established))
}

/// The verbs of resources whose definition is being deleted.
///
/// upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_discovery_controller.go
const TERMINATING_VERBS: [&str; 5] = ["delete", "deletecollection", "get", "list", "watch"];

fn verbs(resource: &Resource) -> Value {
    if resource.custom.as_ref().is_some_and(|custom| custom.terminating) {
        return json!(TERMINATING_VERBS);
    }
    json!(resource.verbs)
}

fn group_value(group: &str, versions: &[String]) -> Value {
    let version = |v: &String| json!({ "groupVersion": format!("{group}/{v}"), "version": v });
    json!({
        "name": group,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": version(&versions[0]),
    })
}

/// `/api`.
pub fn core_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }],
    })
}

/// `/apis`.
pub fn group_list(table: &ServedTable, told: &[Told]) -> Value {
    let groups: Vec<Value> = merge::groups(table, told)
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, versions)| group_value(name, versions))
        .collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/GROUP`; `None` for an unknown group.
pub fn group(table: &ServedTable, told: &[Told], name: &str) -> Option<Value> {
    let groups = merge::groups(table, told);
    let (name, versions) = groups.iter().find(|(group, _)| group == name && !name.is_empty())?;
    let mut value = group_value(name, versions);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

/// `/api/v1` and `/apis/GROUP/VERSION`; `None` for an unknown group or version.
pub fn resource_list(table: &ServedTable, group: &str, version: &str) -> Option<Value> {
    let mut served: Vec<&Resource> =
        listed(table).filter(|r| r.group == group && r.version == version).collect();
    if served.is_empty() {
        return None;
    }
    served.sort_by(|a, b| a.plural.cmp(&b.plural));
    // Those of custom resources stay in the order in which they are made.
    let built_in = served.iter().all(|resource| resource.custom.is_none());
    let mut items = Vec::new();
    for resource in served {
        items.push((resource.plural.to_string(), resource_value(table, resource)));
        for sub in &resource.subresources {
            let name = format!("{}/{}", resource.plural, sub.name);
            items.push((name.clone(), subresource_value(resource, sub, &name)));
        }
    }
    if built_in {
        items.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let items: Vec<Value> = items.into_iter().map(|(_, value)| value).collect();
    let group_version = longshore_api::gvk::api_version(group, version);
    let mut list =
        json!({ "kind": "APIResourceList", "groupVersion": group_version, "resources": items });
    // The core group has no apiVersion here.
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

fn resource_value(table: &ServedTable, resource: &Resource) -> Value {
    let mut value = json!({
        "name": resource.plural, "singularName": resource.singular,
        "namespaced": resource.namespaced(), "kind": resource.kind, "verbs": verbs(resource),
    });
    optional(&mut value, "shortNames", &resource.short_names);
    optional(&mut value, "categories", &resource.categories);
    if !resource.storage.is_empty() && stored_version_is_served(table, resource) {
        value["storageVersionHash"] = storage_hash(resource).into();
    }
    value
}

/// Custom resources tell nothing of a version that nobody can see.
fn stored_version_is_served(table: &ServedTable, resource: &Resource) -> bool {
    resource.custom.as_ref().is_none_or(|custom| {
        table.get(&resource.group, &custom.storage_version, &resource.plural).is_some()
    })
}

fn optional(value: &mut Value, key: &str, list: &[longshore_resources::table::Text]) {
    if !list.is_empty() {
        value[key] = json!(list);
    }
}

/// Resources that upstream stores in another version than the one they are served in: group,
/// version and plural, and the version that their hash tells.
const STORED_AS: [([&str; 3], [&str; 2]); 5] = [
    (
        ["admissionregistration.k8s.io", "v1", "mutatingadmissionpolicies"],
        ["admissionregistration.k8s.io", "v1beta1"],
    ),
    (
        ["admissionregistration.k8s.io", "v1", "mutatingadmissionpolicybindings"],
        ["admissionregistration.k8s.io", "v1beta1"],
    ),
    (
        ["apiextensions.k8s.io", "v1", "customresourcedefinitions"],
        ["apiextensions.k8s.io", "v1beta1"],
    ),
    (["autoscaling", "v1", "horizontalpodautoscalers"], ["autoscaling", "v2"]),
    (["events.k8s.io", "v1", "events"], ["", "v1"]),
];

/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/discovery/storageversionhash.go
fn storage_hash(resource: &Resource) -> String {
    let served = [&*resource.group, &*resource.version, &*resource.plural];
    let stored = STORED_AS.iter().find(|(of, _)| *of == served);
    let mut own = [served[0], served[1]];
    if let Some(custom) = &resource.custom {
        own[1] = &custom.storage_version;
    }
    let [group, version] = stored.map_or(own, |(_, stored)| *stored);
    let hash = Sha256::digest(format!("{group}/{version}/{}", resource.kind).as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&hash[..8])
}

fn subresource_value(resource: &Resource, sub: &Subresource, name: &str) -> Value {
    let mut value = json!({
        "name": name, "singularName": "", "namespaced": resource.namespaced(),
        "kind": sub.kind.kind, "verbs": sub.verbs,
    });
    if sub.kind.group != resource.group || sub.kind.version != resource.version {
        value["group"] = sub.kind.group.as_str().into();
        value["version"] = sub.kind.version.as_str().into();
        if sub.kind.group.is_empty() {
            value.as_object_mut().expect("built as an object").remove("group");
        }
    }
    value
}

/// The aggregated document of `/api` (`core`) or `/apis`.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/discovery/aggregated
pub fn aggregated(table: &ServedTable, told: &[Told], core: bool) -> Value {
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": merge::aggregated(table, told, core),
    })
}

fn aggregated_resources(table: &ServedTable, group: &str, version: &str) -> Vec<Value> {
    let mut served: Vec<&Resource> =
        listed(table).filter(|r| r.group == group && r.version == version).collect();
    served.sort_by(|a, b| a.plural.cmp(&b.plural));
    served.into_iter().map(aggregated_resource).collect()
}

fn aggregated_resource(resource: &Resource) -> Value {
    let scope = match resource.scope {
        Scope::Cluster => "Cluster",
        Scope::Namespaced => "Namespaced",
    };
    let mut value = json!({
        "resource": resource.plural,
        "responseKind": response_kind(resource, &resource.gvk()),
        "scope": scope, "singularResource": resource.singular, "verbs": verbs(resource),
    });
    optional(&mut value, "shortNames", &resource.short_names);
    optional(&mut value, "categories", &resource.categories);
    let mut subs: Vec<&Subresource> = resource.subresources.iter().collect();
    if resource.custom.is_none() {
        subs.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let subs: Vec<Value> = subs
        .into_iter()
        .map(|sub| {
            json!({
                "subresource": sub.name, "verbs": sub.verbs,
                "responseKind": response_kind(resource, &sub.kind),
            })
        })
        .collect();
    if !subs.is_empty() {
        value["subresources"] = subs.into();
    }
    value
}

/// A kind as aggregated discovery tells it: built-in ones of the same group version by name alone.
fn response_kind(resource: &Resource, kind: &Gvk) -> Value {
    let own = kind.group == resource.group && kind.version == resource.version;
    let short = own && resource.custom.is_none();
    let (group, version) = if short { ("", "") } else { (&*kind.group, &*kind.version) };
    json!({ "group": group, "version": version, "kind": kind.kind })
}
