//! URLs.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/library/urls.go

use std::any::Any;
use std::collections::BTreeMap;

use longshore_api::url::Url;

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
    ("getHostname", |_, args| of(args, |url| Value::text(url.host_and_port().0))),
    ("getPort", |_, args| of(args, |url| Value::text(url.host_and_port().1))),
    ("getEscapedPath", |_, args| of(args, |url| Value::text(url.escaped_path()))),
    ("getQuery", |_, args| of(args, query)),
    ("isURL", |_, args| match args {
        [Value::String(text)] => Ok(Value::Bool(Url::of_request(text.as_str()).is_ok())),
        _ => no_overload(),
    }),
];

/// A URL.
#[derive(Debug)]
struct Location(Url);

impl Opaque for Location {
    fn type_of(&self) -> Type {
        Type::object("kubernetes.URL")
    }
    fn equals(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref::<Self>().is_some_and(|other| other.0 == self.0)
    }
    fn bytes(&self) -> usize {
        self.0.len()
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn url<'a>(_: &Context<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else { return no_overload() };
    let read = Url::of_request(text.as_str()).and_then(|_| Url::parse(text.as_str()));
    let wrong =
        |why| EvalError::new(format!("URL parse error during conversion from string: {why}"));
    read.map(|url| Value::opaque(Location(url))).map_err(wrong)
}

fn of<'a>(args: &[Value<'a>], tell: impl Fn(&Url) -> Value<'a>) -> Outcome<'a> {
    match args {
        [value] => match value.downcast::<Location>() {
            Some(Location(url)) => Ok(tell(url)),
            None => no_overload(),
        },
        _ => no_overload(),
    }
}

fn query<'a>(url: &Url) -> Value<'a> {
    let mut found: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
    for (name, value) in url.query() {
        found.entry(name).or_default().push(Value::text(value));
    }
    Value::map(
        found
            .into_iter()
            .map(|(name, values)| (Key::String(name.into()), Value::list(values)))
            .collect(),
    )
}
