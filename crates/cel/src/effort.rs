//! What an evaluation makes the machine do and keep.
//!
//! Costs are the reference's. They leave out what its evaluations are ended for by the deadline of a request: loops that
//! cost nothing, lists that are added without being copied, values that are compared to their depths. Here effort bounds
//! it: one unit is about what it takes to visit one node of an expression or of a value, or to keep eight bytes.

use crate::declared::ListKind;
use crate::value::{EvalError, Items, List, Map, Value};

/// Units that everybody has for nothing, so that usual evaluations cost what they cost in the reference.
pub const FREE: u64 = 1_000_000;
/// Units beyond that for one of cost.
pub const PER_COST: u64 = 20;
/// Longest text that a function makes whose cost does not tell it, in bytes.
pub const TEXT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Deepest value: dropping and comparing it goes as deep.
const VALUE_DEPTH_MAX: u16 = 500;
/// Bytes of a text that are gone over in one unit.
const TEXT_BYTES: usize = 64;
/// Units for an element of a list or map that is made.
const ELEMENT: u64 = 4;
/// Units for reading a pattern, and a large one.
const PATTERN: [u64; 2] = [1_000, 200_000];

/// What cost covers an effort.
pub fn cost(effort: u64) -> u64 {
    effort.saturating_sub(FREE) / PER_COST
}

/// Reading a pattern.
pub fn pattern(large: bool) -> u64 {
    PATTERN[usize::from(large)]
}

/// What a value takes that was made.
pub fn made(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => text.as_str().len() as u64 / 8,
        Value::Bytes(bytes) => bytes.len() as u64 / 8,
        Value::List(list) => (list.len() as u64).saturating_mul(ELEMENT),
        Value::Map(map) => (map.len().unwrap_or(0) as u64).saturating_mul(ELEMENT),
        _ => 0,
    }
}

/// What a call takes besides what it makes; an error when that is more than `most`.
pub fn call(name: &str, args: &[Value<'_>], most: u64) -> Result<u64, EvalError> {
    let texts: u64 = args.iter().map(shallow).sum();
    let deep = match (name, args) {
        ("_+_", [Value::List(one), Value::List(two)]) => added(one, two),
        ("cel.@mapInsert", [Value::Map(map), ..]) => match map {
            Map::Made(entries) if std::sync::Arc::strong_count(entries) == 1 => ELEMENT,
            other => (other.len().unwrap_or(0) as u64).saturating_mul(ELEMENT),
        },
        ("@in", [element, Value::List(list)])
        | ("indexOf" | "lastIndexOf", [Value::List(list), element]) => {
            let found = if is_deep(element) { weight(element, most)? } else { 0 };
            let searched = if name == "@in" { 0 } else { of_list(list, most)? };
            found.saturating_mul(list.len() as u64).saturating_add(searched)
        }
        ("isSorted" | "sum" | "min" | "max", [Value::List(list)]) => of_list(list, most)?,
        ("distinct" | "sort", [Value::List(list)]) => pairs(list, list, most)?,
        ("@sortByAssociatedKeys", [Value::List(_), Value::List(keys)]) => pairs(keys, keys, most)?,
        (
            "sets.contains" | "sets.equivalent" | "sets.intersects",
            [Value::List(one), Value::List(two)],
        ) => pairs(one, two, most)?.saturating_add(pairs(two, one, most)?),
        // What is in it is written out.
        ("format", [_, Value::List(list)]) => of_list(list, most / 8)?.saturating_mul(8),
        _ => 0,
    };
    Ok(texts.saturating_add(deep))
}

/// Copying the elements of lists; those of one that nobody else has stay where they are.
fn added(one: &List<'_>, two: &List<'_>) -> u64 {
    let (first, second) = (one.len() as u64, two.len() as u64);
    let copied = match &one.items {
        Items::Made(items) if std::sync::Arc::strong_count(items) == 1 => 0,
        _ => first,
    };
    let compared = if *one.kind == ListKind::Set { first.saturating_mul(second) } else { 0 };
    copied.saturating_add(second).saturating_mul(ELEMENT).saturating_add(compared)
}

/// Comparing each element with each other one, where costs take elements for numbers.
fn pairs(one: &List<'_>, two: &List<'_>, most: u64) -> Result<u64, EvalError> {
    let all = of_list(two, most)?;
    let simple = all <= (two.len() as u64).saturating_mul(2);
    Ok(if simple { all } else { all.saturating_mul(one.len() as u64) })
}

/// Going over a text or bytes.
fn shallow(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.as_str().len() / TEXT_BYTES) as u64,
        Value::Bytes(bytes) => (bytes.len() / TEXT_BYTES) as u64,
        Value::Opaque(opaque) => (opaque.bytes() / TEXT_BYTES) as u64,
        _ => 0,
    }
}

/// Whether a value may hold many others.
pub fn is_deep(value: &Value<'_>) -> bool {
    matches!(value, Value::List(_) | Value::Map(_) | Value::Optional(Some(_)) | Value::Hidden(_))
}

fn of_list(list: &List<'_>, most: u64) -> Result<u64, EvalError> {
    let mut scale = Scale { most, sum: 0 };
    scale.list(list, 0)?;
    Ok(scale.sum)
}

/// Going over all of a value; an error when that is more than `most`, or goes too deep.
pub fn weight(value: &Value<'_>, most: u64) -> Result<u64, EvalError> {
    let mut scale = Scale { most, sum: 0 };
    scale.value(value, 0)?;
    Ok(scale.sum)
}

/// Weighs values. One that is in another one many times counts each time.
struct Scale {
    most: u64,
    sum: u64,
}

type Weighed = Result<(), EvalError>;

impl Scale {
    fn put(&mut self, units: u64) -> Weighed {
        self.sum = self.sum.saturating_add(units);
        if self.sum > self.most { Err(EvalError::CostExceeded) } else { Ok(()) }
    }

    fn value(&mut self, value: &Value<'_>, depth: u16) -> Weighed {
        if depth > VALUE_DEPTH_MAX {
            return Err(EvalError::CostExceeded);
        }
        self.put(1 + shallow(value))?;
        match value {
            Value::List(list) => self.list(list, depth),
            Value::Map(Map::Made(entries)) => self.values(entries.values(), depth),
            Value::Map(Map::Constant(entries)) => self.values(entries.values(), depth),
            Value::Map(Map::Struct(made)) => self.values(made.fields.values(), depth),
            Value::Map(Map::Json(fields, _)) => self.all(fields.values()),
            Value::Optional(Some(inner)) => self.value(inner, depth + 1),
            Value::Hidden(json) => self.json(json),
            _ => Ok(()),
        }
    }

    fn list(&mut self, list: &List<'_>, depth: u16) -> Weighed {
        match &list.items {
            Items::Made(items) => self.values(items.iter(), depth),
            Items::Constant(items) => self.values(items.iter(), depth),
            Items::Json(items, _) => self.all(items.iter()),
        }
    }

    fn values<'v, 'a: 'v>(
        &mut self,
        mut values: impl Iterator<Item = &'v Value<'a>>,
        depth: u16,
    ) -> Weighed {
        values.try_for_each(|value| self.value(value, depth + 1))
    }

    fn all<'v>(&mut self, mut values: impl Iterator<Item = &'v serde_json::Value>) -> Weighed {
        values.try_for_each(|value| self.json(value))
    }

    /// Data is no deeper than what was read.
    fn json(&mut self, json: &serde_json::Value) -> Weighed {
        self.put(1)?;
        match json {
            serde_json::Value::String(text) => self.put((text.len() / TEXT_BYTES) as u64),
            serde_json::Value::Array(items) => self.all(items.iter()),
            serde_json::Value::Object(fields) => self.all(fields.values()),
            _ => Ok(()),
        }
    }
}
