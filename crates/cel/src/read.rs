//! Reads data of objects as values, by its declaration or by what it looks like.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/common/valuesunstructured.go

use base64::Engine as _;
use serde_json::Value as Json;

use crate::declared::{Declared, Shape};
use crate::escape;
use crate::time;
use crate::value::{ATOMIC, EvalError, Items, Key, List, Map, Outcome, Value};

impl<'a> Value<'a> {
    /// Data without declaration.
    pub fn dynamic(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(truth) => Self::Bool(*truth),
            Json::Number(number) => match number.as_i64() {
                Some(whole) => Self::Int(whole),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::borrowed(text),
            Json::Array(items) => {
                Self::List(List { items: Items::Json(items, None), kind: ATOMIC })
            }
            Json::Object(fields) => Self::Map(Map::Json(fields, None)),
        }
    }

    /// Data of this declaration.
    pub fn declared(json: &'a Json, declared: &'a Declared) -> Outcome<'a> {
        let wrong = |wanted: &str| {
            Err(EvalError::new(format!("invalid data, expected {wanted}, got {}", go_type(json))))
        };
        if json.is_null() && !matches!(declared.shape, Shape::Dyn) {
            return if declared.nullable {
                Ok(Self::Null)
            } else {
                Err(EvalError::new("invalid data, got null for schema with nullable=false"))
            };
        }
        Ok(match (&declared.shape, json) {
            (Shape::Dyn | Shape::Typed(_), _) => Self::dynamic(json),
            (Shape::Hidden, _) => Self::Hidden(json),
            (Shape::IntOrString, Json::String(text)) => Self::borrowed(text),
            (Shape::IntOrString, _) => match json.as_i64() {
                Some(whole) => Self::Int(whole),
                None => {
                    let message = "invalid data, expected XIntOrString value to be either a string or integer";
                    return Err(EvalError::new(message));
                }
            },
            (Shape::Bool, Json::Bool(truth)) => Self::Bool(*truth),
            (Shape::Bool, _) => return wrong("bool"),
            (Shape::Int, _) => match json.as_i64() {
                Some(whole) => Self::Int(whole),
                None => return wrong("int"),
            },
            (Shape::Double, _) => match json.as_f64() {
                Some(number) => Self::Double(number),
                None => return wrong("float"),
            },
            (Shape::String, Json::String(text)) => Self::borrowed(text),
            (Shape::Bytes, Json::String(text)) => {
                match base64::engine::general_purpose::STANDARD.decode(text) {
                    Ok(bytes) => Self::Bytes(bytes.into()),
                    Err(error) => {
                        return Err(EvalError::new(format!(
                            "Invalid byte formatted string {text}: {error}"
                        )));
                    }
                }
            }
            (Shape::Duration, Json::String(text)) => match time::parse_open_duration(text) {
                Some(nanos) => Self::Duration(nanos),
                None => return Err(EvalError::new(format!("Invalid duration {text}"))),
            },
            (Shape::Date, Json::String(text)) => match time::parse_date(text) {
                Some(moment) => Self::Timestamp(moment),
                None => {
                    return Err(EvalError::new(format!("Invalid date formatted string {text}")));
                }
            },
            (Shape::Timestamp, Json::String(text)) => match time::parse_timestamp(text) {
                Some(moment) => Self::Timestamp(moment),
                None => {
                    return Err(EvalError::new(format!(
                        "Invalid date-time formatted string {text}"
                    )));
                }
            },
            (
                Shape::String | Shape::Bytes | Shape::Duration | Shape::Date | Shape::Timestamp,
                _,
            ) => {
                return wrong("string");
            }
            (Shape::List(items, kind), Json::Array(elements)) => {
                Self::List(List { items: Items::Json(elements, Some(items)), kind })
            }
            (Shape::List(..), _) => {
                return Err(EvalError::new(
                    "invalid data, expected an array for the provided schema with type=array",
                ));
            }
            (Shape::Map(_) | Shape::Object(_), Json::Object(fields)) => {
                Self::Map(Map::Json(fields, Some(declared)))
            }
            (Shape::Map(_) | Shape::Object(_), _) => {
                return Err(EvalError::new(
                    "invalid data, expected a map for the provided schema with type=object",
                ));
            }
        })
    }

    pub(crate) fn read(json: &'a Json, declared: Option<&'a Declared>) -> Outcome<'a> {
        match declared {
            Some(declared) => Self::declared(json, declared),
            None => Ok(Self::dynamic(json)),
        }
    }
}

fn go_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}

impl<'a> List<'a> {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        match &self.items {
            Items::Made(items) => items.len(),
            Items::Constant(items) => items.len(),
            Items::Json(items, _) => items.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One element.
    pub fn get(&self, index: usize) -> Option<Outcome<'a>> {
        match &self.items {
            Items::Made(items) => items.get(index).cloned().map(Ok),
            Items::Constant(items) => items.get(index).map(|item| Ok(item.shrink())),
            Items::Json(items, declared) => {
                items.get(index).map(|item| Value::read(item, *declared))
            }
        }
    }

    /// All elements.
    pub fn iter(&self) -> impl Iterator<Item = Outcome<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// All elements, or what is wrong with one.
    pub fn values(&self) -> Result<Vec<Value<'a>>, EvalError> {
        self.iter().collect()
    }
}

impl<'a> Map<'a> {
    /// How many entries it has; what is found when asked for has no number.
    pub fn len(&self) -> Option<usize> {
        match self {
            Self::Made(entries) => Some(entries.len()),
            Self::Constant(entries) => Some(entries.len()),
            Self::Json(fields, _) => Some(fields.len()),
            Self::Struct(made) => Some(made.fields.len()),
            Self::Lazy(_) => None,
        }
    }

    /// Whether it is known to have none.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }

    /// The value of a key.
    pub fn get(&self, key: &Value<'_>) -> Option<Outcome<'a>> {
        match self {
            Self::Made(entries) => entries.get(&Key::of(key)?).cloned().map(Ok),
            Self::Constant(entries) => entries.get(&Key::of(key)?).map(|value| Ok(value.shrink())),
            Self::Json(fields, declared) => match key {
                Value::String(name) => json_field(fields, *declared, name.as_str()),
                _ if declared.is_some() => Some(Err(EvalError::no_such_overload())),
                _ => None,
            },
            Self::Struct(made) => made.fields.get(key.as_str()?).cloned().map(Ok),
            Self::Lazy(fields) => fields.get(key.as_str()?),
        }
    }

    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<Outcome<'a>> {
        match self {
            Self::Made(entries) => entries.get(&Key::String(name.into())).cloned().map(Ok),
            Self::Constant(entries) => {
                entries.get(&Key::String(name.into())).map(|value| Ok(value.shrink()))
            }
            Self::Json(fields, declared) => json_field(fields, *declared, name),
            Self::Struct(made) => made.fields.get(name).cloned().map(Ok),
            Self::Lazy(fields) => fields.get(name),
        }
    }

    /// Whether a field is there, without finding its value.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Lazy(fields) => fields.has(name),
            _ => self.field(name).is_some(),
        }
    }

    /// All keys, in their order.
    pub fn keys(&self) -> Vec<Value<'a>> {
        match self {
            Self::Made(entries) => entries.keys().map(Key::value).collect(),
            Self::Constant(entries) => entries.keys().map(Key::value).collect(),
            Self::Json(fields, None) => fields.keys().map(|name| Value::borrowed(name)).collect(),
            Self::Json(fields, Some(declared)) => match &declared.shape {
                Shape::Object(object) => fields
                    .keys()
                    .filter(|name| object.fields.contains_key(*name))
                    .map(|name| match escape::escape(name) {
                        Some(escaped) => Value::text(&*escaped),
                        None => Value::borrowed(name),
                    })
                    .collect(),
                _ => fields.keys().map(|name| Value::borrowed(name)).collect(),
            },
            Self::Struct(made) => {
                made.fields.keys().map(|name| Value::text(name.clone())).collect()
            }
            Self::Lazy(_) => Vec::new(),
        }
    }
}

fn json_field<'a>(
    fields: &'a serde_json::Map<String, Json>,
    declared: Option<&'a Declared>,
    name: &str,
) -> Option<Outcome<'a>> {
    match declared.map(|declared| &declared.shape) {
        None => fields.get(name).map(|json| Ok(Value::dynamic(json))),
        Some(Shape::Object(object)) => {
            let plain = escape::unescape(name)?;
            // A field that may be null and is null counts as one that is not there.
            let json = fields.get(&*plain).filter(|json| !json.is_null())?;
            object.fields.get(&*plain).map(|declared| Value::declared(json, declared))
        }
        Some(Shape::Map(values)) => fields.get(name).map(|json| Value::declared(json, values)),
        Some(_) => fields.get(name).map(|json| Ok(Value::dynamic(json))),
    }
}
