//! Requests, limits and claims of resources.
//!
//! upstream: pkg/apis/core/validation/validation.go validateResourceRequirements

use std::collections::BTreeSet;

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::names;
use longshore_api::quantity::Quantity;
use serde_json::Value;

use super::annotations::MIRROR;
use super::common::{dns_label, dns_subdomain, each};
use super::options::Options;
use crate::core::pods::resources::{aggregate, is_huge_page, of_container, quantity};
use crate::core::pods::tree::{entries, has, list, opt_text, part, text};

/// Names without a domain that resources may have.
pub(crate) const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
/// Resources that are counted in whole numbers.
pub(crate) const WHOLE: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether the name is of a resource that somebody else defines.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::is_qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether more than there is may be promised.
pub(crate) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// The name of a resource; tells whether it is good.
pub(crate) fn resource_name(name: &str, path: &Path, errors: &mut ErrorList) -> bool {
    let broken = names::is_qualified_name(name);
    each(name, path, &broken, errors);
    if !broken.is_empty() {
        return false;
    }
    let known =
        STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-");
    if !name.contains('/') && !known {
        let detail = "must be a standard resource type or fully qualified";
        errors.push(Error::invalid(path, name, detail));
        return false;
    }
    true
}

/// The name of a resource that containers ask for.
pub(crate) fn container_name(name: &str, path: &Path, errors: &mut ErrorList) {
    resource_name(name, path, errors);
    if !name.contains('/') {
        if !["cpu", "memory", "ephemeral-storage"].contains(&name) && !is_huge_page(name) {
            let detail = "must be a standard resource for containers";
            errors.push(Error::invalid(path, name, detail));
        }
    } else if !is_native(name) && !is_extended(name) {
        let detail = "doesn't follow extended resource name standard";
        errors.push(Error::invalid(path, name, detail));
    }
}

fn pod_name(name: &str, path: &Path, errors: &mut ErrorList) {
    if resource_name(name, path, errors) && !crate::core::pods::resources::is_pod_level(name) {
        errors.push(Error::not_supported(path, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// Why an amount of huge pages does not come in whole pages.
pub(super) fn huge_page_error(name: &str, value: &Value) -> Option<String> {
    let size = name.strip_prefix("hugepages-")?;
    let amount = quantity(value);
    let whole = Quantity::parse(size).is_ok_and(|size| {
        size.sign() > 0 && size.milli_value() % 1000 == 0 && amount.value() % size.value() == 0
    });
    (!whole).then(|| format!("{amount} is not positive integer multiple of {name}"))
}

/// The amount of a resource, whatever its name.
///
/// upstream: pkg/apis/core/validation/validation.go ValidateResourceQuantityValue
pub(crate) fn quantity_value(name: &str, value: &Value, path: &Path, errors: &mut ErrorList) {
    let amount = quantity(value);
    if amount.sign() < 0 {
        let detail = "must be greater than or equal to 0";
        errors.push(Error::invalid(path, amount.to_string(), detail));
    }
    if (WHOLE.contains(&name) || is_extended(name)) && amount.milli_value() % 1000 != 0 {
        errors.push(Error::invalid(path, amount.to_string(), "must be an integer"));
    }
}

type NameRule = fn(&str, &Path, &mut ErrorList);

/// One amount of one resource; tells whether it is CPU or memory.
fn amount(
    name: &str,
    value: &Value,
    rule: NameRule,
    path: &Path,
    options: &Options,
    errors: &mut ErrorList,
) -> bool {
    rule(name, path, errors);
    quantity_value(name, value, path, errors);
    let amount = quantity(value);
    if let (false, Some(detail)) = (options.indivisible_huge_pages, huge_page_error(name, value)) {
        errors.push(Error::invalid(path, amount.to_string(), &detail));
    }
    name == "cpu" || name == "memory"
}

fn requirements(
    resources: &Value,
    rule: NameRule,
    claims: &BTreeSet<&str>,
    path: &Path,
    options: &Options,
    errors: &mut ErrorList,
) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    let (mut basic, mut huge) = (false, false);
    for (name, value) in entries(resources, "limits") {
        basic |= amount(name, value, rule, &limits.key(name), options, errors);
        huge |= is_huge_page(name);
    }
    for (name, value) in entries(resources, "requests") {
        basic |= amount(name, value, rule, &requests.key(name), options, errors);
        huge |= is_huge_page(name);
        let request = quantity(value);
        match part(resources, "limits").and_then(|l| part(l, name)).map(quantity) {
            Some(limit) if request != limit && !may_overcommit(name) => {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.push(Error::invalid(&requests, request.to_string(), &detail));
            }
            Some(limit) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.push(Error::invalid(&requests, request.to_string(), &detail));
            }
            None if !may_overcommit(name) => {
                let detail = "Limit must be set for non overcommitable resources";
                errors.push(Error::required(&limits, detail));
            }
            _ => {}
        }
    }
    if huge && !basic {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
    claim_references(resources, claims, &path.child("claims"), errors);
}

fn claim_references(
    resources: &Value,
    known: &BTreeSet<&str>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (i, claim) in list(resources, "claims").iter().enumerate() {
        let at = path.index(i);
        let (name, request) = (text(claim, "name"), text(claim, "request"));
        if name.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        if seen.contains(name) {
            errors.push(Error::duplicate(&at, name));
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                dns_label(request, &at.child("request"), errors);
                key = format!("{name}/{request}");
            }
            let part_seen = seen.iter().any(|s| s.split_once('/').is_some_and(|(n, _)| n == name));
            if seen.contains(&key) {
                errors.push(Error::duplicate(&at, key.clone()));
            } else if request.is_empty() && part_seen {
                errors.push(Error::duplicate(&at, name));
            }
            seen.insert(key);
        }
        if !known.contains(name) {
            let mut error = Error::not_found(&at, name);
            let all: Vec<&str> = known.iter().copied().collect();
            error.body.push_str(": must be one of the names in pod.spec.resourceClaims");
            if all.is_empty() {
                error.body.push_str(" which is empty");
            } else {
                error.body.push_str(&format!(": {}", all.join(", ")));
            }
            errors.push(error);
        }
    }
}

/// The resources of a container.
pub(super) fn of_container_at(
    resources: &Value,
    claims: &BTreeSet<&str>,
    path: &Path,
    options: &Options,
    errors: &mut ErrorList,
) {
    requirements(resources, container_name, claims, path, options, errors);
}

/// What a pod costs beside its containers.
pub(crate) fn overhead(overhead: &Value, path: &Path, options: &Options, errors: &mut ErrorList) {
    let resources = serde_json::json!({ "limits": overhead });
    requirements(&resources, container_name, &BTreeSet::new(), path, options, errors);
}

/// The names of a pod's resource claims.
pub(super) fn claim_names(spec: &Value) -> BTreeSet<&str> {
    let names = list(spec, "resourceClaims").iter().map(|claim| text(claim, "name"));
    names.filter(|name| !name.is_empty()).collect()
}

/// The resource claims of a pod.
pub(super) fn pod_claims(
    spec: &Value,
    metadata: Option<&Value>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let mirror = metadata.and_then(|m| part(m, "annotations")).is_some_and(|a| has(a, MIRROR));
    let mut seen = BTreeSet::new();
    for (i, claim) in list(spec, "resourceClaims").iter().enumerate() {
        if mirror {
            let detail = "static pods do not support resource claims";
            errors.push(Error::forbidden(&Path::new(""), detail));
            continue;
        }
        let at = path.index(i);
        match text(claim, "name") {
            "" => errors.push(Error::required(&at.child("name"), "")),
            name if seen.contains(name) => {
                errors.push(Error::duplicate(&at.child("name"), name));
            }
            name => {
                dns_label(name, &at.child("name"), errors);
                seen.insert(name);
            }
        }
        let keys = ["resourceClaimName", "resourceClaimTemplateName"];
        let given = keys.iter().filter(|key| has(claim, key)).count();
        let detail = match given {
            0 => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            1 => "",
            _ => {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            }
        };
        if !detail.is_empty() {
            errors.push(Error::invalid(&at, claim.clone(), detail));
        }
        for key in keys {
            if let Some(name) = opt_text(claim, key) {
                dns_subdomain(name, &at.child(key), errors);
            }
        }
    }
}

/// The resources of a pod as a whole.
pub(super) fn pod_resources(
    spec: &Value,
    claims: &BTreeSet<&str>,
    path: &Path,
    options: &Options,
    errors: &mut ErrorList,
) {
    let Some(resources) = part(spec, "resources") else { return };
    let path = path.child("resources");
    if part(spec, "os").is_some_and(|os| text(os, "name") == "windows") {
        errors.push(Error::forbidden(&path, "may not be set for a windows pod"));
        return;
    }
    if has(resources, "claims") {
        let detail = "claims may not be set for Resources at pod-level";
        errors.push(Error::forbidden(&path.child("claims"), detail));
    }
    requirements(resources, pod_name, claims, &path, options, errors);
    consistency(spec, &path, errors);
}

fn consistency(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (requests, limits) = (of_container(spec, "requests"), of_container(spec, "limits"));
    let at_least = |kind: &str, own: Quantity, all: Quantity, name: &str| {
        let detail =
            format!("must be greater than or equal to aggregate container {kind} of {all}");
        Error::invalid(&path.child(kind).key(name), own.to_string(), &detail)
    };
    for (name, all) in aggregate(spec, "requests") {
        if let Some(own) = requests.get(&name).filter(|own| all > **own) {
            errors.push(at_least("requests", *own, all, &name));
        }
    }
    for (name, all) in aggregate(spec, "limits") {
        if let Some(own) = limits.get(&name).filter(|own| is_huge_page(&name) && all > **own) {
            errors.push(at_least("limits", *own, all, &name));
        }
    }
    for (i, container) in list(spec, "containers").iter().enumerate() {
        for (name, limit) in of_container(container, "limits") {
            if let Some(own) = limits.get(&name).filter(|own| limit > **own) {
                let at = path.child("containers").index(i).key(&name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {own}");
                errors.push(Error::invalid(&at, limit.to_string(), &detail));
            }
        }
    }
}
