//! The spec of a pod or template as a whole.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidatePodSpec

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::validate_labels;
use longshore_api::names;
use serde_json::Value;

use super::common::{dns_label, dns_subdomain, each, qualified_name, required_one_of};
use super::network::legacy_ip;
use super::options::{Options, containers_at, has_host_users};
use super::{affinity, compute, containers, security, volumes, windows};
use crate::core::pods::tree::{flag, has, int, list, opt_text, part, text, texts};

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;
const HOSTNAME_OVERRIDE_MAX: usize = 64;

/// Every rule of a spec. Name and metadata are those of a pod, and absent for templates.
pub(super) fn pod_spec(
    spec: &Value,
    name: Option<&str>,
    metadata: Option<&Value>,
    path: &Path,
    options: &Options,
    errors: &mut ErrorList,
) {
    if int(spec, "terminationGracePeriodSeconds").is_none() {
        errors.push(Error::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let volumes = volumes::volumes(spec, name, &path.child("volumes"), options, errors);
    compute::pod_claims(spec, metadata, &path.child("resourceClaims"), errors);
    let all = containers::Scope {
        spec,
        volumes: &volumes,
        claims: compute::claim_names(spec),
        grace: int(spec, "terminationGracePeriodSeconds"),
        host_users: has_host_users(spec),
        options,
    };
    containers::main(&all, &path.child("containers"), errors);
    containers::init(&all, &path.child("initContainers"), errors);
    containers::ephemeral(&all, &path.child("ephemeralContainers"), errors);
    compute::pod_resources(spec, &all.claims, path, options, errors);
    host_network(spec, path, options, errors);
    let policies = ["Always", "OnFailure", "Never"];
    required_one_of(text(spec, "restartPolicy"), &policies, &path.child("restartPolicy"), errors);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    required_one_of(text(spec, "dnsPolicy"), &policies, &path.child("dnsPolicy"), errors);
    errors.extend(validate_labels(spec.get("nodeSelector"), &path.child("nodeSelector")));
    security::pod(spec, &path.child("securityContext"), options, errors);
    affinity::affinity(spec, options, &path.child("affinity"), errors);
    dns(spec, &path.child("dnsConfig"), errors);
    gates(spec, path, errors);
    let at = path.child("topologySpreadConstraints");
    affinity::spread(spec, &at, options, errors);
    windows::host_process(spec, path, errors);
    host_users(spec, path, options, errors);
    names_of(spec, path, errors);
    scalars(spec, path, options, errors);
    windows::os(spec, path, errors);
    scheduling_group(spec, path, errors);
    file_keys(spec, path, errors);
}

fn host_network(spec: &Value, path: &Path, options: &Options, errors: &mut ErrorList) {
    if !flag(spec, "hostNetwork") {
        return;
    }
    for (i, container) in list(spec, "containers").iter().enumerate() {
        let path = path.child("containers").index(i).child("ports");
        for (i, port) in list(container, "ports").iter().enumerate() {
            let host = int(port, "hostPort").unwrap_or(0);
            let own = int(port, "containerPort").unwrap_or(0);
            if (options.is_pod || host != 0) && host != own {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                errors.push(Error::invalid(&path.index(i).child("hostPort"), host, detail));
            }
        }
    }
}

fn dns(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let config = part(spec, "dnsConfig");
    if text(spec, "dnsPolicy") == "None" {
        let Some(config) = config else {
            let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
            errors.push(Error::required(path, detail));
            return;
        };
        if list(config, "nameservers").is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(Error::required(&path.child("nameservers"), detail));
            return;
        }
    }
    let Some(config) = config else { return };
    let servers = texts(config, "nameservers");
    let at = path.child("nameservers");
    if servers.len() > NAMESERVERS_MAX {
        let detail = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.push(Error::invalid(&at, servers.clone(), &detail));
    }
    for (i, server) in servers.into_iter().enumerate() {
        legacy_ip(server, &at.index(i), &[], errors);
    }
    let searches = texts(config, "searches");
    let at = path.child("searches");
    if searches.len() > SEARCHES_MAX {
        let detail = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.push(Error::invalid(&at, searches.clone(), &detail));
    }
    if searches.join(" ").len() > SEARCH_CHARACTERS_MAX {
        let detail = format!(
            "must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in the search list"
        );
        errors.push(Error::invalid(&at, searches.clone(), &detail));
    }
    for (i, search) in searches.into_iter().enumerate().filter(|(_, s)| *s != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        each(search, &at.index(i), &subdomain_with_underscore(search), errors);
    }
    for (i, option) in list(config, "options").iter().enumerate() {
        if text(option, "name").is_empty() {
            let at = path.child("options").index(i);
            errors.push(Error::required(&at, "must not be empty"));
        }
    }
}

/// upstream: IsDNS1123SubdomainWithUnderscore
fn subdomain_with_underscore(text: &str) -> Vec<String> {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let label = |label: &str| {
        let inner = label.strip_prefix('_').unwrap_or(label).as_bytes();
        inner.first().is_some_and(|b| word(*b))
            && inner.last().is_some_and(|b| word(*b))
            && inner.iter().all(|b| word(*b) || b"-_".contains(b))
    };
    let mut broken = Vec::new();
    if text.len() > names::SUBDOMAIN_MAX {
        broken.push(format!("must be no more than {} characters", names::SUBDOMAIN_MAX));
    }
    if !text.split('.').all(label) {
        broken.push("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')".to_owned());
    }
    broken
}

fn gates(spec: &Value, path: &Path, errors: &mut ErrorList) {
    for (i, gate) in list(spec, "readinessGates").iter().enumerate() {
        let at = path.child("readinessGates").index(i).child("conditionType");
        qualified_name(text(gate, "conditionType"), &at, errors);
    }
    let mut seen = Vec::new();
    for (i, gate) in list(spec, "schedulingGates").iter().enumerate() {
        let at = path.child("schedulingGates").index(i);
        let name = text(gate, "name");
        qualified_name(name, &at, errors);
        if seen.contains(&name) {
            errors.push(Error::duplicate(&at, name));
        }
        seen.push(name);
    }
}

fn host_users(spec: &Value, path: &Path, options: &Options, errors: &mut ErrorList) {
    if has_host_users(spec) {
        return;
    }
    let detail = "when `hostUsers` is false";
    for (key, child) in
        [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
    {
        if flag(spec, key) {
            errors.push(Error::forbidden(&path.child(child), detail));
        }
    }
    if options.devices_with_host_users {
        return;
    }
    for (container, at) in containers_at(spec, path) {
        if !list(container, "volumeDevices").is_empty() {
            errors.push(Error::forbidden(&at.child("volumeDevices"), detail));
        }
    }
}

fn names_of(spec: &Value, path: &Path, errors: &mut ErrorList) {
    if let Some(name) = opt_text(spec, "hostnameOverride") {
        let at = path.child("hostnameOverride");
        if flag(spec, "setHostnameAsFQDN") {
            let detail = "may not be specified when setHostnameAsFQDN is true";
            errors.push(Error::forbidden(&at, detail));
        }
        if flag(spec, "hostNetwork") {
            let detail = "may not be specified when hostNetwork is true";
            errors.push(Error::forbidden(&at, detail));
        }
        if name.len() > HOSTNAME_OVERRIDE_MAX {
            errors.push(Error::too_long(&at, HOSTNAME_OVERRIDE_MAX));
        }
        dns_subdomain(name, &at, errors);
    }
    for key in ["serviceAccountName", "nodeName", "priorityClassName"] {
        let name = text(spec, key);
        if !name.is_empty() {
            dns_subdomain(name, &path.child(key), errors);
        }
    }
    for key in ["hostname", "subdomain"] {
        let name = text(spec, key);
        if !name.is_empty() {
            dns_label(name, &path.child(key), errors);
        }
    }
    if let Some(name) = opt_text(spec, "runtimeClassName") {
        dns_subdomain(name, &path.child("runtimeClassName"), errors);
    }
}

fn scalars(spec: &Value, path: &Path, options: &Options, errors: &mut ErrorList) {
    if let Some(seconds) = int(spec, "activeDeadlineSeconds") {
        let max = i64::from(i32::MAX);
        if !(1..=max).contains(&seconds) {
            let detail = format!("must be between 1 and {max}, inclusive");
            errors.push(Error::invalid(&path.child("activeDeadlineSeconds"), seconds, &detail));
        }
    }
    let tolerations = list(spec, "tolerations");
    affinity::tolerations(tolerations, &path.child("tolerations"), options, errors);
    for (i, alias) in list(spec, "hostAliases").iter().enumerate() {
        let at = path.child("hostAliases").index(i);
        legacy_ip(text(alias, "ip"), &at.child("ip"), &[], errors);
        for (j, name) in texts(alias, "hostnames").into_iter().enumerate() {
            dns_subdomain(name, &at.child("hostnames").index(j), errors);
        }
    }
    if let Some(policy) = opt_text(spec, "preemptionPolicy") {
        let at = path.child("preemptionPolicy");
        required_one_of(policy, &["PreemptLowerPriority", "Never"], &at, errors);
    }
    if let Some(overhead) = part(spec, "overhead") {
        let at = path.child("overhead");
        compute::overhead(overhead, &at, options, errors);
    }
}

fn scheduling_group(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(group) = part(spec, "schedulingGroup") else { return };
    let at = path.child("schedulingGroup").child("podGroupName");
    match opt_text(group, "podGroupName") {
        Some(name) => dns_subdomain(name, &at, errors),
        None => {
            let detail = "must specify one of: `podGroupName`";
            errors.push(Error::invalid(&at, Value::Null, detail));
        }
    }
}

/// Variables from files name volumes that the pod has and that are empty at first.
fn file_keys(spec: &Value, path: &Path, errors: &mut ErrorList) {
    for (container, at) in containers_at(spec, path) {
        for (i, variable) in list(container, "env").iter().enumerate() {
            let source = part(variable, "valueFrom").and_then(|v| part(v, "fileKeyRef"));
            let Some(source) = source else { continue };
            let at = at.child("env").index(i).child("valueFrom").child("fileKeyRef");
            let at = at.child("volumeName");
            let name = text(source, "volumeName");
            // Of volumes with one name the last counts.
            let volume = list(spec, "volumes").iter().rev().find(|v| text(v, "name") == name);
            match volume {
                None => errors.push(Error::not_found(&at, name)),
                Some(volume) if !has(volume, "emptyDir") => {
                    let detail = "referenced volume must be of type emptyDir";
                    errors.push(Error::invalid(&at, name, detail));
                }
                Some(_) => {}
            }
        }
    }
}

/// The pull policy of an image.
pub(super) fn pull_policy(policy: &str, path: &Path, errors: &mut ErrorList) {
    required_one_of(policy, &["Always", "IfNotPresent", "Never"], path, errors);
}
