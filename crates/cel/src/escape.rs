//! Names of fields as expressions can say them.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/escaping.go

use std::borrow::Cow;

const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

const PARTS: [(&str, &str); 4] =
    [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// Whether a word cannot be a name.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// The name that an expression uses for a field, if it can name it at all.
pub fn escape(name: &str) -> Option<Cow<'_, str>> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if is_reserved(name) {
        return Some(Cow::Owned(format!("__{name}__")));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/')) {
        return None;
    }
    if !name.contains(['.', '-', '/']) && !name.contains("__") {
        return Some(Cow::Borrowed(name));
    }
    let mut out = String::with_capacity(name.len() + 16);
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let part = PARTS.iter().find(|(plain, _)| rest.starts_with(plain));
        match part {
            Some((plain, escaped)) => {
                out.push_str(escaped);
                rest = &rest[plain.len()..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    Some(Cow::Owned(out))
}

/// The field that a name in an expression means, unless the name is escaped wrongly.
pub fn unescape(name: &str) -> Option<Cow<'_, str>> {
    if !name.contains("__") {
        return Some(Cow::Borrowed(name));
    }
    let mut out = String::with_capacity(name.len());
    let mut at = 0;
    while let Some(found) = name[at..].find("__") {
        let start = at + found;
        out.push_str(&name[at..start]);
        let inner = &name[start + 2..];
        // The escape runs to the next underscore, of which there have to be two.
        let end = inner.find('_').unwrap_or(inner.len());
        if end == 0 || !inner[end..].starts_with("__") {
            out.push('_');
            at = start + 1;
            continue;
        }
        let word = &inner[..end];
        match PARTS.iter().find(|(_, escaped)| escaped.trim_matches('_') == word) {
            Some((plain, _)) => out.push_str(plain),
            None if is_reserved(word) && end + 4 == name.len() => out.push_str(word),
            None => return None,
        }
        at = start + 2 + end + 2;
    }
    out.push_str(&name[at..]);
    Some(Cow::Owned(out))
}
