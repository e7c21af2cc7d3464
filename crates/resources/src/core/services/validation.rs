//! The rules that a service must keep.
//!
//! upstream: pkg/apis/core/validation/validation.go validateService

pub(super) mod addresses;

use std::collections::BTreeSet;

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::validate_labels;
use longshore_api::names;
use serde_json::{Value, json};

use super::is_external;
use super::release::needs_health_port;
use crate::core::pods::tree::{has, int, list, opt_text, part, text, texts};
use crate::core::pods::validation::common::{
    dns_label, dns_subdomain, port_number, port_or_name, protocol, qualified_name, required_one_of,
};
use crate::core::pods::validation::network::{endpoint_ip, legacy_cidr, legacy_ip, parse_sloppy};

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const AFFINITY_SECONDS_MAX: i64 = 86400;
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const BALANCED_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";

/// The broken rules of a new or changed service.
pub(super) fn service(new: &Object, old: Option<&Object>) -> ErrorList {
    let null = Value::Null;
    let spec = new.get(&["spec"]).unwrap_or(&null);
    let old_spec = old.map(|old| old.get(&["spec"]).unwrap_or(&null));
    let path = Path::new("spec");
    let mut errors = ErrorList::new();
    if let Some(old) = old_spec {
        addresses::changed(spec, old, &mut errors);
        balancer_class(spec, Some(old), &mut errors);
        let at = path.child("healthCheckNodePort");
        let key = "healthCheckNodePort";
        if needs_health_port(spec) && needs_health_port(old) && spec.get(key) != old.get(key) {
            errors.push(Error::forbidden(&at, "field is immutable"));
        }
    }
    if let (Some(mode), Some(hints)) = (new.annotation(MODE), new.annotation(HINTS))
        && mode != hints
    {
        let at = Path::new("metadata").child("annotations").key(MODE);
        let detail = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(Error::invalid(&at, mode, &detail));
    }
    kind(spec, &path, &mut errors);
    ports(spec, &path, &mut errors);
    errors.extend(validate_labels(spec.get("selector"), &path.child("selector")));
    affinity(spec, &path, &mut errors);
    addresses::cluster(spec, old_spec, &path, &mut errors);
    external_ips(spec, old_spec, &path, &mut errors);
    required_one_of(text(spec, "type"), &TYPES, &path.child("type"), &mut errors);
    port_clashes(spec, &path.child("ports"), &mut errors);
    source_ranges(new, old, spec, old_spec, &mut errors);
    balancer(spec, &path, &mut errors);
    policies(spec, &path, &mut errors);
    errors
}

/// Whether the service has no address of its own.
pub(super) fn is_headless(spec: &Value) -> bool {
    texts(spec, "clusterIPs") == ["None"]
}

fn kind(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let kind = text(spec, "type");
    if list(spec, "ports").is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let at = path.child("clusterIPs").index(0);
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.push(Error::invalid(&at, "None", &detail));
        }
        "ExternalName" => {
            let detail = "may not be set for ExternalName services";
            for key in ["clusterIPs", "ipFamilies"] {
                if !list(spec, key).is_empty() {
                    errors.push(Error::forbidden(&path.child(key), detail));
                }
            }
            if has(spec, "ipFamilyPolicy") {
                errors.push(Error::forbidden(&path.child("ipFamilyPolicy"), detail));
            }
            let name = text(spec, "externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            let at = path.child("externalName");
            if name.is_empty() {
                errors.push(Error::required(&at, ""));
            } else {
                dns_subdomain(name, &at, errors);
            }
        }
        _ => {}
    }
}

fn ports(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let ports = list(spec, "ports");
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let at = path.child("ports").index(i);
        match text(port, "name") {
            "" if ports.len() > 1 => errors.push(Error::required(&at.child("name"), "")),
            "" => {}
            name => {
                dns_label(name, &at.child("name"), errors);
                if !seen.insert(name) {
                    errors.push(Error::duplicate(&at.child("name"), name));
                }
            }
        }
        port_number(int(port, "port").unwrap_or(0), &at.child("port"), errors);
        protocol(text(port, "protocol"), &at.child("protocol"), errors);
        port_or_name(port.get("targetPort"), &at.child("targetPort"), errors);
        if let Some(application) = opt_text(port, "appProtocol") {
            qualified_name(application, &at.child("appProtocol"), errors);
        }
    }
}

fn port_clashes(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let ports = list(spec, "ports");
    let node = |port: &Value| int(port, "nodePort").unwrap_or(0);
    if text(spec, "type") == "ClusterIP" {
        for (i, _) in ports.iter().enumerate().filter(|(_, port)| node(port) != 0) {
            let at = path.index(i).child("nodePort");
            errors.push(Error::forbidden(&at, "may not be used when `type` is 'ClusterIP'"));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate().filter(|(_, port)| node(port) != 0) {
        if !seen.insert((text(port, "protocol"), node(port))) {
            errors.push(Error::duplicate(&path.index(i).child("nodePort"), node(port)));
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let (protocol, number) = (text(port, "protocol"), int(port, "port").unwrap_or(0));
        if !seen.insert((protocol, number)) {
            let value = json!({"protocol": protocol, "port": number});
            errors.push(Error::duplicate(&path.index(i), value));
        }
    }
}

fn affinity(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let affinity = text(spec, "sessionAffinity");
    required_one_of(affinity, &["ClientIP", "None"], &path.child("sessionAffinity"), errors);
    let at = path.child("sessionAffinityConfig");
    let config = part(spec, "sessionAffinityConfig");
    if affinity == "None" && config.is_some() {
        errors.push(Error::forbidden(&at, "must not be set when session affinity is None"));
    }
    if affinity != "ClientIP" {
        return;
    }
    let detail = "when session affinity type is ClientIP";
    let Some(config) = config else { return errors.push(Error::required(&at, detail)) };
    let at = at.child("clientIP");
    let Some(client) = part(config, "clientIP") else {
        return errors.push(Error::required(&at, detail));
    };
    let at = at.child("timeoutSeconds");
    match int(client, "timeoutSeconds") {
        None => errors.push(Error::required(&at, detail)),
        Some(seconds) if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds) => {
            let detail = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
            errors.push(Error::invalid(&at, seconds, &detail));
        }
        Some(_) => {}
    }
}

fn external_ips(spec: &Value, old: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    let known = old.map(|old| texts(old, "externalIPs")).unwrap_or_default();
    for (i, ip) in texts(spec, "externalIPs").into_iter().enumerate() {
        let at = path.child("externalIPs").index(i);
        let before = errors.len();
        legacy_ip(ip, &at, &known, errors);
        if errors.len() == before {
            endpoint_ip(ip, &at, errors);
        }
    }
}

fn source_ranges(
    new: &Object,
    old: Option<&Object>,
    spec: &Value,
    old_spec: Option<&Value>,
    errors: &mut ErrorList,
) {
    let balanced = text(spec, "type") == "LoadBalancer";
    let ranges = texts(spec, "loadBalancerSourceRanges");
    if !ranges.is_empty() {
        let at = Path::new("spec").child("LoadBalancerSourceRanges");
        if !balanced {
            errors.push(Error::forbidden(&at, BALANCED_ONLY));
        }
        let known = old_spec.map(|old| texts(old, "loadBalancerSourceRanges")).unwrap_or_default();
        let known: Vec<&str> = known.into_iter().map(str::trim).collect();
        for (i, range) in ranges.into_iter().enumerate() {
            legacy_cidr(range.trim(), &at.index(i), &known, errors);
        }
    } else if let Some(ranges) = new.annotation(RANGES) {
        let at = Path::new("metadata").child("annotations").key(RANGES);
        if !balanced {
            errors.push(Error::forbidden(&at, BALANCED_ONLY));
        }
        let known = old.and_then(|old| old.annotation(RANGES)) == Some(ranges);
        if !known && !ranges.trim().is_empty() {
            for range in ranges.trim().split(',') {
                legacy_cidr(range.trim(), &at, &[], errors);
            }
        }
    }
}

fn balancer(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let balanced = text(spec, "type") == "LoadBalancer";
    match (has(spec, "allocateLoadBalancerNodePorts"), balanced) {
        (true, false) => {
            let at = path.child("allocateLoadBalancerNodePorts");
            errors.push(Error::forbidden(&at, BALANCED_ONLY));
        }
        (false, true) => {
            errors.push(Error::required(&Path::new("allocateLoadBalancerNodePorts"), ""));
        }
        _ => {}
    }
    balancer_class(spec, None, errors);
}

fn balancer_class(spec: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let at = Path::new("spec").child("loadBalancerClass");
    let balanced = |spec: &Value| text(spec, "type") == "LoadBalancer";
    let class = opt_text(spec, "loadBalancerClass");
    if let Some(old) = old
        && balanced(old)
        && balanced(spec)
        && opt_text(old, "loadBalancerClass") != class
    {
        let value = class.map_or(Value::Null, Value::from);
        errors.push(Error::invalid(&at, value, "may not change once set"));
    }
    match class {
        Some(class) if balanced(spec) => qualified_name(class, &at, errors),
        Some(_) => errors.push(Error::forbidden(&at, BALANCED_ONLY)),
        None => {}
    }
}

fn policies(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let policy = text(spec, "externalTrafficPolicy");
    let at = path.child("externalTrafficPolicy");
    if is_external(spec) {
        required_one_of(policy, &["Cluster", "Local"], &at, errors);
    } else if !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(Error::invalid(&at, policy, detail));
    }
    let port = int(spec, "healthCheckNodePort").unwrap_or(0);
    let at = path.child("healthCheckNodePort");
    match (needs_health_port(spec), port) {
        (false, 0) => {}
        (false, _) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(Error::invalid(&at, port, detail));
        }
        (true, 0) => errors.push(Error::required(&at, "")),
        (true, _) => port_number(port, &at, errors),
    }
    let at = path.child("internalTrafficPolicy");
    let inside = matches!(text(spec, "type"), "NodePort" | "LoadBalancer" | "ClusterIP");
    match opt_text(spec, "internalTrafficPolicy") {
        None if inside => errors.push(Error::required(&at, "")),
        None | Some("Cluster" | "Local") => {}
        Some(other) => errors.push(Error::not_supported(&at, other, &["Cluster", "Local"])),
    }
    if let Some(distribution) = opt_text(spec, "trafficDistribution") {
        let set = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        if !set.contains(&distribution) {
            let at = path.child("trafficDistribution");
            errors.push(Error::not_supported(&at, distribution, &set));
        }
    }
}

/// The broken rules of a changed status.
pub(super) fn status(new: &Object, old: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let of = |object: &Object| object.list(&["status", "loadBalancer", "ingress"]).to_vec();
    let (ingress, before) = (of(new), of(old));
    if new.str(&["spec", "type"]) != "LoadBalancer" && !ingress.is_empty() {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        return vec![Error::forbidden(&path, detail)];
    }
    let known: Vec<&str> = before.iter().map(|i| text(i, "ip")).filter(|t| !t.is_empty()).collect();
    for (i, one) in ingress.iter().enumerate() {
        let at = path.index(i);
        let (ip, hostname) = (text(one, "ip"), text(one, "hostname"));
        if !ip.is_empty() {
            legacy_ip(ip, &at.child("ip"), &known, &mut errors);
        }
        let at_mode = at.child("ipMode");
        match opt_text(one, "ipMode") {
            None if !ip.is_empty() => {
                errors.push(Error::required(&at_mode, "must be specified when `ip` is set"));
            }
            None => {}
            Some(_) if ip.is_empty() => {
                let detail = "may not be specified when `ip` is not set";
                errors.push(Error::forbidden(&at_mode, detail));
            }
            Some("Proxy" | "VIP") => {}
            Some(other) => errors.push(Error::not_supported(&at_mode, other, &["Proxy", "VIP"])),
        }
        if !hostname.is_empty() {
            let at = at.child("hostname");
            let broken = names::is_dns1123_subdomain(hostname);
            errors.extend(broken.iter().map(|m| Error::invalid(&at, hostname, m)));
            if parse_sloppy(hostname).is_some() {
                let detail = "must be a DNS name, not an IP address";
                errors.push(Error::invalid(&at, hostname, detail));
            }
        }
    }
    errors
}
