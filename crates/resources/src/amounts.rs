//! What a pod asks for in sum; shared by what limits and counts it.
//!
//! upstream: staging/src/k8s.io/component-helpers/resource/helpers.go

use std::collections::BTreeMap;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use serde_json::Value;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a resource list; what is no quantity is left out (validation reports it).
pub fn amounts(value: &Value) -> Amounts {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(amount.as_str()?).ok()?)))
        .collect()
}

/// Adds amount by amount.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let new = sum.get(name).map_or(*amount, |own| own.plus(*amount));
        sum.insert(name.clone(), new);
    }
}

fn raise(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if sum.get(name).is_none_or(|own| own < amount) {
            sum.insert(name.clone(), *amount);
        }
    }
}

/// The pod's `requests` or `limits` (`key`) in sum: containers together, init containers one after
/// the other, sidecars all along; pod-level amounts win. `overhead` is added when asked for.
pub fn pod_amounts(pod: &Object, key: &str, overhead: bool) -> Amounts {
    let mut sum = Amounts::new();
    for container in pod.list(&["spec", "containers"]) {
        add(&mut sum, &amounts(&container["resources"][key]));
    }
    let (mut sidecars, mut init) = (Amounts::new(), Amounts::new());
    for container in pod.list(&["spec", "initContainers"]) {
        let own = amounts(&container["resources"][key]);
        let mut at_once = own.clone();
        if container["restartPolicy"] == "Always" {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            at_once.clone_from(&sidecars);
        } else {
            add(&mut at_once, &sidecars);
        }
        raise(&mut init, &at_once);
    }
    raise(&mut sum, &init);
    for (name, amount) in amounts(pod.get(&["spec", "resources", key]).unwrap_or(&Value::Null)) {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            sum.insert(name, amount);
        }
    }
    if overhead {
        let own = amounts(pod.get(&["spec", "overhead"]).unwrap_or(&Value::Null));
        if key == "limits" {
            // Only what is limited at all grows.
            let own = own.into_iter().filter(|(name, _)| sum.contains_key(name)).collect();
            add(&mut sum, &own);
        } else {
            add(&mut sum, &own);
        }
    }
    sum
}
