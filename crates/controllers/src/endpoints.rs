//! Endpoints: the older form of EndpointSlices, one object for each service.
//!
//! upstream: pkg/controller/endpoint/endpoints_controller.go

use std::collections::BTreeMap;

use longshore_api::Object;
use longshore_client::resource::{ENDPOINTS, PODS, SERVICES};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Informer, Queue};
use serde_json::{Value, json};

use crate::Context;
use crate::common::{Key, follow, gone_is_fine, is_ready};
use crate::endpointslice::{follow_pods, has_address, ports_on, selects};

/// Workers side by side.
const WORKERS: usize = 5;
/// Addresses in one object; more are left out.
const ADDRESSES_MAX: usize = 1000;
const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

#[derive(Clone)]
struct Controller {
    ctx: Context,
    services: Informer,
    pods: Informer,
    endpoints: Informer,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let controller = Controller {
        services: ctx.caches.get(SERVICES),
        pods: ctx.caches.get(PODS),
        endpoints: ctx.caches.get(ENDPOINTS),
        ctx,
    };
    follow(&controller.services, &queue);
    follow(&controller.endpoints, &queue);
    follow_pods(&controller.services, &controller.pods, &queue);
    let shutdown = controller.ctx.shutdown.clone();
    workers::run("endpoints-controller", queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

/// Ports, and the ready and other addresses behind them.
type Group = (Vec<Value>, Vec<Value>, Vec<Value>);

impl Controller {
    async fn sync(&self, (namespace, name): Key) -> Outcome {
        for cache in [&self.services, &self.pods, &self.endpoints] {
            cache.synced().await;
        }
        let present = self.endpoints.get(&namespace, &name);
        let Some(service) = self.services.get(&namespace, &name) else {
            // Endpoints have no owner: they go with their service.
            if present.is_some_and(|p| p.label(MANAGED_BY).is_some()) {
                let deleted = self.ctx.client.delete(ENDPOINTS, &namespace, &name, Value::Null);
                gone_is_fine(deleted.await)?;
            }
            return Ok(None);
        };
        let selector = service.get(&["spec", "selector"]).and_then(Value::as_object);
        if service.is_deleting() || selector.is_none_or(serde_json::Map::is_empty) {
            return Ok(None);
        }
        let subsets = self.subsets(&service);
        let mut labels = json!({ MANAGED_BY: "endpoint-controller" });
        for (key, value) in service.labels().into_iter().flatten() {
            labels[key] = value.clone();
        }
        if service.str(&["spec", "clusterIP"]) == "None" {
            labels[HEADLESS] = "".into();
        }
        let mut wanted = match &present {
            Some(present) => (**present).clone(),
            None => Object::from_value(json!({
                "apiVersion": "v1", "kind": "Endpoints",
                "metadata": { "name": name, "namespace": namespace },
            }))
            .expect("built as an object"),
        };
        wanted.set(&["metadata", "labels"], labels);
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

    fn subsets(&self, service: &Object) -> Vec<Value> {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let all = service.bool(&["spec", "publishNotReadyAddresses"]);
        let pods = self.pods.list_namespace(service.namespace());
        let pods = pods.iter().filter(|p| selects(service, p) && has_address(p));
        for pod in pods.filter(|p| all || !p.is_deleting()).take(ADDRESSES_MAX) {
            let ports = ports_on(service, pod);
            let key = Value::from(ports.clone()).to_string();
            let group = groups.entry(key).or_insert_with(|| (ports, Vec::new(), Vec::new()));
            let mut address = json!({
                "ip": pod.str(&["status", "podIP"]), "nodeName": pod.str(&["spec", "nodeName"]),
                "targetRef": {
                    "kind": "Pod", "name": pod.name(), "namespace": pod.namespace(),
                    "uid": pod.uid(),
                },
            });
            let hostname = pod.str(&["spec", "hostname"]);
            if !hostname.is_empty() && pod.str(&["spec", "subdomain"]) == service.name() {
                address["hostname"] = hostname.into();
            }
            if all || is_ready(pod) { group.1.push(address) } else { group.2.push(address) }
        }
        groups
            .into_values()
            .map(|(ports, ready, not_ready)| subset(ports, ready, not_ready))
            .collect()
    }
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
