//! Which pod goes first when something runs out, and what it is told. Pure.
//!
//! upstream: pkg/kubelet/eviction/helpers.go

use std::collections::BTreeMap;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use serde_json::Value;

use super::signals::{Signal, binary};
use crate::plan::is_sidecar;

/// From this priority on a pod is critical.
///
/// upstream: pkg/apis/scheduling/types.go SystemCriticalPriority
const CRITICAL: i64 = 2_000_000_000;

/// What a pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Memory of each container.
    pub(crate) memory: BTreeMap<String, i64>,
    /// Bytes that each container has written.
    pub(crate) written: BTreeMap<String, i64>,
    /// Bytes of the volumes and logs.
    pub(crate) files: i64,
    /// Processes.
    pub(crate) processes: i64,
}

impl Usage {
    fn of(&self, signal: Signal) -> i64 {
        let sum = |all: &BTreeMap<String, i64>| all.values().sum::<i64>();
        match signal {
            Signal::Memory => sum(&self.memory),
            Signal::Pids => self.processes,
            _ => sum(&self.written).saturating_add(self.files),
        }
    }
}

/// Whether the node would rather go without anything else.
pub(crate) fn is_critical(pod: &Object) -> bool {
    pod.int(&["spec", "priority"]).unwrap_or(0) >= CRITICAL
}

fn request(list: &Value, resource: &str) -> i64 {
    let text = list["requests"][resource].as_str();
    text.and_then(|text| Quantity::parse(text).ok()).map_or(0, Quantity::value)
}

/// What a pod asks for of a resource.
fn requested(pod: &Object, resource: &str) -> i64 {
    let whole = pod.get(&["spec", "resources"]).unwrap_or(&Value::Null);
    if whole["requests"][resource].is_string() {
        return request(whole, resource);
    }
    let of = |spec: &Value| request(&spec["resources"], resource);
    let mut sum: i64 = pod.list(&["spec", "containers"]).iter().map(of).sum();
    let (mut beside, mut most) = (0, 0);
    for spec in pod.list(&["spec", "initContainers"]) {
        if is_sidecar(spec) {
            beside += of(spec);
            most = most.max(beside);
        } else {
            most = most.max(beside + of(spec));
        }
    }
    sum = (sum + beside).max(most);
    sum
}

/// The order in which pods go: those that use more than they asked for before others, then those
/// of lower priority, then those that use the most above what they asked for.
pub(crate) fn order<'a>(
    mut pods: Vec<(&'a Object, &'a Usage)>,
    signal: Signal,
) -> Vec<(&'a Object, &'a Usage)> {
    let resource = signal.resource();
    pods.sort_by_cached_key(|(pod, usage)| {
        let used = usage.of(signal);
        let priority = pod.int(&["spec", "priority"]).unwrap_or(0);
        // Nobody asks for processes.
        if signal == Signal::Pids {
            return (false, priority, -used);
        }
        let above = used - requested(pod, resource);
        (above <= 0, priority, -above)
    });
    pods
}

/// What is said of the containers that use more than they asked for.
pub(crate) fn blame(pod: &Object, usage: &Usage, signal: Signal) -> String {
    let resource = signal.resource();
    let used = match signal {
        Signal::Memory => &usage.memory,
        Signal::NodeBytes | Signal::ImageBytes => &usage.written,
        _ => return String::new(),
    };
    let lists = [["spec", "containers"], ["spec", "initContainers"]];
    let specs = || lists.iter().flat_map(|path| pod.list(path));
    let mut text = String::new();
    for (name, bytes) in used {
        let Some(spec) = specs().find(|spec| spec["name"] == name.as_str()) else { continue };
        let asked = request(&spec["resources"], resource);
        if *bytes > asked {
            let asked = spec["resources"]["requests"][resource].as_str().unwrap_or("0");
            text.push_str(&format!(
                "Container {name} was using {}, request is {asked}, has larger consumption of \
                 {resource}. ",
                binary(*bytes)
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, priority: i64, memory: &str) -> Object {
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"priority": priority, "containers": [
                {"name": "c", "resources": {"requests": {"memory": memory}}},
            ]},
        });
        Object::from_value(pod).expect("an object")
    }

    fn usage(memory: i64) -> Usage {
        Usage { memory: BTreeMap::from([("c".into(), memory)]), ..Usage::default() }
    }

    #[test]
    fn whoever_takes_more_than_it_asked_for_goes_first() {
        let pods = [
            (pod("modest", 0, "1Gi"), usage(1 << 20)),
            (pod("important", 100, "1Mi"), usage(10 << 20)),
            (pod("greedy", 0, "1Mi"), usage(5 << 20)),
            (pod("greedier", 0, "1Mi"), usage(9 << 20)),
        ];
        let list = pods.iter().map(|(pod, usage)| (pod, usage)).collect();
        let order = order(list, Signal::Memory);
        let names: Vec<&str> = order.iter().map(|(pod, _)| pod.name()).collect();
        assert_eq!(names, ["greedier", "greedy", "important", "modest"]);
    }

    #[test]
    fn containers_are_blamed_by_name() {
        let text = blame(&pod("p", 0, "1Mi"), &usage(3 << 20), Signal::Memory);
        let want = "Container c was using 3Mi, request is 1Mi, has larger consumption of memory. ";
        assert_eq!(text, want);
        assert_eq!(blame(&pod("p", 0, "4Mi"), &usage(3 << 20), Signal::Memory), "");
    }

    #[test]
    fn system_pods_stay() {
        assert!(is_critical(&pod("p", CRITICAL, "1")));
        assert!(!is_critical(&pod("p", CRITICAL - 1, "1")));
    }
}
