//! Turns the result of a strategic merge patch into what its kind holds. Upstream does this by
//! reflection rather than by decoding, with rules and messages of its own.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/runtime/converter.go

use serde_json::Value;

use super::{Error, go_item, go_shape, int_or_string, quantity, text, timely};
use crate::schema::{Scalar, Shape, Type};

/// Checks that a patched tree fits its type, and converts the numbers that need it.
///
/// # Errors
/// Upstream's words for the first field, in the order of declaration, that does not fit.
pub fn restore(ty: &'static Type, value: &mut Value) -> Result<(), String> {
    let Value::Object(fields) = value else {
        return Err(format!("cannot restore struct from: {}", kind(value)));
    };
    for field in &ty.fields {
        if field.inline {
            let inlined = field.shape.as_struct().expect("only structs are inlined");
            // The fields of an inlined struct stand among ours.
            let mut all = Value::Object(std::mem::take(fields));
            let restored = restore(inlined, &mut all);
            *fields = all.as_object_mut().map(std::mem::take).unwrap_or_default();
            restored?;
        } else if let Some(value) = fields.get_mut(field.json_name) {
            one(field.shape, field.go_type, value)?;
        }
    }
    Ok(())
}

fn one(shape: Shape, go_type: Option<&'static str>, value: &mut Value) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let item_type = go_type.and_then(go_item);
    match shape {
        Shape::Struct(_) => restore(shape.as_struct().expect("a struct"), value),
        Shape::List(_) => {
            let item = shape.item().expect("a list");
            let Value::Array(items) = value else {
                return Err(format!("cannot restore slice from {}", kind(value)));
            };
            items.iter_mut().try_for_each(|value| one(item, item_type, value))
        }
        Shape::Map(_) => {
            let item = shape.item().expect("a map");
            let Value::Object(entries) = value else {
                return Err(format!("cannot restore map from {}", kind(value)));
            };
            entries.values_mut().try_for_each(|value| one(item, item_type, value))
        }
        Shape::Scalar(scalar) => {
            let name = go_type.map_or_else(|| go_shape(shape), str::to_owned);
            restore_scalar(scalar, &name, value)
        }
    }
}

fn restore_scalar(scalar: Scalar, name: &str, value: &mut Value) -> Result<(), String> {
    let told = |error: Error| error.to_string();
    let refused = |kind: &str| Err(format!("unrecognized type: {kind}"));
    match scalar {
        Scalar::String => match value {
            Value::String(_) => Ok(()),
            Value::Number(number) if !number.is_f64() => {
                Err(format!("cannot convert int64 to {name}"))
            }
            _ => refused("string"),
        },
        Scalar::Bool if value.is_boolean() => Ok(()),
        Scalar::Bool => refused("bool"),
        Scalar::Float64 if value.is_number() => Ok(()),
        Scalar::Float64 => refused("float64"),
        Scalar::Int32 | Scalar::Int64 => integer(scalar, name, value),
        Scalar::Bytes => match value {
            Value::String(given) => text::base64(given)
                .map(|_| ())
                .map_err(|error| format!("error decoding from json: {error}")),
            other => Err(format!("cannot restore slice from {}", kind(other))),
        },
        Scalar::IntOrString => int_or_string(value).map_err(told),
        Scalar::Quantity => quantity(value).map_err(told),
        Scalar::Time | Scalar::MicroTime | Scalar::Duration => {
            if value.is_string() {
                return timely(scalar, value).map_err(told);
            }
            let found = super::json_type(value);
            Err(format!("json: cannot unmarshal {found} into Go value of type string"))
        }
        Scalar::RawExtension | Scalar::FieldsV1 | Scalar::Json => Ok(()),
    }
}

/// Numbers are converted as Go does: whole floats become integers, and 32 bits wrap around.
fn integer(scalar: Scalar, name: &str, value: &mut Value) -> Result<(), String> {
    let kind = if scalar == Scalar::Int32 { "int32" } else { "int64" };
    let number = match &*value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => integer,
            (None, Some(float)) if float.trunc() == float => float as i64,
            _ => return Err(format!("cannot convert float64 to {name}")),
        },
        _ => return Err(format!("unrecognized type: {kind}")),
    };
    *value = if scalar == Scalar::Int32 { (number as i32).into() } else { number.into() };
    Ok(())
}

/// The Go kind that a JSON value is held in.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}
