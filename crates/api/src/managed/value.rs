//! Order, equality and texts of values as apply sees them: whole floats equal integers.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/value/value.go

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::patch::gotext;

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(number) if number.is_f64() => 0,
        Value::Number(_) => 1,
        Value::String(_) => 2,
        Value::Bool(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
        Value::Null => 6,
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    if a.is_f64() || b.is_f64() {
        let (a, b) = (a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(0.0));
        return a.partial_cmp(&b).unwrap_or(Ordering::Equal);
    }
    let whole =
        |n: &Number| n.as_i64().map_or_else(|| i128::from(n.as_u64().unwrap_or(0)), i128::from);
    whole(a).cmp(&whole(b))
}

/// A total order of values.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let unequal = a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|o| o.is_ne());
            unequal.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let pairs = a.iter().zip(b).map(|((k, v), (l, w))| k.cmp(l).then(compare(v, w)));
            let unequal = pairs.into_iter().find(|o| o.is_ne());
            unequal.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Whether two values are the same.
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b).is_eq(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((k, v), (l, w))| k == l && equal(v, w))
        }
        _ => a == b,
    }
}

/// A value as paths in messages show it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::String(text) => gotext::quote(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| format!("{key}={}", text(value))).collect()
        }
        scalar => gotext::plain(scalar),
    }
}

/// Writes compact JSON with the escapes that Go's encoder makes for HTML.
pub fn write_json(value: &Value, out: &mut String) {
    let plain = value.to_string();
    if !plain.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        out.push_str(&plain);
        return;
    }
    for letter in plain.chars() {
        match letter {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
}
