//! Writes trees as upstream's YAML library does: the same order of keys, the same quotes.
//!
//! upstream: sigs.k8s.io/yaml, go.yaml.in/yaml/v2 (encode.go, emitterc.go, resolve.go, sorter.go)

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::{Map, Value};

/// Longer keys stand on a line of their own, behind a question mark.
const SIMPLE_KEY_MAX: usize = 128;
/// What is read as something else than a text when it is not quoted.
const WORDS: [&str; 34] = [
    "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "n", "N", "no", "No",
    "NO", "false", "False", "FALSE", "off", "Off", "OFF", "", "~", "null", "Null", "NULL", ".nan",
    ".NaN", ".NAN", ".inf", ".Inf", ".INF", "<<",
];

/// Encodes a tree as one YAML document.
pub fn encode(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => map(&mut out, fields, 0, false),
        Value::Array(items) if !items.is_empty() => list(&mut out, items, 0, false),
        other => {
            scalar(&mut out, other, 2);
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, columns: usize) {
    out.extend(std::iter::repeat_n(' ', columns));
}

/// Writes the fields of a map in a column; the first one without indentation when the map stands
/// behind a dash.
fn map(out: &mut String, fields: &Map<String, Value>, column: usize, behind: bool) {
    let mut sorted: Vec<(&String, &Value)> = fields.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| natural(a, b));
    for (i, (key, value)) in sorted.into_iter().enumerate() {
        if i > 0 || !behind {
            indent(out, column);
        }
        let simple = key.len() <= SIMPLE_KEY_MAX && !key.contains(is_break);
        if simple {
            text(out, key, column + 2, true);
            out.push(':');
        } else {
            out.push_str("? ");
            text(out, key, column + 2, false);
            out.push('\n');
            indent(out, column);
            out.push(':');
        }
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                if simple {
                    out.push('\n');
                } else {
                    out.push(' ');
                }
                map(out, inner, column + 2, !simple);
            }
            Value::Array(items) if !items.is_empty() => {
                if simple {
                    out.push('\n');
                    list(out, items, column, false);
                } else {
                    out.push(' ');
                    list(out, items, column + 2, true);
                }
            }
            other => {
                out.push(' ');
                scalar(out, other, column + 2);
                out.push('\n');
            }
        }
    }
}

fn list(out: &mut String, items: &[Value], column: usize, behind: bool) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 || !behind {
            indent(out, column);
        }
        out.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() => map(out, fields, column + 2, true),
            Value::Array(inner) if !inner.is_empty() => list(out, inner, column + 2, true),
            other => {
                scalar(out, other, column + 2);
                out.push('\n');
            }
        }
    }
}

fn scalar(out: &mut String, value: &Value, column: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => out.push_str(&float_text(float)),
            None => out.push_str(&number.to_string()),
        },
        Value::String(value) => text(out, value, column, false),
        Value::Array(_) => out.push_str("[]"),
        Value::Object(_) => out.push_str("{}"),
    }
}

/// As Go prints a float of the shortest form.
fn float_text(float: f64) -> String {
    /// From this exponent on there is one in the text.
    const EXPONENT: i32 = 6;
    if float.fract() == 0.0 && float.abs() < 1.8e19 {
        return format!("{float:.0}");
    }
    let shortest = format!("{float:e}");
    let Some((digits, exponent)) = shortest.split_once('e') else { return shortest };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..EXPONENT).contains(&exponent) && float.fract() != 0.0 {
        return format!("{float}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Writes a text in the plainest style that is read as the same text. `column` is where the lines
/// of a literal block stand.
fn text(out: &mut String, value: &str, column: usize, key: bool) {
    let form = Form::of(value);
    if value.contains('\n') && form.block && !key {
        return literal(out, value, column);
    }
    if !value.contains('\n') && is_text(value) {
        let empty_key = key && value.is_empty();
        if form.plain && !empty_key {
            return out.push_str(value);
        }
        if form.single {
            out.push('\'');
            out.push_str(&value.replace('\'', "''"));
            return out.push('\'');
        }
    }
    double_quoted(out, value);
}

/// In which styles a text may be written.
struct Form {
    plain: bool,
    single: bool,
    block: bool,
}

impl Form {
    /// upstream: go.yaml.in/yaml/v2 emitterc.go yaml_emitter_analyze_scalar
    fn of(value: &str) -> Self {
        if value.is_empty() {
            return Self { plain: true, single: true, block: false };
        }
        let mut indicators = value.starts_with("---") || value.starts_with("...");
        let (mut special, mut breaks) = (false, false);
        let (mut break_space, mut space_break) = (false, false);
        let (mut after_space, mut after_break) = (false, false);
        let mut after_white = true;
        let mut letters = value.chars().peekable();
        let mut first = true;
        while let Some(letter) = letters.next() {
            let before_white = letters.peek().is_none_or(|next| matches!(next, ' ' | '\t'));
            indicators |= match letter {
                '#' if first => true,
                ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%'
                | '@' | '`' => first,
                '?' | '-' => first && before_white,
                ':' => before_white,
                '#' => after_white,
                _ => false,
            };
            special |= !is_printable(letter);
            if letter == ' ' {
                break_space |= after_break;
            } else if is_break(letter) {
                breaks = true;
                space_break |= after_space;
            }
            (after_space, after_break) = (letter == ' ', is_break(letter));
            after_white = matches!(letter, ' ' | '\t') || is_break(letter);
            first = false;
        }
        let edge = |c: char| c == ' ' || is_break(c);
        let edges = value.starts_with(edge) || value.ends_with(edge);
        let broken = space_break || special;
        Self {
            plain: !(indicators || edges || break_space || broken || breaks),
            single: !(break_space || broken),
            block: !(value.ends_with(' ') || broken),
        }
    }
}

fn is_break(letter: char) -> bool {
    matches!(letter, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_printable(letter: char) -> bool {
    matches!(letter, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && letter != '\u{feff}'
}

fn literal(out: &mut String, value: &str, column: usize) {
    out.push('|');
    if value.starts_with(' ') || value.starts_with(is_break) {
        out.push('2');
    }
    let kept = value.strip_suffix(is_break);
    match kept {
        None => out.push('-'),
        Some(rest) if rest.is_empty() || rest.ends_with(is_break) => out.push('+'),
        Some(_) => {}
    }
    out.push('\n');
    let mut starts = true;
    for letter in value.chars() {
        if !is_break(letter) && starts {
            indent(out, column);
        }
        starts = is_break(letter);
        out.push(letter);
    }
    // The caller ends the line.
    if kept.is_some() && out.ends_with('\n') {
        out.pop();
    }
}

fn double_quoted(out: &mut String, value: &str) {
    out.push('"');
    for letter in value.chars() {
        let escape = match letter {
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '"' => '"',
            '\\' => '\\',
            '\u{85}' => 'N',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            letter if is_printable(letter) => {
                out.push(letter);
                continue;
            }
            letter => {
                let code = u32::from(letter);
                // Writing to a string does not fail.
                let written = match code {
                    0..=0xff => write!(out, "\\x{code:02X}"),
                    0x100..=0xffff => write!(out, "\\u{code:04X}"),
                    _ => write!(out, "\\U{code:08X}"),
                };
                debug_assert!(written.is_ok(), "a string takes what is written");
                continue;
            }
        };
        out.push('\\');
        out.push(escape);
    }
    out.push('"');
}

/// Whether an unquoted text is read as a text and not as a number, a time or another value.
///
/// upstream: go.yaml.in/yaml/v2 resolve.go
fn is_text(value: &str) -> bool {
    if WORDS.contains(&value) {
        return value == "<<";
    }
    let Some(first) = value.bytes().next() else { return false };
    match first {
        b'.' => value.parse::<f64>().is_err() || value.contains(['n', 'N', 'i', 'I']),
        b'+' | b'-' | b'0'..=b'9' => {
            let unsigned = value.trim_start_matches(['+', '-']);
            let infinite = matches!(unsigned, ".inf" | ".Inf" | ".INF");
            !(infinite || is_time(value) || is_number(&value.replace('_', "")) || is_base60(value))
        }
        _ => true,
    }
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    let lower = unsigned.to_ascii_lowercase();
    if let Some(rest) = lower.strip_prefix("0x") {
        return digits(rest, 16) && u64::from_str_radix(rest, 16).is_ok();
    }
    for (prefix, radix) in [("0b", 2), ("0o", 8)] {
        if let Some(rest) = lower.strip_prefix(prefix) {
            return digits(rest, radix) && u64::from_str_radix(rest, radix).is_ok();
        }
    }
    if digits(unsigned, 10) {
        return true;
    }
    let (mantissa, exponent) = match lower.split_once('e') {
        Some((mantissa, exponent)) => (mantissa.to_owned(), Some(exponent.to_owned())),
        None => (lower.clone(), None),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((&mantissa, ""));
    let number = |text: &str| text.is_empty() || digits(text, 10);
    let good_exponent = exponent
        .is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(&exponent), 10));
    number(whole)
        && number(part)
        && !(whole.is_empty() && part.is_empty())
        && good_exponent
        // Go refuses what is too large for a float.
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Base 60 numbers of old: they are quoted for other readers.
fn is_base60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or("");
    let starts = first.starts_with(|c: char| c.is_ascii_digit())
        && first.chars().all(|c| c.is_ascii_digit() || c == '_');
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else { return false };
    let sixty = |part: &str| {
        let bytes = part.as_bytes();
        match bytes {
            [one] => one.is_ascii_digit(),
            [ten, one] => (b'0'..=b'5').contains(ten) && one.is_ascii_digit(),
            _ => false,
        }
    };
    let (whole, part) = last.split_once('.').unwrap_or((last, ""));
    let good = part.chars().all(|c| c.is_ascii_digit() || c == '_');
    starts && good && sixty(whole) && middle.iter().all(|part| sixty(part))
}

/// Times as the library reads them.
///
/// upstream: go.yaml.in/yaml/v2 resolve.go parseTimestamp
fn is_time(text: &str) -> bool {
    let year = text.bytes().take_while(u8::is_ascii_digit).count();
    if year != 4 || text.as_bytes().get(4) != Some(&b'-') {
        return false;
    }
    let mut fields = text[5..].splitn(2, '-');
    let month = fields.next().unwrap_or("");
    let rest = fields.next().unwrap_or("");
    let day_length = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (day, clock) = rest.split_at(day_length);
    let number = |text: &str, max: usize| {
        (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    let value = |text: &str| text.parse::<i8>().unwrap_or(0);
    if !number(month, 2) || !number(day, 2) {
        return false;
    }
    let date = jiff::civil::Date::new(text[..4].parse().unwrap_or(0), value(month), value(day));
    if date.is_err() {
        return false;
    }
    let Some(mark) = clock.chars().next() else { return true };
    let clock = &clock[mark.len_utf8()..];
    let (clock, zone) = match mark {
        'T' | 't' => {
            let at = clock.find(['Z', '+', '-']).unwrap_or(clock.len());
            let (clock, zone) = clock.split_at(at);
            (clock, Some(zone))
        }
        ' ' => (clock, None),
        _ => return false,
    };
    let good_zone = zone.is_none_or(|zone| {
        zone == "Z"
            || zone.split_once(':').is_some_and(|(hours, minutes)| {
                hours.len() == 3
                    && number(&hours[1..], 2)
                    && minutes.len() == 2
                    && number(minutes, 2)
            })
    });
    let parts: Vec<&str> = clock.split(':').collect();
    let [hours, minutes, seconds] = parts.as_slice() else { return false };
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let in_range = |text: &str, max: i8| number(text, 2) && value(text) < max;
    good_zone
        && in_range(hours, 24)
        && in_range(minutes, 60)
        && in_range(seconds, 60)
        && number(fraction, usize::MAX)
}

/// The order of keys: letters after everything else, numbers by their value.
///
/// upstream: go.yaml.in/yaml/v2 sorter.go keyList.Less
fn natural(a: &str, b: &str) -> Ordering {
    let (ar, br): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = ar.iter().zip(&br).position(|(a, b)| a != b) else {
        return ar.len().cmp(&br.len());
    };
    let (x, y) = (ar[at], br[at]);
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let mut start = 0_i64;
    if x == '0' || y == '0' {
        let before = ar[..at].iter().rev().take_while(|c| c.is_ascii_digit());
        if before.into_iter().any(|c| *c != '0') {
            start = 1;
        }
    }
    let number = |letters: &[char]| {
        let digits: Vec<i64> =
            letters[at..].iter().map_while(|c| c.to_digit(10)).map(i64::from).collect();
        let value = digits.iter().fold(start, |sum, d| sum.wrapping_mul(10).wrapping_add(*d));
        (value, digits.len())
    };
    number(&ar).cmp(&number(&br)).then(x.cmp(&y))
}
