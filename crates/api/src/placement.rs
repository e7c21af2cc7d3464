//! Which nodes a pod may run on: node selectors, node affinity, taints.
//!
//! upstream: staging/src/k8s.io/component-helpers/scheduling/corev1

use crate::Object;
use serde_json::Value;

/// Whether the pod's node selector and required node affinity let it run on the node.
pub fn affinity_fits(spec: &Value, node: &Object) -> bool {
    let selector = spec["nodeSelector"].as_object().into_iter().flatten();
    for (key, value) in selector {
        if node.label(key) != value.as_str() {
            return false;
        }
    }
    let required =
        &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match required["nodeSelectorTerms"].as_array() {
        None => true,
        Some(terms) => terms.iter().any(|term| term_fits(term, node)),
    }
}

fn term_fits(term: &Value, node: &Object) -> bool {
    let list = |key: &str| term[key].as_array().map_or(&[][..], Vec::as_slice).to_vec();
    let (expressions, fields) = (list("matchExpressions"), list("matchFields"));
    // A term that asks for nothing matches nothing.
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let by_label = |e: &Value| requirement_fits(e, node.label(e["key"].as_str().unwrap_or("")));
    let by_field =
        |e: &Value| requirement_fits(e, (e["key"] == "metadata.name").then_some(node.name()));
    expressions.iter().all(by_label) && fields.iter().all(by_field)
}

fn requirement_fits(requirement: &Value, value: Option<&str>) -> bool {
    let values = requirement["values"].as_array().map_or(&[][..], Vec::as_slice);
    let among = |value: &str| values.iter().any(|v| v == value);
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let bound = number(values.first().and_then(Value::as_str));
    match requirement["operator"].as_str().unwrap_or("") {
        "In" => value.is_some_and(among),
        "NotIn" => !value.is_some_and(among),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound).is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value).zip(bound).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

/// Whether one of the tolerations puts up with the taint.
pub fn tolerated(tolerations: &[Value], taint: &Value) -> bool {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    tolerations.iter().any(|toleration| {
        let (effect, key) = (text(&toleration["effect"]), text(&toleration["key"]));
        if (!effect.is_empty() && taint["effect"] != *effect)
            || (!key.is_empty() && taint["key"] != *key)
        {
            return false;
        }
        match toleration["operator"].as_str().unwrap_or("Equal") {
            "Exists" => true,
            "" | "Equal" => text(&toleration["value"]) == text(&taint["value"]),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node() -> Object {
        let node = json!({"metadata": {"name": "n1", "labels": {"disk": "ssd", "cores": "4"}}});
        Object::from_value(node).unwrap()
    }

    fn with_expression(expression: Value) -> Value {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [expression]}],
        }}}})
    }

    #[test]
    fn selectors_and_affinity() {
        assert!(affinity_fits(&json!({}), &node()));
        assert!(affinity_fits(&json!({"nodeSelector": {"disk": "ssd"}}), &node()));
        assert!(!affinity_fits(&json!({"nodeSelector": {"disk": "hdd"}}), &node()));
        for (expression, fits) in [
            (json!({"key": "disk", "operator": "In", "values": ["ssd"]}), true),
            (json!({"key": "disk", "operator": "NotIn", "values": ["ssd"]}), false),
            (json!({"key": "gpu", "operator": "NotIn", "values": ["a"]}), true),
            (json!({"key": "gpu", "operator": "Exists"}), false),
            (json!({"key": "gpu", "operator": "DoesNotExist"}), true),
            (json!({"key": "cores", "operator": "Gt", "values": ["3"]}), true),
            (json!({"key": "cores", "operator": "Lt", "values": ["3"]}), false),
        ] {
            assert_eq!(affinity_fits(&with_expression(expression.clone()), &node()), fits);
        }
    }

    #[test]
    fn tolerations() {
        let taint = json!({"key": "a", "value": "b", "effect": "NoSchedule"});
        for (toleration, fits) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "a", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "a", "value": "b"}), true),
            (json!({"key": "a", "value": "c"}), false),
        ] {
            assert_eq!(tolerated(&[toleration], &taint), fits);
        }
    }
}
