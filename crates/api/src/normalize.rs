//! Reduces a decoded tree to what its kind knows, as a round trip through upstream's Go types would.
//!
//! Unknown fields are dropped and told, values of a wrong type are an error, `null` stands for
//! absent, and zero values that Go leaves out are left out. Strategies may then rely on the types.
//!
//! upstream: sigs.k8s.io/json (unmarshalling) and the `json` tags of staging/src/k8s.io/api

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::quantity::Quantity;
use crate::schema::{Field, Scalar, Shape, Type};

/// Unknown fields that are told; more are only dropped.
const UNKNOWN_MAX: usize = 100;

/// A value of a wrong type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another JSON type than the field's.
    #[error("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}")]
    Type {
        /// JSON type of the value.
        found: &'static str,
        /// Go name of the innermost struct.
        owner: &'static str,
        /// Path of the field without indexes.
        path: String,
        /// Go type of the field.
        wanted: String,
    },
    /// A quantity that cannot be parsed.
    #[error(transparent)]
    Quantity(#[from] crate::quantity::ParseError),
    /// A time or base64 text that cannot be parsed.
    #[error("{0}")]
    Text(String),
}

/// Normalises an object of a type; gives the paths of unknown fields, such as
/// `spec.containers[0].foo`.
pub fn normalize(ty: &'static Type, value: &mut Value) -> Result<Vec<String>, Error> {
    let mut walk = Walk { names: Vec::new(), path: String::new(), unknown: Vec::new() };
    let Value::Object(fields) = value else {
        return Err(walk.mismatch(value, ty, go_struct(ty)));
    };
    walk.fields(ty, fields)?;
    Ok(walk.unknown)
}

/// Where the walk is.
struct Walk {
    /// Field names from the root, without indexes.
    names: Vec<&'static str>,
    /// The same with indexes and map keys.
    path: String,
    unknown: Vec<String>,
}

/// The Go name of a struct: its version as the package, and its name.
fn go_struct(ty: &Type) -> String {
    let (package, name) = ty.name.rsplit_once('.').unwrap_or(("", ty.name));
    let version = package.rsplit('/').next().unwrap_or("");
    format!("{version}.{name}")
}

fn go_name(ty: &Type) -> &'static str {
    ty.name.rsplit('.').next().unwrap_or(ty.name)
}

fn go_shape(shape: Shape) -> String {
    match shape {
        Shape::Struct(_) => go_struct(shape.as_struct().expect("a struct")),
        Shape::List(_) => format!("[]{}", go_shape(shape.item().expect("a list"))),
        Shape::Map(_) => format!("map[string]{}", go_shape(shape.item().expect("a map"))),
        Shape::Scalar(scalar) => match scalar {
            Scalar::Bool => "bool",
            Scalar::Int32 => "int32",
            Scalar::Int64 => "int64",
            Scalar::Float64 => "float64",
            Scalar::Bytes => "[]uint8",
            _ => "string",
        }
        .to_owned(),
    }
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether Go leaves a value out when the field is `omitempty`.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    }
}

impl Walk {
    fn mismatch(&self, value: &Value, owner: &Type, wanted: String) -> Error {
        Error::Type {
            found: json_type(value),
            owner: go_name(owner),
            path: self.names.join("."),
            wanted,
        }
    }

    fn fields(&mut self, ty: &'static Type, fields: &mut Map<String, Value>) -> Result<(), Error> {
        let keys: Vec<String> = fields.keys().cloned().collect();
        for key in keys {
            let length = self.path.len();
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key);
            match ty.field(&key) {
                None => {
                    fields.remove(&key);
                    if self.unknown.len() < UNKNOWN_MAX {
                        self.unknown.push(self.path.clone());
                    }
                }
                Some(field) => {
                    let value = fields.get_mut(&key).expect("one of the keys");
                    self.names.push(field.json_name);
                    self.field(ty, field, value)?;
                    self.names.pop();
                    if leaves_out(field, value) {
                        fields.remove(&key);
                    }
                }
            }
            self.path.truncate(length);
        }
        Ok(())
    }

    fn field(
        &mut self,
        ty: &'static Type,
        field: &'static Field,
        value: &mut Value,
    ) -> Result<(), Error> {
        if value.is_null() { Ok(()) } else { self.value(ty, field.shape, value) }
    }

    fn value(
        &mut self,
        owner: &'static Type,
        shape: Shape,
        value: &mut Value,
    ) -> Result<(), Error> {
        match (shape, &mut *value) {
            (Shape::Struct(_), Value::Object(fields)) => {
                self.fields(shape.as_struct().expect("a struct"), fields)
            }
            (Shape::List(_), Value::Array(items)) => {
                let item = shape.item().expect("a list");
                for (index, value) in items.iter_mut().enumerate() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{index}]"));
                    if value.is_null() {
                        *value = zero(item);
                    }
                    self.value(owner, item, value)?;
                    self.path.truncate(length);
                }
                Ok(())
            }
            (Shape::Map(_), Value::Object(entries)) => {
                let item = shape.item().expect("a map");
                for (key, value) in entries.iter_mut() {
                    let length = self.path.len();
                    self.path.push_str(&format!("[{key}]"));
                    if value.is_null() {
                        *value = zero(item);
                    }
                    self.value(owner, item, value)?;
                    self.path.truncate(length);
                }
                Ok(())
            }
            (Shape::Scalar(scalar), _) => self.scalar(owner, scalar, value),
            _ => Err(self.mismatch(value, owner, go_shape(shape))),
        }
    }

    fn scalar(
        &mut self,
        owner: &'static Type,
        scalar: Scalar,
        value: &mut Value,
    ) -> Result<(), Error> {
        let fits = match scalar {
            Scalar::Bool => value.is_boolean(),
            Scalar::Int32 => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Scalar::Int64 => value.is_i64(),
            Scalar::Float64 => value.is_number(),
            Scalar::IntOrString => {
                value.is_string() || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
            }
            Scalar::RawExtension | Scalar::Json => true,
            Scalar::FieldsV1 => value.is_object(),
            Scalar::Quantity => return self.quantity(owner, value),
            // A map holds the zero time as null.
            Scalar::Time | Scalar::MicroTime => value.is_string() || value.is_null(),
            Scalar::String | Scalar::Bytes | Scalar::Duration => value.is_string(),
        };
        if fits {
            return self.text(scalar, value);
        }
        Err(self.mismatch(value, owner, go_shape(Shape::Scalar(scalar))))
    }

    /// Quantities may be numbers; they are kept in canonical form.
    fn quantity(&self, owner: &'static Type, value: &mut Value) -> Result<(), Error> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => return Err(self.mismatch(other, owner, "resource.Quantity".into())),
        };
        *value = Quantity::parse(&text)?.to_string().into();
        Ok(())
    }

    /// Texts with a form of their own.
    fn text(&self, scalar: Scalar, value: &Value) -> Result<(), Error> {
        use base64::Engine as _;
        let Some(text) = value.as_str() else { return Ok(()) };
        match scalar {
            Scalar::Bytes => base64::engine::general_purpose::STANDARD
                .decode(text)
                .map(|_| ())
                .map_err(|error| Error::Text(format!("illegal base64 data: {error}"))),
            Scalar::Time | Scalar::MicroTime if text.parse::<jiff::Timestamp>().is_err() => {
                Err(Error::Text(format!(
                    "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as a time"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// The zero value that Go puts in the place of a `null` item.
fn zero(shape: Shape) -> Value {
    match shape {
        Shape::Struct(_) => Value::Object(Map::new()),
        Shape::List(_) | Shape::Map(_) => Value::Null,
        Shape::Scalar(scalar) => match scalar {
            Scalar::Bool => false.into(),
            Scalar::Int32 | Scalar::Int64 | Scalar::Float64 | Scalar::IntOrString => 0.into(),
            Scalar::Quantity => "0".into(),
            Scalar::String | Scalar::Bytes | Scalar::Duration => "".into(),
            _ => Value::Null,
        },
    }
}

/// Whether Go would not write a field that holds this value.
fn leaves_out(field: &Field, value: &Value) -> bool {
    if value.is_null() {
        return true;
    }
    let container = matches!(field.shape, Shape::List(_) | Shape::Map(_));
    let empty_map =
        matches!(field.shape, Shape::Map(_)) && value.as_object().is_some_and(Map::is_empty);
    let plain = matches!(
        field.shape,
        Shape::Scalar(
            Scalar::String
                | Scalar::Bool
                | Scalar::Int32
                | Scalar::Int64
                | Scalar::Float64
                | Scalar::Bytes
        )
    );
    field.omitempty && !field.pointer && (empty_map || ((container || plain) && is_empty(value)))
}
