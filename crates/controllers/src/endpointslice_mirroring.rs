//! Endpoints that people write by hand are mirrored as slices, where everybody looks.
//!
//! upstream: pkg/controller/endpointslicemirroring

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use longshore_api::Object;
use longshore_client::resource::{ENDPOINT_SLICES, ENDPOINTS, SERVICES};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Queue};
use serde_json::{Map, Value, json};

use crate::Context;
use crate::common::{Key, controller_ref, follow, gone_is_fine, key_of};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const MANAGED_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// Endpoints with this label are not mirrored.
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotations that are not copied.
const NOT_COPIED: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];
/// Leader elections of old used endpoints as locks.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of one subset that are mirrored at most.
///
/// upstream: --mirroring-max-endpoints-per-subset
const ADDRESSES_MAX: usize = 1000;

#[derive(Clone)]
struct Controller {
    ctx: Context,
    endpoints: Informer,
    services: Informer,
    slices: Informer,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (endpoints, services) = (ctx.caches.get(ENDPOINTS), ctx.caches.get(SERVICES));
    let slices = ctx.caches.get(ENDPOINT_SLICES);
    follow(&endpoints, &queue);
    follow(&services, &queue);
    let again = queue.clone();
    slices.on_change(move |change| {
        let slice = change.object();
        if slice.label(MANAGED_LABEL) == Some(MANAGER)
            && let Some(service) = slice.label(SERVICE_LABEL)
        {
            again.add((slice.namespace().to_owned(), service.to_owned()));
        }
    });
    let controller = Controller { ctx, endpoints, services, slices };
    let shutdown = controller.ctx.shutdown.clone();
    workers::run("endpointslice-mirroring-controller", queue, 2, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

impl Controller {
    async fn sync(&self, key: Key) -> Outcome {
        for cache in [&self.endpoints, &self.services, &self.slices] {
            cache.synced().await;
        }
        let wanted = match self.endpoints.get(&key.0, &key.1) {
            Some(endpoints) if self.is_mirrored(&endpoints) => wanted(&endpoints),
            _ => Vec::new(),
        };
        let mut present = self.slices.list_namespace(&key.0);
        present.retain(|slice| {
            slice.label(MANAGED_LABEL) == Some(MANAGER)
                && slice.label(SERVICE_LABEL) == Some(key.1.as_str())
        });
        self.reconcile(wanted, present).await?;
        Ok(None)
    }

    /// Only services without a selector have endpoints that people write.
    fn is_mirrored(&self, endpoints: &Object) -> bool {
        let (namespace, name) = key_of(endpoints);
        let Some(service) = self.services.get(&namespace, &name) else { return false };
        let selector = service.get(&["spec", "selector"]).and_then(Value::as_object);
        selector.is_none_or(Map::is_empty)
            && endpoints.label(SKIP_LABEL) != Some("true")
            && endpoints.annotation(LEADER).is_none()
            && !endpoints.is_deleting()
    }

    async fn reconcile(
        &self,
        wanted: Vec<Object>,
        mut present: Vec<Arc<Object>>,
    ) -> Result<(), Error> {
        for slice in wanted {
            let alike = |other: &Arc<Object>| {
                other.get(&["ports"]) == slice.get(&["ports"])
                    && other.get(&["addressType"]) == slice.get(&["addressType"])
            };
            let Some(at) = present.iter().position(alike) else {
                match self.ctx.client.create(ENDPOINT_SLICES, &slice.into_value()).await {
                    Ok(made) => self.slices.wait_for(&made).await,
                    Err(error) if error.is_namespace_terminating() => return Ok(()),
                    Err(error) => return Err(error),
                }
                continue;
            };
            let old = present.remove(at);
            let mut changed = (*old).clone();
            for path in [&["endpoints"][..], &["metadata", "labels"], &["metadata", "annotations"]]
            {
                match slice.get(path) {
                    Some(value) => changed.set(path, value.clone()),
                    None => drop(changed.remove(path)),
                }
            }
            if changed != *old {
                let written = self.ctx.client.update(ENDPOINT_SLICES, &changed).await?;
                self.slices.wait_for(&written).await;
            }
        }
        for slice in present {
            let (namespace, name) = (slice.namespace(), slice.name());
            let gone = self.ctx.client.delete(ENDPOINT_SLICES, namespace, name, Value::Null).await;
            gone_is_fine(gone)?;
        }
        Ok(())
    }
}

/// The slices for some endpoints: one for each set of ports and kind of address.
fn wanted(endpoints: &Object) -> Vec<Object> {
    let mut groups: BTreeMap<(String, bool), (Value, Vec<Value>)> = BTreeMap::new();
    for subset in endpoints.list(&["subsets"]) {
        let ports = ports(subset);
        let mut left = ADDRESSES_MAX;
        for (field, ready) in [("addresses", true), ("notReadyAddresses", false)] {
            for address in subset[field].as_array().into_iter().flatten().take(left) {
                let ip = address["ip"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
                let Some(ip) = ip else { continue };
                let group = groups.entry((ports.to_string(), ip.is_ipv6()));
                let group = group.or_insert_with(|| (ports.clone(), Vec::new()));
                group.1.push(endpoint(address, ip, ready));
                left -= 1;
            }
        }
    }
    let slices =
        groups.into_iter().map(|((_, six), (ports, all))| slice(endpoints, six, &ports, &all));
    slices.collect()
}

fn ports(subset: &Value) -> Value {
    let ports = subset["ports"].as_array().into_iter().flatten().map(|port| {
        let mut copy = json!({
            "name": port["name"].as_str().unwrap_or(""), "port": port["port"],
            "protocol": port["protocol"].as_str().unwrap_or("TCP"),
        });
        if let Some(protocol) = port.get("appProtocol") {
            copy["appProtocol"] = protocol.clone();
        }
        copy
    });
    ports.collect()
}

fn endpoint(address: &Value, ip: IpAddr, ready: bool) -> Value {
    let mut endpoint = json!({
        "addresses": [ip.to_string()], "conditions": { "ready": ready },
    });
    for field in ["targetRef", "nodeName", "hostname"] {
        if let Some(value) = address.get(field) {
            endpoint[field] = value.clone();
        }
    }
    endpoint
}

fn slice(endpoints: &Object, six: bool, ports: &Value, all: &[Value]) -> Object {
    let mut owner = endpoints.clone();
    owner.set(&["apiVersion"], "v1");
    owner.set(&["kind"], "Endpoints");
    let mut slice = Object::default();
    slice.set(&["apiVersion"], "discovery.k8s.io/v1");
    slice.set(&["kind"], "EndpointSlice");
    slice.set(&["addressType"], if six { "IPv6" } else { "IPv4" });
    slice.set(&["endpoints"], all.to_vec());
    slice.set(&["ports"], ports.clone());
    slice.set(&["metadata", "generateName"], format!("{}-", endpoints.name()));
    slice.set(&["metadata", "namespace"], endpoints.namespace());
    slice.set(&["metadata", "ownerReferences"], vec![controller_ref(&owner)]);
    if let Some(labels) = endpoints.labels() {
        slice.set(&["metadata", "labels"], labels.clone());
    }
    slice.set(&["metadata", "labels", SERVICE_LABEL], endpoints.name());
    slice.set(&["metadata", "labels", MANAGED_LABEL], MANAGER);
    let annotations = endpoints.get(&["metadata", "annotations"]).and_then(Value::as_object);
    for (key, value) in annotations.into_iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            slice.set(&["metadata", "annotations", key], value.clone());
        }
    }
    slice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_for_each_kind_of_address() {
        let endpoints = json!({"metadata": {"name": "e", "namespace": "x", "uid": "u",
            "labels": {"a": "b"}}, "subsets": [{
            "addresses": [{"ip": "10.1.2.3"}, {"ip": "fd00::1"}],
            "notReadyAddresses": [{"ip": "10.1.2.4"}],
            "ports": [{"port": 80, "protocol": "TCP"}],
        }]});
        let slices = wanted(&Object::from_value(endpoints).unwrap());
        assert_eq!(slices.len(), 2);
        assert_eq!(slices[0].str(&["addressType"]), "IPv4");
        assert_eq!(slices[0].list(&["endpoints"])[1]["conditions"]["ready"], false);
        assert_eq!(slices[0].label("a"), Some("b"));
        assert_eq!(slices[1].list(&["endpoints"])[0]["addresses"][0], "fd00::1");
        assert_eq!(slices[1].list(&["ports"])[0]["name"], "");
    }
}
