//! What pods ask of the node, what it has given them, and whether there is room for more.
//!
//! upstream: pkg/kubelet/lifecycle/predicate.go, pkg/kubelet/allocation,
//! staging/src/k8s.io/component-helpers/resource/helpers.go PodRequests

use std::collections::HashMap;
use std::sync::Arc;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use crate::plan::is_sidecar;

/// What one pod asks for: thousandths of a CPU, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    cpu: i64,
    memory: i64,
}

/// A resource that the node has too little of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    /// Its name.
    pub(crate) resource: &'static str,
    requested: i64,
    used: i64,
    capacity: i64,
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}",
            self.resource, self.requested, self.used, self.capacity
        )
    }
}

impl Needs {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    fn max(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }

    /// Those of a list of resources by name.
    fn from_list(list: &Value) -> Self {
        let find = |name: &str| Quantity::parse(list[name].as_str()?).ok();
        Self {
            cpu: find("cpu").map_or(0, Quantity::milli_value),
            memory: find("memory").map_or(0, Quantity::value),
        }
    }

    /// What a pod asks for when its containers have `given` instead of what their specs say.
    pub(crate) fn of(pod: &Object, given: &dyn Fn(&Value) -> Value) -> Self {
        let of = |spec: &Value| Self::from_list(&given(spec)["requests"]);
        let mains = pod.list(&["spec", "containers"]).iter().map(of);
        let (mut beside, mut most) = (Self::default(), Self::default());
        for spec in pod.list(&["spec", "initContainers"]) {
            if is_sidecar(spec) {
                beside = beside.plus(of(spec));
                most = most.max(beside);
            } else {
                most = most.max(beside.plus(of(spec)));
            }
        }
        let mut whole = mains.fold(beside, Self::plus).max(most);
        // What is said of the pod as a whole counts instead.
        let requests = pod.get(&["spec", "resources", "requests"]).unwrap_or(&Value::Null);
        let said = Self::from_list(requests);
        if requests["cpu"].is_string() {
            whole.cpu = said.cpu;
        }
        if requests["memory"].is_string() {
            whole.memory = said.memory;
        }
        whole.plus(Self::from_list(pod.get(&["spec", "overhead"]).unwrap_or(&Value::Null)))
    }
}

struct Claim {
    needs: Needs,
    /// Told when room was made, if the pod waits for more.
    waits: Option<Arc<Notify>>,
}

/// What the pods of the node have been given, by uid.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<HashMap<String, Claim>>);

impl Ledger {
    /// Gives a pod what it needs, if the node has it. One that has something already keeps that
    /// otherwise, and `waits` is told when there is more room.
    pub(crate) fn claim(
        &self,
        uid: &str,
        needs: Needs,
        node: Option<&Object>,
        waits: &Arc<Notify>,
    ) -> Result<(), Lack> {
        let mut all = self.0.lock();
        let lack = node.and_then(|node| lack(&all, uid, needs, node));
        match (all.get_mut(uid), lack) {
            (Some(claim), Some(lack)) => {
                claim.waits = Some(waits.clone());
                Err(lack)
            }
            (None, Some(lack)) => Err(lack),
            (_, None) => {
                let before = all.insert(uid.to_owned(), Claim { needs, waits: None });
                let less = before
                    .is_some_and(|b| b.needs.cpu > needs.cpu || b.needs.memory > needs.memory);
                if less {
                    wake(&all);
                }
                Ok(())
            }
        }
    }

    /// Notes what a pod has, whether there is room or not: it runs already.
    pub(crate) fn note(&self, uid: &str, needs: Needs) {
        let mut all = self.0.lock();
        let claim = all.entry(uid.to_owned()).or_insert(Claim { needs, waits: None });
        claim.needs = needs;
    }

    /// Takes back what a pod had.
    pub(crate) fn release(&self, uid: &str) {
        let mut all = self.0.lock();
        if all.remove(uid).is_some() {
            wake(&all);
        }
    }
}

fn wake(all: &HashMap<String, Claim>) {
    for waits in all.values().filter_map(|claim| claim.waits.as_ref()) {
        waits.notify_one();
    }
}

/// The first resource that a node has too little of for one more pod, or for more for one pod.
fn lack(all: &HashMap<String, Claim>, uid: &str, needs: Needs, node: &Object) -> Option<Lack> {
    let allocatable = node.get(&["status", "allocatable"])?;
    let others = all.iter().filter(|(other, _)| *other != uid);
    let pods = i64::try_from(others.clone().count()).unwrap_or(i64::MAX);
    let used = others.fold(Needs::default(), |sum, (_, claim)| sum.plus(claim.needs));
    let has = Needs::from_list(allocatable);
    let most = allocatable["pods"].as_str().and_then(|t| Quantity::parse(t).ok());
    let most = most.map_or(i64::MAX, Quantity::value);
    let rows = [
        ("pods", 1, pods, most),
        ("cpu", needs.cpu, used.cpu, has.cpu),
        ("memory", needs.memory, used.memory, has.memory),
    ];
    let full = |(_, requested, used, capacity): &(&str, i64, i64, i64)| {
        *requested > 0 && *requested > capacity.saturating_sub(*used)
    };
    rows.into_iter().find(full).map(|(resource, requested, used, capacity)| Lack {
        resource,
        requested,
        used,
        capacity,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn a_pod_needs_what_runs_at_the_same_time() {
        let container = |cpu: &str, more: Value| {
            let mut spec = json!({ "resources": { "requests": { "cpu": cpu, "memory": "1Mi" } } });
            spec["restartPolicy"] = more;
            spec
        };
        let mut pod = object(json!({ "spec": {
            "initContainers": [container("300m", json!("Always")), container("1", Value::Null)],
            "containers": [container("400m", Value::Null), container("100m", Value::Null)],
            "overhead": { "cpu": "5m" },
        }}));
        let own = |spec: &Value| spec["resources"].clone();
        assert_eq!(Needs::of(&pod, &own), Needs { cpu: 1305, memory: 3 << 20 });
        let more = |_: &Value| json!({ "requests": { "cpu": "1" } });
        assert_eq!(Needs::of(&pod, &more), Needs { cpu: 3005, memory: 0 });
        pod.set(&["spec", "resources"], json!({ "requests": { "cpu": "50m" } }));
        assert_eq!(Needs::of(&pod, &own), Needs { cpu: 55, memory: 3 << 20 });
    }

    #[test]
    fn who_waits_is_told_when_there_is_room() {
        let node = object(json!({ "status": { "allocatable": {
            "cpu": "1", "memory": "10Mi", "pods": "2",
        }}}));
        let (ledger, poke) = (Ledger::default(), Arc::new(Notify::new()));
        let needs = |cpu| Needs { cpu, memory: 1 };
        let claim = |uid: &str, cpu| ledger.claim(uid, needs(cpu), Some(&node), &poke);
        let lack = |uid: &str, cpu| claim(uid, cpu).map_err(|lack| lack.to_string());
        let text =
            "Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000";
        assert_eq!(claim("a", 600), Ok(()));
        assert_eq!(lack("b", 500), Err(text.to_owned()));
        assert_eq!(claim("b", 400), Ok(()));
        assert_eq!(claim("c", 0).map_err(|lack| lack.resource), Err("pods"));
        assert_eq!(lack("b", 500), Err(text.to_owned()));
        let told = || {
            let waits = futures_util::FutureExt::now_or_never(poke.notified());
            waits.is_some()
        };
        assert!(!told());
        ledger.note("c", needs(0));
        assert!(!told());
        ledger.release("a");
        assert!(told());
        assert_eq!(claim("b", 1000), Ok(()));
    }
}
