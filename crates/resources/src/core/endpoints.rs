//! Endpoints.
//!
//! upstream: pkg/registry/core/endpoint/strategy.go, pkg/apis/core/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::validate_object_meta;
use longshore_api::names;
use serde_json::Value;

use super::pods::cells::{AGE, NAME, age, text_column};
use super::pods::tree::{fill_text, int, list, list_mut, opt_text, text};
use super::pods::validation::common::{dns_label, port_number, protocol, qualified_name};
use super::pods::validation::network::{endpoint_ip, ip_warnings, legacy_ip};
use crate::apps::workload;
use crate::strategy::{Context, Strategy};
use crate::table::{Column, default_name_rule};

/// Addresses that the table shows.
const SHOWN: usize = 3;

/// The rules of endpoints.
pub(crate) struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, object: &mut Object) {
        let subsets = object.get_mut(&["subsets"]).and_then(Value::as_array_mut);
        for subset in subsets.into_iter().flatten() {
            list_mut(subset, "ports").for_each(|port| fill_text(port, "protocol", "TCP"));
        }
        workload::complete(object, "core/v1.Endpoints");
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        rules(object)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors =
            validate_object_meta(new, true, &default_name_rule, &Path::new("metadata"));
        errors.extend(workload::changed_metadata(new, old));
        if new.get(&["subsets"]) != old.get(&["subsets"]) {
            errors.extend(rules(new));
        }
        errors
    }

    fn warnings(&self, object: &Object, _old: Option<&Object>) -> Vec<String> {
        let mut texts = Vec::new();
        if object.label("endpoints.kubernetes.io/managed-by") == Some("endpoint-controller") {
            return texts;
        }
        for (i, subset) in object.list(&["subsets"]).iter().enumerate() {
            for key in ["addresses", "notReadyAddresses"] {
                for (j, address) in list(subset, key).iter().enumerate() {
                    let path = format!("subsets[{i}].{key}[{j}].ip");
                    texts.extend(ip_warnings(&path, text(address, "ip")));
                }
            }
        }
        texts
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, text_column("Endpoints", "Addresses and ports."), AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), addresses(object).into(), age(object, now)]
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

fn rules(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    for (i, subset) in object.list(&["subsets"]).iter().enumerate() {
        let path = Path::new("subsets").index(i);
        if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
            let detail = "must specify `addresses` or `notReadyAddresses`";
            errors.push(Error::required(&path, detail));
        }
        for key in ["addresses", "notReadyAddresses"] {
            for (j, item) in list(subset, key).iter().enumerate() {
                address(item, &path.child(key).index(j), &mut errors);
            }
        }
        let ports = list(subset, "ports");
        for (j, item) in ports.iter().enumerate() {
            port(item, ports.len() > 1, &path.child("ports").index(j), &mut errors);
        }
    }
    errors
}

fn address(address: &Value, path: &Path, errors: &mut ErrorList) {
    let ip = text(address, "ip");
    legacy_ip(ip, &path.child("ip"), &[], errors);
    let hostname = text(address, "hostname");
    if !hostname.is_empty() {
        dns_label(hostname, &path.child("hostname"), errors);
    }
    if let Some(node) = opt_text(address, "nodeName") {
        let path = path.child("nodeName");
        let broken = names::is_dns1123_subdomain(node);
        errors.extend(broken.iter().map(|m| Error::invalid(&path, node, m)));
    }
    endpoint_ip(ip, &path.child("ip"), errors);
}

fn port(port: &Value, named: bool, path: &Path, errors: &mut ErrorList) {
    match text(port, "name") {
        "" if named => errors.push(Error::required(&path.child("name"), "")),
        "" => {}
        name => dns_label(name, &path.child("name"), errors),
    }
    port_number(int(port, "port").unwrap_or(0), &path.child("port"), errors);
    protocol(text(port, "protocol"), &path.child("protocol"), errors);
    if let Some(application) = opt_text(port, "appProtocol") {
        qualified_name(application, &path.child("appProtocol"), errors);
    }
}

fn addresses(object: &Object) -> String {
    let subsets = object.list(&["subsets"]);
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let (mut shown, mut count, mut more) = (Vec::new(), 0, false);
    for subset in subsets {
        let addresses = list(subset, "addresses");
        let ports: Vec<Option<i64>> = match list(subset, "ports") {
            [] => vec![None],
            ports => ports.iter().map(|p| int(p, "port").or(Some(0))).collect(),
        };
        for port in ports {
            count += addresses.len();
            for address in addresses {
                if shown.len() == SHOWN {
                    more = true;
                    break;
                }
                let ip = text(address, "ip");
                shown.push(match port {
                    Some(port) if ip.contains(':') => format!("[{ip}]:{port}"),
                    Some(port) => format!("{ip}:{port}"),
                    None => ip.to_owned(),
                });
            }
        }
    }
    let list = shown.join(",");
    if more { format!("{list} + {} more...", count - SHOWN) } else { list }
}
