//! Which values are equal, and in which order they are.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::declared::ListKind;
use crate::value::{EvalError, Key, List, Map, Value, compare_numbers};

/// Whether two values are equal. Values of different kinds are not.
pub fn equal(one: &Value<'_>, two: &Value<'_>) -> Result<bool, EvalError> {
    Ok(match (one, two) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
        ) => compare_numbers(one, two) == Some(Ordering::Equal),
        (Value::String(a), Value::String(b)) => a.as_str() == b.as_str(),
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a.name() == b.name(),
        (Value::List(a), Value::List(b)) => return lists(a, b),
        (Value::Map(a), Value::Map(b)) => return maps(a, b),
        (Value::Optional(a), Value::Optional(b)) => match (a, b) {
            (Some(a), Some(b)) => return equal(a, b),
            (None, None) => true,
            _ => false,
        },
        (Value::Opaque(a), Value::Opaque(b)) => a.equals(&**b),
        (Value::Hidden(a), Value::Hidden(b)) => a == b,
        (Value::Hidden(a), other) => other.to_json().is_ok_and(|json| json == **a),
        (other, Value::Hidden(a)) => other.to_json().is_ok_and(|json| json == **a),
        _ => false,
    })
}

/// upstream: staging/src/k8s.io/apiserver/pkg/cel/common/valuesunstructured.go
fn lists(one: &List<'_>, two: &List<'_>) -> Result<bool, EvalError> {
    if one.len() != two.len() {
        return Ok(false);
    }
    let kind = if *one.kind == ListKind::Atomic { two.kind } else { one.kind };
    match kind {
        ListKind::Atomic => {
            for (a, b) in one.iter().zip(two.iter()) {
                if !equal(&a?, &b?)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        ListKind::Set => {
            let (one, two) = (one.values()?, two.values()?);
            let keys: BTreeSet<Key> = one.iter().filter_map(Key::of).collect();
            for value in &two {
                let known = match Key::of(value) {
                    Some(key) => keys.contains(&key),
                    None => contains(&one, value)?,
                };
                if !known {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        ListKind::Map(keys) => {
            let (mut one, two) = (keyed(one, keys)?, keyed(two, keys)?);
            for (key, value) in two {
                match one.remove(&key) {
                    Some(other) if equal(&other, &value)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
    }
}

type Keyed<'a> = std::collections::BTreeMap<Vec<Option<Key>>, Value<'a>>;

/// The elements of a list by the fields that tell them apart.
fn keyed<'a>(list: &List<'a>, keys: &[String]) -> Result<Keyed<'a>, EvalError> {
    list.iter().map(|value| value.map(|value| (map_key(&value, keys), value))).collect()
}

/// The values of the fields that tell the elements of a list apart.
pub fn map_key(value: &Value<'_>, keys: &[String]) -> Vec<Option<Key>> {
    keys.iter()
        .map(|name| match value {
            Value::Map(map) => {
                map.field(name).and_then(Result::ok).and_then(|value| Key::of(&value))
            }
            _ => None,
        })
        .collect()
}

fn maps(one: &Map<'_>, two: &Map<'_>) -> Result<bool, EvalError> {
    if let (Map::Json(a, declared), Map::Json(b, other)) = (one, two)
        && declared.is_none()
        && other.is_none()
    {
        return json_maps(a, b);
    }
    if one.len() != two.len() {
        return Ok(false);
    }
    for key in one.keys() {
        let (Some(a), Some(b)) = (one.get(&key), two.get(&key)) else { return Ok(false) };
        if !equal(&a?, &b?)? {
            return Ok(false);
        }
    }
    // What no declaration names is compared as it is.
    if let (Map::Json(a, _), Map::Json(b, _)) = (one, two) {
        let named: BTreeSet<String> =
            one.keys().iter().filter_map(|key| key.as_str().map(String::from)).collect();
        for (name, value) in a.iter().filter(|(name, _)| !named.contains(*name)) {
            let plain = crate::escape::escape(name);
            let told = plain.is_some_and(|plain| named.contains(&*plain));
            if !told && b.get(name).is_some_and(|other| other != value) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn json_maps(
    one: &serde_json::Map<String, serde_json::Value>,
    two: &serde_json::Map<String, serde_json::Value>,
) -> Result<bool, EvalError> {
    if one.len() != two.len() {
        return Ok(false);
    }
    for (name, a) in one {
        let Some(b) = two.get(name) else { return Ok(false) };
        if !equal(&Value::dynamic(a), &Value::dynamic(b))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a value is among others.
pub fn contains(values: &[Value<'_>], value: &Value<'_>) -> Result<bool, EvalError> {
    for other in values {
        if equal(other, value)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Which of two values of the same kind is the smaller one.
pub fn compare(one: &Value<'_>, two: &Value<'_>) -> Result<Ordering, EvalError> {
    Ok(match (one, two) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => a.as_str().cmp(b.as_str()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
        ) => {
            return compare_numbers(one, two)
                .ok_or_else(|| EvalError::new("NaN values cannot be ordered"));
        }
        _ => return Err(EvalError::no_such_overload()),
    })
}
