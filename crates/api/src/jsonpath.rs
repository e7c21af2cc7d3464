//! JSONPath as the columns and selectable fields of custom resources use it.
//!
//! upstream: staging/src/k8s.io/client-go/util/jsonpath

mod parse;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use serde_json::Value;

/// Values that a step may give; a path that gives more fails.
const RESULTS_MAX: usize = 10_000;

/// A parsed path, such as `.spec.list[0].name`.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// All entries or items.
    Wildcard,
    /// The value and all that is below it.
    Recursive,
    Slice(Slice),
    Union(Vec<Vec<Step>>),
    Filter {
        left: Vec<Step>,
        right: Option<(Operator, Vec<Step>)>,
    },
    /// The value itself, whatever it is applied to.
    Literal(Value),
    /// A word that means nothing here.
    Unknown,
}

/// `[from:to:step]`; `[from]` is one item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slice {
    from: Option<i64>,
    to: Option<i64>,
    /// Whether `to` was not written but is the item after `from`.
    one: bool,
    step: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Less,
    Greater,
    Equal,
    NotEqual,
    LessOrEqual,
    GreaterOrEqual,
    /// One that there is not.
    Unknown,
}

/// Why a path gives nothing for a value: it does not fit its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl JsonPath {
    /// Parses a path, without braces around it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::path(text).map(Self)
    }

    /// All values that the path leads to. What is missing on the way gives none.
    ///
    /// # Errors
    /// When a value on the way is not of the form that a step needs.
    pub fn find<'a>(&'a self, value: &'a Value) -> Result<Vec<&'a Value>, Failed> {
        walk(&self.0, vec![value])
    }
}

fn walk<'a>(steps: &'a [Step], start: Vec<&'a Value>) -> Result<Vec<&'a Value>, Failed> {
    steps.iter().try_fold(start, |values, step| {
        let results = step.apply(values)?;
        if results.len() > RESULTS_MAX { Err(Failed) } else { Ok(results) }
    })
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(fields) => fields.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    }
}

impl Step {
    fn apply<'a>(&'a self, values: Vec<&'a Value>) -> Result<Vec<&'a Value>, Failed> {
        let mut out = Vec::new();
        match self {
            Self::Field(name) => out.extend(values.iter().filter_map(|value| value.get(name))),
            Self::Wildcard => out.extend(values.into_iter().flat_map(children)),
            Self::Recursive => {
                for value in values {
                    descend(value, &mut out)?;
                }
            }
            Self::Slice(slice) => {
                for value in values.into_iter().filter(|value| !value.is_null()) {
                    let items = value.as_array().ok_or(Failed)?;
                    match slice.apply(items)? {
                        Some(chosen) => out.extend(chosen),
                        // Upstream leaves the other values out then.
                        None => break,
                    }
                }
            }
            Self::Union(paths) => {
                for path in paths {
                    out.extend(walk(path, values.clone())?);
                }
            }
            Self::Filter { left, right } => {
                for value in values {
                    for item in value.as_array().ok_or(Failed)? {
                        if passes(item, left, right.as_ref())? {
                            out.push(item);
                        }
                    }
                }
            }
            Self::Literal(literal) => out.resize(values.len(), literal),
            Self::Unknown => return Err(Failed),
        }
        Ok(out)
    }
}

fn descend<'a>(value: &'a Value, out: &mut Vec<&'a Value>) -> Result<(), Failed> {
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        let below = children(value);
        let text = value.as_str().is_some_and(|text| !text.is_empty());
        if !below.is_empty() || text {
            out.push(value);
        }
        if out.len() > RESULTS_MAX {
            return Err(Failed);
        }
        rest.extend(below.into_iter().rev());
    }
    Ok(())
}

impl Slice {
    /// The chosen items; none when the range is empty.
    fn apply(self, items: &[Value]) -> Result<Option<Vec<&Value>>, Failed> {
        let length = i64::try_from(items.len()).map_err(|_| Failed)?;
        let mut from = self.from.unwrap_or(0);
        let mut to = self.to.unwrap_or(length);
        if from < 0 {
            from += length;
        }
        if to < 0 || (to == 0 && self.one) {
            to += length;
        }
        if to == from {
            return Ok(None);
        }
        let outside = from >= length || from < 0 || to > length || to < 0 || from > to;
        let step = self.step.unwrap_or(1);
        if outside || step <= 0 {
            return Err(Failed);
        }
        let index = |number: i64| usize::try_from(number).map_err(|_| Failed);
        let chosen = items.get(index(from)?..index(to)?).ok_or(Failed)?;
        Ok(Some(chosen.iter().step_by(index(step)?).collect()))
    }
}

fn passes(
    item: &Value,
    left: &[Step],
    right: Option<&(Operator, Vec<Step>)>,
) -> Result<bool, Failed> {
    let lefts = walk(left, vec![item]);
    let Some((operator, right)) = right else {
        return Ok(lefts.is_ok_and(|lefts| !lefts.is_empty()));
    };
    let (lefts, rights) = (lefts?, walk(right, vec![item])?);
    match (lefts.as_slice(), rights.as_slice()) {
        ([], _) | (_, []) => Ok(false),
        ([left], [right]) => operator.holds(left, right),
        _ => Err(Failed),
    }
}

impl Operator {
    /// Values of different types cannot be compared.
    ///
    /// upstream: client-go/third_party/forked/golang/template/funcs.go
    fn holds(self, left: &Value, right: &Value) -> Result<bool, Failed> {
        let order = match (left, right) {
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Number(a), Value::Number(b)) if a.is_f64() == b.is_f64() => {
                match (a.as_i64(), b.as_i64()) {
                    (Some(a), Some(b)) => a.cmp(&b),
                    _ => a.as_f64().partial_cmp(&b.as_f64()).ok_or(Failed)?,
                }
            }
            (Value::Bool(a), Value::Bool(b)) if matches!(self, Self::Equal | Self::NotEqual) => {
                a.cmp(b)
            }
            _ => return Err(Failed),
        };
        match self {
            Self::Less => Ok(order == Ordering::Less),
            Self::Greater => Ok(order == Ordering::Greater),
            Self::Equal => Ok(order == Ordering::Equal),
            Self::NotEqual => Ok(order != Ordering::Equal),
            Self::LessOrEqual => Ok(order != Ordering::Greater),
            Self::GreaterOrEqual => Ok(order != Ordering::Less),
            Self::Unknown => Err(Failed),
        }
    }
}
