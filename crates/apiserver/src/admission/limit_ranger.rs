//! LimitRanges: defaults and bounds for containers, pods and claims.
//!
//! upstream: plugin/pkg/admission/limitranger/admission.go

use std::sync::Arc;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use serde_json::{Map, Value};

use super::resources::{Amounts, amounts, pod_amounts};
use super::{Attributes, Plain, Tools, Verdict};
use crate::reader::Reader;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Above this, milli-values overflow and whole values are compared.
const MILLI_MAX: i64 = i64::MAX / 1_000;

pub(super) struct LimitRanger {
    reader: Arc<dyn Reader>,
}

impl LimitRanger {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone() }
    }

    fn ranges(&self, a: &Attributes<'_>, old: Option<&Object>) -> Vec<Arc<Object>> {
        let resize = a.is_any("", "pods") && a.subresource == "resize" && a.updates();
        let pod = a.is("", "pods") && a.creates();
        let claim = a.is("", "persistentvolumeclaims") && (a.creates() || a.updates());
        if !(resize || pod || claim) || old.is_some_and(Object::is_deleting) {
            return Vec::new();
        }
        self.reader.list("", "limitranges", a.namespace)
    }
}

impl Plain for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn admit(&self, a: &Attributes<'_>, object: &mut Object, old: Option<&Object>) -> Verdict {
        if !a.is_any("", "pods") {
            return Ok(());
        }
        for range in self.ranges(a, old) {
            fill_defaults(&range, object);
        }
        Ok(())
    }

    fn check(&self, a: &Attributes<'_>, object: Option<&Object>, old: Option<&Object>) -> Verdict {
        let Some(object) = object else { return Ok(()) };
        for range in self.ranges(a, old) {
            let mut errors = Vec::new();
            for limit in range.list(&["spec", "limits"]) {
                if a.is_any("", "pods") {
                    check_pod(limit, object, &mut errors);
                } else {
                    check_claim(limit, object, &mut errors);
                }
            }
            // An aggregate names equal messages once.
            let mut unique: Vec<String> = Vec::new();
            for error in errors {
                if !unique.contains(&error) {
                    unique.push(error);
                }
            }
            match unique.as_slice() {
                [] => {}
                [one] => return Err(a.forbidden(Some(object), one)),
                many => {
                    return Err(a.forbidden(Some(object), &format!("[{}]", many.join(", "))));
                }
            }
        }
        Ok(())
    }
}

fn fill_defaults(range: &Object, pod: &mut Object) {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    for limit in range.list(&["spec", "limits"]) {
        if limit["type"] == "Container" {
            for (key, into) in [("defaultRequest", &mut requests), ("default", &mut limits)] {
                let given = limit[key].as_object().into_iter().flatten();
                into.extend(given.map(|(k, v)| (k.clone(), v.clone())));
            }
        }
    }
    let mut notes = Vec::new();
    for (list, kind) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod.get_mut(&["spec", list]).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or("").to_owned();
            for (key, word, defaults) in
                [("requests", "request", &requests), ("limits", "limit", &limits)]
            {
                let set = fill(container, key, defaults);
                if !set.is_empty() {
                    notes.push(format!("{} {word} for {kind} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.set(&["metadata", "annotations", ANNOTATION], text);
    }
}

/// Fills missing amounts; gives their names, sorted.
fn fill(container: &mut Value, key: &str, defaults: &Map<String, Value>) -> Vec<String> {
    let missing: Vec<(String, Value)> = defaults
        .iter()
        .filter(|(name, _)| container["resources"][key].get(*name).is_none())
        .map(|(name, amount)| (name.clone(), amount.clone()))
        .collect();
    let mut names = Vec::new();
    for (name, amount) in missing {
        if !container["resources"].is_object() {
            container["resources"] = Value::Object(Map::new());
        }
        if !container["resources"][key].is_object() {
            container["resources"][key] = Value::Object(Map::new());
        }
        container["resources"][key][&name] = amount;
        names.push(name);
    }
    names.sort();
    names
}

fn check_pod(limit: &Value, pod: &Object, errors: &mut Vec<String>) {
    match limit["type"].as_str() {
        Some("Container") => {
            for list in ["containers", "initContainers"] {
                for container in pod.list(&["spec", list]) {
                    let requests = amounts(&container["resources"]["requests"]);
                    let limits = amounts(&container["resources"]["limits"]);
                    check_bounds("Container", limit, &requests, &limits, errors);
                }
            }
        }
        Some("Pod") => {
            let requests = pod_amounts(pod, "requests", false);
            let limits = pod_amounts(pod, "limits", false);
            check_bounds("Pod", limit, &requests, &limits, errors);
        }
        _ => {}
    }
}

fn check_claim(limit: &Value, claim: &Object, errors: &mut Vec<String>) {
    const KIND: &str = "PersistentVolumeClaim";
    if limit["type"] != KIND {
        return;
    }
    let none = Value::Null;
    let requests = amounts(claim.get(&["spec", "resources", "requests"]).unwrap_or(&none));
    for (name, bound) in amounts(&limit["min"]) {
        errors.extend(below(KIND, &name, bound, &requests, &Amounts::new()));
    }
    for (name, bound) in amounts(&limit["max"]) {
        let found = requests.get(&name);
        errors.extend(match found {
            None => Some(format!(
                "maximum {name} usage per {KIND} is {bound}.  No request is specified"
            )),
            Some(own) if own > &bound => {
                Some(format!("maximum {name} usage per {KIND} is {bound}, but request is {own}"))
            }
            Some(_) => None,
        });
    }
}

fn check_bounds(
    kind: &str,
    limit: &Value,
    requests: &Amounts,
    limits: &Amounts,
    errors: &mut Vec<String>,
) {
    for (name, bound) in amounts(&limit["min"]) {
        errors.extend(below(kind, &name, bound, requests, limits));
    }
    for (name, bound) in amounts(&limit["max"]) {
        errors.extend(above(kind, &name, bound, requests, limits));
    }
    for (name, bound) in amounts(&limit["maxLimitRequestRatio"]) {
        errors.extend(ratio(kind, &name, bound, requests, limits));
    }
}

fn below(
    kind: &str,
    name: &str,
    bound: Quantity,
    requests: &Amounts,
    limits: &Amounts,
) -> Option<String> {
    let start = format!("minimum {name} usage per {kind} is {bound}");
    let Some(request) = requests.get(name) else {
        return Some(format!("{start}.  No request is specified"));
    };
    if request < &bound {
        return Some(format!("{start}, but request is {request}"));
    }
    let limit = limits.get(name).filter(|limit| *limit < &bound)?;
    Some(format!("{start}, but limit is {limit}"))
}

fn above(
    kind: &str,
    name: &str,
    bound: Quantity,
    requests: &Amounts,
    limits: &Amounts,
) -> Option<String> {
    let start = format!("maximum {name} usage per {kind} is {bound}");
    let Some(limit) = limits.get(name) else {
        return Some(format!("{start}.  No limit is specified"));
    };
    if limit > &bound {
        return Some(format!("{start}, but limit is {limit}"));
    }
    let request = requests.get(name).filter(|request| *request > &bound)?;
    Some(format!("{start}, but request is {request}"))
}

fn ratio(
    kind: &str,
    name: &str,
    bound: Quantity,
    requests: &Amounts,
    limits: &Amounts,
) -> Option<String> {
    let start = format!("{name} max limit to request ratio per {kind} is {bound}");
    let known = |amounts: &Amounts| amounts.get(name).copied().filter(|a| !a.is_zero());
    let Some(request) = known(requests) else {
        return Some(format!("{start}, but no request is specified or request is 0"));
    };
    let Some(limit) = known(limits) else {
        return Some(format!("{start}, but no limit is specified or limit is 0"));
    };
    let whole = [request, limit].iter().any(|amount| amount.value() > MILLI_MAX);
    let number = |amount: Quantity| {
        if whole { amount.value() as f64 } else { amount.milli_value() as f64 }
    };
    let observed = number(limit) / number(request);
    let (scaled, most) = if bound.value() <= MILLI_MAX {
        (observed * 1_000.0, bound.milli_value() as f64)
    } else {
        (observed, bound.value() as f64)
    };
    (scaled > most).then(|| format!("{start}, but provided ratio is {observed:.6}"))
}
