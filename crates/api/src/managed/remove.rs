//! Takes fields out of a value.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/typed/remove.go

use serde_json::{Map as Fields, Value};

use super::item::identify;
use super::path::PathElement;
use super::schema::{Form, Ref};
use super::set::{Branch, Set};

/// The value without the fields of a set.
pub(super) fn remove(at: Ref, value: &Value, set: &Set) -> Value {
    rest(at, value, set).unwrap_or_default()
}

/// What is left of a value; none when it was empty or nothing of it is left.
fn rest(at: Ref, value: &Value, set: &Set) -> Option<Value> {
    match (at.form(Some(value))?, value) {
        (Form::Scalar(_), scalar) => Some(scalar.clone()),
        (Form::List(list), Value::Array(items)) if list.associative => {
            let mut entered = false;
            let mut kept = Vec::with_capacity(items.len());
            for item in items {
                let element = identify(list, item).ok();
                match element.and_then(|element| set.get(&element)) {
                    None => kept.push(item.clone()),
                    Some(branch) if branch.member => {}
                    Some(branch) => {
                        entered = true;
                        kept.push(part(list.item, item, branch));
                    }
                }
            }
            (entered || !kept.is_empty()).then_some(Value::Array(kept))
        }
        (Form::Map(map), Value::Object(fields)) if !map.atomic => {
            let mut entered = false;
            let mut kept = Fields::new();
            for (name, value) in fields {
                let left = match set.get(&PathElement::named(name)) {
                    None => value.clone(),
                    Some(branch) if branch.member => continue,
                    Some(branch) => {
                        entered = true;
                        part(map.at(name).unwrap_or(Ref::Nothing), value, branch)
                    }
                };
                kept.insert(name.clone(), left);
            }
            (entered || !kept.is_empty()).then_some(Value::Object(kept))
        }
        _ => None,
    }
}

/// What is left of a value of which only parts are removed: a container stays one.
fn part(at: Ref, value: &Value, branch: &Branch) -> Value {
    rest(at, value, &branch.children).unwrap_or_else(|| match value {
        Value::Object(_) => Value::Object(Fields::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::codec;
    use super::*;

    #[test]
    fn members_are_removed_and_containers_stay() {
        let ty = crate::schema::kind("", "v1", "Pod").expect("a built-in kind");
        let value = json!({
            "metadata": {"labels": {"a": "1"}, "finalizers": ["x", "y"]},
            "spec": {"nodeName": "n", "containers": [
                {"name": "c", "env": [{"name": "E"}]}, {"name": "d"},
            ]},
        });
        let set = codec::decode(&json!({
            "f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"x\"": {}}},
            "f:spec": {"f:nodeName": {}, "f:containers": {
                "k:{\"name\":\"c\"}": {"f:env": {"k:{\"name\":\"E\"}": {}}},
                "k:{\"name\":\"d\"}": {},
            }},
        }))
        .expect("a set");
        let want = json!({
            "metadata": {"labels": {}, "finalizers": ["y"]},
            "spec": {"containers": [{"name": "c", "env": []}]},
        });
        assert_eq!(remove(Ref::object(ty), &value, &set), want);
    }
}
