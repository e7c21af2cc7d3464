//! The flow schemas and priority levels that every server needs: they keep their specs.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap/default.go,
//! pkg/apis/flowcontrol/validation/validation.go

use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::{Value, json};

/// Tells when a mandatory flow schema is not what it has to be.
pub(super) fn flow_schema(object: &Object, errors: &mut ErrorList) {
    let subjects: &[&str] = match object.name() {
        "exempt" => &["system:masters"],
        "catch-all" => &["system:unauthenticated", "system:authenticated"],
        _ => return,
    };
    let subjects: Vec<Value> =
        subjects.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect();
    let everything = json!(["*"]);
    let mut wanted = json!({
        "priorityLevelConfiguration": {"name": object.name()},
        "matchingPrecedence": if object.name() == "exempt" { 1 } else { 10_000 },
        "rules": [{
            "subjects": subjects,
            "resourceRules": [{
                "verbs": everything, "apiGroups": everything, "resources": everything,
                "clusterScope": true, "namespaces": everything,
            }],
            "nonResourceRules": [{"verbs": everything, "nonResourceURLs": everything}],
        }],
    });
    if object.name() == "catch-all" {
        wanted["distinguisherMethod"] = json!({"type": "ByUser"});
    }
    let spec = object.get(&["spec"]).cloned().unwrap_or(Value::Null);
    if !same(&spec, &wanted) {
        let why = format!("spec of '{}' must equal the fixed value", object.name());
        let error = Error::invalid(&Path::new("spec"), spec, &why);
        errors.push(error.as_struct("flowcontrol/v1.FlowSchemaSpec"));
    }
}

/// Tells when a mandatory priority level is not what it has to be.
pub(super) fn priority_level(object: &Object, errors: &mut ErrorList) {
    let name = object.name();
    let wanted = match name {
        "exempt" => json!({"type": "Exempt"}),
        "catch-all" => json!({
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0,
                "limitResponse": {"type": "Reject"},
            },
        }),
        _ => return,
    };
    let spec = object.get(&["spec"]).cloned().unwrap_or(Value::Null);
    let mut looked_at = spec.clone();
    let except = if name == "exempt" {
        // Administrators may change how much is lent.
        looked_at.as_object_mut().map(|fields| fields.remove("exempt"));
        " except the 'spec.exempt' field"
    } else {
        ""
    };
    if !same(&looked_at, &wanted) {
        let why = format!("spec of '{name}'{except} must equal the fixed value");
        let error = Error::invalid(&Path::new("spec"), spec, &why);
        errors.push(error.as_struct("flowcontrol/v1.PriorityLevelConfigurationSpec"));
    }
}

/// Whether two values are the same for Go, which does not tell empty from absent.
fn same(a: &Value, b: &Value) -> bool {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let keys = x.keys().chain(y.keys());
            keys.into_iter().all(|key| {
                let of = |fields: &serde_json::Map<String, Value>| {
                    fields.get(key).cloned().unwrap_or(Value::Null)
                };
                same(&of(x), &of(y))
            })
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        _ => a == b || (empty(a) && empty(b)),
    }
}
