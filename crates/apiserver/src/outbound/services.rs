//! Where a Service is reached from the API server: at its cluster address.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/util/proxy/proxy.go ResolveCluster

use longshore_api::Object;

use super::{Address, CallError};
use crate::reader::Reader;

/// The port of a Service that names none.
pub const DEFAULT_PORT: u16 = 443;

/// The address of a Service's port.
///
/// # Errors
/// When there is no such Service or port, or it has no address.
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
    let address = service.str(&["spec", "clusterIP"]);
    match service.str(&["spec", "type"]) {
        "ClusterIP" if address == "None" => {
            failed("cannot route to service with ClusterIP \"None\"".to_owned())
        }
        "ClusterIP" | "LoadBalancer" | "NodePort" => {
            if !has_port(&service, port) {
                return failed(format!("no service port {port} found for service {name:?}"));
            }
            Ok(Address { host: address.to_owned(), port })
        }
        "ExternalName" => {
            Ok(Address { host: service.str(&["spec", "externalName"]).to_owned(), port })
        }
        other => failed(format!("unsupported service type {other:?}")),
    }
}

fn has_port(service: &Object, port: u16) -> bool {
    service.list(&["spec", "ports"]).iter().any(|own| own["port"] == port)
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
    fn services_are_reached_at_their_cluster_address() {
        let ports = json!([{"port": 443, "name": "https"}]);
        let reader = FakeReader::default();
        for (name, spec) in [
            ("plain", json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": ports})),
            ("none", json!({"type": "ClusterIP", "clusterIP": "None", "ports": ports})),
            ("node", json!({"type": "NodePort", "clusterIP": "fd00::1", "ports": ports})),
            ("far", json!({"type": "ExternalName", "externalName": "example.org"})),
        ] {
            let meta = json!({"name": name, "namespace": "n"});
            reader.put("", "services", json!({"metadata": meta, "spec": spec}));
        }
        let of = |name, port| match resolve(&reader, "n", name, port) {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(of("plain", 443), "10.0.0.1:443");
        assert_eq!(of("node", 443), "[fd00::1]:443");
        assert_eq!(of("far", 8443), "example.org:8443");
        assert_eq!(of("plain", 80), "no service port 80 found for service \"plain\"");
        assert_eq!(of("none", 443), "cannot route to service with ClusterIP \"None\"");
        assert_eq!(of("gone", 443), "service \"gone\" not found");
    }
}
