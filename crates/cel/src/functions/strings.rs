//! Functions of texts, and patterns.
//!
//! upstream: vendor/github.com/google/cel-go/ext/strings.go (version 2),
//! staging/src/k8s.io/apiserver/pkg/cel/library/regex.go

use longshore_api::pattern::Pattern;

use super::{Context, Entry, Library, no_overload};
use crate::effort::TEXT_BYTES_MAX;
use crate::value::{EvalError, Outcome, Value};

/// The library.
pub const STRINGS: Library = Library {
    name: "strings",
    declarations: "
        charAt .string_char_at_int(string, int) string
        indexOf .string_index_of_string(string, string) int
        indexOf .string_index_of_string_int(string, string, int) int
        lastIndexOf .string_last_index_of_string(string, string) int
        lastIndexOf .string_last_index_of_string_int(string, string, int) int
        lowerAscii .string_lower_ascii(string) string
        replace .string_replace_string_string(string, string, string) string
        replace .string_replace_string_string_int(string, string, string, int) string
        split .string_split_string(string, string) list(string)
        split .string_split_string_int(string, string, int) list(string)
        substring .string_substring_int(string, int) string
        substring .string_substring_int_int(string, int, int) string
        trim .string_trim(string) string
        upperAscii .string_upper_ascii(string) string
        format .string_format(string, list(dyn)) string
        strings.quote strings_quote(string) string
        join .list_join(list(string)) string
        join .list_join_string(list(string), string) string
        find .string_find_string(string, string) string
        findAll .string_find_all_string(string, string) list(string)
        findAll .string_find_all_string_int(string, string, int) list(string)
    ",
    functions: FUNCTIONS,
};

/// The keys of JSON patches.
pub const JSON_PATCH: Library = Library {
    name: "jsonpatch",
    declarations: "jsonpatch.escapeKey string_jsonpatch_escapeKey_string(string) string",
    functions: &[("jsonpatch.escapeKey", |_, args| {
        changed(args, |text| text.replace('~', "~0").replace('/', "~1"))
    })],
};

const FUNCTIONS: &[Entry] = &[
    ("charAt", char_at),
    ("lowerAscii", |_, args| changed(args, str::to_ascii_lowercase)),
    ("upperAscii", |_, args| changed(args, str::to_ascii_uppercase)),
    ("trim", |_, args| changed(args, |text| text.trim_matches(is_space).to_owned())),
    ("replace", replace),
    ("split", split),
    ("substring", substring),
    ("format", super::format_text::format),
    ("strings.quote", |_, args| changed(args, quote)),
    ("join", join),
    ("find", find),
    ("findAll", find_all),
];

/// Go's white space.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() && !matches!(letter, '\u{1c}'..='\u{1f}')
}

fn changed<'a>(args: &[Value<'a>], change: impl Fn(&str) -> String) -> Outcome<'a> {
    match args {
        [Value::String(text)] => Ok(Value::text(change(text.as_str()))),
        _ => no_overload(),
    }
}

fn out_of_range(index: i64) -> EvalError {
    EvalError::new(format!("index out of range: {index}"))
}

/// The byte at which the character of this number begins; the one after the last is the end.
fn byte_of(text: &str, index: i64) -> Option<usize> {
    let index = usize::try_from(index).ok()?;
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(index)
}

fn char_at<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text), Value::Int(index)] = args else { return no_overload() };
    let at = byte_of(text.as_str(), *index).ok_or_else(|| out_of_range(*index))?;
    let letter = text.as_str()[at..].chars().next();
    Ok(Value::text(letter.map(String::from).unwrap_or_default()))
}

/// Where a text is within another one, in characters.
pub(super) fn index_of<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (text, part, from) = match args {
        [Value::String(text), Value::String(part)] => (text.as_str(), part.as_str(), 0),
        [Value::String(text), Value::String(part), Value::Int(from)] => {
            (text.as_str(), part.as_str(), *from)
        }
        _ => return no_overload(),
    };
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    if from < 0 {
        return Err(out_of_range(from));
    }
    let Some(start) = byte_of(text, from) else { return Ok(Value::Int(-1)) };
    let found = text[start..].find(part).map(|at| text[..start + at].chars().count() as i64);
    Ok(Value::Int(found.unwrap_or(-1)))
}

/// Where a text is within another one for the last time, in characters.
pub(super) fn last_index_of<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let (text, part, from) = match args {
        [Value::String(text), Value::String(part)] => {
            let count = text.as_str().chars().count() as i64;
            if part.as_str().is_empty() {
                return Ok(Value::Int(count));
            }
            if text.as_str().len() < part.as_str().len() {
                return Ok(Value::Int(-1));
            }
            (text.as_str(), part.as_str(), count - 1)
        }
        [Value::String(text), Value::String(part), Value::Int(from)] => {
            (text.as_str(), part.as_str(), *from)
        }
        _ => return no_overload(),
    };
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    if from < 0 {
        return Err(out_of_range(from));
    }
    let Some(start) = byte_of(text, from).filter(|start| *start < text.len()) else {
        return Ok(Value::Int(-1));
    };
    let mut end = (start + part.len()).min(text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let found = text[..end].rfind(part).filter(|at| *at <= start);
    Ok(Value::Int(found.map_or(-1, |at| text[..at].chars().count() as i64)))
}

fn replace<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, old, new, most) = match args {
        [Value::String(text), Value::String(old), Value::String(new)] => (text, old, new, -1),
        [Value::String(text), Value::String(old), Value::String(new), Value::Int(most)] => {
            (text, old, new, *most)
        }
        _ => return no_overload(),
    };
    let (text, old, new) = (text.as_str(), old.as_str(), new.as_str());
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let count = text.matches(old).take(most).count();
    if count.saturating_mul(new.len()) > TEXT_BYTES_MAX {
        return Err(EvalError::CostExceeded);
    }
    Ok(Value::text(text.replacen(old, new, count)))
}

/// upstream: Go's strings.SplitN
fn split<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, separator, most) = match args {
        [Value::String(text), Value::String(separator)] => (text.as_str(), separator.as_str(), -1),
        [Value::String(text), Value::String(separator), Value::Int(most)] => {
            (text.as_str(), separator.as_str(), *most)
        }
        _ => return no_overload(),
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if most == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let parts: Vec<Value<'a>> = if separator.is_empty() {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(letter) = rest.chars().next() {
            if parts.len() + 1 == most {
                break;
            }
            let (first, after) = rest.split_at(letter.len_utf8());
            parts.push(Value::text(first));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Value::text(rest));
        }
        parts
    } else {
        text.splitn(most, separator).map(Value::text).collect()
    };
    Ok(Value::list(parts))
}

fn substring<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text.as_str(), *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => {
            (text.as_str(), *start, Some(*end))
        }
        _ => return no_overload(),
    };
    if let Some(end) = end.filter(|end| start > *end) {
        return Err(EvalError::new(format!("invalid substring range. start: {start}, end: {end}")));
    }
    let from = byte_of(text, start).ok_or_else(|| out_of_range(start))?;
    let to = match end {
        Some(end) => byte_of(text, end).ok_or_else(|| out_of_range(end))?,
        None => text.len(),
    };
    Ok(Value::text(&text[from..to]))
}

fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn join<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, separator.as_str()),
        _ => return no_overload(),
    };
    let mut out = String::new();
    for (index, item) in list.iter().enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        match item? {
            Value::String(text) => out.push_str(text.as_str()),
            _ if args.len() == 1 => return Err(EvalError::new("no such overload: join(list)")),
            _ => return Err(EvalError::new("no such overload: join(list, string)")),
        }
    }
    Ok(Value::text(out))
}

fn matching<'a>(
    context: &Context<'_>,
    text: &str,
    pattern: &str,
    most: usize,
) -> Result<Vec<Value<'a>>, EvalError> {
    let own;
    let pattern = match context.pattern {
        Some(pattern) => pattern,
        None => {
            own = Pattern::new(pattern);
            &own
        }
    };
    let found = pattern
        .find(text, most)
        .map_err(|error| EvalError::new(format!("Illegal regex: {error}")))?;
    Ok(found.into_iter().map(Value::text).collect())
}

fn find<'a>(context: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text), Value::String(pattern)] = args else { return no_overload() };
    let found = matching(context, text.as_str(), pattern.as_str(), 1)?;
    Ok(found.into_iter().next().unwrap_or_else(|| Value::text("")))
}

fn find_all<'a>(context: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, pattern, most) = match args {
        [Value::String(text), Value::String(pattern)] => (text, pattern, -1),
        [Value::String(text), Value::String(pattern), Value::Int(most)] => (text, pattern, *most),
        _ => return no_overload(),
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    Ok(Value::list(matching(context, text.as_str(), pattern.as_str(), most)?))
}
