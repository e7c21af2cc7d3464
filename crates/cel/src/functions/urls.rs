//! URLs.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/library/urls.go, Go's net/url

use std::any::Any;
use std::collections::BTreeMap;

use longshore_api::structural::formats;

use super::{Context, Entry, Library, no_overload};
use crate::types::Type;
use crate::value::{EvalError, Key, Opaque, Outcome, Value};

/// The library.
pub const URLS: Library = Library {
    name: "urls",
    declarations: "
        url string_to_url(string) #kubernetes.URL
        getScheme .url_get_scheme(#kubernetes.URL) string
        getHost .url_get_host(#kubernetes.URL) string
        getHostname .url_get_hostname(#kubernetes.URL) string
        getPort .url_get_port(#kubernetes.URL) string
        getEscapedPath .url_get_escaped_path(#kubernetes.URL) string
        getQuery .url_get_query(#kubernetes.URL) map(string, list(string))
        isURL is_url_string(string) bool
    ",
    functions: FUNCTIONS,
};

const FUNCTIONS: &[Entry] = &[
    ("url", url),
    ("getScheme", |_, args| of(args, |url| Value::text(&*url.scheme))),
    ("getHost", |_, args| of(args, |url| Value::text(&*url.host))),
    ("getHostname", |_, args| of(args, |url| Value::text(url.parts().0))),
    ("getPort", |_, args| of(args, |url| Value::text(url.parts().1))),
    ("getEscapedPath", |_, args| of(args, |url| Value::text(escaped(&url.path)))),
    ("getQuery", |_, args| of(args, |url| query(&url.query))),
    ("isURL", |_, args| match args {
        [Value::String(text)] => Ok(Value::Bool(formats::fits("uri", text.as_str()))),
        _ => no_overload(),
    }),
];

/// A URL in parts.
#[derive(Debug, PartialEq)]
struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
    rest: String,
}

impl Opaque for Url {
    fn type_of(&self) -> Type {
        Type::object("kubernetes.URL")
    }
    fn equals(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|other| other == self)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Url {
    /// Of a text that is a URL.
    fn parse(text: &str) -> Self {
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            _ => (String::new(), text),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut host, mut path, mut opaque) = ("", rest, "");
        let mut user = "";
        if !rest.starts_with('/') && !scheme.is_empty() {
            (path, opaque) = ("", rest);
        } else if let Some(after) =
            rest.strip_prefix("//").filter(|_| !scheme.is_empty() || !rest.starts_with("///"))
        {
            let end = after.find('/').unwrap_or(after.len());
            (host, path) = after.split_at(end);
            if let Some((before, after)) = host.rsplit_once('@') {
                (user, host) = (before, after);
            }
        }
        Self {
            scheme,
            host: unescaped(host, false).unwrap_or_else(|| host.to_owned()),
            path: path.to_owned(),
            query: query.to_owned(),
            rest: format!("{user}@{opaque}#{fragment}"),
        }
    }

    /// The name and the port.
    fn parts(&self) -> (&str, &str) {
        let (name, port) = match self.host.rfind(':') {
            Some(at)
                if self.host[at + 1..].bytes().all(|b| b.is_ascii_digit())
                    && !self.host[at..].contains(']') =>
            {
                (&self.host[..at], &self.host[at + 1..])
            }
            _ => (self.host.as_str(), ""),
        };
        (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

fn url<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    let text = text.as_str();
    if formats::fits("uri", text) {
        return Ok(Value::opaque(Url::parse(text)));
    }
    Err(EvalError::new(format!("URL parse error during conversion from string: {}", why_not(text))))
}

/// What is wrong with a text that is no URL.
pub(super) fn why_not(text: &str) -> String {
    let why = if text.is_empty() {
        "empty url".to_owned()
    } else if text.bytes().any(|b| b < b' ' || b == 0x7f) {
        "net/url: invalid control character in URL".to_owned()
    } else if text.starts_with(':') {
        "missing protocol scheme".to_owned()
    } else {
        let scheme = text.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme));
        if !scheme && !text.starts_with('/') {
            "invalid URI for request".to_owned()
        } else {
            let bad = text.split('%').skip(1).find(|after| {
                !after
                    .as_bytes()
                    .get(..2)
                    .is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit))
            });
            match bad {
                Some(after) => {
                    format!(
                        "invalid URL escape {:?}",
                        format!("%{}", after.chars().take(2).collect::<String>())
                    )
                }
                None => host_problem(text),
            }
        }
    };
    format!("parse {text:?}: {why}")
}

fn host_problem(text: &str) -> String {
    let after = text.split_once("//").map_or("", |(_, after)| after);
    let host = after.split(['/', '?']).next().unwrap_or("");
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if let Some(at) = host.rfind(':')
        && !host[at + 1..].bytes().all(|b| b.is_ascii_digit())
    {
        return format!("invalid port {:?} after host", &host[at..]);
    }
    let bad = host.chars().find(|c| {
        c.is_ascii() && !c.is_ascii_alphanumeric() && !"-._~!$&'()*+,;=:[]<>\"%".contains(*c)
    });
    match bad {
        Some(letter) => format!("invalid character {:?} in host name", letter.to_string()),
        None => "invalid URI for request".to_owned(),
    }
}

fn of<'a>(args: &[Value<'a>], tell: impl Fn(&Url) -> Value<'a>) -> Outcome<'a> {
    match args {
        [value] => match value.downcast::<Url>() {
            Some(url) => Ok(tell(url)),
            None => no_overload(),
        },
        _ => no_overload(),
    }
}

fn unescaped(text: &str, plus: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let digits = text.get(at + 1..at + 3)?;
                if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                out.push(u8::from_str_radix(digits, 16).ok()?);
                at += 2;
            }
            b'+' if plus => out.push(b' '),
            other => out.push(other),
        }
        at += 1;
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// A path with everything escaped that has to be; as it was where nothing has.
fn escaped(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:@[]/%".contains(&b);
    if path.bytes().all(plain) {
        return path.to_owned();
    }
    let decoded = unescaped(path, false).unwrap_or_else(|| path.to_owned());
    let kept = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b);
    let mut out = String::with_capacity(decoded.len());
    for byte in decoded.bytes() {
        if kept(byte) { out.push(char::from(byte)) } else { out.push_str(&format!("%{byte:02X}")) }
    }
    out
}

fn query<'a>(text: &str) -> Value<'a> {
    let mut found: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
    for part in text.split('&').filter(|part| !part.is_empty() && !part.contains(';')) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if let (Some(name), Some(value)) = (unescaped(name, true), unescaped(value, true)) {
            found.entry(name).or_default().push(Value::text(value));
        }
    }
    Value::map(
        found
            .into_iter()
            .map(|(name, values)| (Key::String(name.into()), Value::list(values)))
            .collect(),
    )
}
