//! What may change in the status of a pod.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidatePodStatusUpdate

use std::collections::BTreeSet;

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::annotations;
use super::common::{dns_label, dns_subdomain, qualified_name, required};
use super::network::{is_dual_stack, legacy_ip};
use super::options::Options;
use super::security;
use crate::apps::workload;
use crate::core::pods::tree::{has, int, list, opt_text, or_null, part, text};

const NOT_NEGATIVE: &str = "must be a non-negative integer";
/// Conditions whose types are no qualified names of somebody's own.
const SYSTEM_CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];
const HEALTHS: [&str; 3] = ["Healthy", "Unhealthy", "Unknown"];
/// Bytes of a message about a device's health.
///
/// upstream: staging/src/k8s.io/api/core/v1/types.go ResourceHealthMessageMaxLength
const HEALTH_MESSAGE_MAX: usize = 1024;
/// The lists of container statuses, and the containers that they are of.
const STATUSES: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];

/// The broken rules of a changed status.
pub(super) fn update(new: &Object, old: &Object, options: &Options) -> ErrorList {
    let null = Value::Null;
    let whole = |object: &Object, key: &str| object.get(&[key]).cloned().unwrap_or(Value::Null);
    let mut errors = workload::changed_metadata(new, old);
    let (metadata, old_metadata) = (whole(new, "metadata"), whole(old, "metadata"));
    let spec = new.get(&["spec"]).unwrap_or(&null);
    let at = Path::new("metadata").child("annotations");
    annotations::updates(&metadata, &old_metadata, &at, &mut errors);
    annotations::pod_specific(&metadata, spec, &at, options, &mut errors);
    let path = Path::new("status");
    let now = new.get(&["status"]).unwrap_or(&null);
    let before = old.get(&["status"]).unwrap_or(&null);
    conditions(now, &path.child("conditions"), &mut errors);
    nomination(old, now, before, &path.child("nominatedNodeName"), &mut errors);
    if let Some(generation) = int(now, "observedGeneration").filter(|g| *g < 0) {
        let at = path.child("observedGeneration");
        errors.push(Error::invalid(&at, generation, NOT_NEGATIVE));
    }
    if or_null(now, "qosClass") != or_null(before, "qosClass") {
        let at = path.child("qosClass");
        errors.push(Error::invalid(&at, or_null(now, "qosClass"), "field is immutable"));
    }
    let old_spec = old.get(&["spec"]).unwrap_or(&null);
    for (key, containers) in STATUSES {
        transitions(now, before, key, containers, old_spec, &path.child(key), &mut errors);
    }
    claims(now, spec, &path.child("resourceClaimStatuses"), &mut errors);
    if let Some(status) = part(now, "extendedResourceClaimStatus") {
        extended_claim(status, spec, &path.child("extendedResourceClaimStatus"), &mut errors);
    }
    addresses(now, before, "podIPs", &path, &mut errors);
    let hosts = list(now, "hostIPs");
    if let Some(first) = hosts.first() {
        if text(now, "hostIP") != text(first, "ip") {
            let at = path.child("hostIPs").index(0).child("ip");
            errors.push(Error::invalid(&at, text(first, "ip"), "must be equal to `hostIP`"));
        }
        addresses(now, before, "hostIPs", &path, &mut errors);
    }
    let windows = part(spec, "os").is_some_and(|os| text(os, "name") == "windows");
    for (key, _) in STATUSES {
        users(list(now, key), windows, &path.child(key), &mut errors);
    }
    for (key, containers) in STATUSES {
        let containers = (containers != "ephemeralContainers").then(|| list(spec, containers));
        allocated(list(now, key), containers, &path.child(key), &mut errors);
    }
    errors
}

fn conditions(status: &Value, path: &Path, errors: &mut ErrorList) {
    for (i, condition) in list(status, "conditions").iter().enumerate() {
        let at = path.index(i);
        if let Some(generation) = int(condition, "observedGeneration").filter(|g| *g < 0) {
            errors.push(Error::invalid(&at.child("observedGeneration"), generation, NOT_NEGATIVE));
        }
        let kind = text(condition, "type");
        if !SYSTEM_CONDITIONS.contains(&kind) {
            qualified_name(kind, &at.child("Type"), errors);
        }
    }
}

fn nomination(old: &Object, now: &Value, before: &Value, path: &Path, errors: &mut ErrorList) {
    let node = text(now, "nominatedNodeName");
    if node.is_empty() || node == text(before, "nominatedNodeName") {
        return;
    }
    dns_subdomain(node, path, errors);
    if !old.str(&["spec", "nodeName"]).is_empty() {
        let why = "may not be set on pods that are already bound to a node";
        errors.push(Error::forbidden(path, why));
    }
}

/// A container that has ended and does not start again stays as it ended.
///
/// upstream: ValidateContainerStateTransition, ValidateInitContainerStateTransition,
/// ValidateEphemeralContainerStateTransition
fn transitions(
    now: &Value,
    before: &Value,
    key: &str,
    containers: &str,
    spec: &Value,
    path: &Path,
    errors: &mut ErrorList,
) {
    let ephemeral = containers == "ephemeralContainers";
    if !ephemeral && all_could_restart(spec) {
        return;
    }
    for (i, old) in list(before, key).iter().enumerate() {
        let ended =
            |status: &Value| part(status, "state").and_then(|s| part(s, "terminated")).cloned();
        let Some(terminated) = ended(old) else { continue };
        let name = text(old, "name");
        let mut same = list(now, key).iter().filter(|status| text(status, "name") == name);
        if !same.any(|status| ended(status).is_none()) {
            continue;
        }
        let code = int(&terminated, "exitCode").unwrap_or(0);
        let container = list(spec, containers).iter().find(|c| text(c, "name") == name);
        if !ephemeral && container.is_some_and(|container| restarts(container, spec, code)) {
            continue;
        }
        let why = "may not be transitioned to non-terminated state";
        errors.push(Error::forbidden(&path.index(i).child("state"), why));
    }
}

/// upstream: pkg/api/v1/pod/util.go AllContainersCouldRestart
fn all_could_restart(spec: &Value) -> bool {
    let containers = ["initContainers", "containers"].into_iter().flat_map(|key| list(spec, key));
    containers
        .flat_map(|container| list(container, "restartPolicyRules"))
        .any(|rule| text(rule, "action") == "RestartAllContainers")
}

/// upstream: pkg/api/v1/pod/util.go ContainerShouldRestart
fn restarts(container: &Value, spec: &Value, code: i64) -> bool {
    let own = opt_text(container, "restartPolicy");
    if own.is_some() {
        let matching = list(container, "restartPolicyRules").iter().find(|rule| {
            let Some(codes) = part(rule, "exitCodes") else { return false };
            let named = list(codes, "values").iter().any(|value| value.as_i64() == Some(code));
            match text(codes, "operator") {
                "In" => named,
                "NotIn" => !named,
                _ => false,
            }
        });
        let action = matching.map(|rule| text(rule, "action"));
        if matches!(action, Some("Restart" | "RestartAllContainers")) {
            return true;
        }
    }
    let known = own.filter(|policy| matches!(*policy, "Always" | "OnFailure" | "Never"));
    match known.unwrap_or(text(spec, "restartPolicy")) {
        "OnFailure" => code != 0,
        "Never" => false,
        _ => true,
    }
}

fn claims(status: &Value, spec: &Value, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (i, claim) in list(status, "resourceClaimStatuses").iter().enumerate() {
        let at = path.index(i);
        let name = text(claim, "name");
        if !list(spec, "resourceClaims").iter().any(|own| text(own, "name") == name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(Error::invalid(&at.child("name"), name, why));
        }
        if !seen.insert(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
        if let Some(claim) = opt_text(claim, "resourceClaimName") {
            dns_subdomain(claim, &at.child("resourceClaimName"), errors);
        }
    }
}

/// upstream: validatePodExtendedResourceClaimStatus
fn extended_claim(status: &Value, spec: &Value, path: &Path, errors: &mut ErrorList) {
    let at = path.child("requestMappings");
    let mappings = list(status, "requestMappings");
    if mappings.is_empty() {
        errors.push(Error::required(&at, "at least one request mapping is required"));
    }
    let mut seen = BTreeSet::new();
    for (i, mapping) in mappings.iter().enumerate() {
        let at = at.index(i);
        let keys = ["containerName", "resourceName", "requestName"];
        let [container, resource, request] = keys.map(|key| text(mapping, key));
        let containers = ["containers", "initContainers"].into_iter();
        let mut containers = containers.flat_map(|key| list(spec, key));
        match containers.find(|c| text(c, "name") == container) {
            Some(found) => {
                let requests = part(found, "resources").and_then(|r| part(r, "requests"));
                if !requests.is_some_and(|requests| has(requests, resource)) {
                    let why = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                    errors.push(Error::invalid(&at.child("resourceName"), resource, why));
                }
            }
            None => {
                let why = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.push(Error::invalid(&at.child("containerName"), container, why));
            }
        }
        dns_label(request, &path.child("requestName"), errors);
        if !seen.insert([container, resource, request]) {
            for (key, value) in keys.into_iter().zip([container, resource, request]) {
                errors.push(Error::duplicate(&at.child(key), value));
            }
        }
    }
    let at = path.child("resourceClaimName");
    match text(status, "resourceClaimName") {
        "" => required("", &at, errors),
        name => dns_subdomain(name, &at, errors),
    }
}

fn addresses(now: &Value, before: &Value, key: &str, path: &Path, errors: &mut ErrorList) {
    let ips: Vec<&str> = list(now, key).iter().map(|ip| text(ip, "ip")).collect();
    let known: Vec<&str> = list(before, key).iter().map(|ip| text(ip, "ip")).collect();
    let at = path.child(key);
    for (i, ip) in ips.iter().enumerate() {
        legacy_ip(ip, &at.index(i), &known, errors);
    }
    if ips.len() > 1 && (ips.len() > 2 || !is_dual_stack(&ips)) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(Error::invalid(&at, list(now, key).to_vec(), detail));
    }
}

/// upstream: validateContainerStatusUsers
fn users(statuses: &[Value], windows: bool, path: &Path, errors: &mut ErrorList) {
    for (i, status) in statuses.iter().enumerate() {
        let Some(user) = part(status, "user").and_then(|user| part(user, "linux")) else {
            continue;
        };
        let at = path.index(i).child("user").child("linux");
        if windows {
            errors.push(Error::forbidden(&at, "cannot be set for a windows pod"));
            continue;
        }
        for key in ["uid", "gid"] {
            security::id(int(user, key), &at.child(key), errors);
        }
        for (g, gid) in list(user, "supplementalGroups").iter().enumerate() {
            let at = at.child("supplementalGroups").index(g);
            security::id(gid.as_i64(), &at, errors);
        }
    }
}

/// upstream: validateContainerStatusAllocatedResourcesStatus and its counterpart for ephemeral
/// containers, which have none
fn allocated(
    statuses: &[Value],
    containers: Option<&[Value]>,
    path: &Path,
    errors: &mut ErrorList,
) {
    for (i, status) in statuses.iter().enumerate() {
        let at = path.index(i).child("allocatedResourcesStatus");
        let resources = list(status, "allocatedResourcesStatus");
        let Some(containers) = containers else {
            if !resources.is_empty() {
                errors.push(Error::forbidden(&at, "must not be specified in container status"));
            }
            continue;
        };
        let container = containers.iter().find(|c| text(c, "name") == text(status, "name"));
        for (j, resource) in resources.iter().enumerate() {
            let at = at.index(j);
            if let Some(container) = container {
                allocated_name(text(resource, "name"), container, &at.child("name"), errors);
            }
            devices(list(resource, "resources"), &at.child("resources"), errors);
        }
    }
}

fn allocated_name(name: &str, container: &Value, path: &Path, errors: &mut ErrorList) {
    let null = Value::Null;
    let own = part(container, "resources").unwrap_or(&null);
    let why = if let Some(claim) = name.strip_prefix("claim:") {
        let named = list(own, "claims").iter().any(|c| match text(c, "request") {
            "" => text(c, "name") == claim,
            request => format!("{}/{request}", text(c, "name")) == claim,
        });
        (!named).then_some(
            "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty",
        )
    } else {
        let named = part(own, "requests").is_some_and(|requests| has(requests, name));
        (!named).then_some("must match one of the container's resource requests")
    };
    if let Some(why) = why {
        errors.push(Error::invalid(path, name, why));
    }
}

fn devices(devices: &[Value], path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (k, device) in devices.iter().enumerate() {
        let at = path.index(k);
        let health = text(device, "health");
        if !HEALTHS.contains(&health) {
            errors.push(Error::not_supported(&at.child("health"), health, &HEALTHS));
        }
        if let Some(message) = opt_text(device, "message") {
            let at = at.child("message");
            if message.is_empty() {
                errors.push(Error::required(&at, "must be non-empty if specified"));
            } else if message.len() > HEALTH_MESSAGE_MAX {
                errors.push(Error::too_long(&at, HEALTH_MESSAGE_MAX));
            }
        }
        let id = text(device, "resourceID");
        if !seen.insert(id) {
            errors.push(Error::duplicate(&at.child("resourceID"), id));
        }
    }
}
