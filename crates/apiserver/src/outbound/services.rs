//! Where a Service is reached from the API server: at one of its endpoints. Its cluster address
//! would need a service proxy beside every API server.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/util/proxy/proxy.go ResolveEndpoint, with
//! --enable-aggregator-routing

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use longshore_api::Object;
use serde_json::Value;

use super::{Address, CallError};
use crate::reader::Reader;

/// The port of a Service that names none.
pub const DEFAULT_PORT: u16 = 443;

/// The label that says whose endpoints a slice holds.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Calls take turns among the endpoints.
static TURN: AtomicUsize = AtomicUsize::new(0);

/// The address of an endpoint that is ready behind a Service's port.
///
/// # Errors
/// When there is no such Service, port or endpoint.
pub fn resolve(
    reader: &dyn Reader,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Address, CallError> {
    let failed = |why: String| Err(CallError::Service(why));
    let Some(service) = reader.get("", "services", namespace, name) else {
        return failed(format!("service {name:?} not found"));
    };
    let kind = service.str(&["spec", "type"]);
    if !matches!(kind, "ClusterIP" | "LoadBalancer" | "NodePort") {
        return failed(format!("unsupported service type {kind:?}"));
    }
    let mut ports = service.list(&["spec", "ports"]).iter();
    let Some(found) = ports.find(|own| own["port"] == port) else {
        return failed(format!("no service port {port} found for service {name:?}"));
    };
    let port_name = found["name"].as_str().unwrap_or("");
    let resource = ("discovery.k8s.io", "endpointslices");
    let mut slices = reader.labelled(resource, namespace, (SERVICE_LABEL, name));
    in_order(&mut slices, &service);
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let address = slices.iter().find_map(|slice| endpoint(slice, port_name, turn));
    address.map_or_else(|| failed(format!("no endpoints available for service {name:?}")), Ok)
}

/// Slices of the Service's first family of addresses come first.
fn in_order(slices: &mut [Arc<Object>], service: &Object) {
    if let Some(first) = service.list(&["spec", "ipFamilies"]).first().and_then(Value::as_str) {
        slices.sort_by_key(|slice| slice.str(&["addressType"]) != first);
    }
}

/// A ready endpoint of a slice that has the port.
fn endpoint(slice: &Object, port_name: &str, turn: usize) -> Option<Address> {
    let mut ports = slice.list(&["ports"]).iter();
    let port = ports.find(|port| port["name"] == port_name && port["port"].is_u64())?;
    let port = u16::try_from(port["port"].as_u64()?).ok()?;
    let endpoints = slice.list(&["endpoints"]);
    let ready = |endpoint: &&Value| endpoint["conditions"]["ready"] != false;
    let all = (0..endpoints.len()).map(|at| &endpoints[(at + turn) % endpoints.len()]);
    let mut hosts = all.filter(ready).filter_map(|endpoint| endpoint["addresses"][0].as_str());
    Some(Address { host: hosts.next()?.to_owned(), port })
}

/// The name that the certificate of a Service is for.
pub fn server_name(namespace: &str, name: &str) -> String {
    format!("{name}.{namespace}.svc")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::fake::FakeReader;

    #[test]
    fn services_are_reached_at_their_ready_endpoints() {
        let reader = FakeReader::default();
        let ports = json!([{"port": 443, "name": "https"}]);
        for (name, spec) in [
            ("plain", json!({"type": "ClusterIP", "clusterIP": "None", "ports": ports})),
            ("empty", json!({"type": "NodePort", "ports": ports})),
            ("far", json!({"type": "ExternalName", "externalName": "example.org"})),
            ("six", json!({"type": "ClusterIP", "ports": ports, "ipFamilies": ["IPv6", "IPv4"]})),
        ] {
            let meta = json!({"name": name, "namespace": "n"});
            reader.put("", "services", json!({"metadata": meta, "spec": spec}));
        }
        let slice = |service: &str, name: &str, family: &str, endpoints: Value| {
            let labels = json!({SERVICE_LABEL: service});
            let slice = json!({
                "metadata": {"name": name, "namespace": "n", "labels": labels},
                "addressType": family, "endpoints": endpoints,
                "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 8443}],
            });
            reader.put("discovery.k8s.io", "endpointslices", slice);
        };
        let of = |name, port| match resolve(&reader, "n", name, port) {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(of("plain", 443), "no endpoints available for service \"plain\"");
        let ready = |address: &str, ready: Value| json!({"addresses": [address], "conditions": {"ready": ready}});
        let some = json!([
            ready("10.0.0.1", json!(true)),
            ready("10.0.0.2", json!(false)),
            ready("10.0.0.3", Value::Null)
        ]);
        slice("plain", "a", "IPv4", some);
        slice("empty", "b", "IPv4", json!([ready("10.0.0.4", json!(false))]));
        slice("six", "c", "IPv4", json!([ready("10.0.0.5", json!(true))]));
        slice("six", "d", "IPv6", json!([ready("fd00::1", json!(true))]));
        let seen: std::collections::BTreeSet<_> = (0..6).map(|_| of("plain", 443)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["10.0.0.1:8443", "10.0.0.3:8443"]);
        assert_eq!(of("six", 443), "[fd00::1]:8443");
        assert_eq!(of("empty", 443), "no endpoints available for service \"empty\"");
        assert_eq!(of("far", 443), "unsupported service type \"ExternalName\"");
        assert_eq!(of("plain", 80), "no service port 80 found for service \"plain\"");
        assert_eq!(of("gone", 443), "service \"gone\" not found");
    }
}
