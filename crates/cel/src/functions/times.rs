//! Parts of moments and lengths of time.

use super::{Context, Entry, no_overload};
use crate::time::Civil;
use crate::value::{Outcome, Value};

/// The functions.
pub const FUNCTIONS: &[Entry] = &[
    ("getFullYear", |_, args| part(args, |civil| civil.year)),
    ("getMonth", |_, args| part(args, |civil| civil.month - 1)),
    ("getDayOfYear", |_, args| part(args, |civil| civil.day_of_year)),
    ("getDayOfMonth", |_, args| part(args, |civil| civil.day - 1)),
    ("getDate", |_, args| part(args, |civil| civil.day)),
    ("getDayOfWeek", |_, args| part(args, |civil| civil.week_day)),
    ("getHours", |_, args| part_or(args, 3_600_000_000_000, |civil| civil.hour)),
    ("getMinutes", |_, args| part_or(args, 60_000_000_000, |civil| civil.minute)),
    ("getSeconds", |_, args| part_or(args, 1_000_000_000, |civil| civil.second)),
    ("getMilliseconds", milliseconds),
];

fn part<'a>(args: &[Value<'a>], of: impl Fn(Civil) -> i64) -> Outcome<'a> {
    match args {
        [Value::Timestamp(moment)] => Ok(Value::Int(of(moment.civil("UTC")?))),
        [Value::Timestamp(moment), Value::String(zone)] => {
            Ok(Value::Int(of(moment.civil(zone.as_str())?)))
        }
        _ => no_overload(),
    }
}

/// Of a length of time the whole of it in the unit.
fn part_or<'a>(args: &[Value<'a>], unit: i64, of: impl Fn(Civil) -> i64) -> Outcome<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / unit)),
        _ => part(args, of),
    }
}

fn milliseconds<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / 1_000_000)),
        [Value::Timestamp(moment)] => Ok(Value::Int(i64::from(moment.nanos / 1_000_000))),
        [Value::Timestamp(moment), Value::String(zone)] => {
            moment.civil(zone.as_str())?;
            Ok(Value::Int(i64::from(moment.nanos / 1_000_000)))
        }
        _ => no_overload(),
    }
}
