//! The ports of the machine that pods have been given: each goes to one pod only.
//!
//! upstream: staging/src/k8s.io/kube-scheduler/framework/types.go HostPortInfo, pkg/kubelet/lifecycle/predicate.go

use std::collections::HashMap;

use longshore_api::Object;
use parking_lot::Mutex;

use crate::admit::Refusal;
use crate::plan::is_sidecar;

/// An address, empty for all; a protocol; a port.
type Port = (String, String, i64);

/// The ports of the pods of the node, by uid.
#[derive(Default)]
pub(crate) struct Ports(Mutex<HashMap<String, Vec<Port>>>);

fn of(pod: &Object) -> Vec<Port> {
    let beside = pod.list(&["spec", "initContainers"]).iter().filter(|spec| is_sidecar(spec));
    let containers = beside.chain(pod.list(&["spec", "containers"]));
    let ports = containers.flat_map(|spec| spec["ports"].as_array().into_iter().flatten());
    let ports = ports.filter_map(|port| {
        let number = port["hostPort"].as_i64().filter(|number| *number > 0)?;
        let text = |key: &str| port[key].as_str().unwrap_or("").to_owned();
        let address = text("hostIP");
        let address = if address == "0.0.0.0" { String::new() } else { address };
        let protocol = text("protocol");
        let protocol = if protocol.is_empty() { "TCP".to_owned() } else { protocol };
        Some((address, protocol, number))
    });
    ports.collect()
}

fn meet(a: &Port, b: &Port) -> bool {
    a.2 == b.2 && a.1 == b.1 && (a.0.is_empty() || b.0.is_empty() || a.0 == b.0)
}

impl Ports {
    /// Gives a pod its ports. A `fresh` one is refused when another pod has one of them; others run already.
    pub(crate) fn claim(&self, pod: &Object, fresh: bool) -> Result<(), Refusal> {
        let wanted = of(pod);
        let mut all = self.0.lock();
        let mut others = all.iter().filter(|(uid, _)| *uid != pod.uid()).flat_map(|(_, p)| p);
        if fresh && others.any(|other| wanted.iter().any(|port| meet(port, other))) {
            let text = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
            return Err(Refusal { reason: "NodePorts".to_owned(), message: text.to_owned() });
        }
        if !wanted.is_empty() {
            all.insert(pod.uid().to_owned(), wanted);
        }
        Ok(())
    }

    /// Takes back what a pod had.
    pub(crate) fn release(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, address: &str, protocol: &str, port: i64) -> Object {
        Object::from_value(json!({ "metadata": { "uid": uid }, "spec": { "containers": [
            { "ports": [{ "containerPort": 1, "hostPort": port, "hostIP": address, "protocol": protocol }] },
        ] } }))
        .expect("an object")
    }

    #[test]
    fn a_port_goes_to_one_pod() {
        let ports = Ports::default();
        let first = pod("1", "192.0.2.1", "TCP", 80);
        assert_eq!(ports.claim(&first, true), Ok(()));
        assert_eq!(ports.claim(&first, true), Ok(()), "it has it");
        for (other, free) in [
            (pod("2", "192.0.2.1", "TCP", 80), false),
            (pod("2", "", "TCP", 80), false),
            (pod("2", "0.0.0.0", "", 80), false),
            (pod("2", "192.0.2.2", "TCP", 80), true),
            (pod("2", "192.0.2.1", "UDP", 80), true),
            (pod("2", "192.0.2.1", "TCP", 81), true),
            (pod("2", "192.0.2.1", "TCP", 0), true),
        ] {
            assert_eq!(ports.claim(&other, true).is_ok(), free, "{other:?}");
            ports.release("2");
        }
        assert_eq!(ports.claim(&pod("2", "", "TCP", 80), false), Ok(()), "it runs already");
        ports.release("2");
        ports.release("1");
        assert_eq!(ports.claim(&pod("2", "", "TCP", 80), true), Ok(()));
    }
}
