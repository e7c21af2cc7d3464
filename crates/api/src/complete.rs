//! Writes the zero values that Go writes: fields that are not left out when they are empty, and
//! structs, which never are.
//!
//! upstream: the `json` tags of staging/src/k8s.io/api and Go's encoding/json

use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::schema::{Field, Scalar, Shape, Type};

/// Fills absent fields that upstream's answers always have, in the object and in all that it holds.
pub fn complete(ty: &'static Type, value: &mut Value) {
    if let Value::Object(fields) = value {
        fill(ty, fields);
    }
}

/// Makes the absent structs that are no pointers, so that defaults find a place. Nothing else.
pub fn structs(ty: &'static Type, value: &mut Value) {
    const STRUCTS: Change = Change {
        absent: |field| {
            let wanted = matches!(field.shape, Shape::Struct(_)) && !field.pointer;
            wanted.then(|| Value::Object(Map::new()))
        },
        present: |_, _| {},
    };
    if let Value::Object(fields) = value {
        walk(ty, fields, STRUCTS);
    }
}

/// As [`complete`], for a value of a shape.
pub(crate) fn complete_part(shape: Shape, value: &mut Value) {
    descend(shape, value, WRITTEN);
}

fn fill(ty: &'static Type, fields: &mut Map<String, Value>) {
    walk(ty, fields, WRITTEN);
}

/// Gives a struct the fields that are always written.
const WRITTEN: Change = Change {
    absent: |field| implied(field).cloned(),
    present: |field, value| {
        // Storage does not tell empty lists and maps from absent ones.
        let list = matches!(field.shape, Shape::List(_) | Shape::Map(_));
        if list && !field.omitempty && !field.pointer && is_empty(value) {
            *value = Value::Null;
        }
    },
};

/// What is done to the fields of structs.
#[derive(Clone, Copy)]
struct Change {
    /// What an absent field becomes.
    absent: fn(&'static Field) -> Option<Value>,
    /// Changes one that is there.
    present: fn(&'static Field, &mut Value),
}

/// Changes every field of a struct and of all structs in it. Each field is looked up once.
fn walk(ty: &'static Type, fields: &mut Map<String, Value>, change: Change) {
    for field in ty.filled() {
        if field.inline {
            if let Some(inlined) = field.shape.as_struct() {
                walk(inlined, fields, change);
            }
        } else if let Some(value) = fields.get_mut(field.json_name) {
            (change.present)(field, value);
            descend(field.shape, value, change);
        } else if let Some(mut value) = (change.absent)(field) {
            descend(field.shape, &mut value, change);
            fields.insert(field.json_name.to_owned(), value);
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

fn descend(shape: Shape, value: &mut Value, change: Change) {
    match (shape, value) {
        (Shape::Struct(_), Value::Object(fields)) => {
            walk(shape.as_struct().expect("a struct"), fields, change);
        }
        (Shape::List(_), Value::Array(items)) => {
            let item = shape.item().expect("a list");
            items.iter_mut().for_each(|value| descend(item, value, change));
        }
        (Shape::Map(_), Value::Object(entries)) => {
            let item = shape.item().expect("a map");
            entries.values_mut().for_each(|value| descend(item, value, change));
        }
        _ => {}
    }
}

/// What Go writes for a field that was never set; none when it writes nothing.
pub(crate) fn implied(field: &Field) -> Option<&'static Value> {
    static TEXTS: LazyLock<[Value; 3]> = LazyLock::new(|| ["".into(), "0".into(), "0s".into()]);
    static ZERO: LazyLock<Value> = LazyLock::new(|| 0.into());
    static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
    let [no_text, zero_text, zero_seconds] = &*TEXTS;
    if field.omitzero || (field.pointer && field.omitempty) {
        return None;
    }
    if field.pointer {
        return Some(&Value::Null);
    }
    // Structs are written even when the tag says to leave out empty values.
    match field.shape {
        Shape::Struct(_) => return Some(&EMPTY),
        Shape::Scalar(scalar) => match scalar {
            Scalar::Time | Scalar::MicroTime | Scalar::RawExtension => return Some(&Value::Null),
            Scalar::Quantity => return Some(zero_text),
            Scalar::IntOrString => return Some(&ZERO),
            Scalar::Duration => return Some(zero_seconds),
            _ => {}
        },
        Shape::List(_) | Shape::Map(_) => {}
    }
    if field.omitempty {
        return None;
    }
    Some(match field.shape {
        Shape::Scalar(Scalar::String) => no_text,
        Shape::Scalar(Scalar::Bool) => &Value::Bool(false),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Float64) => &ZERO,
        _ => &Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema;

    #[test]
    fn zero_values_are_written_as_in_go() {
        let ty = schema::kind("apps", "v1", "StatefulSet").expect("a built-in kind");
        let mut value = json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}});
        complete(ty, &mut value);
        let want = json!({
            "metadata": {},
            "spec": {
                "selector": null,
                "serviceName": "",
                "template": {
                    "metadata": {},
                    "spec": {"containers": [{"name": "a", "resources": {}}]},
                },
                "updateStrategy": {},
            },
            "status": {"availableReplicas": 0, "replicas": 0},
        });
        assert_eq!(value, want);
        let mut places = json!({});
        structs(ty, &mut places);
        let template = json!({"metadata": {}, "spec": {}});
        let spec = json!({"template": template, "updateStrategy": {}});
        assert_eq!(places, json!({"metadata": {}, "spec": spec, "status": {}}));
        let before = value.clone();
        complete(ty, &mut value);
        assert_eq!(value, before, "completing is idempotent");
    }
}
