//! Which paths and methods there are, and which formats they take and give: what upstream's router
//! decides before any handler sees the request.
//!
//! upstream: github.com/emicklei/go-restful/v3 {curly,jsr311,route}.go,
//! staging/src/k8s.io/apiserver/pkg/endpoints/installer.go

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use longshore_api::{Reason, StatusError};
use longshore_resources::Resource;
use longshore_resources::table::Text;

use super::negotiate::{self, Shapes};
use super::{apply, connect};
use crate::handler::{method_not_allowed, no_such_resource};
use crate::request_info::RequestInfo;

/// The media types of patches.
const PATCH_TYPES: [&str; 5] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    apply::APPLY_YAML,
    apply::APPLY_CBOR,
];

/// The media types of patches, with or without CBOR.
pub fn patch_types(cbor: bool) -> &'static [&'static str] {
    if cbor { &PATCH_TYPES } else { &PATCH_TYPES[..PATCH_TYPES.len() - 1] }
}

/// Checks path, method and media types of a request to a resource.
///
/// # Errors
/// 404, 405, 415 and 406, in this order.
pub fn check(
    resource: &Resource,
    info: &RequestInfo,
    method: &Method,
    headers: &HeaderMap,
    cbor: bool,
) -> Result<(), StatusError> {
    let verbs = verbs(resource, info);
    if info.has_empty_segment || verbs.is_empty() {
        return Err(no_such_resource());
    }
    let proxied = info.subresource == "proxy" && matches!(*method, Method::HEAD | Method::OPTIONS);
    if !proxied && !verbs.iter().any(|verb| method_of(verb) == Some(method)) {
        return Err(method_not_allowed());
    }
    if connect::is_stream(&info.subresource) && info.subresource != "log" {
        return Ok(());
    }
    if *method == Method::PATCH && !takes_patch(headers, cbor) {
        let message = "415: Unsupported Media Type";
        return Err(StatusError::new(Reason::UnsupportedMediaType, message));
    }
    check_accept(headers, &produced(info, method, cbor))
}

/// The verbs of the path of a request; none when there is no such path.
fn verbs<'a>(resource: &'a Resource, info: &RequestInfo) -> Vec<&'a str> {
    let scope_fits = if resource.namespaced() {
        !info.namespace.is_empty() || (info.name.is_empty() && info.subresource.is_empty())
    } else {
        info.namespace.is_empty() || info.resource == "namespaces"
    };
    if !scope_fits {
        return Vec::new();
    }
    let among = |of: &'a [Text], wanted: &[&str]| -> Vec<&'a str> {
        of.iter().map(|verb| &**verb).filter(|verb| wanted.contains(verb)).collect()
    };
    if info.legacy_watch {
        let verbs = if info.subresource.is_empty() { &resource.verbs[..] } else { &[] };
        return among(verbs, &["watch"]);
    }
    if !info.subresource.is_empty() {
        let Some(sub) = resource.subresource(&info.subresource) else { return Vec::new() };
        if !info.rest.is_empty() && info.subresource != "proxy" {
            return Vec::new();
        }
        return sub.verbs.iter().map(|verb| &**verb).collect();
    }
    if !info.name.is_empty() {
        return among(&resource.verbs, &["get", "update", "patch", "delete"]);
    }
    if resource.namespaced() && info.namespace.is_empty() {
        return among(&resource.verbs, &["list", "watch"]);
    }
    among(&resource.verbs, &["list", "watch", "create", "deletecollection"])
}

fn method_of(verb: &str) -> Option<&'static Method> {
    match verb {
        "get" | "list" | "watch" => Some(&Method::GET),
        "create" => Some(&Method::POST),
        "update" => Some(&Method::PUT),
        "patch" => Some(&Method::PATCH),
        "delete" | "deletecollection" => Some(&Method::DELETE),
        _ => None,
    }
}

/// The media types of a list of them, without parameters.
fn listed(header: &str) -> impl Iterator<Item = &str> {
    header.split(',').map(|clause| clause.split(';').next().unwrap_or("").trim_matches(' '))
}

fn takes_patch(headers: &HeaderMap, cbor: bool) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    listed(given).any(|media_type| patch_types(cbor).contains(&media_type))
}

/// The media types of the answers of a path, as text.
fn produced(info: &RequestInfo, method: &Method, cbor: bool) -> String {
    let mut types = negotiate::media_types(cbor);
    let collection = info.name.is_empty() || info.legacy_watch;
    if collection && *method == Method::GET {
        types = format!("{types}, {}", negotiate::stream_media_types(cbor));
    }
    if info.subresource == "log" { format!("text/plain, {types}") } else { types }
}

/// Whether one of the media types of a path may be sent.
///
/// # Errors
/// 406 with the media types of the path.
pub fn check_accept(headers: &HeaderMap, produced: &str) -> Result<(), StatusError> {
    let accept = negotiate::header(headers);
    let fits = |wanted: &str| wanted == "*/*" || produced.split(", ").any(|type_| type_ == wanted);
    if accept.is_empty() || listed(accept).any(fits) {
        return Ok(());
    }
    let message = format!("406: Not Acceptable\n\nAvailable representations: {produced}");
    Err(StatusError::new(Reason::NotAcceptable, message))
}

/// The shapes that the answers of a path can take.
pub fn shapes(resource: &Resource, info: &RequestInfo) -> Shapes {
    if resource.custom.is_some() {
        return Shapes::Custom;
    }
    let has_columns = match info.subresource.as_str() {
        "" => !resource.storage.is_empty() || resource.has_verb("list"),
        "status" | "scale" => true,
        _ => false,
    };
    if has_columns { Shapes::All } else { Shapes::Metadata }
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;
    use http::{HeaderValue, Uri};

    use super::*;

    fn code(method: &Method, path: &str, headers: &HeaderMap) -> u16 {
        let uri: Uri = path.parse().expect("a test path");
        let info = RequestInfo::parse(method, &uri);
        let all = longshore_resources::all();
        let resource = all.iter().find(|r| {
            (&*r.group, &*r.version, &*r.plural) == (&*info.group, &*info.version, &*info.resource)
        });
        let resource = resource.expect("a known resource");
        check(resource, &info, method, headers, false).map_or_else(|error| error.code, |()| 200)
    }

    #[test]
    fn paths_and_methods_follow_the_verbs() {
        let none = HeaderMap::new();
        for (method, path, want) in [
            (Method::GET, "/api/v1/pods", 200),
            (Method::POST, "/api/v1/pods", 405),
            (Method::GET, "/api/v1/pods/a", 404),
            (Method::POST, "/api/v1/namespaces/n/pods", 200),
            (Method::POST, "/api/v1/namespaces/n/pods/a", 405),
            (Method::GET, "/api/v1/namespaces/n/pods/a/status/x", 404),
            (Method::GET, "/api/v1/namespaces/n/pods/a/proxy/x/y", 200),
            (Method::GET, "/api/v1/namespaces/n/pods//a", 404),
            (Method::GET, "/api/v1/namespaces/n/nodes", 404),
            (Method::PUT, "/api/v1/namespaces", 405),
            (Method::DELETE, "/api/v1/namespaces", 405),
            (Method::POST, "/api/v1/namespaces/n", 405),
            (Method::GET, "/api/v1/namespaces/n/bindings", 405),
            (Method::GET, "/api/v1/watch/pods", 200),
            (Method::POST, "/api/v1/watch/namespaces/n/pods", 405),
            (Method::GET, "/apis/authentication.k8s.io/v1/tokenreviews/x", 404),
            (Method::GET, "/apis/authentication.k8s.io/v1/tokenreviews", 405),
            (Method::PATCH, "/api/v1/namespaces/n/pods/a", 415),
            (Method::OPTIONS, "/api/v1/pods", 405),
        ] {
            assert_eq!(code(&method, path, &none), want, "{method} {path}");
        }
    }

    #[test]
    fn the_router_knows_media_types_only_by_their_exact_names() {
        let pod = "/api/v1/namespaces/n/pods/a";
        for (accept, want) in [
            ("application/json", 200),
            ("text/html, */*;q=0.1", 200),
            ("application/*", 406),
            ("Application/JSON", 406),
            (",", 406),
            ("application/cbor", 406),
            ("text/plain", 406),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(code(&Method::GET, pod, &headers), want, "{accept}");
            if accept == "text/plain" {
                assert_eq!(code(&Method::GET, &format!("{pod}/log"), &headers), 200);
            }
        }
        let mut headers = HeaderMap::new();
        let patches = "text/x, application/merge-patch+json;a=b";
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(patches));
        assert_eq!(code(&Method::PATCH, pod, &headers), 200);
    }
}
