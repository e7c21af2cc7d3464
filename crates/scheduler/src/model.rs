//! What the scheduler knows of pods and nodes: small structs with what the plugins need, made once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use longshore_api::selector::LabelSelector;
use serde_json::{Map, Value};

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

/// A wish of a pod about other pods.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    namespaces: BTreeSet<String>,
    in_namespaces: Option<LabelSelector>,
    selector: Option<LabelSelector>,
    /// The label of nodes that tells places apart.
    pub(crate) topology: String,
}

impl Term {
    fn new(owner: &Object, term: &Value) -> Self {
        let names = term["namespaces"].as_array().into_iter().flatten();
        let mut namespaces: BTreeSet<String> =
            names.filter_map(|n| n.as_str().map(str::to_owned)).collect();
        let selector = |value: &Value| {
            value.is_object().then(|| LabelSelector::from_value(value).unwrap_or_default())
        };
        let in_namespaces = selector(&term["namespaceSelector"]);
        if namespaces.is_empty() && in_namespaces.is_none() {
            namespaces.insert(owner.namespace().to_owned());
        }
        Self {
            namespaces,
            in_namespaces,
            selector: selector(&term["labelSelector"]),
            topology: term["topologyKey"].as_str().unwrap_or("").to_owned(),
        }
    }

    /// Whether the term is about a pod, whose namespace has these labels.
    pub(crate) fn selects(&self, pod: &Object, namespace: Option<&Map<String, Value>>) -> bool {
        let there = self.namespaces.contains(pod.namespace())
            || self.in_namespaces.as_ref().is_some_and(|s| s.matches_map(namespace));
        there && self.selector.as_ref().is_some_and(|s| s.matches_map(pod.labels()))
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
    /// It runs only near these.
    pub(crate) near: Vec<Term>,
    /// It runs only away from these.
    pub(crate) away: Vec<Term>,
    /// It likes to be near these; a negative weight means away from them.
    pub(crate) likes: Vec<(i64, Term)>,
    /// Names of the claims of its volumes, and whether a volume of its own makes the claim.
    pub(crate) claims: Vec<(String, bool)>,
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

impl Pod {
    /// Reads a pod.
    pub(crate) fn new(object: &Arc<Object>) -> Self {
        let sidecars = object.list(&["spec", "initContainers"]).iter();
        let sidecars = sidecars.filter(|c| c["restartPolicy"] == "Always");
        let containers = object.list(&["spec", "containers"]).iter().chain(sidecars);
        let ports = containers.filter_map(|c| c["ports"].as_array()).flatten();
        let host_ports = ports
            .filter_map(|p| {
                let port = p["hostPort"].as_i64().filter(|p| *p > 0)?;
                let text = |key: &str, default: &str| p[key].as_str().unwrap_or(default).to_owned();
                Some((text("hostIP", "0.0.0.0"), text("protocol", "TCP"), port))
            })
            .collect();
        let terms = |kind: &str, when: &str| object.list(&["spec", "affinity", kind, when]);
        let required =
            |kind: &str| terms(kind, REQUIRED).iter().map(|term| Term::new(object, term)).collect();
        let mut likes = Vec::new();
        for (kind, sign) in [("podAffinity", 1), ("podAntiAffinity", -1)] {
            for wish in terms(kind, PREFERRED) {
                let weight = wish["weight"].as_i64().unwrap_or(0);
                likes.push((sign * weight, Term::new(object, &wish["podAffinityTerm"])));
            }
        }
        let claims = object.list(&["spec", "volumes"]).iter().filter_map(|volume| {
            if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
                return Some((claim.to_owned(), false));
            }
            let own = volume["ephemeral"].is_object();
            own.then(|| {
                (format!("{}-{}", object.name(), volume["name"].as_str().unwrap_or("")), true)
            })
        });
        Self {
            priority: object.int(&["spec", "priority"]).unwrap_or(0),
            requests: requests(object, false),
            guessed: requests(object, true),
            host_ports,
            near: required("podAffinity"),
            away: required("podAntiAffinity"),
            likes,
            claims: claims.collect(),
            object: object.clone(),
        }
    }

    /// Whether it has wishes about other pods.
    pub(crate) fn has_wishes(&self) -> bool {
        !(self.near.is_empty() && self.away.is_empty() && self.likes.is_empty())
    }

    /// The uid.
    pub(crate) fn uid(&self) -> &str {
        self.object.uid()
    }
}

/// The requests of a pod: its containers together, or its init containers if one needs more, what
/// the pod as a whole asks for instead, and the overhead.
///
/// upstream: staging/src/k8s.io/component-helpers/resource/helpers.go
fn requests(pod: &Object, guess: bool) -> Amounts {
    let of = |container: &Value| {
        let mut list = amounts(container["resources"].get("requests"));
        if guess {
            for (name, default) in [("cpu", CPU_DEFAULT), ("memory", MEMORY_DEFAULT)] {
                list.entry(name.to_owned()).or_insert(default);
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
    total.extend(amounts(pod.get(&["spec", "resources", "requests"])));
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
    /// Images by normal name, and their sizes in bytes.
    pub(crate) images: BTreeMap<String, i64>,
    /// How many of the pods have wishes about other pods, and how many shun some.
    pub(crate) wishing: usize,
    pub(crate) shunning: usize,
}

/// An image's name with the tag that it has when none is given.
///
/// upstream: pkg/scheduler/framework/plugins/imagelocality normalizedImageName
pub(crate) fn image_name(name: &str) -> String {
    let tag = name.rfind(':').map_or(-1, |at| i64::try_from(at).unwrap_or(-1));
    let slash = name.rfind('/').map_or(-1, |at| i64::try_from(at).unwrap_or(-1));
    if tag <= slash { format!("{name}:latest") } else { name.to_owned() }
}

impl Node {
    /// Reads a node; no pods are on it yet.
    pub(crate) fn new(object: &Arc<Object>) -> Self {
        let mut images = BTreeMap::new();
        for image in object.list(&["status", "images"]) {
            let size = image["sizeBytes"].as_i64().unwrap_or(0);
            for name in image["names"].as_array().into_iter().flatten() {
                images.insert(name.as_str().unwrap_or("").to_owned(), size);
            }
        }
        let allocatable = match object.get(&["status", "allocatable"]) {
            None => amounts(object.get(&["status", "capacity"])),
            list => amounts(list),
        };
        Self {
            allocatable,
            object: object.clone(),
            requested: Amounts::new(),
            guessed: Amounts::new(),
            pods: Vec::new(),
            images,
            wishing: 0,
            shunning: 0,
        }
    }

    /// Puts a pod on the node.
    pub(crate) fn add(&mut self, pod: Arc<Pod>) {
        add(&mut self.requested, &pod.requests);
        add(&mut self.guessed, &pod.guessed);
        self.wishing += usize::from(pod.has_wishes());
        self.shunning += usize::from(!pod.away.is_empty());
        self.pods.push(pod);
    }

    /// Takes a pod off the node.
    pub(crate) fn remove(&mut self, uid: &str) {
        let Some(at) = self.pods.iter().position(|p| p.uid() == uid) else { return };
        let pod = self.pods.remove(at);
        self.wishing -= usize::from(pod.has_wishes());
        self.shunning -= usize::from(!pod.away.is_empty());
        for (total, part) in
            [(&mut self.requested, &pod.requests), (&mut self.guessed, &pod.guessed)]
        {
            for (name, value) in part {
                *total.entry(name.clone()).or_default() -= value;
            }
        }
    }

    /// The name.
    pub(crate) fn name(&self) -> &str {
        self.object.name()
    }

    /// A label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.object.label(key)
    }
}
