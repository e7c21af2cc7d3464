//! Values. What comes from objects is read in place.

use std::any::Any;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::declared::{Declared, ListKind};
use crate::effort::weight;
use crate::time::Moment;
use crate::types::Type;

/// Largest value that messages show, in units of effort.
const SHOWN_MAX: u64 = 10_000;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvalError {
    /// It went wrong; `&&` and `||` may still know the answer.
    Failed(String),
    /// It costs more than it may.
    CostExceeded,
}

impl EvalError {
    /// Something that went wrong.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub(crate) fn no_such_overload() -> Self {
        Self::new("no such overload")
    }
}

impl std::fmt::Display for EvalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(message) => f.write_str(message),
            Self::CostExceeded => f.write_str("operation cancelled: actual cost limit exceeded"),
        }
    }
}

impl std::error::Error for EvalError {}

/// A value or why there is none.
pub type Outcome<'a> = Result<Value<'a>, EvalError>;

/// A value that a library makes.
pub trait Opaque: Debug + Send + Sync {
    /// Its type.
    fn type_of(&self) -> Type;
    /// Whether it equals another one.
    fn equals(&self, other: &dyn Opaque) -> bool;
    /// How large it is, for costs; nothing has no size.
    fn size(&self) -> Option<u64> {
        None
    }
    /// How many bytes a function of it goes over.
    fn bytes(&self) -> usize {
        0
    }
    /// For the functions that know it.
    fn as_any(&self) -> &dyn Any;
}

/// Fields whose values are found when they are asked for.
pub trait Fields<'a> {
    /// The value of a field.
    fn get(&self, name: &str) -> Option<Outcome<'a>>;
    /// Whether there is one.
    fn has(&self, name: &str) -> bool;
    /// The name of its type.
    fn type_name(&self) -> &str;
}

/// A text.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Of an object.
    Borrowed(&'a str),
    /// Made.
    Shared(Arc<str>),
}

impl Text<'_> {
    /// What it says.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

/// A value.
#[derive(Clone)]
pub enum Value<'a> {
    /// null
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is not negative.
    Uint(u64),
    /// A number.
    Double(f64),
    /// A text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A length of time in nanoseconds.
    Duration(i64),
    /// A moment.
    Timestamp(Moment),
    /// A list.
    List(List<'a>),
    /// A map or struct.
    Map(Map<'a>),
    /// A type.
    Type(Type),
    /// An optional.
    Optional(Option<Arc<Value<'a>>>),
    /// A value of a library.
    Opaque(Arc<dyn Opaque>),
    /// Data without declaration.
    Hidden(&'a Json),
}

/// A list.
#[derive(Clone)]
pub struct List<'a> {
    /// Its elements.
    pub items: Items<'a>,
    /// How it is compared.
    pub kind: &'a ListKind,
}

/// The elements of a list.
#[derive(Clone)]
pub enum Items<'a> {
    /// Made.
    Made(Arc<Vec<Value<'a>>>),
    /// Constant.
    Constant(Arc<Vec<Value<'static>>>),
    /// Of an object.
    Json(&'a [Json], Option<&'a Declared>),
}

/// A map or struct.
#[derive(Clone)]
pub enum Map<'a> {
    /// Made.
    Made(Arc<BTreeMap<Key, Value<'a>>>),
    /// Constant.
    Constant(Arc<BTreeMap<Key, Value<'static>>>),
    /// Of an object.
    Json(&'a serde_json::Map<String, Json>, Option<&'a Declared>),
    /// A struct that an expression made.
    Struct(Arc<Struct<'a>>),
    /// Found when asked for.
    Lazy(Arc<dyn Fields<'a> + Send + Sync + 'a>),
}

/// A struct that an expression made.
#[derive(Clone)]
pub struct Struct<'a> {
    /// Its type.
    pub name: Arc<str>,
    /// The fields that were given.
    pub fields: BTreeMap<Arc<str>, Value<'a>>,
}

/// The key of a map. Numbers that are equal are the same key.
#[derive(Clone, Debug)]
pub enum Key {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is not negative.
    Uint(u64),
    /// A text.
    String(Arc<str>),
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        let number = |key: &Self| match key {
            Self::Int(number) => Some(i128::from(*number)),
            Self::Uint(number) => Some(i128::from(*number)),
            _ => None,
        };
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Bool(_), _) | (_, Self::String(_)) => Ordering::Less,
            (_, Self::Bool(_)) | (Self::String(_), _) => Ordering::Greater,
            _ => number(self).cmp(&number(other)),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

/// Where a list has no kind of its own.
pub(crate) const ATOMIC: &ListKind = &ListKind::Atomic;

impl<'a> Value<'a> {
    /// A text that was made.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    /// A text of an object.
    pub fn borrowed(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }

    /// A list that was made.
    pub fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List { items: Items::Made(Arc::new(items)), kind: ATOMIC })
    }

    /// A map that was made.
    pub fn map(entries: BTreeMap<Key, Value<'a>>) -> Self {
        Self::Map(Map::Made(Arc::new(entries)))
    }

    /// An optional that holds a value.
    pub fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// A value of a library.
    pub fn opaque(value: impl Opaque + 'static) -> Self {
        Self::Opaque(Arc::new(value))
    }

    /// The value of a library of this Rust type.
    pub fn downcast<T: 'static>(&self) -> Option<&T> {
        match self {
            Self::Opaque(opaque) => opaque.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The truth, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// Its type when it is evaluated: lists and maps are of anything.
    pub fn type_of(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Duration(_) => Type::Duration,
            Self::Timestamp(_) => Type::Timestamp,
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(Map::Struct(made)) => Type::Struct(made.name.clone()),
            Self::Map(Map::Lazy(fields)) => Type::object(fields.type_name()),
            Self::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Self::Type(_) => Type::Type(None),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Opaque(opaque) => opaque.type_of(),
            Self::Hidden(_) => Type::Dyn,
        }
    }

    /// The size that costs are reckoned with. upstream: cel-go/interpreter/runtimecost.go actualSize
    pub fn size(&self) -> u64 {
        self.sized().unwrap_or(match self {
            Self::Optional(Some(inner)) => inner.size(),
            _ => 1,
        })
    }

    /// How many elements, characters or bytes it has, if it has such.
    pub(crate) fn sized(&self) -> Option<u64> {
        Some(match self {
            Self::String(text) => text.as_str().chars().count() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len()? as u64,
            Self::Opaque(opaque) => opaque.size()?,
            _ => return None,
        })
    }

    /// As messages show it: what is large only by its type.
    pub(crate) fn shown(&self) -> String {
        match weight(self, SHOWN_MAX) {
            Ok(_) => format!("{self:?}"),
            Err(_) => self.type_of().to_string(),
        }
    }

    /// As data, where it can be.
    pub fn to_json(&self) -> Result<Json, EvalError> {
        let wrong =
            || EvalError::new(format!("type conversion error from '{}' to JSON", self.type_of()));
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(truth) => Json::Bool(*truth),
            Self::Int(number) => Json::from(*number),
            Self::Uint(number) => Json::from(*number),
            Self::Double(number) => {
                serde_json::Number::from_f64(*number).map(Json::Number).ok_or_else(wrong)?
            }
            Self::String(text) => Json::from(text.as_str()),
            Self::Bytes(bytes) => {
                use base64::Engine as _;
                Json::from(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            Self::Duration(nanos) => Json::from(crate::time::duration_text(*nanos)),
            Self::Timestamp(moment) => Json::from(crate::time::timestamp_text(*moment)),
            Self::List(list) => match &list.items {
                Items::Json(items, _) => Json::Array(items.to_vec()),
                Items::Made(items) => {
                    Json::Array(items.iter().map(Value::to_json).collect::<Result<_, _>>()?)
                }
                Items::Constant(items) => {
                    Json::Array(items.iter().map(Value::to_json).collect::<Result<_, _>>()?)
                }
            },
            Self::Map(Map::Json(fields, _)) => Json::Object((*fields).clone()),
            Self::Map(map @ (Map::Made(_) | Map::Constant(_))) => {
                let mut out = serde_json::Map::new();
                for key in map.keys() {
                    let value = map.get(&key).ok_or_else(wrong)??;
                    let key = key.as_str().ok_or_else(wrong)?;
                    out.insert(key.to_owned(), value.to_json()?);
                }
                Json::Object(out)
            }
            Self::Map(Map::Struct(made)) => {
                let mut out = serde_json::Map::new();
                for (key, value) in &made.fields {
                    out.insert(key.to_string(), value.to_json()?);
                }
                Json::Object(out)
            }
            Self::Hidden(json) => (*json).clone(),
            Self::Optional(Some(inner)) => inner.to_json()?,
            Self::Optional(None) => Json::Null,
            Self::Map(Map::Lazy(_)) | Self::Type(_) | Self::Opaque(_) => return Err(wrong()),
        })
    }
}

/// Short, without what it holds.
impl Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Optional(Some(inner)) => write!(f, "optional({inner:?})"),
            Self::Optional(None) => f.write_str("optional.none()"),
            Self::Duration(nanos) => write!(f, "duration({})", crate::time::duration_text(*nanos)),
            Self::Timestamp(moment) => {
                write!(f, "timestamp({})", crate::time::timestamp_text(*moment))
            }
            Self::Uint(number) => write!(f, "{number}u"),
            Self::Double(number) => write!(f, "{number:?}"),
            Self::Bytes(bytes) => write!(f, "b{bytes:?}"),
            Self::Type(of) => write!(f, "{}", of.name()),
            Self::Opaque(opaque) => write!(f, "{opaque:?}"),
            Self::List(list) => {
                let mut out = f.debug_list();
                for item in list.iter() {
                    match item {
                        Ok(item) => out.entry(&item),
                        Err(error) => out.entry(&error.to_string()),
                    };
                }
                out.finish()
            }
            Self::Map(map @ (Map::Made(_) | Map::Constant(_))) => {
                let mut out = f.debug_map();
                for key in map.keys() {
                    if let Some(Ok(value)) = map.get(&key) {
                        out.entry(&key, &value);
                    }
                }
                out.finish()
            }
            other => match other.to_json() {
                Ok(json) => write!(f, "{json}"),
                Err(_) => write!(f, "{}", other.type_of()),
            },
        }
    }
}

impl Value<'static> {
    /// A constant where values of an evaluation are wanted.
    pub(crate) fn shrink<'a>(&self) -> Value<'a> {
        match self {
            Self::Null | Self::Map(Map::Lazy(_)) => Value::Null,
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Int(number) => Value::Int(*number),
            Self::Uint(number) => Value::Uint(*number),
            Self::Double(number) => Value::Double(*number),
            Self::String(text) => Value::String(text.clone()),
            Self::Bytes(bytes) => Value::Bytes(bytes.clone()),
            Self::Duration(nanos) => Value::Duration(*nanos),
            Self::Timestamp(moment) => Value::Timestamp(*moment),
            Self::List(list) => Value::List(List {
                items: match &list.items {
                    Items::Made(items) | Items::Constant(items) => Items::Constant(items.clone()),
                    Items::Json(items, declared) => Items::Json(items, *declared),
                },
                kind: list.kind,
            }),
            Self::Map(Map::Made(entries) | Map::Constant(entries)) => {
                Value::Map(Map::Constant(entries.clone()))
            }
            Self::Map(Map::Json(fields, declared)) => Value::Map(Map::Json(fields, *declared)),
            Self::Map(Map::Struct(made)) => Value::Map(Map::Struct(Arc::new(Struct {
                name: made.name.clone(),
                fields: made
                    .fields
                    .iter()
                    .map(|(name, value)| (name.clone(), value.shrink()))
                    .collect(),
            }))),
            Self::Type(of) => Value::Type(of.clone()),
            Self::Optional(inner) => {
                Value::Optional(inner.as_ref().map(|inner| Arc::new(inner.shrink())))
            }
            Self::Opaque(opaque) => Value::Opaque(opaque.clone()),
            Self::Hidden(json) => Value::Hidden(json),
        }
    }
}

impl Key {
    /// The key that a value is, if it can be one.
    pub fn of(value: &Value<'_>) -> Option<Self> {
        Some(match value {
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Int(number) => Self::Int(*number),
            Value::Uint(number) => Self::Uint(*number),
            Value::Double(number) if number.fract() == 0.0 => {
                if *number >= 0.0 && *number < 18_446_744_073_709_551_616.0 {
                    Self::Uint(*number as u64)
                } else if *number < 0.0 && *number >= -9_223_372_036_854_775_808.0 {
                    Self::Int(*number as i64)
                } else {
                    return None;
                }
            }
            Value::String(text) => Self::String(text.as_str().into()),
            _ => return None,
        })
    }

    /// As a value.
    pub fn value<'a>(&self) -> Value<'a> {
        match self {
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Int(number) => Value::Int(*number),
            Self::Uint(number) => Value::Uint(*number),
            Self::String(text) => Value::text(text.clone()),
        }
    }
}

/// Orders numbers of all kinds; nothing is not a number.
pub(crate) fn compare_numbers(one: &Value<'_>, two: &Value<'_>) -> Option<Ordering> {
    match (one, two) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Uint(a), Value::Uint(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Uint(a), Value::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Value::Int(a), Value::Double(b)) => compare_whole(i128::from(*a), *b),
        (Value::Uint(a), Value::Double(b)) => compare_whole(i128::from(*a), *b),
        (Value::Double(a), Value::Int(b)) => {
            compare_whole(i128::from(*b), *a).map(Ordering::reverse)
        }
        (Value::Double(a), Value::Uint(b)) => {
            compare_whole(i128::from(*b), *a).map(Ordering::reverse)
        }
        _ => None,
    }
}

/// As exactly as the reference: a whole number becomes a double where it is in range.
fn compare_whole(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double > 18_446_744_073_709_551_616.0 {
        return Some(Ordering::Less);
    }
    if double < -9_223_372_036_854_775_808.0 {
        return Some(Ordering::Greater);
    }
    (whole as f64).partial_cmp(&double)
}
