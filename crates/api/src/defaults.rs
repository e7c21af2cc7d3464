//! The fixed defaults that the API declares on its fields. Defaults that depend on other fields are
//! the strategies' business.
//!
//! upstream: the `+default` markers of staging/src/k8s.io/api

use serde_json::{Map, Value};

use crate::schema::{Field, Scalar, Shape, Type};

/// Fills the declared defaults of absent fields, in the object and in all that it holds.
pub fn apply(ty: &'static Type, value: &mut Value) {
    if let Value::Object(fields) = value {
        fill(ty, fields);
    }
}

fn fill(ty: &'static Type, fields: &mut Map<String, Value>) {
    for field in ty.filled() {
        if field.inline {
            if let Some(inlined) = field.shape.as_struct() {
                fill(inlined, fields);
            }
            continue;
        }
        match fields.get_mut(field.json_name) {
            Some(value) => descend(field.shape, value),
            None => {
                if let Some(default) = declared(field) {
                    fields.insert(field.json_name.to_owned(), default);
                }
            }
        }
    }
}

fn descend(shape: Shape, value: &mut Value) {
    match (shape, value) {
        (Shape::Struct(_), Value::Object(fields)) => {
            fill(shape.as_struct().expect("a struct"), fields);
        }
        (Shape::List(_), Value::Array(items)) => {
            let item = shape.item().expect("a list");
            items.iter_mut().for_each(|value| descend(item, value));
        }
        (Shape::Map(_), Value::Object(entries)) => {
            let item = shape.item().expect("a map");
            entries.values_mut().for_each(|value| descend(item, value));
        }
        _ => {}
    }
}

/// The declared default as a value. A zero that Go would leave out again is none.
pub(crate) fn declared(field: &Field) -> Option<Value> {
    let text = field.default?;
    let value = match field.shape {
        Shape::Scalar(Scalar::Bool) => Value::Bool(text.parse().ok()?),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64) => Value::from(text.parse::<i64>().ok()?),
        // A reference names a Go constant; strategies know those.
        Shape::Scalar(Scalar::String) if !text.starts_with("ref(") => Value::from(text),
        _ => return None,
    };
    let zero = value == 0 || value == false || value == "";
    (field.pointer || !field.omitempty || !zero).then_some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema;

    #[test]
    fn absent_fields_get_their_default_and_given_ones_stay() {
        let ty = schema::kind("", "v1", "Pod").expect("a built-in kind");
        let mut value = json!({"spec": {"containers": [{"ports": [
            {"containerPort": 1}, {"containerPort": 2, "protocol": "UDP"},
        ]}]}});
        apply(ty, &mut value);
        let want = json!([
            {"containerPort": 1, "protocol": "TCP"}, {"containerPort": 2, "protocol": "UDP"},
        ]);
        assert_eq!(value["spec"]["containers"][0]["ports"], want);
        let before = value.clone();
        apply(ty, &mut value);
        assert_eq!(value, before, "defaults are filled once");
    }
}
