//! Endpoint slices.
//!
//! upstream: pkg/registry/discovery/endpointslice/strategy.go,
//! pkg/apis/discovery/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::{validate_labels, validate_object_meta};
use longshore_api::names;
use serde_json::{Value, json};

use crate::core::pods::cells::{AGE, NAME, age, shortened, text_column};
use crate::core::pods::tree::{entries, fill, int, list, opt_text, part, text, texts};
use crate::core::pods::validation::common::{dns_label, protocol, qualified_name};
use crate::core::pods::validation::network::{
    endpoint_ip, fully_qualified, ip_warnings, is_ipv4, is_ipv6, legacy_ip, strict_ip,
};
use crate::strategy::{Context, Strategy};
use crate::table::{Column, default_name_rule};

const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const ENDPOINTS_MAX: usize = 1000;
const HINTS_MAX: usize = 8;
const TOPOLOGY_MAX: usize = 16;
/// Items that the table shows.
const SHOWN: usize = 3;

/// The rules of endpoint slices.
pub(crate) struct EndpointSlices;

impl Strategy for EndpointSlices {
    fn default(&self, object: &mut Object) {
        let ports = object.get_mut(&["ports"]).and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten() {
            fill(port, "name", "");
            fill(port, "protocol", "TCP");
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["metadata", "generation"], 1);
        drop_topology(object);
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = address_type(object);
        errors.extend(ports(object));
        errors.extend(endpoints(object));
        errors
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, old: &Object) {
        let part = |o: &Object, key: &str| o.get(&[key]).cloned().filter(|v| *v != json!([]));
        let changed = ["addressType", "endpoints", "ports"]
            .iter()
            .any(|key| part(new, key) != part(old, key));
        if changed || new.labels() != old.labels() {
            new.set(&["metadata", "generation"], old.generation() + 1);
        }
        if part(new, "endpoints") != part(old, "endpoints") {
            drop_topology(new);
        }
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors =
            validate_object_meta(new, true, &default_name_rule, &Path::new("metadata"));
        errors.extend(address_type(new));
        errors.extend(ports(new));
        if new.get(&["endpoints"]) != old.get(&["endpoints"]) {
            errors.extend(endpoints(new));
        }
        if new.str(&["addressType"]) != old.str(&["addressType"]) {
            let path = Path::new("addressType");
            let value = new.str(&["addressType"]);
            errors.push(Error::invalid(&path, value, "field is immutable"));
        }
        errors
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none() && object.str(&["addressType"]) == "FQDN" {
            warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        let manager = object.label("endpointslice.kubernetes.io/managed-by").unwrap_or("");
        let own = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
        if own.contains(&manager) {
            return warnings;
        }
        for (i, endpoint) in object.list(&["endpoints"]).iter().enumerate() {
            for (j, address) in texts(endpoint, "addresses").into_iter().enumerate() {
                let path = format!("endpoints[{i}].addresses[{j}]");
                warnings.extend(ip_warnings(&path, address));
            }
        }
        warnings
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("AddressType", "What the addresses are."),
            text_column("Ports", "Ports of every endpoint."),
            text_column("Endpoints", "Addresses."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let port = |port: &Value| match (int(port, "port"), opt_text(port, "name")) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "*".to_owned(),
        };
        let ports: Vec<String> = object.list(&["ports"]).iter().map(port).collect();
        let addresses: Vec<String> = object
            .list(&["endpoints"])
            .iter()
            .flat_map(|e| texts(e, "addresses"))
            .map(str::to_owned)
            .collect();
        vec![
            object.name().into(),
            object.str(&["addressType"]).into(),
            shortened(&ports, SHOWN).into(),
            shortened(&addresses, SHOWN).into(),
            age(object, now),
        ]
    }
}

/// The old topology labels are no longer taken.
fn drop_topology(object: &mut Object) {
    let endpoints = object.get_mut(&["endpoints"]).and_then(Value::as_array_mut);
    for endpoint in endpoints.into_iter().flatten().filter_map(Value::as_object_mut) {
        endpoint.remove("deprecatedTopology");
    }
}

fn address_type(object: &Object) -> ErrorList {
    let path = Path::new("addressType");
    match object.str(&["addressType"]) {
        "" => vec![Error::required(&path, "")],
        kind if ADDRESS_TYPES.contains(&kind) => ErrorList::new(),
        kind => vec![Error::not_supported(&path, kind, &ADDRESS_TYPES)],
    }
}

fn ports(object: &Object) -> ErrorList {
    let (path, mut errors) = (Path::new("ports"), ErrorList::new());
    let ports = object.list(&["ports"]);
    if ports.len() > PORTS_MAX {
        return vec![Error::too_many(&path, ports.len(), PORTS_MAX)];
    }
    let mut seen = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            dns_label(name, &path.child("name"), &mut errors);
        }
        if seen.contains(&name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        } else {
            seen.push(name);
        }
        protocol_of(port, &path, &mut errors);
        if let Some(application) = opt_text(port, "appProtocol") {
            qualified_name(application, &path.child("appProtocol"), &mut errors);
        }
    }
    errors
}

fn protocol_of(port: &Value, path: &Path, errors: &mut ErrorList) {
    let path = path.child("protocol");
    match opt_text(port, "protocol") {
        Some("") => errors.push(Error::not_supported(&path, "", &["SCTP", "TCP", "UDP"])),
        other => protocol(other.unwrap_or(""), &path, errors),
    }
}

fn endpoints(object: &Object) -> ErrorList {
    let (path, mut errors) = (Path::new("endpoints"), ErrorList::new());
    let endpoints = object.list(&["endpoints"]);
    if endpoints.len() > ENDPOINTS_MAX {
        return vec![Error::too_many(&path, endpoints.len(), ENDPOINTS_MAX)];
    }
    let kind = object.str(&["addressType"]);
    for (i, item) in endpoints.iter().enumerate() {
        endpoint(item, kind, &path.index(i), &mut errors);
    }
    errors
}

fn endpoint(endpoint: &Value, kind: &str, path: &Path, errors: &mut ErrorList) {
    let addresses = texts(endpoint, "addresses");
    let at = path.child("addresses");
    if addresses.is_empty() {
        errors.push(Error::required(&at, "must contain at least 1 address"));
    } else if addresses.len() > ADDRESSES_MAX {
        errors.push(Error::too_many(&at, addresses.len(), ADDRESSES_MAX));
    }
    for (i, address) in addresses.into_iter().enumerate() {
        self::address(address, kind, &at, i, errors);
    }
    if let Some(node) = opt_text(endpoint, "nodeName") {
        let broken = names::is_dns1123_subdomain(node);
        let path = path.child("nodeName");
        errors.extend(broken.iter().map(|m| Error::invalid(&path, node, m)));
    }
    let topology = path.child("deprecatedTopology");
    let count = entries(endpoint, "deprecatedTopology").count();
    if count > TOPOLOGY_MAX {
        errors.push(Error::too_many(&topology, count, TOPOLOGY_MAX));
    }
    errors.extend(validate_labels(endpoint.get("deprecatedTopology"), &topology));
    if let Some(hostname) = opt_text(endpoint, "hostname") {
        dns_label(hostname, &path.child("hostname"), errors);
    }
    if let Some(hints) = part(endpoint, "hints") {
        hint_list(hints, "forZones", &path.child("hints"), names::is_valid_label_value, errors);
        hint_list(hints, "forNodes", &path.child("hints"), names::is_dns1123_subdomain, errors);
    }
}

fn address(address: &str, kind: &str, path: &Path, i: usize, errors: &mut ErrorList) {
    let at = path.index(i);
    let before = errors.len();
    match kind {
        "IPv4" => legacy_ip(address, &at, &[], errors),
        "IPv6" => strict_ip(address, &at, errors),
        "FQDN" => return fully_qualified(address, &at, errors),
        _ => return,
    }
    if errors.len() > before {
        return;
    }
    if kind == "IPv4" && !is_ipv4(address) {
        errors.push(Error::invalid(path, address, "must be an IPv4 address"));
    }
    if kind == "IPv6" && !is_ipv6(address) {
        errors.push(Error::invalid(path, address, "must be an IPv6 address"));
    }
    endpoint_ip(address, &at, errors);
}

fn hint_list(
    hints: &Value,
    key: &str,
    path: &Path,
    rule: fn(&str) -> Vec<String>,
    errors: &mut ErrorList,
) {
    let (path, items) = (path.child(key), list(hints, key));
    if items.len() > HINTS_MAX {
        errors.push(Error::too_many(&path, items.len(), HINTS_MAX));
        return;
    }
    let mut seen = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let (path, name) = (path.index(i).child("name"), text(item, "name"));
        if seen.contains(&name) {
            errors.push(Error::duplicate(&path, name));
        } else {
            seen.push(name);
        }
        errors.extend(rule(name).iter().map(|m| Error::invalid(&path, name, m)));
    }
}
