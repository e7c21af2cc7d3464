//! Functions of lists and sets.
//!
//! upstream: vendor/github.com/google/cel-go/ext/lists.go (version 3), ext/sets.go,
//! staging/src/k8s.io/apiserver/pkg/cel/library/lists.go

use std::cmp::Ordering;

use super::{Context, Entry, Library, no_overload, strings};
use crate::equal::{compare, contains, equal};
use crate::ops;
use crate::value::{EvalError, List, Outcome, Value};

/// The library.
pub const LISTS: Library =
    Library { name: "lists", declarations: include_str!("lists.txt"), functions: FUNCTIONS };

const FUNCTIONS: &[Entry] = &[
    ("isSorted", |_, args| {
        let values = of_kind(args, "isSorted", is_ordered)?.values()?;
        for pair in values.windows(2) {
            if compare(&pair[0], &pair[1])? == Ordering::Greater {
                return Ok(Value::Bool(false));
            }
        }
        Ok(Value::Bool(true))
    }),
    ("sum", sum),
    ("min", |_, args| extreme(args, "min", Ordering::Less)),
    ("max", |_, args| extreme(args, "max", Ordering::Greater)),
    ("indexOf", |_, args| match args {
        [Value::List(list), value] => position(list, value, false),
        _ => strings::index_of(args),
    }),
    ("lastIndexOf", |_, args| match args {
        [Value::List(list), value] => position(list, value, true),
        _ => strings::last_index_of(args),
    }),
    ("slice", slice),
    ("flatten", flatten),
    ("sort", |_, args| {
        let values = one(args)?.values()?;
        sorted(values.clone(), values)
    }),
    ("@sortByAssociatedKeys", |_, args| match args {
        [Value::List(list), Value::List(keys)] => sorted(list.values()?, keys.values()?),
        _ => no_overload(),
    }),
    ("lists.range", |_, args| match args {
        [Value::Int(count)] => Ok(Value::list((0..*count).map(Value::Int).collect())),
        _ => no_overload(),
    }),
    ("reverse", |_, args| {
        let mut values = one(args)?.values()?;
        values.reverse();
        Ok(Value::list(values))
    }),
    ("distinct", |_, args| {
        let mut out: Vec<Value<'_>> = Vec::new();
        for value in one(args)?.iter() {
            let value = value?;
            if !contains(&out, &value)? {
                out.push(value);
            }
        }
        Ok(Value::list(out))
    }),
    ("sets.contains", |_, args| {
        let (all, some) = two(args)?;
        Ok(Value::Bool(holds(&all, &some)?))
    }),
    ("sets.equivalent", |_, args| {
        let (one, two) = two(args)?;
        Ok(Value::Bool(holds(&one, &two)? && holds(&two, &one)?))
    }),
    ("sets.intersects", |_, args| {
        let (one, two) = two(args)?;
        for value in &one {
            if contains(&two, value)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
];

fn one<'s, 'a>(args: &'s [Value<'a>]) -> Result<&'s List<'a>, EvalError> {
    match args {
        [Value::List(list)] => Ok(list),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A list of which a function takes the elements; the first one tells of which kind they are.
fn of_kind<'s, 'a>(
    args: &'s [Value<'a>],
    name: &str,
    fits: fn(&Value<'_>) -> bool,
) -> Result<&'s List<'a>, EvalError> {
    let list = one(args)?;
    match list.get(0).transpose()? {
        Some(first) if !fits(&first) => {
            Err(EvalError::new(format!("no such overload: {name}(list)")))
        }
        _ => Ok(list),
    }
}

fn is_summed(value: &Value<'_>) -> bool {
    matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_))
}

fn is_ordered(value: &Value<'_>) -> bool {
    compare(value, value).is_ok() || matches!(value, Value::Double(_))
}

type Pair<'a> = (Vec<Value<'a>>, Vec<Value<'a>>);

fn two<'a>(args: &[Value<'a>]) -> Result<Pair<'a>, EvalError> {
    match args {
        [Value::List(one), Value::List(two)] => Ok((one.values()?, two.values()?)),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn holds(all: &[Value<'_>], some: &[Value<'_>]) -> Result<bool, EvalError> {
    for value in some {
        if !contains(all, value)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn sum<'a>(context: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let mut total: Option<Value<'a>> = None;
    for value in of_kind(args, "sum", is_summed)?.iter() {
        total = Some(match total {
            None => value?,
            Some(total) => ops::add(vec![total, value?])?,
        });
    }
    Ok(total.unwrap_or(match context.overload {
        Some("list_uint_sum_uint") => Value::Uint(0),
        Some("list_double_sum_double") => Value::Double(0.0),
        Some("list_duration_sum_duration") => Value::Duration(0),
        _ => Value::Int(0),
    }))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Outcome<'a> {
    let mut best: Option<Value<'a>> = None;
    for value in of_kind(args, name, is_ordered)?.iter() {
        let value = value?;
        best = Some(match best {
            Some(best) if compare(&value, &best)? != wanted => best,
            _ => value,
        });
    }
    best.ok_or_else(|| EvalError::new(format!("{name} called on empty list")))
}

fn position<'a>(list: &List<'a>, value: &Value<'a>, last: bool) -> Outcome<'a> {
    let mut found = -1;
    for (index, item) in list.iter().enumerate() {
        if equal(&item?, value)? {
            found = index as i64;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn slice<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else {
        return no_overload();
    };
    let wrong = |why: String| Err(EvalError::new(format!("cannot slice({start}, {end}), {why}")));
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return wrong("negative indexes not supported".to_owned());
    };
    if from > to {
        return wrong("start index must be less than or equal to end index".to_owned());
    }
    if list.len() < to {
        return wrong(format!("list is length {}", list.len()));
    }
    Ok(Value::list((from..to).filter_map(|index| list.get(index)).collect::<Result<_, _>>()?))
}

fn flatten<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        _ => return no_overload(),
    };
    if depth < 0 {
        return Err(EvalError::new("level must be non-negative"));
    }
    let mut values = list.values()?;
    for _ in 0..depth {
        if !values.iter().any(|value| matches!(value, Value::List(_))) {
            break;
        }
        let mut flat = Vec::with_capacity(values.len());
        for value in values {
            match value {
                Value::List(inner) => flat.extend(inner.values()?),
                other => flat.push(other),
            }
        }
        values = flat;
    }
    Ok(Value::list(values))
}

fn sorted<'a>(values: Vec<Value<'a>>, keys: Vec<Value<'a>>) -> Outcome<'a> {
    if values.len() != keys.len() {
        return Err(EvalError::new(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} elements respectively",
            values.len(),
            keys.len()
        )));
    }
    if let Some(first) = keys.first() {
        compare(first, first).map_err(|_| EvalError::new("list elements must be comparable"))?;
        if keys.iter().any(|key| key.type_of() != first.type_of()) && keys.len() > 1 {
            return Err(EvalError::new("list elements must have the same type"));
        }
    }
    let mut both: Vec<_> = keys.into_iter().zip(values).collect();
    both.sort_by(|(one, _), (two, _)| compare(one, two).unwrap_or(Ordering::Equal));
    Ok(Value::list(both.into_iter().map(|(_, value)| value).collect()))
}
