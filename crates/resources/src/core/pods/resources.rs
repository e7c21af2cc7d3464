//! What a pod asks for: aggregation over containers and the quality of service that follows.
//!
//! upstream: staging/src/k8s.io/component-helpers/resource/helpers.go, pkg/apis/core/helper/qos

use std::collections::BTreeMap;

use longshore_api::quantity::Quantity;
use serde_json::Value;

use super::tree::{entries, list, part, text};

/// Quantities by resource name.
pub(crate) type Quantities = BTreeMap<String, Quantity>;

/// Whether the name stands for huge pages of some size.
pub(crate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether a pod as a whole may ask for the resource.
pub(crate) fn is_pod_level(name: &str) -> bool {
    name == "cpu" || name == "memory" || is_huge_page(name)
}

/// A parsed quantity; normalised objects hold only good ones.
pub(crate) fn quantity(value: &Value) -> Quantity {
    let text = value.as_str().unwrap_or("0");
    Quantity::parse(text).unwrap_or(Quantity::from_integer(0))
}

/// A container's `limits` or `requests`.
pub(crate) fn of_container(container: &Value, kind: &str) -> Quantities {
    let Some(resources) = part(container, "resources") else { return Quantities::new() };
    entries(resources, kind).map(|(name, value)| (name.clone(), quantity(value))).collect()
}

fn add(to: &mut Quantities, more: &Quantities) {
    for (name, value) in more {
        let sum = to.get(name).map_or(*value, |at| at.plus(*value));
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Quantities, other: &Quantities) {
    for (name, value) in other {
        if to.get(name).is_none_or(|at| at < value) {
            to.insert(name.clone(), *value);
        }
    }
}

/// Whether an init container keeps running beside the main ones.
pub(crate) fn is_sidecar(container: &Value) -> bool {
    text(container, "restartPolicy") == "Always"
}

/// The most that the containers ask for at one time; `kind` is `requests` or `limits`.
pub(crate) fn aggregate(spec: &Value, kind: &str) -> Quantities {
    let mut total = Quantities::new();
    for container in list(spec, "containers") {
        add(&mut total, &of_container(container, kind));
    }
    let (mut sidecars, mut starting) = (Quantities::new(), Quantities::new());
    for container in list(spec, "initContainers") {
        let mut own = of_container(container, kind);
        if is_sidecar(container) {
            add(&mut total, &own);
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut starting, &own);
    }
    raise(&mut total, &starting);
    total
}

/// The quality of service class.
///
/// upstream: pkg/apis/core/helper/qos/qos.go ComputePodQOS
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    let whole = ["requests", "limits"].map(|kind| of_container(spec, kind));
    let has_whole = part(spec, "resources").is_some();
    let (mut requests, mut limits) = (Quantities::new(), Quantities::new());
    let mut guaranteed = true;
    let keep = |quantities: Quantities| -> Quantities {
        let counts = |name: &str| name == "cpu" || name == "memory";
        quantities.into_iter().filter(|(name, q)| counts(name) && q.sign() > 0).collect()
    };
    if has_whole {
        let [whole_requests, whole_limits] = whole;
        requests = keep(whole_requests);
        limits = keep(whole_limits);
        guaranteed = limits.len() == 2;
    } else {
        let all = list(spec, "containers").iter().chain(list(spec, "initContainers"));
        for container in all {
            add(&mut requests, &keep(of_container(container, "requests")));
            let own = keep(of_container(container, "limits"));
            guaranteed &= own.len() == 2;
            add(&mut limits, &own);
        }
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let equal = requests.iter().all(|(name, q)| limits.get(name) == Some(q));
    if guaranteed && equal && requests.len() == limits.len() {
        return "Guaranteed";
    }
    "Burstable"
}
