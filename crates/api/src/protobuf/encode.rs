//! Trees to messages.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::wire::{put_bytes, put_double, put_int};
use crate::schema::{Field, Scalar, Shape, Type, Union};

/// Encodes a normalised tree of a type. Zero values are left out; readers take them for granted.
pub fn encode(ty: &'static Type, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    if let Value::Object(fields) = value {
        message(&mut out, ty, fields);
    }
    out
}

fn message(out: &mut Vec<u8>, ty: &'static Type, fields: &Map<String, Value>) {
    let mut numbered: Vec<&Field> = ty.fields.iter().filter(|f| f.proto_number > 0).collect();
    numbered.sort_by_key(|f| f.proto_number);
    for field in numbered {
        if field.inline {
            // The fields of an inlined struct stand among ours in JSON, but in a message of their
            // own here.
            let inner = field.shape.as_struct().expect("only structs are inlined");
            let mut nested = Vec::new();
            message(&mut nested, inner, fields);
            put_bytes(out, field.proto_number, &nested);
            continue;
        }
        let Some(value) = fields.get(field.json_name).filter(|value| !value.is_null()) else {
            continue;
        };
        match Union::of(ty, field) {
            Some(union) => put_union(out, field.proto_number, ty, union, value),
            None if field.is_boxed() => put_item(out, field.proto_number, field.shape, value),
            None => put(out, field.proto_number, field.shape, value),
        }
    }
}

/// Writes a schema or what may stand in its place: the schema has a field of its own.
fn put_union(out: &mut Vec<u8>, number: u32, ty: &'static Type, union: Union, value: &Value) {
    let mut nested = Vec::new();
    let schema = |nested: &mut Vec<u8>, number: u32, value: &Value| {
        put_bytes(nested, number, &encode(ty, value));
    };
    match (union, value) {
        (Union::Names, Value::Object(entries)) => {
            for (key, value) in entries {
                let mut entry = Vec::new();
                put_bytes(&mut entry, 1, key.as_bytes());
                let mut nested = Vec::new();
                match value {
                    Value::Array(names) => {
                        let names = names.iter().filter_map(Value::as_str);
                        names.for_each(|name| put_bytes(&mut nested, 2, name.as_bytes()));
                    }
                    value => schema(&mut nested, 1, value),
                }
                put_bytes(&mut entry, 2, &nested);
                put_bytes(out, number, &entry);
            }
            return;
        }
        (Union::Schemas, Value::Array(items)) => {
            items.iter().for_each(|item| schema(&mut nested, 2, item));
        }
        (Union::Bool, Value::Bool(flag)) => put_int(&mut nested, 1, i64::from(*flag)),
        (Union::Bool, value) => {
            put_int(&mut nested, 1, 1);
            schema(&mut nested, 2, value);
        }
        (_, value) => schema(&mut nested, 1, value),
    }
    put_bytes(out, number, &nested);
}

/// Writes one value as a field.
fn put(out: &mut Vec<u8>, number: u32, shape: Shape, value: &Value) {
    match (shape, value) {
        (Shape::Struct(_), Value::Object(fields)) => {
            let mut nested = Vec::new();
            message(&mut nested, shape.as_struct().expect("a struct"), fields);
            put_bytes(out, number, &nested);
        }
        (Shape::List(_), Value::Array(items)) => {
            let item = shape.item().expect("a list");
            items.iter().for_each(|value| put_item(out, number, item, value));
        }
        (Shape::Map(_), Value::Object(entries)) => {
            let item = shape.item().expect("a map");
            for (key, value) in entries {
                let mut entry = Vec::new();
                put_bytes(&mut entry, 1, key.as_bytes());
                put_item(&mut entry, 2, item, value);
                put_bytes(out, number, &entry);
            }
        }
        (Shape::Scalar(scalar), value) => put_scalar(out, number, scalar, value),
        _ => {}
    }
}

/// Writes an item of a list or map. A list inside a list or map is a message with its items in
/// field 1.
fn put_item(out: &mut Vec<u8>, number: u32, shape: Shape, value: &Value) {
    if matches!(shape, Shape::List(_)) {
        let mut nested = Vec::new();
        put(&mut nested, 1, shape, value);
        put_bytes(out, number, &nested);
        return;
    }
    put(out, number, shape, value);
}

fn put_scalar(out: &mut Vec<u8>, number: u32, scalar: Scalar, value: &Value) {
    let text = value.as_str().unwrap_or("");
    match scalar {
        Scalar::String => put_bytes(out, number, text.as_bytes()),
        Scalar::Bool => put_int(out, number, i64::from(value.as_bool().unwrap_or(false))),
        Scalar::Int32 | Scalar::Int64 => put_int(out, number, value.as_i64().unwrap_or(0)),
        Scalar::Float64 => put_double(out, number, value.as_f64().unwrap_or(0.0)),
        Scalar::Bytes => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
            put_bytes(out, number, &bytes);
        }
        Scalar::Time | Scalar::MicroTime => put_bytes(out, number, &time(text)),
        Scalar::Duration => {
            let mut nested = Vec::new();
            put_int(&mut nested, 1, crate::duration::parse(text).unwrap_or(0));
            put_bytes(out, number, &nested);
        }
        Scalar::Quantity => {
            let mut nested = Vec::new();
            put_bytes(&mut nested, 1, text.as_bytes());
            put_bytes(out, number, &nested);
        }
        Scalar::IntOrString => {
            let mut nested = Vec::new();
            put_int(&mut nested, 1, i64::from(value.is_string()));
            put_int(&mut nested, 2, value.as_i64().unwrap_or(0));
            put_bytes(&mut nested, 3, text.as_bytes());
            put_bytes(out, number, &nested);
        }
        Scalar::RawExtension | Scalar::FieldsV1 | Scalar::Json => {
            let mut nested = Vec::new();
            put_bytes(&mut nested, 1, value.to_string().as_bytes());
            put_bytes(out, number, &nested);
        }
    }
}

fn time(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        put_int(&mut out, 1, time.as_second());
        put_int(&mut out, 2, i64::from(time.subsec_nanosecond()));
    }
    out
}
