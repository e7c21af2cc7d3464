//! JSON values as Go's `fmt` package prints them; error messages of patches hold such text.

use serde_json::{Number, Value};

/// A value as Go's `%v` prints it: `map[a:1 b:[x y] c:<nil>]`.
pub fn plain(value: &Value) -> String {
    let mut out = String::new();
    write(value, false, &mut out);
    out
}

/// A value as Go's `%s` prints it: as [`plain`], but what is no text names its type.
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, true, &mut out);
    out
}

/// A value as Go's `%#v` prints it: `map[string]interface {}{"a":1}`.
pub fn syntax(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => match number.as_f64() {
            // Decoded JSON holds floats, which this form shortens early.
            Some(float) if float.abs() >= 1e6 => exponent(float),
            _ => go_number(number),
        },
        Value::String(text) => quote(text),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", list(items.iter().map(syntax).collect()))
        }
        Value::Object(fields) => {
            let pairs =
                fields.iter().map(|(key, value)| format!("{}:{}", quote(key), syntax(value)));
            format!("map[string]interface {{}}{{{}}}", list(pairs.collect()))
        }
    }
}

/// A value as Go's JSON encoder writes it: floats in their shortest form, and what means something in
/// HTML escaped.
pub fn json(value: &Value) -> String {
    let mut out = String::new();
    write_json(value, &mut out);
    out
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => out.push_str(&json_number(number)),
        Value::String(text) => write_json_text(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (index, (key, value)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json_text(key, out);
                out.push(':');
                write_json(value, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn write_json_text(text: &str, out: &mut String) {
    for letter in Value::from(text).to_string().chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            other => out.push(other),
        }
    }
}

/// A number in JSON: with an exponent below 1e-6 and from 1e21 on.
fn json_number(number: &Number) -> String {
    let float = match number.as_f64() {
        Some(float) if number.is_f64() => float,
        _ => return number.to_string(),
    };
    if float == 0.0 || (1e-6..1e21).contains(&float.abs()) {
        return float.to_string();
    }
    // The encoder leaves out the zero of exponents that Go pads otherwise.
    exponent(float).replace("e-0", "e-")
}

/// A text as Go's `%q` prints it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            _ if prints(letter) => out.push(letter),
            '\0'..='\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(letter))),
            '\u{80}'..='\u{ffff}' => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(letter))),
        }
    }
    out.push('"');
    out
}

/// Whether Go holds a letter printable: no control, no format character, no blank but the space.
pub fn prints(letter: char) -> bool {
    if letter == ' ' {
        return true;
    }
    let format = matches!(letter,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}');
    !letter.is_control() && !letter.is_whitespace() && !format
}

fn write(value: &Value, as_text: bool, out: &mut String) {
    let scalar = |go_type: &str, text: String| {
        if as_text { format!("%!s({go_type}={text})") } else { text }
    };
    match value {
        Value::Null if as_text => out.push_str("%!s(<nil>)"),
        Value::Null => out.push_str("<nil>"),
        Value::Bool(flag) => out.push_str(&scalar("bool", flag.to_string())),
        Value::Number(number) => {
            let go_type = if number.is_f64() { "float64" } else { "int64" };
            out.push_str(&scalar(go_type, go_number(number)));
        }
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                write(item, as_text, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push_str("map[");
            // Go prints maps in the order of their keys.
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_unstable();
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                write(&fields[key], as_text, out);
            }
            out.push(']');
        }
    }
}

/// A number as Go prints it: the shortest text, with an exponent below 1e-4 and from 1e21 on.
fn go_number(number: &Number) -> String {
    let float = match number.as_f64() {
        Some(float) if number.is_f64() => float,
        _ => return number.to_string(),
    };
    if float == 0.0 || (1e-4..1e21).contains(&float.abs()) {
        return float.to_string();
    }
    exponent(float)
}

fn exponent(float: f64) -> String {
    let text = format!("{float:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_print_as_in_go() {
        let value = json!({"b": [1, "x", true, null], "a": {"f": 1.5, "big": 1e300}});
        assert_eq!(plain(&value), "map[a:map[big:1e+300 f:1.5] b:[1 x true <nil>]]");
        assert_eq!(text(&json!([5, "x", null])), "[%!s(int64=5) x %!s(<nil>)]");
        assert_eq!(plain(&json!([1e-7, 2.0])), "[1e-07 2]");
        let typed = r#"map[string]interface {}{"a":[]interface {}{1, true, "x", 1.2e+06}}"#;
        assert_eq!(syntax(&json!({"a": [1, true, "x", 1_200_000]})), typed);
        assert_eq!(quote("a\"\\\n\u{1}\u{e9}\u{a0}\u{200b}"), r#""a\"\\\n\x01é\u00a0\u200b""#);
    }
}
