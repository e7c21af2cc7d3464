//! The OpenAPI documents of what is served, made once when first asked for.
//!
//! upstream: k8s.io/kube-openapi/pkg/handler3

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION, VARY};
use http::{Request, Response, StatusCode};
use longshore_api::openapi::{self, Route, Subroute};
use longshore_resources::table::{Resource, Text};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha512};
use tokio::sync::MutexGuard;

use crate::body::Body;
use crate::discovery;
use crate::endpoints::negotiate::{self, Format, Shapes};
use crate::endpoints::respond;
use crate::handler::Handler;
use crate::nonresource::hex;
use crate::registry::Served;
use crate::request_info::RequestInfo;

/// The documents by their path below `/openapi/v3/`.
#[derive(Default)]
pub struct Documents {
    made: Mutex<BTreeMap<String, Made>>,
    /// Held by whoever may make documents.
    making: tokio::sync::Mutex<()>,
}

/// A document as it was made.
#[derive(Clone)]
struct Made {
    /// The resources that are in it. It does not keep them.
    of: Vec<Weak<Served>>,
    /// The generation of the documents of other servers that are in it; 0 for none.
    elsewhere: u64,
    body: Bytes,
    hash: String,
}

impl Made {
    /// Whether a document of these resources would be the same.
    fn is_of(&self, served: &[Arc<Served>], elsewhere: u64) -> bool {
        let same = |(a, b): (&Weak<Served>, &Arc<Served>)| std::ptr::eq(a.as_ptr(), Arc::as_ptr(b));
        let resources = self.of.len() == served.len();
        resources && self.elsewhere == elsewhere && self.of.iter().zip(served).all(same)
    }
}

/// The paths that the two forms of the one document of version 2 are kept under.
const V2: &str = "v2";
const V2_BINARY: &str = "v2 binary";

/// A form of the document of version 2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Binary,
}

/// How the binary form is called in answers.
const BINARY_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The subtypes that clients ask for the forms with; the second one is an older spelling.
const FORMS: [(&str, Form); 3] = [
    ("json", Form::Json),
    ("com.github.proto-openapi.spec.v2@v1.0+protobuf", Form::Binary),
    ("com.github.proto-openapi.spec.v2.v1.0+protobuf", Form::Binary),
];

impl Documents {
    /// Waits for the turn to make documents, where a path may ask for one: it takes long, and who
    /// comes next finds what was made.
    pub async fn turn(&self, path: &str) -> Option<MutexGuard<'_, ()>> {
        if path.starts_with("/openapi/") { Some(self.making.lock().await) } else { None }
    }

    /// Answers `/openapi/v3`: where the documents are.
    pub fn index(&self, handler: &Arc<Handler>, request: &Request<Body>) -> Response<Body> {
        if !takes_json(request) {
            return empty(StatusCode::NOT_ACCEPTABLE);
        }
        let mut paths = Map::new();
        let known = document_paths(handler);
        self.made.lock().retain(|path, _| path == V2 || path == V2_BINARY || known.contains(path));
        for path in known {
            let Some(Made { hash, .. }) = self.made(handler, &path) else { continue };
            let url = format!("/openapi/v3/{path}?hash={hash}");
            paths.insert(path, json!({ "serverRelativeURL": url }));
        }
        let elsewhere = handler.aggregator.spec_paths(&handler.api.registry.table());
        for (path, url) in elsewhere {
            paths.insert(path, json!({ "serverRelativeURL": url }));
        }
        respond::json(200, &json!({ "paths": paths }))
    }

    /// Answers `/openapi/v3/PATH`. A document that is asked for by its hash may be kept for ever.
    ///
    /// upstream: k8s.io/kube-openapi/pkg/handler3/handler.go HandleGroupVersion
    pub fn document(
        &self,
        handler: &Arc<Handler>,
        request: &Request<Body>,
        info: &RequestInfo,
        path: &str,
    ) -> Response<Body> {
        let elsewhere = handler.aggregator.made_spec(path);
        let here = || self.made(handler, path).map(|made| (made.body, made.hash));
        let Some((body, hash)) = elsewhere.or_else(here) else {
            return empty(StatusCode::NOT_FOUND);
        };
        if !takes_json(request) {
            return empty(StatusCode::NOT_ACCEPTABLE);
        }
        let wanted = info.param("hash");
        if !wanted.is_empty() && wanted != hash {
            let mut response = empty(StatusCode::MOVED_PERMANENTLY);
            let url = format!("/openapi/v3/{path}?hash={hash}");
            if let Ok(url) = HeaderValue::from_str(&url) {
                response.headers_mut().insert(LOCATION, url);
            }
            return response;
        }
        let mut response = tagged(request, body, &hash);
        let cache = if wanted.is_empty() { "no-cache, private" } else { "public, immutable" };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(cache));
        response
    }

    /// Answers `/openapi/v2`.
    pub fn v2(&self, handler: &Arc<Handler>, request: &Request<Body>) -> Response<Body> {
        let accept = negotiate::header(request.headers());
        let Some(form) = negotiate::choose_subtype(accept, &FORMS) else {
            return empty(StatusCode::NOT_ACCEPTABLE);
        };
        let served = listed(handler, |_| true);
        let made = || {
            let paths = document_paths(handler);
            // One after the other: all of them at once are many times what the result is.
            let mut all = openapi::document_v2(paths.iter().filter_map(|path| make(handler, path)));
            for (prefix, document) in handler.aggregator.whole_specs() {
                openapi::merge_v2(&mut all, &document, &prefix);
            }
            all
        };
        let elsewhere = handler.aggregator.spec_generation();
        let json = self.kept(V2, served.clone(), elsewhere, made);
        if form == Form::Json {
            return tagged(request, json.body, &json.hash);
        }
        let kept = self.made.lock().get(V2_BINARY).filter(|m| m.is_of(&served, elsewhere)).cloned();
        let binary = kept.unwrap_or_else(|| {
            let document = serde_json::from_slice(&json.body).unwrap_or(Value::Null);
            let made = Made { body: openapi::encode_v2(&document).into(), ..json };
            self.made.lock().insert(V2_BINARY.to_owned(), made.clone());
            made
        });
        let mut response = tagged(request, binary.body, &binary.hash);
        let kind = HeaderValue::from_static(BINARY_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    fn made(&self, handler: &Arc<Handler>, path: &str) -> Option<Made> {
        let served = match group_version(path) {
            Some((group, version)) => {
                listed(handler, |resource| resource.group == group && resource.version == version)
            }
            None => Vec::new(),
        };
        if let Some(made) = self.made.lock().get(path).filter(|made| made.is_of(&served, 0)) {
            return Some(made.clone());
        }
        let document = make(handler, path)?;
        Some(self.kept(path, served, 0, || document))
    }

    /// The kept document of a path with its hash; made when it is not there or of other resources.
    fn kept(
        &self,
        path: &str,
        of: Vec<Arc<Served>>,
        elsewhere: u64,
        make: impl FnOnce() -> Value,
    ) -> Made {
        if let Some(made) = self.made.lock().get(path).filter(|made| made.is_of(&of, elsewhere)) {
            return made.clone();
        }
        let body = Bytes::from(make().to_string());
        let hash = hex(&Sha512::digest(&body)).to_uppercase();
        let of = of.iter().map(Arc::downgrade).collect();
        let made = Made { of, elsewhere, body, hash };
        self.made.lock().insert(path.to_owned(), made.clone());
        made
    }
}

/// The resources in the documents that fulfil something.
fn listed(handler: &Arc<Handler>, wanted: impl Fn(&Resource) -> bool) -> Vec<Arc<Served>> {
    let table = handler.api.registry.table();
    let listed = table.iter().filter(|served| {
        let custom = served.resource.custom.as_ref();
        wanted(&served.resource) && custom.is_none_or(|custom| custom.established)
    });
    listed.cloned().collect()
}

/// The group and version of a document; none for lists of what lies below.
fn group_version(path: &str) -> Option<(&str, &str)> {
    let segments: Vec<&str> = path.split('/').collect();
    match segments.as_slice() {
        ["api", version] => Some(("", *version)),
        ["apis", group, version] => Some((*group, *version)),
        _ => None,
    }
}

/// Whether a client takes JSON, the one format of the documents.
fn takes_json(request: &Request<Body>) -> bool {
    let accept = negotiate::header(request.headers());
    let json = negotiate::choose(accept, &[Format::Json], Shapes::None);
    json.is_some()
}

fn empty(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(crate::body::full(""));
    *response.status_mut() = code;
    response
}

/// A document with its entity tag, or that the client has it already.
fn tagged(request: &Request<Body>, body: Bytes, hash: &str) -> Response<Body> {
    let etag = format!("\"{hash}\"");
    let known = request.headers().get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let mut response = if known == Some(etag.as_str()) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        respond::bytes(200, "application/json", body)
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_str(&etag).expect("hexadecimal is a header value"));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// Paths that only list what lies below, and `/version`.
const ROOTS: [&str; 3] = ["api", "apis", "version"];

fn document_paths(handler: &Arc<Handler>) -> Vec<String> {
    let table = handler.api.registry.table();
    let mut paths: Vec<String> = ROOTS.map(str::to_owned).to_vec();
    for (group, versions) in &discovery::groups(&table) {
        if !group.is_empty() {
            paths.push(format!("apis/{group}"));
        }
        paths.extend(versions.iter().map(|version| match group.as_str() {
            "" => format!("api/{version}"),
            group => format!("apis/{group}/{version}"),
        }));
    }
    paths
}

fn make(handler: &Arc<Handler>, path: &str) -> Option<Value> {
    let Some((group, version)) = group_version(path) else {
        let known = document_paths(handler).iter().any(|known| known == path);
        return known.then(|| openapi::root_document(path)).flatten();
    };
    let served = listed(handler, |r| r.group == group && r.version == version);
    let routes: Vec<Route> = served.iter().map(|served| route(&served.resource)).collect();
    (!routes.is_empty()).then(|| openapi::document(group, version, &routes))
}

fn route(resource: &Resource) -> Route {
    let verbs = |verbs: &[Text]| verbs.iter().map(|verb| verb.to_string()).collect();
    let subresources = resource.subresources.iter().map(|sub| Subroute {
        name: sub.name.to_string(),
        kind: sub.kind.clone(),
        verbs: verbs(&sub.verbs),
    });
    let selectable_fields = match &resource.custom {
        Some(_) => resource.strategy.selectable_names().into_iter().map(str::to_owned).collect(),
        None => Vec::new(),
    };
    Route {
        group: resource.group.to_string(),
        version: resource.version.to_string(),
        plural: resource.plural.to_string(),
        kind: resource.kind.to_string(),
        namespaced: resource.namespaced(),
        verbs: verbs(&resource.verbs),
        returns_deleted: resource.strategy.returns_deleted(),
        subresources: subresources.collect(),
        // It was written from a tree.
        schema: resource.custom.as_ref().and_then(|c| serde_json::from_str(&c.schema).ok()),
        list_kind: resource.list_kind().to_string(),
        selectable_fields,
    }
}
