//! Conversions between types, and the functions of texts that every environment has.
//!
//! upstream: vendor/github.com/google/cel-go/common/types

use longshore_api::pattern::Pattern;

use super::{Context, Entry, no_overload};
use crate::time::{self, Moment};
use crate::value::{EvalError, Outcome, Value};

/// The functions.
pub const FUNCTIONS: &[Entry] = &[
    ("bool", to_bool),
    ("bytes", to_bytes),
    ("double", to_double),
    ("duration", to_duration),
    ("dyn", |_, args| args.first().cloned().ok_or_else(EvalError::no_such_overload)),
    ("int", to_int),
    ("string", to_string),
    ("timestamp", to_timestamp),
    ("type", |_, args| match args {
        [value] => Ok(Value::Type(value.type_of())),
        _ => no_overload(),
    }),
    ("uint", to_uint),
    ("contains", |_, args| texts(args, |one, two| one.contains(two))),
    ("startsWith", |_, args| texts(args, |one, two| one.starts_with(two))),
    ("endsWith", |_, args| texts(args, |one, two| one.ends_with(two))),
    ("matches", matches),
];

fn texts<'a>(args: &[Value<'a>], holds: impl Fn(&str, &str) -> bool) -> Outcome<'a> {
    match args {
        [Value::String(one), Value::String(two)] => {
            Ok(Value::Bool(holds(one.as_str(), two.as_str())))
        }
        _ => no_overload(),
    }
}

fn matches<'a>(context: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text), Value::String(pattern)] = args else { return no_overload() };
    let own;
    let pattern = match context.pattern {
        Some(pattern) => pattern,
        None => {
            own = Pattern::new(pattern.as_str());
            &own
        }
    };
    pattern.matches(text.as_str()).map(Value::Bool).map_err(EvalError::new)
}

/// The value, or why it cannot be converted.
fn wrong<'a>(value: &Value<'_>, to: &str) -> Outcome<'a> {
    Err(EvalError::new(format!(
        "type conversion error from '{}' to '{to}'",
        value.type_of().name()
    )))
}

fn overflow(what: &str) -> EvalError {
    EvalError::new(format!("{what} overflow"))
}

fn to_bool<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [value] = args else { return no_overload() };
    match value {
        Value::Bool(_) => Ok(value.clone()),
        Value::String(text) => match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => wrong(value, "bool"),
        },
        _ => no_overload(),
    }
}

fn to_bytes<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ Value::Bytes(_)] => Ok(value.clone()),
        [Value::String(text)] => Ok(Value::Bytes(text.as_str().as_bytes().into())),
        _ => no_overload(),
    }
}

fn to_double<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ Value::Double(_)] => Ok(value.clone()),
        [Value::Int(number)] => Ok(Value::Double(*number as f64)),
        [Value::Uint(number)] => Ok(Value::Double(*number as f64)),
        [value @ Value::String(text)] => match text.as_str().parse::<f64>() {
            // A number that is too large is a mistake, the word for it is not.
            Ok(number)
                if number.is_infinite() && text.as_str().contains(|c: char| c.is_ascii_digit()) =>
            {
                wrong(value, "double")
            }
            // What is no number has no sign.
            Ok(number) if number.is_nan() && text.as_str().len() > 3 => wrong(value, "double"),
            Ok(number) => Ok(Value::Double(number)),
            Err(_) => wrong(value, "double"),
        },
        _ => no_overload(),
    }
}

fn to_duration<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ Value::Duration(_)] => Ok(value.clone()),
        [value @ Value::Int(_)] => wrong(value, "google.protobuf.Duration"),
        [value @ Value::String(text)] => match longshore_api::duration::parse(text.as_str()) {
            Ok(nanos) => Ok(Value::Duration(nanos)),
            Err(_) => wrong(value, "google.protobuf.Duration"),
        },
        _ => no_overload(),
    }
}

/// upstream: cel-go/common/types/overflow.go doubleToInt64Checked
fn to_int<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ Value::Int(_)] => Ok(value.clone()),
        [Value::Uint(number)] => {
            i64::try_from(*number).map(Value::Int).map_err(|_| overflow("integer"))
        }
        [Value::Double(number)] => {
            if number.is_finite()
                && *number > -9_223_372_036_854_775_808.0
                && *number < 9_223_372_036_854_775_808.0
            {
                Ok(Value::Int(*number as i64))
            } else {
                Err(overflow("integer"))
            }
        }
        [Value::Duration(nanos)] => Ok(Value::Int(*nanos)),
        [Value::Timestamp(moment)] => Ok(Value::Int(moment.seconds)),
        [value @ Value::String(text)] => match text.as_str().parse() {
            Ok(number) => Ok(Value::Int(number)),
            Err(_) => wrong(value, "int"),
        },
        _ => no_overload(),
    }
}

fn to_uint<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ Value::Uint(_)] => Ok(value.clone()),
        [Value::Int(number)] => {
            u64::try_from(*number).map(Value::Uint).map_err(|_| overflow("unsigned integer"))
        }
        [Value::Double(number)] => {
            if *number >= 0.0 && *number < 18_446_744_073_709_551_616.0 {
                Ok(Value::Uint(*number as u64))
            } else {
                Err(overflow("unsigned integer"))
            }
        }
        [value @ Value::String(text)] => match text.as_str().parse() {
            Ok(number) if !text.as_str().starts_with('+') => Ok(Value::Uint(number)),
            _ => wrong(value, "uint"),
        },
        _ => no_overload(),
    }
}

fn to_timestamp<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ Value::Timestamp(_)] => Ok(value.clone()),
        [Value::Int(seconds)] => {
            Moment::new(*seconds, 0).map(Value::Timestamp).ok_or_else(|| overflow("timestamp"))
        }
        [value @ Value::String(text)] => match time::parse_timestamp(text.as_str()) {
            Some(moment) => Ok(Value::Timestamp(moment)),
            None => wrong(value, "google.protobuf.Timestamp"),
        },
        _ => no_overload(),
    }
}

pub(super) fn to_string<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [value] = args else { return no_overload() };
    Ok(match value {
        Value::String(_) => value.clone(),
        Value::Bool(truth) => Value::text(truth.to_string()),
        Value::Int(number) => Value::text(number.to_string()),
        Value::Uint(number) => Value::text(number.to_string()),
        Value::Double(number) => Value::text(double_text(*number)),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Value::text(text),
            Err(_) => {
                return Err(EvalError::new("invalid UTF-8 in bytes, cannot convert to string"));
            }
        },
        Value::Duration(nanos) => Value::text(time::duration_text(*nanos)),
        Value::Timestamp(moment) => Value::text(time::timestamp_text(*moment)),
        _ => return no_overload(),
    })
}

/// A number in the shortest form, with an exponent where Go's `%g` has one.
pub(crate) fn double_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{number}")
}
