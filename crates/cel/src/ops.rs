//! The operators.
//!
//! upstream: vendor/github.com/google/cel-go/common/types

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::declared::ListKind;
use crate::equal::{compare, contains, map_key};
use crate::functions::{Context, Entry};
use crate::value::{EvalError, Items, Key, List, Map, Outcome, Value};

/// The functions of the operators.
pub const FUNCTIONS: &[Entry] = &[
    ("_+_", |_, args| add(args.to_vec())),
    ("_-_", subtract),
    ("_*_", multiply),
    ("_/_", divide),
    ("_%_", modulo),
    ("-_", negate),
    ("!_", not),
    ("_<_", |_, args| ordered(args, |order| order == Ordering::Less)),
    ("_<=_", |_, args| ordered(args, |order| order != Ordering::Greater)),
    ("_>_", |_, args| ordered(args, |order| order == Ordering::Greater)),
    ("_>=_", |_, args| ordered(args, |order| order != Ordering::Less)),
    ("@in", is_in),
    ("@not_strictly_false", |_, args| {
        Ok(Value::Bool(args.first().and_then(Value::as_bool).unwrap_or(true)))
    }),
    ("cel.@mapInsert", |_, args| map_insert(args.to_vec())),
    ("size", |_, args| match args {
        [value] => match value.sized() {
            Some(size) => Ok(Value::Int(size as i64)),
            None => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }),
];

fn overflow(what: &str) -> EvalError {
    EvalError::new(match what {
        "int" => "integer overflow",
        "uint" => "unsigned integer overflow",
        _ => "duration overflow",
    })
}

/// Adds. A list that nobody else has grows in place.
pub fn add<'a>(args: Vec<Value<'a>>) -> Outcome<'a> {
    let Ok([one, two]) = <[Value<'a>; 2]>::try_from(args) else {
        return Err(EvalError::no_such_overload());
    };
    Ok(match (one, two) {
        (Value::Int(a), Value::Int(b)) => {
            Value::Int(a.checked_add(b).ok_or_else(|| overflow("int"))?)
        }
        (Value::Uint(a), Value::Uint(b)) => {
            Value::Uint(a.checked_add(b).ok_or_else(|| overflow("uint"))?)
        }
        (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        (Value::String(a), Value::String(b)) => {
            let mut text = String::with_capacity(a.as_str().len() + b.as_str().len());
            text.push_str(a.as_str());
            text.push_str(b.as_str());
            Value::text(text)
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            Value::Bytes(a.iter().chain(b.iter()).copied().collect())
        }
        (Value::Duration(a), Value::Duration(b)) => {
            Value::Duration(a.checked_add(b).ok_or_else(|| overflow("duration"))?)
        }
        (Value::Duration(nanos), Value::Timestamp(moment))
        | (Value::Timestamp(moment), Value::Duration(nanos)) => {
            Value::Timestamp(moment.plus(nanos)?)
        }
        (Value::List(a), Value::List(b)) => add_lists(a, b)?,
        _ => return Err(EvalError::no_such_overload()),
    })
}

/// upstream: staging/src/k8s.io/apiserver/pkg/cel/common/valuesunstructured.go
fn add_lists<'a>(one: List<'a>, two: List<'a>) -> Outcome<'a> {
    let kind = one.kind;
    let mut items = match one.items {
        Items::Made(items) => Arc::try_unwrap(items).unwrap_or_else(|shared| (*shared).clone()),
        items => List { items, kind }.values()?,
    };
    match kind {
        ListKind::Atomic => {
            items.reserve(two.len());
            for item in two.iter() {
                items.push(item?);
            }
        }
        ListKind::Set => {
            for item in two.iter() {
                let item = item?;
                if !contains(&items, &item)? {
                    items.push(item);
                }
            }
        }
        ListKind::Map(keys) => {
            let mut places: BTreeMap<_, _> = items
                .iter()
                .enumerate()
                .map(|(index, item)| (map_key(item, keys), index))
                .collect();
            for item in two.iter() {
                let item = item?;
                let key = map_key(&item, keys);
                match places.get(&key) {
                    Some(place) => items[*place] = item,
                    None => {
                        places.insert(key, items.len());
                        items.push(item);
                    }
                }
            }
        }
    }
    Ok(Value::List(List { items: Items::Made(Arc::new(items)), kind }))
}

/// Adds entries to a map that has them not yet.
pub fn map_insert<'a>(args: Vec<Value<'a>>) -> Outcome<'a> {
    let mut args = args.into_iter();
    let (Some(Value::Map(target)), Some(second), third) = (args.next(), args.next(), args.next())
    else {
        return Err(EvalError::no_such_overload());
    };
    let mut entries = match target {
        Map::Made(entries) => Arc::try_unwrap(entries).unwrap_or_else(|shared| (*shared).clone()),
        other => entries(&other)?.into_iter().collect(),
    };
    let added = match (second, third) {
        (key, Some(value)) => {
            let own = Key::of(&key).ok_or_else(|| {
                EvalError::new(format!("unsupported key type: {}", key.type_of()))
            })?;
            vec![(own, value)]
        }
        (Value::Map(more), None) => self::entries(&more)?,
        _ => return Err(EvalError::no_such_overload()),
    };
    for (key, value) in added {
        if entries.contains_key(&key) {
            let shown = match &key {
                Key::String(text) => text.to_string(),
                other => format!("{:?}", other.value()),
            };
            return Err(EvalError::new(format!("insert failed: key {shown} already exists")));
        }
        entries.insert(key, value);
    }
    Ok(Value::map(entries))
}

fn entries<'a>(map: &Map<'a>) -> Result<Vec<(Key, Value<'a>)>, EvalError> {
    let mut out = Vec::new();
    for key in map.keys() {
        if let (Some(own), Some(value)) = (Key::of(&key), map.get(&key)) {
            out.push((own, value?));
        }
    }
    Ok(out)
}

fn subtract<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => {
            Value::Int(a.checked_sub(*b).ok_or_else(|| overflow("int"))?)
        }
        [Value::Uint(a), Value::Uint(b)] => {
            Value::Uint(a.checked_sub(*b).ok_or_else(|| overflow("uint"))?)
        }
        [Value::Double(a), Value::Double(b)] => Value::Double(a - b),
        [Value::Duration(a), Value::Duration(b)] => {
            Value::Duration(a.checked_sub(*b).ok_or_else(|| overflow("duration"))?)
        }
        [Value::Timestamp(moment), Value::Duration(nanos)] => {
            Value::Timestamp(moment.plus(nanos.checked_neg().ok_or_else(|| overflow("duration"))?)?)
        }
        [Value::Timestamp(a), Value::Timestamp(b)] => Value::Duration(a.since(*b)?),
        _ => return Err(EvalError::no_such_overload()),
    })
}

fn multiply<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => {
            Value::Int(a.checked_mul(*b).ok_or_else(|| overflow("int"))?)
        }
        [Value::Uint(a), Value::Uint(b)] => {
            Value::Uint(a.checked_mul(*b).ok_or_else(|| overflow("uint"))?)
        }
        [Value::Double(a), Value::Double(b)] => Value::Double(a * b),
        _ => return Err(EvalError::no_such_overload()),
    })
}

fn divide<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let zero = || EvalError::new("division by zero");
    Ok(match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => return Err(zero()),
        [Value::Int(a), Value::Int(b)] => {
            Value::Int(a.checked_div(*b).ok_or_else(|| overflow("int"))?)
        }
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a / b),
        [Value::Double(a), Value::Double(b)] => Value::Double(a / b),
        _ => return Err(EvalError::no_such_overload()),
    })
}

fn modulo<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let zero = || EvalError::new("modulus by zero");
    Ok(match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => return Err(zero()),
        [Value::Int(a), Value::Int(b)] => {
            Value::Int(a.checked_rem(*b).ok_or_else(|| overflow("int"))?)
        }
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a % b),
        _ => return Err(EvalError::no_such_overload()),
    })
}

fn negate<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(match args {
        [Value::Int(a)] => Value::Int(a.checked_neg().ok_or_else(|| overflow("int"))?),
        [Value::Double(a)] => Value::Double(-a),
        [Value::Duration(a)] => {
            Value::Duration(a.checked_neg().ok_or_else(|| overflow("duration"))?)
        }
        _ => return Err(EvalError::no_such_overload()),
    })
}

fn not<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bool(truth)] => Ok(Value::Bool(!truth)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn ordered<'a>(args: &[Value<'a>], holds: impl Fn(Ordering) -> bool) -> Outcome<'a> {
    match args {
        [one, two] => Ok(Value::Bool(holds(compare(one, two)?))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn is_in<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [element, Value::List(list)] => {
            for item in list.iter() {
                if crate::equal::equal(&item?, element)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        [key, Value::Map(map)] => match map.get(key) {
            Some(Err(error)) => Err(error),
            found => Ok(Value::Bool(found.is_some())),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}
