//! Fields that a change of a service's type lets go of, and allocated values that a client need
//! not repeat.
//!
//! upstream: pkg/registry/core/service/strategy.go dropTypeDependentFields,
//! pkg/registry/core/service/storage/storage.go patchAllocatedValues, normalizeClusterIPs

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::Object;
use serde_json::{Value, json};

use super::is_external;
use crate::core::pods::tree::{drop_field, fill_always, int, list, list_mut, text, texts};

fn spec(object: &Object) -> Value {
    object.get(&["spec"]).cloned().unwrap_or_else(|| json!({}))
}

fn needs_cluster_ip(spec: &Value) -> bool {
    text(spec, "type") != "ExternalName"
}

fn needs_node_port(spec: &Value) -> bool {
    matches!(text(spec, "type"), "NodePort" | "LoadBalancer")
}

/// Whether ports that the client does not name are known from before.
fn gives_node_ports(spec: &Value) -> bool {
    needs_node_port(spec)
        && (text(spec, "type") == "NodePort"
            || spec.get("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)))
}

/// Whether the service has a port for health checks.
pub(super) fn needs_health_port(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

fn node_ports(spec: &Value) -> BTreeSet<i64> {
    let ports = list(spec, "ports").iter().filter_map(|p| int(p, "nodePort"));
    ports.filter(|port| *port != 0).collect()
}

/// Drops what the new type has no use for and the client left as it was.
pub(super) fn dependent(new: &mut Object, old: &Object) {
    let before = spec(old);
    let mut after = spec(new);
    let same = |after: &Value, key: &str| after.get(key) == before.get(key);
    if needs_cluster_ip(&before) && !needs_cluster_ip(&after) {
        if same(&after, "clusterIP") && same(&after, "clusterIPs") {
            drop_field(&mut after, "clusterIP");
            drop_field(&mut after, "clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if same(&after, key) {
                drop_field(&mut after, key);
            }
        }
    }
    let kept = node_ports(&after).is_subset(&node_ports(&before));
    if needs_node_port(&before) && !needs_node_port(&after) && kept {
        list_mut(&mut after, "ports").for_each(|port| drop_field(port, "nodePort"));
    }
    let balanced = |spec: &Value| text(spec, "type") == "LoadBalancer";
    let no_longer = [
        ("healthCheckNodePort", needs_health_port(&before) && !needs_health_port(&after)),
        ("allocateLoadBalancerNodePorts", balanced(&before) && !balanced(&after)),
        ("loadBalancerClass", balanced(&before) && !balanced(&after)),
        ("externalTrafficPolicy", is_external(&before) && !is_external(&after)),
    ];
    for (key, released) in no_longer {
        if released && same(&after, key) {
            drop_field(&mut after, key);
        }
    }
    if !balanced(&after) {
        new.set(&["status", "loadBalancer"], json!({}));
    }
    new.set(&["spec"], after);
}

/// Fills allocated values that the client left out.
pub(super) fn allocated(new: &mut Object, old: &Object) {
    let before = spec(old);
    let mut after = spec(new);
    if needs_cluster_ip(&before) && needs_cluster_ip(&after) {
        if text(&after, "clusterIP").is_empty() && !text(&before, "clusterIP").is_empty() {
            fill_always(&mut after, "clusterIP", text(&before, "clusterIP"));
        }
        if list(&after, "clusterIPs").is_empty() && !list(&before, "clusterIPs").is_empty() {
            fill_always(&mut after, "clusterIPs", list(&before, "clusterIPs").to_vec());
        }
    }
    if gives_node_ports(&before) && gives_node_ports(&after) {
        let (had, have) = (node_ports(&before), node_ports(&after));
        let by_name: BTreeMap<&str, i64> = list(&before, "ports")
            .iter()
            .map(|p| (text(p, "name"), int(p, "nodePort").unwrap_or(0)))
            .collect();
        for port in list_mut(&mut after, "ports") {
            let known = by_name.get(text(port, "name")).copied().unwrap_or(0);
            let used = had.contains(&known) && have.contains(&known);
            if int(port, "nodePort").unwrap_or(0) == 0 && known != 0 && !used {
                fill_always(port, "nodePort", known);
            }
        }
    }
    if needs_health_port(&before)
        && needs_health_port(&after)
        && int(&after, "healthCheckNodePort").unwrap_or(0) == 0
        && let Some(port) = int(&before, "healthCheckNodePort")
    {
        fill_always(&mut after, "healthCheckNodePort", port);
    }
    new.set(&["spec"], after);
}

/// Keeps the address and the list of addresses in step when a client knows only the former.
pub(super) fn plural(new: &mut Object, old: Option<&Object>) {
    let mut after = spec(new);
    let ip = text(&after, "clusterIP").to_owned();
    let Some(old) = old else {
        if !ip.is_empty() && list(&after, "clusterIPs").is_empty() {
            fill_always(&mut after, "clusterIPs", json!([ip]));
            new.set(&["spec"], after);
        }
        return;
    };
    let before = spec(old);
    let old_ip = text(&before, "clusterIP");
    let old_ips = texts(&before, "clusterIPs");
    if !old_ips.is_empty() && list(&after, "clusterIPs").is_empty() && ip == old_ip {
        fill_always(&mut after, "clusterIPs", old_ips.clone());
    }
    if ip != old_ip && texts(&after, "clusterIPs") == old_ips {
        if ip.is_empty() {
            drop_field(&mut after, "clusterIPs");
        } else {
            fill_always(&mut after, "clusterIPs", json!([ip]));
        }
    }
    new.set(&["spec"], after);
}
