//! Services: defaults, columns and the fields that follow the type. Addresses and ports are
//! allocated by the registry.
//!
//! upstream: pkg/apis/core/v1/defaults.go, pkg/registry/core/service/strategy.go

mod families;
mod release;
mod validation;

pub use families::settle;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::ErrorList;
use longshore_api::meta_validation::mask_trailing_dash;
use longshore_api::names;
use serde_json::{Value, json};

use super::pods::cells::{AGE, NAME, SELECTOR, age, labels, text_column};
use super::pods::tree::{
    drop_field, fill, fill_always, fill_text, has, int, list, list_mut, part_mut, text, texts,
};
use super::pods::validation::network::{balancer_warnings, cidr_warnings, ip_warnings};
use crate::apps::workload;
use crate::plain::keep;
use crate::strategy::{Context, Strategy};
use crate::table::Column;

/// The fields that services can be selected by.
const FIELDS: [&str; 2] = ["spec.clusterIP", "spec.type"];
/// Seconds that a client stays with its pod.
const AFFINITY_SECONDS: i64 = 10800;

/// The rules of services.
pub(crate) struct Services;

impl Strategy for Services {
    fn default(&self, object: &mut Object) {
        if object.get(&["spec"]).is_none() {
            object.set(&["spec"], json!({}));
        }
        let Some(spec) = object.get_mut(&["spec"]) else { return };
        spec_defaults(spec);
        let balanced = text(spec, "type") == "LoadBalancer";
        if object.get(&["status", "loadBalancer"]).is_none() {
            object.set(&["status", "loadBalancer"], json!({}));
        }
        if let (true, Some(status)) = (balanced, object.get_mut(&["status", "loadBalancer"])) {
            for ingress in list_mut(status, "ingress") {
                if !text(ingress, "ip").is_empty() {
                    fill(ingress, "ipMode", "VIP");
                }
            }
        }
        workload::complete(object, "core/v1.Service");
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["status"], json!({"loadBalancer": {}}));
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        validation::service(object, None)
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        if ctx.subresource == "status" {
            return keep(new, old, "spec");
        }
        keep(new, old, "status");
        release::dependent(new, old);
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = workload::changed_metadata(new, old);
        if ctx.subresource == "status" {
            errors.extend(validation::status(new, old));
        } else {
            errors.extend(validation::service(new, Some(old)));
        }
        errors
    }

    fn canonicalize(&self, object: &mut Object) {
        // upstream: defaultOnReadInternalTrafficPolicy of pkg/registry/core/service/storage/storage.go
        if object.str(&["spec", "type"]) == "ExternalName" {
            object.remove(&["spec", "internalTrafficPolicy"]);
        }
    }

    fn warnings(&self, object: &Object, _old: Option<&Object>) -> Vec<String> {
        warnings(object)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        if prefix {
            return names::is_dns1123_label(&mask_trailing_dash(name));
        }
        names::is_dns1123_label(name)
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        let spec = |key: &str| object.str(&["spec", key]).to_owned();
        vec![(FIELDS[0], spec("clusterIP")), (FIELDS[1], spec("type"))]
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        &FIELDS
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Type", "How the service is reached."),
            text_column("Cluster-IP", "Address inside the cluster."),
            text_column("External-IP", "Addresses outside the cluster."),
            text_column("Port(s)", "Ports, with those on the nodes."),
            AGE,
            SELECTOR,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let ip = texts(spec, "clusterIPs").first().copied().unwrap_or("<none>");
        vec![
            object.name().into(),
            text(spec, "type").into(),
            ip.into(),
            external(object, spec).into(),
            ports(spec).into(),
            age(object, now),
            labels(spec.get("selector")).into(),
        ]
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn status_warnings(&self, object: &Object) -> Vec<String> {
        balancer_warnings(object)
    }
}

/// Whether the service can be reached from outside.
pub(super) fn is_external(spec: &Value) -> bool {
    match text(spec, "type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !list(spec, "externalIPs").is_empty(),
        _ => false,
    }
}

fn spec_defaults(spec: &mut Value) {
    fill_text(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => drop_field(spec, "sessionAffinityConfig"),
        "ClientIP" => {
            let client = part_mut(part_mut(spec, "sessionAffinityConfig"), "clientIP");
            fill(client, "timeoutSeconds", AFFINITY_SECONDS);
        }
        _ => {}
    }
    fill_text(spec, "type", "ClusterIP");
    for port in list_mut(spec, "ports") {
        fill_text(port, "protocol", "TCP");
        let target = port.get("targetPort");
        if target.is_none_or(|t| t.is_null() || t == 0 || t == "") {
            let number = int(port, "port").unwrap_or(0);
            fill_always(port, "targetPort", number);
        }
    }
    if is_external(spec) {
        fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    let kind = text(spec, "type").to_owned();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        fill(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
}

fn ports(spec: &Value) -> String {
    let port = |port: &Value| {
        let number = int(port, "port").unwrap_or(0);
        let protocol = text(port, "protocol");
        match int(port, "nodePort").unwrap_or(0) {
            node @ 1.. => format!("{number}:{node}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    };
    let ports: Vec<String> = list(spec, "ports").iter().map(port).collect();
    if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") }
}

fn external(object: &Object, spec: &Value) -> String {
    let given = texts(spec, "externalIPs").join(",");
    let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
    match text(spec, "type") {
        "ClusterIP" | "NodePort" => or(&given, "<none>"),
        "LoadBalancer" => {
            let mut addresses: Vec<&str> = object
                .list(&["status", "loadBalancer", "ingress"])
                .iter()
                .map(|i| if text(i, "ip").is_empty() { text(i, "hostname") } else { text(i, "ip") })
                .filter(|address| !address.is_empty())
                .collect();
            addresses.sort_unstable();
            addresses.dedup();
            let balanced = addresses.join(",");
            match (balanced.is_empty(), given.is_empty()) {
                (true, true) => "<pending>".to_owned(),
                (true, false) => given,
                (false, true) => balanced,
                (false, false) => format!("{balanced},{given}"),
            }
        }
        "ExternalName" => text(spec, "externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// upstream: pkg/api/service/warnings.go
fn warnings(object: &Object) -> Vec<String> {
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let mut warnings = Vec::new();
    let mut warn = |text: &str| warnings.push(text.to_owned());
    if object.annotation("service.kubernetes.io/topology-aware-hints").is_some() {
        warn(
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead",
        );
    }
    let kind = text(spec, "type");
    let external_ips = texts(spec, "externalIPs");
    let headless = kind == "ClusterIP" && text(spec, "clusterIP") == "None";
    if !headless && !text(spec, "clusterIP").is_empty() {
        for (i, ip) in texts(spec, "clusterIPs").into_iter().enumerate() {
            ip_warnings(&format!("spec.clusterIPs[{i}]"), ip).iter().for_each(|w| warn(w));
        }
    }
    if headless {
        if has(spec, "loadBalancerIP") {
            warn("spec.loadBalancerIP is ignored for headless services");
        }
        if !external_ips.is_empty() {
            warn("spec.externalIPs is ignored for headless services");
        }
        if text(spec, "sessionAffinity") != "None" {
            warn("spec.SessionAffinity is ignored for headless services");
        }
    }
    for (i, ip) in external_ips.iter().enumerate() {
        ip_warnings(&format!("spec.externalIPs[{i}]"), ip).iter().for_each(|w| warn(w));
    }
    if !external_ips.is_empty() && !headless && kind != "ExternalName" {
        warn("spec.externalIPs is deprecated and may no longer be implemented in some clusters");
    }
    let address = text(spec, "loadBalancerIP");
    if !address.is_empty() {
        ip_warnings("spec.loadBalancerIP", address).iter().for_each(|w| warn(w));
    }
    for (i, cidr) in texts(spec, "loadBalancerSourceRanges").into_iter().enumerate() {
        let path = format!("spec.loadBalancerSourceRanges[{i}]");
        cidr_warnings(&path, cidr).iter().for_each(|w| warn(w));
    }
    if kind == "ExternalName" && !external_ips.is_empty() {
        warn("spec.externalIPs is ignored when spec.type is \"ExternalName\"");
    }
    if kind != "ExternalName" && !text(spec, "externalName").is_empty() {
        warn("spec.externalName is ignored when spec.type is not \"ExternalName\"");
    }
    if text(spec, "trafficDistribution") == "PreferClose" {
        warn("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"");
    }
    warnings
}
