//! `format`: texts with places for values.
//!
//! upstream: vendor/github.com/google/cel-go/ext/formatting.go

use longshore_api::patch::gotext::quote;

use super::convert::double_text;
use super::{Context, no_overload};
use crate::effort::TEXT_BYTES_MAX;
use crate::time;
use crate::value::{EvalError, List, Map, Outcome, Value};

/// Digits after the point where none are told.
const PRECISION: usize = 6;
/// Most digits after the point: a double has no more.
const PRECISION_MAX: usize = 1_100;

/// A place for a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Clause {
    Text,
    Decimal,
    Fixed(usize),
    Scientific,
    Binary,
    Hex(bool),
    Octal,
}

impl Clause {
    /// What is wrong with a value of a type that does not belong here.
    pub(crate) fn wrong(self, given: &str) -> String {
        let what = match self {
            Self::Text => {
                "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
            }
            Self::Decimal => "decimal clause can only be used on integers",
            Self::Fixed(_) => "fixed-point clause can only be used on doubles",
            Self::Scientific => "scientific clause can only be used on doubles",
            Self::Binary => "only integers and bools can be formatted as binary",
            Self::Hex(_) => "only integers, byte buffers, and strings can be formatted as hex",
            Self::Octal => "octal clause can only be used on integers",
        };
        format!("{what}, was given {given}")
    }
}

/// Goes over a text with places, of which the values are `count`; `place` gives the text for one.
pub(crate) fn interpolate<E: From<String>>(
    format: &str,
    count: usize,
    place: &mut dyn FnMut(Clause, usize) -> Result<String, E>,
) -> Result<(String, usize), E> {
    let mut out = String::with_capacity(format.len());
    let mut used = 0;
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        if used >= count {
            return Err(E::from(format!("index {used} out of range")));
        }
        if rest.is_empty() {
            return Err(E::from("unexpected end of string".to_owned()));
        }
        let (clause, length) = clause(rest)
            .map_err(|error| E::from(format!("could not parse formatting clause: {error}")))?;
        out.push_str(&place(clause, used)?);
        used += 1;
        rest = &rest[length..];
    }
    out.push_str(rest);
    Ok((out, used))
}

fn clause(text: &str) -> Result<(Clause, usize), String> {
    let mut precision = PRECISION;
    let mut at = 0;
    if let Some(after) = text.strip_prefix('.') {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        at = 1 + digits;
        if at >= text.len() {
            return Err("error while parsing precision: could not find end of precision specifier"
                .to_owned());
        }
        precision = after[..digits].parse().map_err(|_| {
            format!(
                "error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing {:?}: invalid syntax",
                &after[..digits]
            )
        })?;
    }
    let letter = text[at..].chars().next().unwrap_or(' ');
    let clause = match letter {
        's' => Clause::Text,
        'd' => Clause::Decimal,
        'f' => Clause::Fixed(precision.min(PRECISION_MAX)),
        'e' => Clause::Scientific,
        'b' => Clause::Binary,
        'x' => Clause::Hex(false),
        'X' => Clause::Hex(true),
        'o' => Clause::Octal,
        other => return Err(format!("unrecognized formatting clause \"{other}\"")),
    };
    Ok((clause, at + letter.len_utf8()))
}

impl From<String> for EvalError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

pub(super) fn format<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(format), Value::List(list)] = args else { return no_overload() };
    let mut length = 0;
    let (text, _) = interpolate(format.as_str(), list.len(), &mut |clause, index| {
        let value = list.get(index).unwrap_or_else(|| Err(EvalError::no_such_overload()))?;
        let text = rendered(clause, &value)
            .map_err(|error| EvalError::new(format!("error during formatting: {error}")))?;
        length += text.len();
        if length > TEXT_BYTES_MAX { Err(EvalError::CostExceeded) } else { Ok(text) }
    })?;
    Ok(Value::text(text))
}

fn rendered(clause: Clause, value: &Value<'_>) -> Result<String, String> {
    let wrong = || Err(clause.wrong(value.type_of().name()));
    Ok(match (clause, value) {
        (Clause::Text, _) => return plain(value),
        (Clause::Decimal, Value::Int(number)) => number.to_string(),
        (Clause::Decimal, Value::Uint(number)) => number.to_string(),
        (Clause::Fixed(_) | Clause::Scientific, _) => {
            let number = match value {
                Value::Double(number) => *number,
                Value::String(text) => match text.as_str() {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    _ => return wrong(),
                },
                _ => return wrong(),
            };
            match (special(number), clause) {
                (Some(text), _) => text.to_owned(),
                (None, Clause::Fixed(precision)) => grouped(&format!("{number:.precision$}")),
                (None, _) => scientific(number),
            }
        }
        (Clause::Binary, Value::Int(number)) => signed(*number, |number| format!("{number:b}")),
        (Clause::Binary, Value::Uint(number)) => format!("{number:b}"),
        (Clause::Binary, Value::Bool(truth)) => if *truth { "1" } else { "0" }.to_owned(),
        (Clause::Octal, Value::Int(number)) => signed(*number, |number| format!("{number:o}")),
        (Clause::Octal, Value::Uint(number)) => format!("{number:o}"),
        (Clause::Hex(upper), _) => {
            let bytes =
                |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let text = match value {
                Value::Int(number) => signed(*number, |number| format!("{number:x}")),
                Value::Uint(number) => format!("{number:x}"),
                Value::String(text) => bytes(text.as_str().as_bytes()),
                Value::Bytes(of) => bytes(of),
                _ => return wrong(),
            };
            if upper { text.to_uppercase() } else { text }
        }
        _ => return wrong(),
    })
}

fn signed(number: i64, digits: impl Fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", digits(number.unsigned_abs()))
}

fn special(number: f64) -> Option<&'static str> {
    match number {
        _ if number.is_nan() => Some("NaN"),
        f64::INFINITY => Some("\u{221e}"),
        f64::NEG_INFINITY => Some("-\u{221e}"),
        _ => None,
    }
}

/// With commas between thousands.
fn grouped(text: &str) -> String {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |text| ("-", text));
    let (whole, fraction) =
        text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut out = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// As a number times a power of ten, with small letters for the power.
fn scientific(number: f64) -> String {
    let text = format!("{number:.PRECISION$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) =
        exponent.strip_prefix('-').map_or(("", exponent), |digits| ("\u{207b}", digits));
    let small = |digit: char| match digit {
        '1' => '\u{b9}',
        '2' => '\u{b2}',
        '3' => '\u{b3}',
        other => char::from_u32(0x2070 + other as u32 - '0' as u32).unwrap_or(other),
    };
    let power: String = format!("{digits:0>2}").chars().map(small).collect();
    format!("{mantissa}\u{202f}\u{d7}\u{202f}10{sign}{power}")
}

fn plain(value: &Value<'_>) -> Result<String, String> {
    Ok(match value {
        Value::List(list) => list_text(list)?,
        Value::Map(map @ (Map::Made(_) | Map::Constant(_) | Map::Json(..))) => map_text(map)?,
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => double_text(*number),
        Value::String(text) => text.as_str().to_owned(),
        Value::Bytes(bytes) => std::str::from_utf8(bytes)
            .map(str::to_owned)
            .map_err(|_| "could not convert argument \"invalid UTF-8 in bytes, cannot convert to string\" to string".to_owned())?,
        Value::Duration(nanos) => time::duration_text(*nanos),
        Value::Timestamp(moment) => time::timestamp_text(*moment),
        Value::Type(of) => of.name().to_owned(),
        other => return Err(Clause::Text.wrong(other.type_of().name())),
    })
}

/// A value within a list or map.
fn nested(value: &Value<'_>) -> Result<String, String> {
    Ok(match value {
        Value::String(text) => quote(text.as_str()),
        Value::Bytes(_) => format!("b{}", quote(&plain(value)?)),
        Value::Double(number) if number.is_nan() => "\"NaN\"".to_owned(),
        Value::Double(number) if number.is_infinite() => {
            if *number > 0.0 { "\"+Inf\"" } else { "\"-Inf\"" }.to_owned()
        }
        Value::Double(number) => format!("{number:.PRECISION$}"),
        Value::Duration(_) => format!("duration({:?})", plain(value)?),
        Value::Timestamp(_) => format!("timestamp({:?})", plain(value)?),
        Value::Optional(_)
        | Value::Opaque(_)
        | Value::Hidden(_)
        | Value::Map(Map::Struct(_) | Map::Lazy(_)) => {
            return Err(format!("no formatting function for {}", value.type_of().name()));
        }
        other => plain(other)?,
    })
}

fn list_text(list: &List<'_>) -> Result<String, String> {
    let mut parts = Vec::with_capacity(list.len());
    for item in list.iter() {
        parts.push(nested(&item.map_err(|error| error.to_string())?)?);
    }
    Ok(format!("[{}]", parts.join(", ")))
}

fn map_text(map: &Map<'_>) -> Result<String, String> {
    let mut parts = Vec::new();
    for key in map.keys() {
        let shown = match &key {
            Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Uint(_) => nested(&key)?,
            other => {
                return Err(format!(
                    "no formatting function for map key of type {}",
                    other.type_of().name()
                ));
            }
        };
        let value = match map.get(&key) {
            Some(value) => value.map_err(|error| error.to_string())?,
            None => continue,
        };
        parts.push((shown, nested(&value)?));
    }
    parts.sort();
    let parts: Vec<String> =
        parts.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    Ok(format!("{{{}}}", parts.join(", ")))
}
