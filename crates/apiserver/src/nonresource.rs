//! Paths that are no resources: discovery, OpenAPI, health, version, metrics.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/server/{healthz,routes}

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Method, Request, Response};
use longshore_base::readiness::ReadySignal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use crate::body::Body;
use crate::endpoints::negotiate::{self, Format, Shapes};
use crate::endpoints::{respond, route};
use crate::handler::{Handler, discovery_answer, method_not_allowed, no_such_resource};
use crate::request_info::RequestInfo;
use crate::{discovery, openapi};

/// What the paths besides resources tell.
pub struct NonResource {
    /// `host:port` that clients reach the server at.
    pub address: String,
    /// The answer of `/version`.
    pub version: Value,
    /// The checks of `/readyz` in order: name and signal. Liveness is that the process answers.
    pub checks: Vec<(&'static str, ReadySignal)>,
    /// Set while the server drains.
    pub stopping: longshore_base::Shutdown,
    /// Answers of `/.well-known/openid-configuration` and `/openid/v1/jwks`.
    pub openid: Option<(Value, Value)>,
    /// The OpenAPI documents, made when first asked for.
    pub openapi: openapi::Documents,
}

impl NonResource {
    /// Answers a request for such a path.
    ///
    /// Paths of the router take only GET and are the same with a slash at their end; all others
    /// take every method and are exact.
    pub fn answer(
        &self,
        handler: &Arc<Handler>,
        request: &Request<Body>,
        info: &RequestInfo,
    ) -> Response<Body> {
        let path = info.path.as_str();
        match path {
            "/livez" | "/readyz" | "/healthz" => return self.health(path, info),
            "/metrics" => return metrics(handler),
            "/" | "/index.html" => {
                return respond::pretty(200, &json!({ "paths": root_paths(handler) }));
            }
            "/openapi/v2" => return self.openapi.v2(handler, request),
            "/openapi/v3" => return self.openapi.index(handler, request),
            _ => {}
        }
        let checks = ["/livez/", "/readyz/", "/healthz/"];
        if let Some(check) = checks.iter().find_map(|prefix| path.strip_prefix(prefix)) {
            return self.one_check(check);
        }
        if let Some(group_version) = path.strip_prefix("/openapi/v3/") {
            return self.openapi.document(handler, request, info, group_version);
        }
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        match segments.as_slice() {
            [""] => respond::not_found(),
            _ if path.starts_with("//") => respond::not_found(),
            ["apis"] => discovery_root(handler, request, info, false),
            ["apis", group] => match discovery_answer(handler, path) {
                Some(value) => negotiated(handler, request, info, &value),
                None => {
                    debug_assert!(!group.is_empty());
                    respond::not_found()
                }
            },
            ["api"] => {
                self.routed(handler, request, || discovery_root(handler, request, info, true))
            }
            ["api", ..] => self.version_list(handler, request, info, true),
            ["apis", group, ..] => {
                // Only built-in groups have a router of their own.
                let table = handler.api.registry.table();
                let known = table.iter().any(|served| {
                    served.resource.group == *group && served.resource.custom.is_none()
                });
                self.version_list(handler, request, info, known)
            }
            ["version", ..] => self.version(handler, request, &segments),
            _ => self.openid(handler, request, path),
        }
    }

    /// Answers what upstream's router answers: GET only, in a format that discovery has.
    fn routed(
        &self,
        handler: &Handler,
        request: &Request<Body>,
        answer: impl FnOnce() -> Response<Body>,
    ) -> Response<Body> {
        self.routed_as(handler, request, &negotiate::media_types(handler.api.cbor), answer)
    }

    fn routed_as(
        &self,
        handler: &Handler,
        request: &Request<Body>,
        produced: &str,
        answer: impl FnOnce() -> Response<Body>,
    ) -> Response<Body> {
        let (headers, cbor) = (request.headers(), handler.api.cbor);
        if *request.method() != Method::GET {
            return respond::unrouted(headers, cbor, &method_not_allowed());
        }
        match route::check_accept(headers, produced) {
            Ok(()) => answer(),
            Err(error) => respond::unrouted(headers, cbor, &error),
        }
    }

    /// Answers `/api/VERSION` and `/apis/GROUP/VERSION`; `known` says whether the group has a router
    /// of its own.
    fn version_list(
        &self,
        handler: &Handler,
        request: &Request<Body>,
        info: &RequestInfo,
        known: bool,
    ) -> Response<Body> {
        let found =
            if info.has_empty_segment { None } else { discovery_answer(handler, &info.path) };
        match found {
            None if !known => respond::not_found(),
            Some(value) => {
                self.routed(handler, request, || negotiated(handler, request, info, &value))
            }
            None => respond::unrouted(request.headers(), handler.api.cbor, &no_such_resource()),
        }
    }

    fn version(
        &self,
        handler: &Handler,
        request: &Request<Body>,
        segments: &[&str],
    ) -> Response<Body> {
        if segments.len() > 1 {
            return respond::unrouted(request.headers(), handler.api.cbor, &no_such_resource());
        }
        self.routed_as(handler, request, "application/json", || respond::pretty(200, &self.version))
    }

    fn openid(&self, handler: &Handler, request: &Request<Body>, path: &str) -> Response<Body> {
        let Some((configuration, keys)) = &self.openid else { return respond::not_found() };
        let path = path.strip_suffix('/').unwrap_or(path);
        match path {
            "/.well-known/openid-configuration" => {
                self.routed_as(handler, request, "application/json", || {
                    respond::json(200, configuration)
                })
            }
            "/openid/v1/jwks" => {
                let media_type = "application/jwk-set+json";
                self.routed_as(handler, request, media_type, || {
                    respond::bytes(200, media_type, keys.to_string())
                })
            }
            _ => respond::not_found(),
        }
    }

    fn health(&self, path: &str, info: &RequestInfo) -> Response<Body> {
        let name = path.trim_start_matches('/');
        let ready = name == "readyz";
        let mut lines = vec!["[+]ping ok".to_owned()];
        let mut failed = false;
        let excluded = info.query.get("exclude").map_or(&[][..], Vec::as_slice);
        for (check, signal) in &self.checks {
            if excluded.iter().any(|e| e == check) {
                lines.push(format!("[+]{check} excluded: ok"));
            } else if signal.is_ready() {
                lines.push(format!("[+]{check} ok"));
            } else {
                failed = true;
                lines.push(format!("[-]{check} failed: reason withheld"));
            }
        }
        if ready && self.stopping.is_cancelled() {
            failed = true;
            lines.push("[-]shutdown failed: reason withheld".into());
        }
        if failed {
            lines.push(format!("{name} check failed\n"));
            return respond::text(500, lines.join("\n"));
        }
        if info.query.contains_key("verbose") {
            lines.push(format!("{name} check passed\n"));
            return respond::text(200, lines.join("\n"));
        }
        respond::text(200, "ok")
    }

    fn one_check(&self, name: &str) -> Response<Body> {
        match self.checks.iter().find(|(check, _)| *check == name) {
            _ if name == "ping" => respond::text(200, "ok"),
            Some((_, signal)) if signal.is_ready() => respond::text(200, "ok"),
            Some(_) => respond::text(500, format!("internal server error: {name} is not ready\n")),
            None => respond::not_found(),
        }
    }
}

fn metrics(handler: &Arc<Handler>) -> Response<Body> {
    respond::bytes(200, "text/plain; version=0.0.4; charset=utf-8", handler.render_metrics())
}

fn root_paths(handler: &Arc<Handler>) -> Vec<String> {
    let table = handler.api.registry.table();
    let mut paths: Vec<String> = ["/api", "/api/v1", "/apis", "/apis/", "/healthz", "/livez"]
        .into_iter()
        .chain(["/metrics", "/openapi/v2", "/openapi/v3", "/openapi/v3/", "/readyz", "/version"])
        .chain(["/.well-known/openid-configuration", "/openid/v1/jwks"])
        .map(str::to_owned)
        .collect();
    for (group, versions) in discovery::groups(&table).iter().filter(|(g, _)| !g.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.iter().map(|version| format!("/apis/{group}/{version}")));
    }
    for service in handler.aggregator.services().remote() {
        let path = service.path();
        paths.extend(path.rsplit_once('/').map(|(group, _)| group.to_owned()));
        paths.push(path.to_owned());
    }
    paths.sort();
    paths.dedup();
    paths
}

/// A discovery document in the format asked for.
fn negotiated(
    handler: &Handler,
    request: &Request<Body>,
    info: &RequestInfo,
    value: &Value,
) -> Response<Body> {
    let (headers, cbor) = (request.headers(), handler.api.cbor);
    match negotiate::negotiate(headers, info, Shapes::None, cbor) {
        Ok(negotiated) => {
            let mut value = value.clone();
            if negotiated.format == Format::Protobuf && value.get("apiVersion").is_none() {
                // Its envelope always names the version.
                value["apiVersion"] = "v1".into();
            }
            respond::value(200, &negotiated, &value)
        }
        Err(error) => respond::unrouted(headers, cbor, &error),
    }
}

/// Answers `/api` and `/apis`: aggregated when the client asks for that.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/discovery/aggregated/{wrapper,etag}.go
fn discovery_root(
    handler: &Handler,
    request: &Request<Body>,
    info: &RequestInfo,
    core: bool,
) -> Response<Body> {
    let headers = request.headers();
    let formats = Format::served(handler.api.cbor);
    let chosen = negotiate::choose(negotiate::header(headers), formats, Shapes::Discovery);
    let Some(chosen) = chosen else {
        let path = if core { "/api" } else { "/apis" };
        let value = discovery_answer(handler, path).unwrap_or_default();
        return negotiated(handler, request, info, &value);
    };
    let value =
        discovery::aggregated(&handler.api.registry.table(), &handler.aggregator.told(), core);
    let etag = hex(&Sha512::digest(value.to_string().as_bytes())).to_uppercase();
    let etag = format!("\"{etag}\"");
    let known = headers.get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let mut response = if known == Some(etag.as_str()) {
        let mut response = Response::new(crate::body::full(""));
        *response.status_mut() = http::StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = respond::value(200, &chosen, &value);
        let media_type = format!(
            "{};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            chosen.format.media_type()
        );
        if let Ok(media_type) = HeaderValue::from_str(&media_type) {
            response.headers_mut().insert(CONTENT_TYPE, media_type);
        }
        response
    };
    let answer = response.headers_mut();
    answer.insert(ETAG, HeaderValue::from_str(&etag).expect("hexadecimal is a header value"));
    answer.insert(VARY, HeaderValue::from_static("Accept"));
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

/// Lower-case hexadecimal digits, for entity tags.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
