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
    /// Bytes that each container has written, to its own files and to its log.
    pub(crate) written: BTreeMap<String, i64>,
    /// Bytes of the volumes.
    pub(crate) files: i64,
    /// Files of all of these.
    pub(crate) inodes: i64,
    /// Processes.
    pub(crate) processes: i64,
}

impl Usage {
    fn of(&self, signal: Signal) -> i64 {
        let sum = |all: &BTreeMap<String, i64>| all.values().sum::<i64>();
        match signal {
            Signal::Memory => sum(&self.memory),
            Signal::Pids => self.processes,
            Signal::NodeInodes | Signal::ImageInodes => self.inodes,
            Signal::NodeBytes | Signal::ImageBytes => sum(&self.written).saturating_add(self.files),
        }
    }
}

/// Whether the node would rather go without anything else.
pub(crate) fn is_critical(pod: &Object) -> bool {
    pod.int(&["spec", "priority"]).unwrap_or(0) >= CRITICAL
}

fn amount(list: &Value, resource: &str) -> Option<Quantity> {
    Quantity::parse(list[resource].as_str()?).ok()
}

fn plus(one: Option<Quantity>, other: Option<Quantity>) -> Option<Quantity> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.plus(other)),
        (one, other) => one.or(other),
    }
}

/// What a pod has as `requests` or `limits` (`key`) of a resource; nothing when nobody states any.
///
/// upstream: staging/src/k8s.io/component-helpers/resource/helpers.go
fn total(pod: &Object, key: &str, resource: &str) -> Option<Quantity> {
    let of = |spec: &Value| amount(&spec["resources"][key], resource);
    let (mut beside, mut most) = (None, None);
    for spec in pod.list(&["spec", "initContainers"]) {
        let at_once = plus(beside, of(spec));
        if is_sidecar(spec) {
            beside = at_once;
        }
        most = most.max(at_once);
    }
    let mains = pod.list(&["spec", "containers"]).iter().map(of).fold(beside, plus);
    // What is said of the pod as a whole counts instead.
    let whole = pod.get(&["spec", "resources", key]).and_then(|list| amount(list, resource));
    let sum = whole.or(mains.max(most))?;
    plus(Some(sum), pod.get(&["spec", "overhead"]).and_then(|list| amount(list, resource)))
}

/// What a pod asks for of a resource.
fn requested(pod: &Object, resource: &str) -> i64 {
    total(pod, "requests", resource).map_or(0, Quantity::value)
}

/// How much a pod may keep on the node's disk.
pub(crate) fn disk_limit(pod: &Object) -> Option<Quantity> {
    total(pod, "limits", Signal::NodeBytes.resource())
}

/// What is said of a pod that keeps more on the node's disk than it may as a whole, or than one of
/// its containers may.
///
/// upstream: pkg/kubelet/eviction/eviction_manager.go localStorageEviction
pub(crate) fn over_limit(pod: &Object, usage: &Usage) -> Option<String> {
    let limit = disk_limit(pod)?;
    if usage.of(Signal::NodeBytes) > limit.value() {
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
        ));
    }
    pod.list(&["spec", "containers"]).iter().find_map(|spec| {
        let limits = &spec["resources"]["limits"];
        let limit = amount(limits, Signal::NodeBytes.resource()).filter(|l| l.value() != 0)?;
        let name = spec["name"].as_str().unwrap_or("");
        let over = usage.written.get(name).is_some_and(|used| *used > limit.value());
        over.then(|| {
            format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". ")
        })
    })
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
        let asked = amount(&spec["resources"]["requests"], resource);
        if *bytes > asked.map_or(0, Quantity::value) {
            let asked = asked.map_or_else(|| "0".to_owned(), |asked| asked.to_string());
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
    fn who_may_keep_so_much_keeps_no_more() {
        let container = |name: &str, limit: &str| json!({ "name": name, "resources": { "limits": { "ephemeral-storage": limit } } });
        let pod = |containers: Value| {
            Object::from_value(json!({ "spec": { "containers": containers } })).expect("an object")
        };
        let usage = |a: i64, files: i64| Usage {
            written: BTreeMap::from([("a".into(), a)]),
            files,
            ..Usage::default()
        };
        let two = pod(json!([container("a", "1Mi"), container("b", "2Mi")]));
        assert_eq!(over_limit(&two, &usage(1 << 20, 2 << 20)), None);
        let text = "Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. ";
        assert_eq!(over_limit(&two, &usage(1 << 20, (2 << 20) + 1)).as_deref(), Some(text));
        let text = "Container a exceeded its local ephemeral storage limit \"1Mi\". ";
        assert_eq!(over_limit(&two, &usage((1 << 20) + 1, 0)).as_deref(), Some(text));
        assert_eq!(over_limit(&pod(json!([{ "name": "a" }])), &usage(1 << 40, 0)), None);
    }

    #[test]
    fn init_containers_and_overhead_count() {
        let limited = |name: &str, memory: &str, policy: &str| {
            json!({
                "name": name, "restartPolicy": policy,
                "resources": { "requests": { "memory": memory } },
            })
        };
        let spec = json!({
            "initContainers": [limited("side", "1Mi", "Always"), limited("init", "9Mi", "")],
            "containers": [limited("a", "2Mi", ""), limited("b", "3Mi", "")],
            "overhead": { "memory": "1Mi" },
        });
        let mut pod = Object::from_value(json!({ "spec": spec })).expect("an object");
        assert_eq!(requested(&pod, "memory"), 11 << 20);
        pod.set(&["spec", "resources"], json!({ "requests": { "memory": "4Mi" } }));
        assert_eq!(requested(&pod, "memory"), 5 << 20);
        assert_eq!(requested(&pod, "inodes"), 0);
    }

    #[test]
    fn many_small_files_are_many_inodes() {
        let usage = |files, inodes| Usage { files, inodes, ..Usage::default() };
        let pods = [(pod("large", 0, "1"), usage(1 << 30, 1)), (pod("many", 0, "1"), usage(1, 99))];
        let first = |signal| {
            let list = pods.iter().map(|(pod, usage)| (pod, usage)).collect();
            order(list, signal)[0].0.name().to_owned()
        };
        assert_eq!(first(Signal::NodeBytes), "large");
        assert_eq!(first(Signal::NodeInodes), "many");
    }

    #[test]
    fn system_pods_stay() {
        assert!(is_critical(&pod("p", CRITICAL, "1")));
        assert!(!is_critical(&pod("p", CRITICAL - 1, "1")));
    }
}
