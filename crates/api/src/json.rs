//! Strict JSON decoding: duplicate keys are found, depth is limited, numbers are Go's.
//!
//! upstream: sigs.k8s.io/json, staging/src/k8s.io/apimachinery/pkg/runtime/serializer/json

mod syntax;
#[cfg(test)]
mod tests;
mod write;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

pub use write::write;

/// Deepest nesting of a body. serde_json itself stops at 128, which every real object is far below.
pub const DEPTH_MAX: usize = 128;
/// Bytes of paths that are kept to tell in which order fields came.
pub const ORDER_BYTES_MAX: usize = 1 << 20;
/// Duplicate fields that are reported; more are only counted away.
const DUPLICATES_MAX: usize = 100;

/// A decoded body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The tree; of a repeated key the last value counts.
    pub value: Value,
    /// The paths of repeated keys, such as `spec.containers[0].name`, in the order found.
    pub duplicates: Vec<String>,
}

/// A body that is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Decodes one JSON document.
///
/// # Errors
/// When the bytes are not one JSON value, or it is nested deeper than [`DEPTH_MAX`]. The text is
/// Go's.
pub fn decode(bytes: &[u8]) -> Result<Decoded, Error> {
    let found = RefCell::new(Found::default());
    let mut text = as_text(bytes);
    let read = |text: &str| {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = Tree { found: &found }.deserialize(&mut deserializer)?;
        deserializer.end().map(|()| value)
    };
    let mut value = read(&text);
    if value.is_err()
        && let Some(whole) = syntax::without_lone_surrogates(&text)
    {
        found.take();
        text = whole.into();
        value = read(&text);
    }
    let value = value
        .map_err(|error| Error(syntax::explain(bytes).unwrap_or_else(|| error.to_string())))?;
    Ok(Decoded { value, duplicates: found.into_inner().duplicates })
}

/// Go puts a replacement in the place of what is not UTF-8. That there is nothing to replace is seen
/// much faster.
fn as_text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// The paths of all keys in the order in which they stand in a document, as far as
/// [`ORDER_BYTES_MAX`] reaches.
pub fn paths(bytes: &[u8]) -> Vec<String> {
    let found = RefCell::new(Found { order: Some((Vec::new(), 0)), ..Found::default() });
    let text = as_text(bytes);
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    // What comes before an error has an order, too.
    drop(Tree { found: &found }.deserialize(&mut deserializer));
    found.into_inner().order.map_or_else(Vec::new, |(paths, _)| paths)
}

/// The text of the number at a path such as `spec.containers[0].ports`, as it stands in a document. A key with a dot is
/// not found.
pub fn number_at<'a>(bytes: &'a [u8], path: &str) -> Option<&'a str> {
    let mut raw: &RawValue = serde_json::from_slice(bytes).ok()?;
    for step in path.split(['.', '[']) {
        raw = match step.strip_suffix(']') {
            Some(index) => {
                let items: Vec<&RawValue> = serde_json::from_str(raw.get()).ok()?;
                *items.get(index.parse::<usize>().ok()?)?
            }
            None => {
                let fields: HashMap<Cow<'_, str>, &RawValue> =
                    serde_json::from_str(raw.get()).ok()?;
                *fields.get(step)?
            }
        };
    }
    let text = raw.get();
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then_some(text)
}

/// Where the decoder is, and what it has seen.
#[derive(Default)]
struct Found {
    path: String,
    duplicates: Vec<String>,
    /// The paths so far and their length, where they are asked for.
    order: Option<(Vec<String>, usize)>,
}

/// Builds a tree and notes duplicate keys.
#[derive(Clone, Copy)]
struct Tree<'a> {
    found: &'a RefCell<Found>,
}

impl Tree<'_> {
    /// Goes one step down the path; gives the length to come back to.
    fn enter(self, step: fmt::Arguments<'_>) -> usize {
        use fmt::Write as _;
        let path = &mut self.found.borrow_mut().path;
        let length = path.len();
        path.write_fmt(step).expect("writing to a string");
        length
    }

    fn enter_key(self, key: &str) -> usize {
        let top = self.found.borrow().path.is_empty();
        let dot = if top { "" } else { "." };
        let length = self.enter(format_args!("{dot}{key}"));
        let found = &mut *self.found.borrow_mut();
        if let Some((paths, bytes)) = &mut found.order
            && *bytes < ORDER_BYTES_MAX
        {
            *bytes += found.path.len();
            paths.push(found.path.clone());
        }
        length
    }

    fn leave(self, length: usize) {
        self.found.borrow_mut().path.truncate(length);
    }

    fn note_duplicate(self) {
        let found = &mut *self.found.borrow_mut();
        if found.duplicates.len() < DUPLICATES_MAX && !found.duplicates.contains(&found.path) {
            found.duplicates.push(found.path.clone());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        // Go reads integers into int64; what does not fit becomes a float.
        Ok(i64::try_from(value).map_or_else(|_| float(value as f64), Value::from))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // The reader gives an integer of -0 as a float.
        Ok(if value == 0.0 { 0.into() } else { float(value) })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let length = self.enter(format_args!("[{}]", list.len()));
            let item = items.next_element_seed(self)?;
            self.leave(length);
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let length = self.enter_key(&key);
            let value = entries.next_value_seed(self)?;
            if map.insert(key, value).is_some() {
                self.note_duplicate();
            }
            self.leave(length);
        }
        Ok(Value::Object(map))
    }
}

/// A float as JSON; JSON has no infinities, and the parser gives none.
fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
