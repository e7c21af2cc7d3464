//! The fields that a value, as somebody wrote it, names.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/typed/tofieldset.go

use std::collections::BTreeSet;

use serde_json::Value;

use super::item::identify;
use super::path::PathElement;
use super::schema::{Form, List, Ref};
use super::set::{Branch, Set};

/// The set of a valid value.
pub(super) fn field_set(at: Ref, value: &Value) -> Set {
    below(at, value).1
}

/// Whether the place itself is named, and what is named below it.
fn below(at: Ref, value: &Value) -> (bool, Set) {
    match at.form(Some(value)) {
        None => (false, Set::new()),
        Some(Form::Scalar(_)) => (true, Set::new()),
        Some(Form::List(list)) if list.associative => match value {
            Value::Array(items) => (false, of_items(list, items)),
            _ => (false, Set::new()),
        },
        Some(Form::List(_)) => (true, Set::new()),
        Some(Form::Map(map)) if map.atomic => (true, Set::new()),
        Some(Form::Map(map)) => {
            let Value::Object(fields) = value else { return (false, Set::new()) };
            let branches = fields.iter().map(|(name, value)| {
                let (member, children) = below(map.at(name).unwrap_or(Ref::Nothing), value);
                let empty = match value {
                    Value::Null => true,
                    Value::Object(fields) => fields.is_empty(),
                    _ => false,
                };
                // Entries of maps count by themselves, fields of structs by what is in them.
                let member = member || empty || map.field(name).is_none();
                Branch { element: PathElement::named(name), member, children }
            });
            (false, Set::from_branches(branches.collect()))
        }
    }
}

fn of_items(list: List, items: &[Value]) -> Set {
    let mut seen = BTreeSet::new();
    let mut repeated = BTreeSet::new();
    for element in items.iter().filter_map(|item| identify(list, item).ok()) {
        if !seen.insert(element.clone()) {
            repeated.insert(element);
        }
    }
    let branches = items.iter().filter_map(|item| {
        let element = identify(list, item).ok()?;
        let children =
            if repeated.contains(&element) { Set::new() } else { below(list.item, item).1 };
        Some(Branch { element, member: true, children })
    });
    Set::from_branches(branches.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::codec;
    use super::*;

    #[test]
    fn what_is_written_is_named() {
        let ty = crate::schema::kind("", "v1", "Pod").expect("a built-in kind");
        let value = json!({
            "metadata": {"labels": {"a": "b"}, "annotations": {}, "finalizers": ["f"]},
            "spec": {
                "nodeSelector": {"x": "y"}, "tolerations": [], "volumes": [],
                "containers": [
                    {"name": "c", "env": [{"name": "E"}, {"name": "E"}, {"name": "F"}], "command": ["x"]},
                ],
                "affinity": null,
            },
        });
        let want = json!({
            "f:metadata": {
                "f:labels": {"f:a": {}}, "f:annotations": {}, "f:finalizers": {"v:\"f\"": {}},
            },
            "f:spec": {
                "f:nodeSelector": {}, "f:tolerations": {}, "f:affinity": {},
                "f:containers": {"k:{\"name\":\"c\"}": {
                    ".": {}, "f:name": {}, "f:command": {},
                    "f:env": {"k:{\"name\":\"E\"}": {}, "k:{\"name\":\"F\"}": {".": {}, "f:name": {}}},
                }},
            },
        });
        assert_eq!(codec::encode(&field_set(Ref::object(ty), &value)), want);
    }
}
