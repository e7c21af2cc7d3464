//! What one object uses.
//!
//! upstream: pkg/quota/v1/evaluator/core/{pods,services,persistent_volume_claims}.go

use std::collections::BTreeMap;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use longshore_client::resource::{
    CONFIG_MAPS, CRON_JOBS, DEPLOYMENTS, JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, REPLICA_SETS,
    REPLICATION_CONTROLLERS, RESOURCE_QUOTAS, Resource, SECRETS, SERVICES, STATEFUL_SETS,
};
use serde_json::{Map, Value};

use super::count_name;

/// The resources that quotas count.
pub(super) const COUNTED: [Resource; 12] = [
    CONFIG_MAPS,
    CRON_JOBS,
    DEPLOYMENTS,
    JOBS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
];
/// Kinds that are counted under their plain name too.
const PLAIN: [Resource; 6] = [
    CONFIG_MAPS,
    PERSISTENT_VOLUME_CLAIMS,
    REPLICATION_CONTROLLERS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICES,
];

type Amounts = BTreeMap<String, Quantity>;

fn raise(used: &mut Amounts, name: &str, by: Quantity) {
    let sum = match used.get(name) {
        Some(amount) => amount.plus(by),
        None => by,
    };
    used.insert(name.to_owned(), sum);
}

fn quantity(value: &Value) -> Option<Quantity> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Quantity::parse(&text).ok()
}

fn one() -> Quantity {
    Quantity::parse("1").expect("a number is a quantity")
}

/// Adds what an object uses.
pub(super) fn add(used: &mut Amounts, of: Resource, object: &Object) {
    raise(used, &count_name(of), one());
    if PLAIN.contains(&of) {
        raise(used, of.plural, one());
    }
    if of == SERVICES {
        add_service(used, object);
    } else if of == PERSISTENT_VOLUME_CLAIMS {
        add_claim(used, object);
    } else if of == PODS && !is_ended(object) {
        add_pod(used, object);
    }
}

fn add_service(used: &mut Amounts, service: &Object) {
    let ports = service.list(&["spec", "ports"]);
    let kind = service.str(&["spec", "type"]);
    let count = if kind == "LoadBalancer" {
        raise(used, "services.loadbalancers", one());
        if service.get(&["spec", "allocateLoadBalancerNodePorts"]) == Some(&Value::Bool(false)) {
            ports.iter().filter(|port| port["nodePort"].as_i64().is_some_and(|p| p != 0)).count()
        } else {
            ports.len()
        }
    } else if kind == "NodePort" {
        ports.len()
    } else {
        0
    };
    for _ in 0..count {
        raise(used, "services.nodeports", one());
    }
}

fn add_claim(used: &mut Amounts, claim: &Object) {
    let class = claim.str(&["spec", "storageClassName"]);
    let prefix = format!("{class}.storageclass.storage.k8s.io/");
    if !class.is_empty() {
        raise(used, &format!("{prefix}persistentvolumeclaims"), one());
    }
    let asked = claim.get(&["spec", "resources", "requests", "storage"]).and_then(quantity);
    let Some(asked) = asked else { return };
    raise(used, "requests.storage", asked);
    if !class.is_empty() {
        raise(used, &format!("{prefix}requests.storage"), asked);
    }
}

fn is_ended(pod: &Object) -> bool {
    matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed")
}

fn add_pod(used: &mut Amounts, pod: &Object) {
    raise(used, "pods", one());
    for (name, amount) in totals(pod, "requests") {
        raise(used, &format!("requests.{name}"), amount);
        if ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str())
            || name.starts_with("hugepages-")
        {
            raise(used, &name, amount);
        }
    }
    for (name, amount) in totals(pod, "limits") {
        if ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) {
            raise(used, &format!("limits.{name}"), amount);
        }
    }
}

fn amounts(container: &Value, side: &str) -> Amounts {
    let fields = container["resources"][side].as_object().into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

fn larger(all: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if all.get(name).is_none_or(|present| present < amount) {
            all.insert(name.clone(), *amount);
        }
    }
}

/// A pod's requests or limits: its containers together, or what its initialisation needs at most.
///
/// upstream: staging/src/k8s.io/component-helpers/resource/helpers.go
fn totals(pod: &Object, side: &str) -> Amounts {
    let mut running = Amounts::new();
    for container in pod.list(&["spec", "containers"]) {
        amounts(container, side).iter().for_each(|(name, by)| raise(&mut running, name, *by));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in pod.list(&["spec", "initContainers"]) {
        let own = amounts(container, side);
        if container["restartPolicy"] == "Always" {
            own.iter().for_each(|(name, by)| raise(&mut sidecars, name, *by));
            own.iter().for_each(|(name, by)| raise(&mut running, name, *by));
            larger(&mut starting, &sidecars);
        } else {
            let mut both = own;
            sidecars.iter().for_each(|(name, by)| raise(&mut both, name, *by));
            larger(&mut starting, &both);
        }
    }
    larger(&mut running, &starting);
    let whole = pod.get(&["spec", "resources", side]).and_then(Value::as_object);
    for (name, value) in whole.into_iter().flatten() {
        if let Some(amount) = quantity(value) {
            running.insert(name.clone(), amount);
        }
    }
    let overhead = pod.get(&["spec", "overhead"]).and_then(Value::as_object);
    for (name, value) in overhead.into_iter().flatten() {
        if let Some(amount) = quantity(value)
            && (side == "requests" || running.contains_key(name))
        {
            raise(&mut running, name, amount);
        }
    }
    running
}

/// Whether a quota's scopes take in an object. Quotas with scopes take in pods only.
pub(super) fn in_scope(quota: &Object, of: Resource, object: &Object) -> bool {
    let scopes = quota.list(&["spec", "scopes"]);
    let selectors = quota.list(&["spec", "scopeSelector", "matchExpressions"]);
    if scopes.is_empty() && selectors.is_empty() {
        return true;
    }
    if of != PODS {
        return false;
    }
    scopes.iter().all(|scope| matches(scope.as_str().unwrap_or(""), &Value::Null, object))
        && selectors.iter().all(|s| matches(s["scopeName"].as_str().unwrap_or(""), s, object))
}

fn matches(scope: &str, selector: &Value, pod: &Object) -> bool {
    let terminating = pod.int(&["spec", "activeDeadlineSeconds"]).is_some();
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = pod.str(&["spec", "priorityClassName"]);
            let listed =
                selector["values"].as_array().is_some_and(|v| v.iter().any(|c| c == class));
            match selector["operator"].as_str().unwrap_or("Exists") {
                "In" => listed,
                "NotIn" => !listed,
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        _ => false,
    }
}

fn is_best_effort(pod: &Object) -> bool {
    let all = [["spec", "containers"], ["spec", "initContainers"]];
    let none = |value: &Value| value.as_object().is_none_or(Map::is_empty);
    all.iter().flat_map(|path| pod.list(path)).all(|container| {
        none(&container["resources"]["requests"]) && none(&container["resources"]["limits"])
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn used(of: Resource, object: Value) -> BTreeMap<String, String> {
        let mut used = Amounts::new();
        add(&mut used, of, &Object::from_value(object).unwrap());
        used.into_iter().map(|(name, amount)| (name, amount.to_string())).collect()
    }

    #[test]
    fn a_pod_uses_what_its_containers_ask_for() {
        let used = used(
            PODS,
            json!({"spec": {
                "containers": [
                    {"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}}},
                    {"resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "1"}}},
                ],
                "initContainers": [{"resources": {"requests": {"cpu": "500m"}}}],
            }}),
        );
        assert_eq!(used["requests.cpu"], "500m");
        assert_eq!(used["cpu"], "500m");
        assert_eq!(used["memory"], "1Gi");
        assert_eq!(used["limits.cpu"], "1");
        assert_eq!(used["pods"], "1");
        assert_eq!(used["count/pods"], "1");
    }

    #[test]
    fn ended_pods_are_only_counted() {
        let used = used(PODS, json!({"status": {"phase": "Succeeded"}}));
        assert_eq!(used.len(), 1);
    }

    #[test]
    fn node_ports() {
        let spec = json!({"spec": {"type": "NodePort", "ports": [{}, {}]}});
        assert_eq!(used(SERVICES, spec)["services.nodeports"], "2");
    }
}
