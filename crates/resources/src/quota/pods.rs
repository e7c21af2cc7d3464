//! What pods use, and which quotas take them in.
//!
//! upstream: pkg/quota/v1/evaluator/core/pods.go

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use serde_json::{Map, Value};

use super::{chosen, raise};
use crate::amounts::{Amounts, add, amounts, pod_amounts};

const NAMES: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
/// Names that every container has to say when they are limited.
const SAID: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
/// Requests for devices by the name of their class.
const DEVICE_CLASS: &str = "requests.deviceclass.resource.kubernetes.io/";

/// Whether a name has no domain or one of Kubernetes.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

pub(super) fn is_counted(name: &str) -> bool {
    NAMES.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
        || name.starts_with("requests.") && (!is_native(name) || name.starts_with(DEVICE_CLASS))
}

/// Whether a pod has a deadline.
pub(super) fn is_terminating(pod: &Object) -> bool {
    pod.int(&["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0)
}

/// Adds what a pod uses. One that has ended is only counted.
pub(super) fn usage(pod: &Object, used: &mut Amounts) {
    if matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed") {
        return;
    }
    raise(used, "pods", 1);
    let (requests, limits) = (pod_amounts(pod, "requests", true), pod_amounts(pod, "limits", true));
    add(used, &names_of(&requests, &limits));
}

/// The names under which requests and limits are counted.
fn names_of(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::new();
    let mut set = |name: String, amount: &Quantity| used.insert(name, *amount);
    for (name, amount) in requests {
        let basic = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str());
        if basic || name.starts_with("hugepages-") {
            set(name.clone(), amount);
        }
        if basic || name.starts_with("hugepages-") || !is_native(name) {
            set(format!("requests.{name}"), amount);
        }
    }
    for (name, amount) in limits {
        if ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) {
            set(format!("limits.{name}"), amount);
        }
    }
    used
}

/// Every container has to say what is limited, unless the pod says it as a whole.
pub(super) fn constraints(limited: &[&str], pod: &Object) -> Result<(), String> {
    let whole = |side: &str| {
        let fields = pod.get(&["spec", "resources", side]).and_then(Value::as_object);
        fields.is_some_and(|fields| !fields.is_empty())
    };
    if whole("requests") || whole("limits") {
        return Ok(());
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for list in ["containers", "initContainers"] {
        for container in pod.list(&["spec", list]) {
            let resources = &container["resources"];
            let said = names_of(&amounts(&resources["requests"]), &amounts(&resources["limits"]));
            for name in limited.iter().filter(|name| SAID.contains(name)) {
                if !said.contains_key(*name) {
                    let containers = missing.entry(name).or_default();
                    containers.insert(container["name"].as_str().unwrap_or(""));
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| {
            let containers: Vec<&str> = containers.into_iter().collect();
            format!("{name} for: {}", containers.join(","))
        })
        .collect();
    Err(format!("must specify {}", texts.join("; ")))
}

pub(super) fn in_scope(scope: &str, selector: &Value, pod: &Object) -> bool {
    match scope {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = pod.str(&["spec", "priorityClassName"]);
            chosen(selector, Some(class).filter(|class| !class.is_empty()))
        }
        "CrossNamespacePodAffinity" => reaches_other_namespaces(pod),
        _ => false,
    }
}

fn is_best_effort(pod: &Object) -> bool {
    let class = pod.str(&["status", "qosClass"]);
    if !class.is_empty() {
        return class == "BestEffort";
    }
    let none = |resources: &Value| {
        ["requests", "limits"].iter().all(|side| {
            let said = resources[side].as_object();
            let counts = |fields: &Map<String, Value>| {
                ["cpu", "memory"].iter().any(|name| {
                    let amount = fields.get(*name).and_then(Value::as_str);
                    amount.and_then(|text| Quantity::parse(text).ok()).is_some_and(|a| !a.is_zero())
                })
            };
            !said.is_some_and(counts)
        })
    };
    let lists = ["containers", "initContainers"];
    let mut containers = lists.iter().flat_map(|list| pod.list(&["spec", list]));
    none(pod.get(&["spec", "resources"]).unwrap_or(&Value::Null))
        && containers.all(|container| none(&container["resources"]))
}

fn reaches_other_namespaces(pod: &Object) -> bool {
    let reaches = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|list| !list.is_empty())
            || term["namespaceSelector"].is_object()
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let terms = |rule: &str| pod.list(&["spec", "affinity", kind, rule]);
        terms("requiredDuringSchedulingIgnoredDuringExecution").iter().any(reaches)
            || terms("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|weighted| reaches(&weighted["podAffinityTerm"]))
    })
}
