//! EndpointSlices: which pods stand behind a service.
//!
//! upstream: pkg/controller/endpointslice, staging/src/k8s.io/endpointslice

mod hints;

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::Object;
use longshore_client::informer::Change;
use longshore_client::resource::{ENDPOINT_SLICES, NODES, PODS, SERVICES};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Queue};
use serde_json::{Value, json};

use crate::Context;
use crate::common::{Key, controller_ref, follow, gone_is_fine, is_ready, key_of};
use crate::go_hash;

/// Workers side by side.
const WORKERS: usize = 5;
/// Endpoints in one slice.
const SLICE_MAX: usize = 100;
const MANAGER: &str = "endpointslice-controller.k8s.io";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";

#[derive(Clone)]
struct Controller {
    ctx: Context,
    services: Informer,
    pods: Informer,
    slices: Informer,
    nodes: Informer,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let controller = Controller {
        services: ctx.caches.get(SERVICES),
        pods: ctx.caches.get(PODS),
        slices: ctx.caches.get(ENDPOINT_SLICES),
        nodes: ctx.caches.get(NODES),
        ctx,
    };
    follow(&controller.services, &queue);
    follow_pods(&controller.services, &controller.pods, &queue);
    let again = queue.clone();
    controller.slices.on_change(move |change| {
        let slice = change.object();
        if let Some(service) = slice.label(SERVICE_NAME) {
            again.add((slice.namespace().to_owned(), service.to_owned()));
        }
    });
    let (again, places) = (queue.clone(), controller.clone());
    controller.nodes.on_change(move |change| {
        let node = change.object();
        if let Change::Applied { old: Some(old), new } = change
            && old.label(ZONE) == new.label(ZONE)
        {
            return;
        }
        for pod in places.pods.list().iter() {
            if pod.str(&["spec", "nodeName"]) == node.name() {
                let services = places.services.list_namespace(pod.namespace());
                let services = services.iter().filter(|service| selects(service, pod));
                services.for_each(|service| again.add(key_of(service)));
            }
        }
    });
    let shutdown = controller.ctx.shutdown.clone();
    workers::run("endpointslice-controller", queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

/// A pod concerns the services that select it, and those that selected it before.
pub(crate) fn follow_pods(services: &Informer, pods: &Informer, queue: &Queue<Key>) {
    let (services, queue) = (services.clone(), queue.clone());
    pods.on_change(move |change| {
        let mut states = vec![change.object().clone()];
        if let longshore_client::informer::Change::Applied { old: Some(old), .. } = change {
            states.push(old.clone());
        }
        for service in services.list_namespace(change.object().namespace()) {
            if states.iter().any(|pod| selects(&service, pod)) {
                queue.add(crate::common::key_of(&service));
            }
        }
    });
}

/// Whether a service has a selector, and a pod has its labels.
pub(crate) fn selects(service: &Object, pod: &Object) -> bool {
    let selector = service.get(&["spec", "selector"]).and_then(Value::as_object);
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(k, v)| pod.label(k) == v.as_str())
    })
}

/// Whether a pod belongs behind services at all.
pub(crate) fn has_address(pod: &Object) -> bool {
    !pod.str(&["status", "podIP"]).is_empty()
        && !matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed")
}

/// The ports of a service as they are on a pod; ports that the pod does not have are left out.
pub(crate) fn ports_on(service: &Object, pod: &Object) -> Vec<Value> {
    let mut ports = Vec::new();
    for port in service.list(&["spec", "ports"]) {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let number = match &port["targetPort"] {
            Value::String(name) => named_port(pod, name, protocol),
            Value::Number(number) if number.as_i64() != Some(0) => number.as_i64(),
            _ => port["port"].as_i64(),
        };
        let Some(number) = number else { continue };
        let mut entry = json!({
            "name": port["name"].as_str().unwrap_or(""), "port": number, "protocol": protocol,
        });
        if let Some(app) = port["appProtocol"].as_str() {
            entry["appProtocol"] = app.into();
        }
        ports.push(entry);
    }
    ports
}

fn named_port(pod: &Object, name: &str, protocol: &str) -> Option<i64> {
    let sidecars = pod.list(&["spec", "initContainers"]).iter();
    let sidecars = sidecars.filter(|c| c["restartPolicy"] == "Always");
    let containers = pod.list(&["spec", "containers"]).iter().chain(sidecars);
    let mut ports = containers.filter_map(|c| c["ports"].as_array()).flatten();
    let port =
        ports.find(|p| p["name"] == name && p["protocol"].as_str().unwrap_or("TCP") == protocol)?;
    port["containerPort"].as_i64()
}

impl Controller {
    async fn sync(&self, (namespace, name): Key) -> Outcome {
        for cache in [&self.services, &self.pods, &self.slices, &self.nodes] {
            cache.synced().await;
        }
        let present: Vec<Arc<Object>> = self
            .slices
            .list_namespace(&namespace)
            .into_iter()
            .filter(|s| {
                s.label(SERVICE_NAME) == Some(&name) && s.label(MANAGED_BY) == Some(MANAGER)
            })
            .collect();
        let service = self.services.get(&namespace, &name);
        let Some(service) = service.filter(|s| !s.is_deleting()) else {
            // The garbage collector takes the slices of a deleted service.
            return Ok(None);
        };
        let selecting = service
            .get(&["spec", "selector"])
            .and_then(Value::as_object)
            .is_some_and(|s| !s.is_empty());
        if !selecting || service.str(&["spec", "type"]) == "ExternalName" {
            return Ok(None);
        }
        let mut families: Vec<String> = service
            .list(&["spec", "ipFamilies"])
            .iter()
            .filter_map(|family| family.as_str().map(str::to_owned))
            .collect();
        if families.is_empty() {
            families.push(family_of(&service));
        }
        let (kept, other): (Vec<_>, Vec<_>) = present
            .into_iter()
            .partition(|slice| families.iter().any(|f| f == slice.str(&["addressType"])));
        for family in &families {
            let own = kept.iter().filter(|s| s.str(&["addressType"]) == family).cloned();
            let wanted = self.wanted(&service, family);
            self.reconcile(&service, family, own.collect(), wanted).await?;
        }
        self.delete(other).await?;
        Ok(None)
    }

    async fn delete(&self, slices: Vec<Arc<Object>>) -> Result<(), Error> {
        for slice in slices {
            let (namespace, name) = (slice.namespace(), slice.name());
            let deleted =
                self.ctx.client.delete(ENDPOINT_SLICES, namespace, name, Value::Null).await;
            gone_is_fine(deleted)?;
        }
        Ok(())
    }

    /// The wanted slices: ports and endpoints of each.
    fn wanted(&self, service: &Object, family: &str) -> Vec<(Vec<Value>, Vec<Value>)> {
        let mut groups: BTreeMap<String, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
        let publish = service.bool(&["spec", "publishNotReadyAddresses"]);
        for pod in self.pods.list_namespace(service.namespace()) {
            if !selects(service, &pod) || !has_address(&pod) {
                continue;
            }
            let node = self.nodes.get("", pod.str(&["spec", "nodeName"]));
            // Nothing runs on a node that is not there; when it comes, we look again.
            if node.is_none() && !publish && !pod.str(&["spec", "nodeName"]).is_empty() {
                continue;
            }
            let Some(endpoint) = endpoint(service, &pod, node.as_deref(), family) else { continue };
            let mut ports = ports_on(service, &pod);
            ports.sort_by_key(go_hash::slice_port);
            let key = Value::from(ports.clone()).to_string();
            let group = groups.entry(key).or_insert_with(|| (ports, Vec::new()));
            group.1.push(endpoint);
        }
        if groups.is_empty() {
            // A service without pods has one empty slice.
            return vec![(Vec::new(), Vec::new())];
        }
        let mut slices = Vec::new();
        for (ports, endpoints) in groups.into_values() {
            slices.extend(endpoints.chunks(SLICE_MAX).map(|part| (ports.clone(), part.to_vec())));
        }
        for (_, endpoints) in &mut slices {
            hints::set(service, endpoints);
        }
        slices
    }

    async fn reconcile(
        &self,
        service: &Object,
        family: &str,
        present: Vec<Arc<Object>>,
        wanted: Vec<(Vec<Value>, Vec<Value>)>,
    ) -> Result<(), Error> {
        let mut free: Vec<Arc<Object>> = present;
        for (ports, endpoints) in wanted {
            // A slice with the same ports is changed rather than replaced.
            let same = free.iter().position(|s| s.list(&["ports"]) == ports.as_slice());
            let slice = same.or((!free.is_empty()).then_some(0)).map(|at| free.remove(at));
            let written = match slice {
                None => {
                    let slice = new_slice(service, family, &ports, &endpoints);
                    match self.ctx.client.create(ENDPOINT_SLICES, &slice).await {
                        Err(error) if error.is_namespace_terminating() => return Ok(()),
                        outcome => outcome?,
                    }
                }
                Some(slice) => {
                    let mut changed = (*slice).clone();
                    changed.set(&["ports"], ports);
                    changed.set(&["endpoints"], endpoints);
                    set_labels(&mut changed, service);
                    if changed == *slice {
                        continue;
                    }
                    self.ctx.client.update(ENDPOINT_SLICES, &changed).await?
                }
            };
            self.slices.wait_for(&written).await;
        }
        self.delete(free).await
    }
}

/// What a slice tells of a pod; `None` when it has no address of the family.
fn endpoint(service: &Object, pod: &Object, node: Option<&Object>, family: &str) -> Option<Value> {
    let serving = is_ready(pod);
    let terminating = pod.is_deleting();
    let ready = (serving && !terminating) || service.bool(&["spec", "publishNotReadyAddresses"]);
    let mut endpoint = json!({
        "addresses": [pod_ip(pod, family)?],
        "conditions": { "ready": ready, "serving": serving, "terminating": terminating },
        "targetRef": {
            "kind": "Pod", "name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid(),
        },
    });
    let node_name = pod.str(&["spec", "nodeName"]);
    if !node_name.is_empty() {
        endpoint["nodeName"] = node_name.into();
    }
    if let Some(zone) = node.and_then(|node| node.label(ZONE)) {
        endpoint["zone"] = zone.into();
    }
    let hostname = pod.str(&["spec", "hostname"]);
    if !hostname.is_empty() && pod.str(&["spec", "subdomain"]) == service.name() {
        endpoint["hostname"] = hostname.into();
    }
    Some(endpoint)
}

/// The family of a service's first address.
pub(crate) fn family_of(service: &Object) -> String {
    match service.list(&["spec", "ipFamilies"]).first().and_then(Value::as_str) {
        Some(family) => family.to_owned(),
        None if service.str(&["spec", "clusterIP"]).contains(':') => "IPv6".to_owned(),
        None => "IPv4".to_owned(),
    }
}

/// A pod's address of a family.
pub(crate) fn pod_ip(pod: &Object, family: &str) -> Option<String> {
    let many = pod.list(&["status", "podIPs"]).iter().filter_map(|ip| ip["ip"].as_str());
    let mut all = many.chain(std::iter::once(pod.str(&["status", "podIP"])));
    all.find(|ip| !ip.is_empty() && ip.contains(':') == (family == "IPv6")).map(str::to_owned)
}

fn set_labels(slice: &mut Object, service: &Object) {
    let mut labels = json!({});
    for (key, value) in service.labels().into_iter().flatten() {
        if ![SERVICE_NAME, MANAGED_BY, HEADLESS].contains(&key.as_str()) {
            labels[key] = value.clone();
        }
    }
    labels[SERVICE_NAME] = service.name().into();
    labels[MANAGED_BY] = MANAGER.into();
    if service.str(&["spec", "clusterIP"]) == "None" {
        labels[HEADLESS] = "".into();
    }
    slice.set(&["metadata", "labels"], labels);
    slice.remove(&["metadata", "annotations", TRIGGER]);
}

fn new_slice(service: &Object, family: &str, ports: &[Value], endpoints: &[Value]) -> Value {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {
            "generateName": format!("{}-", service.name()), "namespace": service.namespace(),
            "ownerReferences": [controller_ref(service)],
        },
        "endpoints": endpoints, "ports": ports,
    });
    let mut slice = Object::from_value(slice).expect("built as an object");
    set_labels(&mut slice, service);
    slice.into_value()
}
