//! What a request asks for, parsed from its method and path.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/request/requestinfo.go

use std::collections::BTreeMap;

use http::{Method, Uri};

/// A parsed request line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether the path names a resource; otherwise only `path` and `verb` are set.
    pub is_resource: bool,
    /// The decoded path.
    pub path: String,
    /// API verb (`get`, `list`, `watch`, `create`, ...) or the lower-case HTTP method.
    pub verb: &'static str,
    /// API group; empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace; empty for cluster scope and for all namespaces.
    pub namespace: String,
    /// Plural.
    pub resource: String,
    /// Subresource; empty for none.
    pub subresource: String,
    /// Object name; empty for collections.
    pub name: String,
    /// What follows the subresource (`proxy/a/b` gives `a/b`).
    pub rest: String,
    /// Whether the path asks for a watch by its prefix `watch/`.
    pub legacy_watch: bool,
    /// Whether two slashes follow each other in the path.
    pub has_empty_segment: bool,
    /// Query parameters; the first value of each counts.
    pub query: BTreeMap<String, Vec<String>>,
}

impl RequestInfo {
    /// The first value of a query parameter; empty when absent.
    pub fn param(&self, name: &str) -> &str {
        self.query.get(name).and_then(|v| v.first()).map_or("", String::as_str)
    }

    /// Whether a query parameter is true as Go's option decoding sees it: anything but an absent
    /// value, `false` and `0`.
    pub fn flag(&self, name: &str) -> bool {
        match self.query.get(name).and_then(|v| v.first()) {
            None => false,
            Some(value) => !matches!(value.to_lowercase().as_str(), "false" | "0"),
        }
    }

    /// Parses a request line.
    pub fn parse(method: &Method, uri: &Uri) -> Self {
        let path = percent_decode(uri.path(), false);
        let query = parse_query(uri.query().unwrap_or(""));
        let mut info = Self { path, query, verb: lower(method), ..Self::default() };
        info.has_empty_segment = info.path.contains("//");
        // Slashes between count: what is between two of them is an empty name.
        let segments: Vec<String> =
            info.path.trim_matches('/').split('/').map(str::to_owned).collect();
        let mut parts = segments.iter().map(String::as_str);
        match parts.next() {
            Some("api") => {}
            Some("apis") => match parts.next() {
                Some(group) => info.group = group.to_owned(),
                None => return info,
            },
            _ => return info,
        }
        let Some(version) = parts.next() else { return info };
        info.version = version.to_owned();
        let mut rest: Vec<&str> = parts.collect();
        if rest.is_empty() {
            return info;
        }
        info.is_resource = true;
        let legacy_watch = rest[0] == "watch" && rest.len() > 1;
        if legacy_watch {
            rest.remove(0);
        }
        info.legacy_watch = legacy_watch;
        if rest[0] == "namespaces" && rest.len() > 1 {
            info.namespace = rest[1].to_owned();
            let own_subresource = rest.len() > 2 && matches!(rest[2], "status" | "finalize");
            if rest.len() > 2 && !own_subresource {
                rest.drain(..2);
            }
        }
        let at = |i: usize| rest.get(i).map_or(String::new(), |s| (*s).to_owned());
        (info.resource, info.name, info.subresource) = (at(0), at(1), at(2));
        info.rest = rest.get(3..).map_or(String::new(), |r| r.join("/"));
        info.verb = info.resource_verb(method, legacy_watch);
        info
    }

    fn resource_verb(&self, method: &Method, legacy_watch: bool) -> &'static str {
        let collection = self.name.is_empty();
        match *method {
            _ if legacy_watch => "watch",
            Method::GET | Method::HEAD if !collection => "get",
            Method::GET | Method::HEAD if self.flag("watch") => "watch",
            Method::GET | Method::HEAD => "list",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if collection => "deletecollection",
            Method::DELETE => "delete",
            _ => "",
        }
    }
}

fn lower(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

/// Decodes percent escapes; `plus` also turns `+` into a space (query strings). What is no escape
/// stays as it is.
pub fn percent_decode(text: &str, plus: bool) -> String {
    let (decoded, _) = unescape(text, plus);
    decoded
}

/// The decoded text, and whether every `%` starts an escape.
fn unescape(text: &str, plus: bool) -> (String, bool) {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut good = true;
    let mut i = 0;
    while i < bytes.len() {
        let hex = (bytes[i] == b'%')
            .then(|| text.get(i + 1..i + 3))
            .flatten()
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[i], hex) {
            (_, Some(byte)) => {
                out.push(byte);
                i += 3;
                continue;
            }
            (b'+', _) if plus => out.push(b' '),
            (byte, _) => {
                good &= byte != b'%';
                out.push(byte);
            }
        }
        i += 1;
    }
    (String::from_utf8_lossy(&out).into_owned(), good)
}

/// Parses a query string. Pairs that Go cannot read are left out.
///
/// upstream: Go's net/url ParseQuery
pub fn parse_query(query: &str) -> BTreeMap<String, Vec<String>> {
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in query.split('&').filter(|p| !p.is_empty() && !p.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let ((key, true), (value, true)) = (unescape(key, true), unescape(value, true)) {
            map.entry(key).or_default().push(value);
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, uri: &str) -> RequestInfo {
        RequestInfo::parse(&method, &uri.parse().expect("a valid test URI"))
    }

    #[test]
    fn verbs_follow_method_name_and_watch() {
        for (method, uri, verb) in [
            (Method::GET, "/api/v1/pods", "list"),
            (Method::GET, "/api/v1/pods?watch=1", "watch"),
            (Method::GET, "/api/v1/pods?watch=false", "list"),
            (Method::GET, "/api/v1/namespaces/a/pods/b", "get"),
            (Method::POST, "/api/v1/namespaces/a/pods", "create"),
            (Method::DELETE, "/api/v1/namespaces/a/pods", "deletecollection"),
            (Method::DELETE, "/api/v1/namespaces/a/pods/b", "delete"),
            (Method::GET, "/api/v1/watch/pods", "watch"),
            (Method::GET, "/healthz", "get"),
        ] {
            assert_eq!(parse(method, uri).verb, verb, "{uri}");
        }
    }

    #[test]
    fn namespaces_are_both_a_resource_and_a_scope() {
        let own = parse(Method::PUT, "/api/v1/namespaces/a/finalize");
        assert_eq!(
            (&*own.resource, &*own.name, &*own.subresource),
            ("namespaces", "a", "finalize")
        );
        let scope = parse(Method::GET, "/apis/apps/v1/namespaces/a/deployments/web/scale");
        assert_eq!(
            (&*scope.namespace, &*scope.resource, &*scope.name, &*scope.subresource),
            ("a", "deployments", "web", "scale")
        );
    }

    #[test]
    fn escapes_are_decoded_once() {
        let info = parse(Method::GET, "/api/v1/pods?labelSelector=a%3Db%2Cc+d");
        assert_eq!(info.param("labelSelector"), "a=b,c d");
    }
}
