//! Quotas: what objects use, and which quotas an object falls under.
//!
//! Shared by admission, which charges a write, and the controller, which counts what is there.
//!
//! upstream: pkg/quota/v1/evaluator/core, staging/src/k8s.io/apiserver/pkg/quota/v1/generic

mod pods;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use serde_json::Value;

use crate::amounts::{Amounts, add};

/// Resources that no quota counts, and those that are never stored.
///
/// upstream: pkg/quota/v1/install/registry.go
const IGNORED: [(&str, &str); 10] = [
    ("", "bindings"),
    ("", "componentstatuses"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("", "events"),
    ("events.k8s.io", "events"),
];
/// Kinds that are counted under their plain name too.
const PLAIN: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];
const SERVICES: [&str; 3] = ["services", "services.nodeports", "services.loadbalancers"];
const CLAIMS: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
const STORAGE_CLASS: &str = ".storageclass.storage.k8s.io/";
const DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// Devices that a request for all of them may get.
const DEVICES_MAX: i64 = 32;

/// How objects of one resource are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    kind: Kind,
    count: String,
    plain: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pods,
    Services,
    Claims,
    DeviceClaims,
    Other,
}

impl Counted {
    /// The counting of a resource; `None` for those that no quota counts.
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        if IGNORED.contains(&(group, resource)) {
            return None;
        }
        let kind = match (group, resource) {
            ("", "pods") => Kind::Pods,
            ("", "services") => Kind::Services,
            ("", "persistentvolumeclaims") => Kind::Claims,
            ("resource.k8s.io", "resourceclaims") => Kind::DeviceClaims,
            _ => Kind::Other,
        };
        let count = match group {
            "" => format!("count/{resource}"),
            group => format!("count/{resource}.{group}"),
        };
        let plain = PLAIN.into_iter().find(|name| group.is_empty() && *name == resource);
        Some(Self { kind, count, plain })
    }

    /// Whether a write can change what is used: a create does, and some updates do.
    pub fn is_charged(&self, subresource: &str, new: &Object, old: Option<&Object>) -> bool {
        match (self.kind, subresource, old) {
            (_, "", None) => true,
            (Kind::Pods, "", Some(old)) => pods::is_terminating(new) != pods::is_terminating(old),
            (Kind::Pods, "resize", Some(_)) => true,
            (Kind::Services | Kind::Claims | Kind::DeviceClaims, "", Some(_)) => true,
            (Kind::Claims, "status", Some(_)) => true,
            _ => false,
        }
    }

    /// What an object uses.
    pub fn usage(&self, object: &Object) -> Amounts {
        let mut used = Amounts::new();
        raise(&mut used, &self.count, 1);
        if let Some(plain) = self.plain {
            raise(&mut used, plain, 1);
        }
        match self.kind {
            Kind::Pods => pods::usage(object, &mut used),
            Kind::Services => service(object, &mut used),
            Kind::Claims => claim(object, &mut used),
            Kind::DeviceClaims => devices(object, &mut used),
            Kind::Other => {}
        }
        used
    }

    /// Those of a quota's names that count objects of this resource, in the order given.
    pub fn matching<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
        let own = |name: &str| match self.kind {
            Kind::Pods => pods::is_counted(name),
            Kind::Services => SERVICES.contains(&name),
            Kind::Claims => {
                CLAIMS.contains(&name)
                    || CLAIMS.iter().any(|c| name.ends_with(&format!("{STORAGE_CLASS}{c}")))
            }
            Kind::DeviceClaims => name.ends_with(DEVICE_CLASS),
            Kind::Other => self.plain == Some(name),
        };
        names.filter(|name| *name == self.count || own(name)).collect()
    }

    /// What an object has to say when these names are limited; the error tells what is missing.
    pub fn constraints(&self, limited: &[&str], object: &Object) -> Result<(), String> {
        if self.kind == Kind::Pods { pods::constraints(limited, object) } else { Ok(()) }
    }

    /// Whether all scopes of a quota take in an object.
    pub fn in_scope(&self, quota: &Object, object: &Object) -> bool {
        let exists = Value::Null;
        let scopes = quota.list(&["spec", "scopes"]).iter();
        let plain = scopes.map(|scope| (scope.as_str().unwrap_or(""), &exists));
        let selectors = quota.list(&["spec", "scopeSelector", "matchExpressions"]).iter();
        let chosen = selectors.map(|s| (s["scopeName"].as_str().unwrap_or(""), s));
        plain.chain(chosen).all(|(scope, selector)| match self.kind {
            Kind::Pods => pods::in_scope(scope, selector, object),
            Kind::Claims => scope == "VolumeAttributesClass" && class_chosen(selector, object),
            _ => false,
        })
    }
}

/// Adds a whole number to one amount.
fn raise(used: &mut Amounts, name: &str, by: i64) {
    add(used, &Amounts::from([(name.to_owned(), Quantity::from_integer(by))]));
}

/// Whether a value is what a selector chooses; `None` stands for no value at all.
fn chosen(selector: &Value, value: Option<&str>) -> bool {
    let listed = || {
        let values = selector["values"].as_array().into_iter().flatten();
        value.is_some_and(|value| values.filter_map(Value::as_str).any(|own| own == value))
    };
    match selector["operator"].as_str().unwrap_or("Exists") {
        "In" => listed(),
        "NotIn" => !listed(),
        "DoesNotExist" => value.is_none(),
        _ => value.is_some(),
    }
}

fn service(service: &Object, used: &mut Amounts) {
    let ports = service.list(&["spec", "ports"]);
    let balanced = service.str(&["spec", "type"]) == "LoadBalancer";
    let only_given = balanced
        && service.get(&["spec", "allocateLoadBalancerNodePorts"]) == Some(&Value::Bool(false));
    let given = |port: &&Value| port["nodePort"].as_i64().is_some_and(|port| port != 0);
    let count = match service.str(&["spec", "type"]) {
        "LoadBalancer" if only_given => ports.iter().filter(given).count(),
        "LoadBalancer" | "NodePort" => ports.len(),
        _ => 0,
    };
    raise(used, "services", 1);
    raise(used, "services.loadbalancers", i64::from(balanced));
    raise(used, "services.nodeports", i64::try_from(count).unwrap_or(i64::MAX));
}

fn claim(claim: &Object, used: &mut Amounts) {
    let own = claim.annotation("volume.beta.kubernetes.io/storage-class");
    let class = own.unwrap_or_else(|| claim.str(&["spec", "storageClassName"]));
    let mut count = |name: &str, amount: Quantity| {
        let mut names = vec![name.to_owned()];
        if !class.is_empty() {
            names.push(format!("{class}{STORAGE_CLASS}{name}"));
        }
        add(used, &names.into_iter().map(|name| (name, amount)).collect());
    };
    count("persistentvolumeclaims", Quantity::from_integer(1));
    let storage = |path: &[&str]| {
        let text = claim.get(path).and_then(Value::as_str);
        text.and_then(|text| Quantity::parse(text).ok())
    };
    let Some(asked) = storage(&["spec", "resources", "requests", "storage"]) else { return };
    let given = storage(&["status", "allocatedResources", "storage"]);
    count("requests.storage", given.filter(|given| *given > asked).unwrap_or(asked));
}

/// The attribute classes that a claim has or wants.
fn class_chosen(selector: &Value, claim: &Object) -> bool {
    let paths: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    let names: Vec<&str> =
        paths.iter().map(|path| claim.str(path)).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return chosen(selector, None);
    }
    names.iter().any(|name| chosen(selector, Some(name)))
}

/// upstream: pkg/quota/v1/evaluator/core/resource_claims.go
fn devices(claim: &Object, used: &mut Amounts) {
    let count = |request: &Value| match request["allocationMode"].as_str() {
        Some("ExactCount") => request["count"].as_i64().unwrap_or(0),
        Some("All") => DEVICES_MAX,
        _ => 0,
    };
    for request in claim.list(&["spec", "devices", "requests"]) {
        let single = &request["exactly"];
        let choices = request["firstAvailable"].as_array().into_iter().flatten();
        let choices = choices.chain(Some(single).filter(|single| single.is_object()));
        // Of the alternatives the one that takes most of a class counts.
        let mut most = std::collections::BTreeMap::<&str, i64>::new();
        for choice in choices {
            let class = choice["deviceClassName"].as_str().unwrap_or("");
            let entry = most.entry(class).or_default();
            *entry = (*entry).max(count(choice));
        }
        for (class, count) in most {
            raise(used, &format!("{class}{DEVICE_CLASS}"), count);
        }
    }
}

#[cfg(test)]
mod tests;
