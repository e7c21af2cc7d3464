//! What the scheduler knows of pods and nodes: small structs with what the plugins need, made once.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use serde_json::Value;

/// CPU of a container that asks for none, in thousandths; for scoring only.
///
/// upstream: pkg/scheduler/util/pod_resources.go
const CPU_DEFAULT: i64 = 100;
/// Memory of a container that asks for none, in bytes; for scoring only.
const MEMORY_DEFAULT: i64 = 200 << 20;

/// Amounts of resources by name: CPU in thousandths, everything else in whole units.
pub(crate) type Amounts = BTreeMap<String, i64>;

/// The amount of a quantity of a resource.
fn amount(name: &str, value: &Value) -> i64 {
    let text = value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
    let quantity = Quantity::parse(&text).unwrap_or(Quantity::from_integer(0));
    if name == "cpu" { quantity.milli_value() } else { quantity.value() }
}

/// The amounts of a resource list.
pub(crate) fn amounts(list: Option<&Value>) -> Amounts {
    let list = list.and_then(Value::as_object).into_iter().flatten();
    list.map(|(name, value)| (name.clone(), amount(name, value))).collect()
}

fn add(into: &mut Amounts, other: &Amounts) {
    for (name, value) in other {
        *into.entry(name.clone()).or_default() += value;
    }
}

fn at_least(into: &mut Amounts, other: &Amounts) {
    for (name, value) in other {
        let present = into.entry(name.clone()).or_default();
        *present = (*present).max(*value);
    }
}

/// A pod.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) object: Arc<Object>,
    pub(crate) priority: i64,
    /// What it asks for.
    pub(crate) requests: Amounts,
    /// The same with a guess for what it does not say.
    pub(crate) guessed: Amounts,
    /// Ports of the host: address, protocol, port.
    pub(crate) host_ports: Vec<(String, String, i64)>,
}

impl Pod {
    /// Reads a pod.
    pub(crate) fn new(object: &Arc<Object>) -> Self {
        let containers = object.list(&["spec", "containers"]);
        let ports = containers.iter().filter_map(|c| c["ports"].as_array()).flatten();
        let host_ports = ports
            .filter_map(|p| {
                let port = p["hostPort"].as_i64().filter(|p| *p > 0)?;
                let text = |key: &str, default: &str| p[key].as_str().unwrap_or(default).to_owned();
                Some((text("hostIP", "0.0.0.0"), text("protocol", "TCP"), port))
            })
            .collect();
        Self {
            priority: object.int(&["spec", "priority"]).unwrap_or(0),
            requests: requests(object, false),
            guessed: requests(object, true),
            host_ports,
            object: object.clone(),
        }
    }
}

/// The requests of a pod: its containers together, or its init containers if one needs more, and
/// the overhead.
///
/// upstream: staging/src/k8s.io/component-helpers/resource/helpers.go
fn requests(pod: &Object, guess: bool) -> Amounts {
    let of = |container: &Value| {
        let mut list = amounts(container["resources"].get("requests"));
        if guess {
            for (name, default) in [("cpu", CPU_DEFAULT), ("memory", MEMORY_DEFAULT)] {
                let present = list.entry(name.to_owned()).or_default();
                if *present == 0 {
                    *present = default;
                }
            }
        }
        list
    };
    let mut total = Amounts::new();
    for container in pod.list(&["spec", "containers"]) {
        add(&mut total, &of(container));
    }
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for container in pod.list(&["spec", "initContainers"]) {
        if container["restartPolicy"] == "Always" {
            add(&mut sidecars, &of(container));
            at_least(&mut most, &sidecars);
        } else {
            let mut with = of(container);
            add(&mut with, &sidecars);
            at_least(&mut most, &with);
        }
    }
    add(&mut total, &sidecars);
    at_least(&mut total, &most);
    add(&mut total, &amounts(pod.get(&["spec", "overhead"])));
    total
}

/// A node and the pods on it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) object: Arc<Object>,
    pub(crate) allocatable: Amounts,
    pub(crate) requested: Amounts,
    pub(crate) guessed: Amounts,
    pub(crate) pods: Vec<Arc<Pod>>,
}

impl Node {
    /// Reads a node; no pods are on it yet.
    pub(crate) fn new(object: &Arc<Object>) -> Self {
        Self {
            allocatable: amounts(object.get(&["status", "allocatable"])),
            object: object.clone(),
            requested: Amounts::new(),
            guessed: Amounts::new(),
            pods: Vec::new(),
        }
    }

    /// Puts a pod on the node.
    pub(crate) fn add(&mut self, pod: Arc<Pod>) {
        add(&mut self.requested, &pod.requests);
        add(&mut self.guessed, &pod.guessed);
        self.pods.push(pod);
    }

    /// Takes a pod off the node.
    pub(crate) fn remove(&mut self, uid: &str) {
        let Some(at) = self.pods.iter().position(|p| p.object.uid() == uid) else { return };
        let pod = self.pods.swap_remove(at);
        for (total, part) in
            [(&mut self.requested, &pod.requests), (&mut self.guessed, &pod.guessed)]
        {
            for (name, value) in part {
                *total.entry(name.clone()).or_default() -= value;
            }
        }
    }

    /// A label; the name counts as one for topologies.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.object.label(key)
    }
}
