//! Reduces a decoded tree to what its kind knows, as a round trip through upstream's Go types would.
//!
//! Unknown fields are dropped and told, values of a wrong type are an error, `null` stands for
//! absent, and zero values that Go leaves out are left out. Strategies may then rely on the types.
//!
//! upstream: sigs.k8s.io/json (unmarshalling) and the `json` tags of staging/src/k8s.io/api

mod restore;
mod schemas;
#[cfg(test)]
mod tests;
mod text;

pub use restore::restore;

use serde_json::{Map, Value};

use crate::emptied::Emptied;
use crate::json;
use crate::quantity::Quantity;
use crate::schema::{Field, Scalar, Shape, Type, Union};

/// Unknown fields that are told; more are only dropped.
const UNKNOWN_MAX: usize = 100;

/// A value of a wrong type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another JSON type than the field's.
    #[error("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {wanted}")]
    Type {
        /// JSON type of the value; of a number that does not fit also its text.
        found: String,
        /// Go name of the innermost struct.
        owner: &'static str,
        /// Path of the field without indexes.
        path: String,
        /// Go type of the field.
        wanted: String,
    },
    /// Another JSON type than the value of its own form has, or than an object.
    #[error("json: cannot unmarshal {found} into Go value of type {wanted}")]
    Value {
        /// JSON type of the value; of a number that does not fit also its text.
        found: String,
        /// Go type that was wanted.
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
    Ok(read(ty, value)?.unknown)
}

/// What is told of a tree besides the object.
#[derive(Debug, Default)]
pub struct Read {
    /// Paths of unknown fields, such as `spec.containers[0].foo`.
    pub unknown: Vec<String>,
    /// The lists and maps that were given without items.
    pub emptied: Emptied,
}

/// As [`normalize`]; tells also what was given empty.
pub fn read(ty: &'static Type, value: &mut Value) -> Result<Read, Error> {
    let mut walk = Walk::default();
    let Value::Object(fields) = value else {
        return Err(Error::Value { found: json_type(value).into(), wanted: go_struct(ty) });
    };
    walk.fields(ty, fields)?;
    Ok(walk.read)
}

/// The error that Go tells of a document with errors, when it is not the one that [`read`] found first: the earliest one
/// in the order of the document, of those that end its decoder if there are any.
///
/// upstream: Go's encoding/json (saveError; what an UnmarshalJSON returns ends it)
pub fn first_error(ty: &'static Type, source: &[u8]) -> Option<Error> {
    let mut value = json::decode(source).ok()?.value;
    let mut walk = Walk { errors: Some(Vec::new()), ..Walk::default() };
    walk.fields(ty, value.as_object_mut()?).ok()?;
    let order = json::paths(source);
    let place = |path: &str| {
        let key = path.trim_end_matches(|c: char| c == '[' || c == ']' || c.is_ascii_digit());
        let whole = order.iter().position(|known| known == path);
        whole.or_else(|| order.iter().position(|known| known == key)).unwrap_or(usize::MAX)
    };
    let found = walk.errors.unwrap_or_default();
    let (path, mut error, _) =
        found.into_iter().min_by_key(|(path, _, ends)| (!ends, place(path)))?;
    if let Error::Type { found, .. } | Error::Value { found, .. } = &mut error
        && found.starts_with("number ")
        && let Some(number) = json::number_at(source, &path)
    {
        *found = format!("number {number}");
    }
    Some(error)
}

/// Most errors that are compared to find the first one.
const ERRORS_MAX: usize = 1000;

/// Where the walk is.
#[derive(Default)]
struct Walk {
    /// Field names from the root, without indexes.
    names: Vec<&'static str>,
    /// The same with indexes and map keys.
    path: String,
    read: Read,
    /// The errors so far with their paths, and whether they end Go's decoder, where all are wanted.
    errors: Option<Vec<(String, Error, bool)>>,
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
            Scalar::String => "string",
            Scalar::Bool => "bool",
            Scalar::Int32 => "int32",
            Scalar::Int64 => "int64",
            Scalar::Float64 => "float64",
            Scalar::Bytes => "[]uint8",
            Scalar::Time => "v1.Time",
            Scalar::MicroTime => "v1.MicroTime",
            Scalar::Duration => "v1.Duration",
            Scalar::Quantity => "resource.Quantity",
            Scalar::IntOrString => "intstr.IntOrString",
            Scalar::RawExtension => "runtime.RawExtension",
            Scalar::FieldsV1 => "v1.FieldsV1",
            Scalar::Json => "v1.JSON",
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

/// The Go type of the items of a list or the values of a map, when it is told.
fn go_item(go_type: &'static str) -> Option<&'static str> {
    let item = match go_type.strip_prefix("[]") {
        Some(item) => item,
        None => go_type.strip_prefix("map[")?.split_once(']')?.1,
    };
    Some(item.trim_start_matches('*'))
}

/// The form of a value that is expected, and whose it is.
#[derive(Clone, Copy)]
struct Wanted {
    /// The innermost struct, which messages name.
    owner: &'static Type,
    shape: Shape,
    /// The Go type as messages name it, when it is not the shape's own.
    go_type: Option<&'static str>,
}

impl Wanted {
    fn item(self) -> Self {
        let shape = self.shape.item().expect("a list or map");
        Self { shape, go_type: self.go_type.and_then(go_item), ..self }
    }

    fn name(self) -> String {
        self.go_type.map_or_else(|| go_shape(self.shape), str::to_owned)
    }
}

impl Walk {
    fn mismatch(&self, value: &Value, wanted: Wanted) -> Error {
        let integer = matches!(wanted.shape, Shape::Scalar(Scalar::Int32 | Scalar::Int64));
        Error::Type {
            found: if integer { found_number(value) } else { json_type(value).to_owned() },
            owner: go_name(wanted.owner),
            path: self.names.join("."),
            wanted: wanted.name(),
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
            let depth = self.names.len();
            match self.find(ty, &key) {
                None => {
                    fields.remove(&key);
                    if self.read.unknown.len() < UNKNOWN_MAX {
                        self.read.unknown.push(self.path.clone());
                    }
                }
                Some(field) => {
                    let value = fields.get_mut(&key).expect("one of the keys");
                    self.names.push(field.json_name);
                    if !value.is_null() {
                        let (shape, go_type) = (field.shape, field.go_type);
                        let read = match Union::of(ty, field) {
                            Some(union) => self.union(ty, union, value),
                            None => self.value(Wanted { owner: ty, shape, go_type }, value),
                        };
                        self.note(shape, read)?;
                    }
                    if matches!(field.shape, Shape::List(_) | Shape::Map(_)) {
                        self.read.emptied.note(&self.path, value);
                    }
                    if leaves_out(field, value) {
                        fields.remove(&key);
                    }
                }
            }
            self.names.truncate(depth);
            self.path.truncate(length);
        }
        Ok(())
    }

    /// The field with a JSON name. The inlined structs on the way to it become part of the path.
    fn find(&mut self, ty: &'static Type, key: &str) -> Option<&'static Field> {
        let own = ty.fields.iter().find(|f| !f.inline && f.json_name == key);
        if own.is_some() {
            return own;
        }
        for inlined in ty.fields.iter().filter(|f| f.inline).filter_map(|f| f.shape.as_struct()) {
            let depth = self.names.len();
            self.names.push(go_name(inlined));
            if let Some(found) = self.find(inlined, key) {
                return Some(found);
            }
            self.names.truncate(depth);
        }
        None
    }

    fn value(&mut self, wanted: Wanted, value: &mut Value) -> Result<(), Error> {
        match (wanted.shape, &mut *value) {
            (Shape::Struct(_), Value::Object(fields)) => {
                self.fields(wanted.shape.as_struct().expect("a struct"), fields)
            }
            (Shape::List(_), Value::Array(items)) => {
                for (index, value) in items.iter_mut().enumerate() {
                    self.item(wanted.item(), &format!("[{index}]"), value)?;
                }
                Ok(())
            }
            (Shape::Map(_), Value::Object(entries)) => {
                for (key, value) in entries.iter_mut() {
                    self.item(wanted.item(), &format!(".{key}"), value)?;
                }
                Ok(())
            }
            (Shape::Scalar(scalar), _) => self.scalar(wanted, scalar, value),
            _ => Err(self.mismatch(value, wanted)),
        }
    }

    /// Keeps an error and goes on, where all of them are wanted.
    fn note(&mut self, shape: Shape, read: Result<(), Error>) -> Result<(), Error> {
        let Some(errors) = self.errors.as_mut().filter(|errors| errors.len() < ERRORS_MAX) else {
            return read;
        };
        if let Err(error) = read {
            errors.push((self.path.clone(), error, ends_decoder(shape)));
        }
        Ok(())
    }

    fn item(&mut self, wanted: Wanted, step: &str, value: &mut Value) -> Result<(), Error> {
        let length = self.path.len();
        self.path.push_str(step);
        if value.is_null() {
            *value = zero(wanted.shape);
        }
        // Lists and maps in a list or map may be null.
        if !value.is_null() {
            let read = self.value(wanted, value);
            self.note(wanted.shape, read)?;
        }
        self.path.truncate(length);
        Ok(())
    }

    fn scalar(&self, wanted: Wanted, scalar: Scalar, value: &mut Value) -> Result<(), Error> {
        let fits = match scalar {
            Scalar::Bool => value.is_boolean(),
            Scalar::Int32 => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Scalar::Int64 => value.is_i64(),
            Scalar::Float64 => value.is_number(),
            Scalar::IntOrString => {
                // The error of the integer is told as that of the field.
                return int_or_string(value).map_err(|_| {
                    let go_type = Some("int32");
                    let found = found_number(value);
                    let wanted = Wanted { go_type, ..wanted };
                    match self.mismatch(value, wanted) {
                        Error::Type { owner, path, wanted, .. } => {
                            Error::Type { found, owner, path, wanted }
                        }
                        other => other,
                    }
                });
            }
            // Field sets are read by their users.
            Scalar::RawExtension | Scalar::Json | Scalar::FieldsV1 => true,
            Scalar::Quantity => return quantity(value),
            Scalar::Time | Scalar::MicroTime | Scalar::Duration => {
                let fits = value.is_string() || value.is_null();
                let inner = Wanted { go_type: Some("string"), ..wanted };
                return if fits { timely(scalar, value) } else { Err(self.mismatch(value, inner)) };
            }
            Scalar::Bytes if value.is_array() => return self.bytes(wanted, value),
            Scalar::String | Scalar::Bytes => value.is_string(),
        };
        if !fits {
            return Err(self.mismatch(value, wanted));
        }
        if scalar == Scalar::Bytes
            && let Some(given) = value.as_str()
        {
            *value = text::base64(given).map_err(Error::Text)?.into();
        }
        Ok(())
    }

    /// Bytes may also be a list of numbers.
    fn bytes(&self, wanted: Wanted, value: &mut Value) -> Result<(), Error> {
        let items = value.as_array().map_or(&[][..], Vec::as_slice);
        let mut bytes = Vec::with_capacity(items.len());
        for item in items {
            let byte = if item.is_null() { Some(0) } else { item.as_u64() };
            match byte.and_then(|byte| u8::try_from(byte).ok()) {
                Some(byte) => bytes.push(byte),
                None => {
                    return Err(Error::Type {
                        found: found_number(item),
                        owner: go_name(wanted.owner),
                        path: self.names.join("."),
                        wanted: "uint8".into(),
                    });
                }
            }
        }
        *value = text::encode(&bytes).into();
        Ok(())
    }
}

/// Whether the Go type reads itself: its error is the last thing that its decoder does.
fn ends_decoder(shape: Shape) -> bool {
    let own = [
        Scalar::Quantity,
        Scalar::Time,
        Scalar::MicroTime,
        Scalar::Duration,
        Scalar::IntOrString,
        Scalar::Json,
    ];
    matches!(shape, Shape::Scalar(scalar) if own.contains(&scalar))
}

/// The JSON type of a value that is no integer of the wanted size; a number is told with its text.
fn found_number(value: &Value) -> String {
    match value {
        Value::Number(number) => format!("number {number}"),
        other => json_type(other).to_owned(),
    }
}

fn wrong_value(found: String, wanted: &str) -> Error {
    Error::Value { found, wanted: wanted.to_owned() }
}

fn int_or_string(value: &Value) -> Result<(), Error> {
    let integer = value.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
    if integer || value.is_string() {
        return Ok(());
    }
    Err(wrong_value(found_number(value), "int32"))
}

/// Quantities may be numbers; they are kept as upstream does.
fn quantity(value: &mut Value) -> Result<(), Error> {
    let text = match &*value {
        Value::String(text) => text.trim().to_owned(),
        // Upstream parses whatever JSON stands there.
        other => other.to_string(),
    };
    *value = Quantity::kept_text(&text)?.into();
    Ok(())
}

/// Times and durations; they are kept as Go writes them. The zero time is null.
fn timely(scalar: Scalar, value: &mut Value) -> Result<(), Error> {
    let Some(given) = value.as_str() else { return Ok(()) };
    *value = match scalar {
        Scalar::Duration => {
            let nanos = crate::duration::parse(given).map_err(Error::Text)?;
            crate::duration::print(nanos).into()
        }
        _ => text::time(given, scalar == Scalar::MicroTime).map_err(Error::Text)?.into(),
    };
    Ok(())
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
    // An empty list of managed fields is a wish to forget them all, which the server reads.
    if field.json_name == "managedFields" {
        return false;
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
