//! Lists that are sets or maps hold nothing twice.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype/validation.go

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Additional, Node, Schema};
use crate::field::{Error, ErrorList, Path};

impl Schema {
    /// The items that stand twice in lists that are sets or maps.
    pub fn validate_lists(&self, object: &Value) -> ErrorList {
        self.root().validate_lists(&Path::default(), object)
    }
}

impl Node {
    /// The items that stand twice in lists that are sets or maps, in a value at a path.
    pub fn validate_lists(&self, path: &Path, value: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if let Value::Object(fields) = value {
            of_fields(self, path, fields, &mut errors);
        }
        errors
    }
}

fn of_fields(node: &Node, path: &Path, fields: &Map<String, Value>, errors: &mut ErrorList) {
    // Upstream looks at listed fields twice when others have a schema as well.
    if let Additional::Schema(entry) = &node.additional {
        for (name, value) in fields {
            below(entry, &path.key(name), value, errors);
        }
    }
    for (name, value) in fields {
        if let Some(node) = node.properties.get(name) {
            below(node, &path.child(name), value, errors);
        }
    }
}

fn below(node: &Node, path: &Path, value: &Value, errors: &mut ErrorList) {
    match value {
        Value::Object(fields) => of_fields(node, path, fields, errors),
        Value::Array(items) => {
            match node.list_type() {
                Some("set") => {
                    let twice = duplicates(items);
                    errors.extend(
                        twice
                            .into_iter()
                            .map(|i| Error::duplicate(&path.index(i), items[i].clone())),
                    );
                }
                Some("map") => of_map(node, path, items, errors),
                _ => {}
            }
            if let Some(node) = &node.items {
                for (index, item) in items.iter().enumerate() {
                    below(node, &path.index(index), item, errors);
                }
            }
        }
        _ => {}
    }
}

fn of_map(node: &Node, path: &Path, items: &[Value], errors: &mut ErrorList) {
    let odd = items.iter().position(|item| !item.is_object() && !item.is_null());
    if let Some(index) = odd {
        let why = "must be an object for an array of list-type map";
        errors.push(Error::invalid(&path.index(index), items[index].clone(), why));
        return;
    }
    let key = |item: &Value| -> Value {
        let given = |name: &String| item.get(name).map(|value| (name.clone(), value.clone()));
        Value::Object(node.map_keys().iter().filter_map(given).collect())
    };
    let keys: Vec<Value> = items.iter().map(key).collect();
    for index in duplicates(&keys) {
        errors.push(Error::duplicate(&path.index(index), keys[index].clone()));
    }
}

/// The positions where values stand a second time; third ones are not told.
pub(super) fn duplicates(items: &[Value]) -> Vec<usize> {
    let mut seen: BTreeMap<Ordered<'_>, usize> = BTreeMap::new();
    let mut twice = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let times = seen.entry(Ordered(item)).or_default();
        *times += 1;
        if *times == 2 {
            twice.push(index);
        }
    }
    twice
}

/// The first position where a value stands that stood there before.
pub(super) fn first_duplicate(items: &[Value]) -> Option<usize> {
    duplicates(items).first().copied()
}

/// Values in some order in which only equal ones are equal: whole floats are no integers, as in Go.
struct Ordered<'a>(&'a Value);

impl PartialEq for Ordered<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered<'_> {}

impl PartialOrd for Ordered<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        fn rank(value: &Value) -> u8 {
            match value {
                Value::Null => 0,
                Value::Bool(_) => 1,
                Value::Number(number) if number.is_f64() => 2,
                Value::Number(_) => 3,
                Value::String(_) => 4,
                Value::Array(_) => 5,
                Value::Object(_) => 6,
            }
        }
        match (self.0, other.0) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
                let (a, b) = (a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(0.0));
                a.partial_cmp(&b).unwrap_or(Ordering::Equal)
            }
            (Value::Number(a), Value::Number(b)) if !a.is_f64() && !b.is_f64() => {
                let signed = (a.as_i64(), b.as_i64());
                match signed {
                    (Some(a), Some(b)) => a.cmp(&b),
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (None, None) => a.as_u64().cmp(&b.as_u64()),
                }
            }
            (Value::Array(a), Value::Array(b)) => a.iter().map(Ordered).cmp(b.iter().map(Ordered)),
            (Value::Object(a), Value::Object(b)) => {
                let a = a.iter().map(|(key, value)| (key, Ordered(value)));
                a.cmp(b.iter().map(|(key, value)| (key, Ordered(value))))
            }
            (a, b) => rank(a).cmp(&rank(b)),
        }
    }
}
