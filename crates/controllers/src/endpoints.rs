//! Endpoints: the older form of EndpointSlices, one object for each service.
//!
//! upstream: pkg/controller/endpoint/endpoints_controller.go

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use longshore_api::Object;
use longshore_client::informer::Change;
use longshore_client::resource::{ENDPOINTS, PODS, SERVICES};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Informer, Queue};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::Context;
use crate::common::{Key, follow, gone_is_fine, is_ready, key_of};
use crate::endpointslice::{family_of, follow_pods, has_address, pod_ip, ports_on, selects};
use crate::go_hash;

/// Workers side by side.
const WORKERS: usize = 5;
/// Addresses in one object; more are left out.
const ADDRESSES_MAX: usize = 1000;
const HEADLESS: &str = "service.kubernetes.io/headless";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

#[derive(Clone)]
struct Controller {
    ctx: Context,
    services: Informer,
    pods: Informer,
    endpoints: Informer,
    /// Services that are gone and whose endpoints have yet to go.
    gone: Arc<Mutex<HashSet<Key>>>,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let controller = Controller {
        services: ctx.caches.get(SERVICES),
        pods: ctx.caches.get(PODS),
        endpoints: ctx.caches.get(ENDPOINTS),
        gone: Arc::default(),
        ctx,
    };
    let gone = controller.gone.clone();
    controller.services.on_change(move |change| {
        let key = key_of(change.object());
        match change {
            Change::Deleted(_) => gone.lock().insert(key),
            Change::Applied { .. } => gone.lock().remove(&key),
        };
    });
    follow(&controller.services, &queue);
    follow(&controller.endpoints, &queue);
    follow_pods(&controller.services, &controller.pods, &queue);
    let shutdown = controller.ctx.shutdown.clone();
    workers::run("endpoints-controller", queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

impl Controller {
    async fn sync(&self, (namespace, name): Key) -> Outcome {
        for cache in [&self.services, &self.pods, &self.endpoints] {
            cache.synced().await;
        }
        let present = self.endpoints.get(&namespace, &name);
        let Some(service) = self.services.get(&namespace, &name) else {
            // Endpoints have no owner: they go with their service.
            let of_service = self.gone.lock().remove(&(namespace.clone(), name.clone()));
            let managed = present.as_ref().is_some_and(|p| p.label(MANAGED_BY).is_some());
            if present.is_some() && (of_service || managed) {
                let deleted = self.ctx.client.delete(ENDPOINTS, &namespace, &name, Value::Null);
                gone_is_fine(deleted.await)?;
            }
            return Ok(None);
        };
        let selector = service.get(&["spec", "selector"]).and_then(Value::as_object);
        let external = service.str(&["spec", "type"]) == "ExternalName";
        if external || selector.is_none_or(serde_json::Map::is_empty) {
            return Ok(None);
        }
        let mut subsets = self.subsets(&service);
        let truncated = truncate(&mut subsets);
        let mut labels = json!({});
        for (key, value) in service.labels().into_iter().flatten() {
            labels[key] = value.clone();
        }
        match service.str(&["spec", "clusterIP"]) {
            "" | "None" => labels[HEADLESS] = "".into(),
            _ => drop(labels.as_object_mut().and_then(|labels| labels.remove(HEADLESS))),
        }
        labels[MANAGED_BY] = "endpoint-controller".into();
        let mut wanted = match &present {
            Some(present) => (**present).clone(),
            None => Object::from_value(json!({
                "apiVersion": "v1", "kind": "Endpoints",
                "metadata": { "name": name, "namespace": namespace },
            }))
            .expect("built as an object"),
        };
        wanted.set(&["metadata", "labels"], labels);
        if truncated {
            wanted.set(&["metadata", "annotations", OVER_CAPACITY], "truncated");
        } else {
            wanted.remove(&["metadata", "annotations", OVER_CAPACITY]);
        }
        if subsets.is_empty() {
            wanted.remove(&["subsets"]);
        } else {
            wanted.set(&["subsets"], subsets);
        }
        let written = match present {
            Some(present) if *present == wanted => return Ok(None),
            Some(_) => self.ctx.client.update(ENDPOINTS, &wanted).await?,
            None => match self.ctx.client.create(ENDPOINTS, &wanted.into_value()).await {
                Err(error) if error.is_namespace_terminating() => return Ok(None),
                outcome => outcome?,
            },
        };
        self.endpoints.wait_for(&written).await;
        Ok(None)
    }

    /// upstream: pkg/api/v1/endpoints/util.go RepackSubsets
    fn subsets(&self, service: &Object) -> Vec<Value> {
        let all = service.bool(&["spec", "publishNotReadyAddresses"]);
        let headless = service.str(&["spec", "clusterIP"]) == "None";
        let no_ports = service.list(&["spec", "ports"]).is_empty();
        // The ready and other addresses behind each port.
        let mut behind: BTreeMap<String, (Option<Value>, Addresses)> = BTreeMap::new();
        let pods = self.pods.list_namespace(service.namespace());
        let pods = pods.iter().filter(|p| selects(service, p) && has_address(p));
        for pod in pods.filter(|p| all || !p.is_deleting()) {
            let Some(address) = address(service, pod) else { continue };
            let place = (address["ip"].to_string(), pod.uid().to_owned());
            let ready = all || is_ready(pod);
            let mut ports: Vec<Option<Value>> =
                ports_on(service, pod).into_iter().map(Some).collect();
            if no_ports && headless {
                ports.push(None);
            }
            for port in ports {
                let key = port.as_ref().map_or_else(String::new, Value::to_string);
                let group = behind.entry(key).or_insert_with(|| (port, BTreeMap::new()));
                group.1.insert(place.clone(), (address.clone(), ready));
            }
        }
        // Ports with the same addresses share a subset.
        let mut subsets: BTreeMap<Vec<(Place, bool)>, Group> = BTreeMap::new();
        for (port, addresses) in behind.into_values() {
            let key = addresses.iter().map(|(place, (_, ready))| (place.clone(), *ready)).collect();
            let subset = subsets.entry(key).or_insert_with(|| {
                let (ready, other): (Vec<_>, Vec<_>) =
                    addresses.into_values().partition(|(_, ready)| *ready);
                let only = |list: Vec<(Value, bool)>| list.into_iter().map(|(a, _)| a).collect();
                (Vec::new(), only(ready), only(other))
            });
            subset.0.extend(port);
        }
        subsets
            .into_values()
            .map(|(mut ports, ready, not_ready)| {
                ports.sort_by_key(go_hash::endpoints_port);
                subset(ports, ready, not_ready)
            })
            .collect()
    }
}

/// An address and the uid of its pod.
type Place = (String, String);
/// Addresses, and whether each is ready.
type Addresses = BTreeMap<Place, (Value, bool)>;
/// Ports, and the ready and other addresses behind them.
type Group = (Vec<Value>, Vec<Value>, Vec<Value>);

fn address(service: &Object, pod: &Object) -> Option<Value> {
    let mut address = json!({
        "ip": pod_ip(pod, &family_of(service))?, "nodeName": pod.str(&["spec", "nodeName"]),
        "targetRef": {
            "kind": "Pod", "name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid(),
        },
    });
    let hostname = pod.str(&["spec", "hostname"]);
    if !hostname.is_empty() && pod.str(&["spec", "subdomain"]) == service.name() {
        address["hostname"] = hostname.into();
    }
    Some(address)
}

/// Leaves out addresses beyond the limit: those that are not ready first. True when it did.
fn truncate(subsets: &mut [Value]) -> bool {
    let mut room = ADDRESSES_MAX;
    let mut cut = false;
    for field in ["addresses", "notReadyAddresses"] {
        for subset in subsets.iter_mut() {
            let Some(list) = subset[field].as_array_mut() else { continue };
            cut |= list.len() > room;
            list.truncate(room);
            room -= list.len();
        }
    }
    cut
}

fn subset(ports: Vec<Value>, ready: Vec<Value>, not_ready: Vec<Value>) -> Value {
    let ports: Vec<Value> = ports
        .into_iter()
        .map(|mut port| {
            if port["name"] == "" {
                port.as_object_mut().expect("built as an object").remove("name");
            }
            port
        })
        .collect();
    let mut subset = json!({});
    for (key, list) in [("addresses", ready), ("notReadyAddresses", not_ready), ("ports", ports)] {
        if !list.is_empty() {
            subset[key] = list.into();
        }
    }
    subset
}
