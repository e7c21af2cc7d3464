//! Optional values.
//!
//! upstream: vendor/github.com/google/cel-go/cel/library.go

use super::{Entry, no_overload};
use crate::value::{EvalError, Value};

/// The functions. `or` and `orValue` are parts of the plan.
pub const FUNCTIONS: &[Entry] = &[
    ("optional.of", |_, args| match args {
        [value] => Ok(Value::some(value.clone())),
        _ => no_overload(),
    }),
    ("optional.ofNonZeroValue", |_, args| match args {
        [value] if is_zero(value) => Ok(Value::Optional(None)),
        [value] => Ok(Value::some(value.clone())),
        _ => no_overload(),
    }),
    ("optional.none", |_, _| Ok(Value::Optional(None))),
    ("value", |_, args| match args {
        [Value::Optional(Some(inner))] => Ok((**inner).clone()),
        [Value::Optional(None)] => Err(EvalError::new("optional.none() dereference")),
        _ => no_overload(),
    }),
    ("hasValue", |_, args| match args {
        [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
        _ => no_overload(),
    }),
    ("first", |_, args| match args {
        [Value::List(list)] => {
            Ok(list.get(0).transpose()?.map_or(Value::Optional(None), Value::some))
        }
        _ => no_overload(),
    }),
    ("last", |_, args| match args {
        [Value::List(list)] => {
            let last = list.len().checked_sub(1).and_then(|last| list.get(last));
            Ok(last.transpose()?.map_or(Value::Optional(None), Value::some))
        }
        _ => no_overload(),
    }),
    ("optional.unwrap", |_, args| unwrap(args)),
    ("unwrapOpt", |_, args| unwrap(args)),
];

fn unwrap<'a>(args: &[Value<'a>]) -> crate::value::Outcome<'a> {
    let [Value::List(list)] = args else { return no_overload() };
    let mut out = Vec::new();
    for item in list.iter() {
        match item? {
            Value::Optional(Some(inner)) => out.push((*inner).clone()),
            Value::Optional(None) => {}
            other => return Err(EvalError::new(format!("value {other:?} is not optional"))),
        }
    }
    Ok(Value::list(out))
}

/// Whether a value is the empty one of its type.
fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => {
            true
        }
        Value::Double(number) => *number == 0.0,
        Value::String(text) => text.as_str().is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Optional(inner) => inner.is_none(),
        Value::Timestamp(moment) => moment.seconds == -62_135_596_800 && moment.nanos == 0,
        _ => false,
    }
}
