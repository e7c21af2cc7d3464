//! Patterns of expected answers.
//!
//! An object matches when every key of the pattern is there and matches; a list when it is as long
//! and every item matches; everything else when it is equal. An object with one key that begins
//! with `$` is an operator; see [`operator`].

use serde_json::Value;

/// Why a value does not match, with the path to it; `None` when it does.
pub fn mismatch(pattern: &Value, value: &Value) -> Option<String> {
    at(pattern, Some(value), "")
}

fn at(pattern: &Value, value: Option<&Value>, path: &str) -> Option<String> {
    if let Value::Object(map) = pattern
        && let Some((name, argument)) = map.iter().next()
        && map.len() == 1
        && name.starts_with('$')
    {
        return operator(name, argument, value, path);
    }
    let Some(value) = value else { return Some(format!("{path} is missing, wanted {pattern}")) };
    match (pattern, value) {
        (Value::Object(wanted), Value::Object(map)) => wanted
            .iter()
            .find_map(|(key, pattern)| at(pattern, map.get(key), &format!("{path}/{key}"))),
        (Value::Array(wanted), Value::Array(list)) if wanted.len() == list.len() => {
            let mut pairs = wanted.iter().zip(list).enumerate();
            pairs.find_map(|(i, (pattern, item))| at(pattern, Some(item), &format!("{path}/{i}")))
        }
        _ if pattern == value => None,
        _ => Some(format!("{path} is {}, wanted {pattern}", short(value))),
    }
}

/// The operators: `$absent` (missing), `$exact` (equal in every key), `$not` (must not match),
/// `$contains`, `$starts`, `$ends` (text), `$digits` (text of digits only), `$type` (a JSON type),
/// `$length` (of a list, object or text), `$some` (an item matches), `$every` (each item matches),
/// `$none` (no item matches), `$all` (all of these patterns match).
fn operator(name: &str, argument: &Value, value: Option<&Value>, path: &str) -> Option<String> {
    if name == "$absent" {
        return value.map(|value| format!("{path} is {}, wanted nothing", short(value)));
    }
    if name == "$not" {
        return match at(argument, value, path) {
            None => Some(format!("{path} must not be {argument}")),
            Some(_) => None,
        };
    }
    let Some(value) = value else {
        return Some(format!("{path} is missing, wanted {name} {argument}"));
    };
    let list = value.as_array().map_or(&[][..], Vec::as_slice);
    let text = value.as_str().unwrap_or("");
    let wanted = argument.as_str().unwrap_or("");
    let holds = match name {
        "$exact" => value == argument,
        "$contains" => value.is_string() && text.contains(wanted),
        "$starts" => value.is_string() && text.starts_with(wanted),
        "$ends" => value.is_string() && text.ends_with(wanted),
        "$digits" => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()),
        "$type" => wanted == type_of(value),
        "$length" => length(value) == argument.as_u64(),
        "$some" => list.iter().any(|item| at(argument, Some(item), path).is_none()),
        "$none" => {
            value.is_array() && !list.iter().any(|item| at(argument, Some(item), path).is_none())
        }
        "$every" => {
            let mut wrong = list.iter().enumerate();
            return wrong.find_map(|(i, item)| at(argument, Some(item), &format!("{path}/{i}")));
        }
        "$all" => {
            let patterns = argument.as_array().map_or(&[][..], Vec::as_slice);
            return patterns.iter().find_map(|pattern| at(pattern, Some(value), path));
        }
        other => return Some(format!("the pattern at {path} has an unknown operator {other}")),
    };
    (!holds).then(|| format!("{path} is {}, wanted {name} {argument}", short(value)))
}

fn length(value: &Value) -> Option<u64> {
    let length = match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        Value::String(text) => text.len(),
        _ => return None,
    };
    u64::try_from(length).ok()
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value for a message, cut to a readable length.
pub fn short(value: &Value) -> String {
    const SHOWN_MAX: usize = 600;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns_match_parts_and_tell_the_path() {
        let value = json!({"a": [{"b": 1, "c": "text"}, {"b": 2}], "n": 1.5});
        for pattern in [
            json!({"a": [{"b": 1}, {}]}),
            json!({"a": {"$some": {"b": 2}}, "z": {"$absent": true}}),
            json!({"a": {"$every": {"b": {"$type": "integer"}}}, "n": {"$type": "number"}}),
            json!({"a": {"$length": 2}}),
            json!({"a": {"$none": {"b": 3}}}),
            json!({"a": [{"c": {"$contains": "ex"}}, {"c": {"$absent": true}}]}),
            json!({"a": {"$not": [{"b": 2}, {}]}}),
            json!({"a": {"$all": [{"$some": {"b": 1}}, {"$some": {"b": 2}}]}}),
        ] {
            assert_eq!(mismatch(&pattern, &value), None, "{pattern}");
        }
        for (pattern, path) in [
            (json!({"a": [{"b": 2}, {}]}), "/a/0/b is 1"),
            (json!({"a": [{}]}), "/a is"),
            (json!({"z": 1}), "/z is missing"),
            (json!({"a": {"$every": {"c": "text"}}}), "/a/1/c is missing"),
            (json!({"n": {"$unknown": 1}}), "unknown operator"),
            (json!({"a": {"$exact": [{"b": 1}, {"b": 2}]}}), "/a is"),
            (json!({"n": {"$absent": true}}), "/n is 1.5"),
            (json!({"a": {"$none": {"b": 2}}}), "/a is"),
        ] {
            let why = mismatch(&pattern, &value).expect("must not match");
            assert!(why.contains(path), "{why}");
        }
    }
}
