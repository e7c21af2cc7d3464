//! Paths that are no resources: discovery, OpenAPI, health, version, metrics.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/server/{healthz,routes}

use std::sync::Arc;

use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{Request, Response};
use longshore_base::readiness::ReadySignal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::body::Body;
use crate::endpoints::negotiate;
use crate::endpoints::respond;
use crate::handler::{Handler, discovery_answer, method_not_allowed, no_such_resource};
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
    pub fn answer(
        &self,
        handler: &Arc<Handler>,
        request: &Request<Body>,
        info: &crate::request_info::RequestInfo,
    ) -> Response<Body> {
        if info.verb != "get" {
            return respond::error(&method_not_allowed());
        }
        let path = info.path.trim_end_matches('/');
        match path {
            "/livez" | "/readyz" | "/healthz" => return self.health(path, info),
            "/version" => return respond::pretty(200, &self.version),
            "/metrics" => return metrics(handler),
            "" => return respond::pretty(200, &json!({ "paths": root_paths(handler) })),
            "/openapi/v2" => return self.openapi.v2(handler, request),
            "/openapi/v3" => return self.openapi.index(handler),
            _ => {}
        }
        if let Some(check) = path.strip_prefix("/livez/").or(path.strip_prefix("/readyz/")) {
            return self.one_check(check);
        }
        if let Some(group_version) = path.strip_prefix("/openapi/v3/") {
            return self.openapi.document(handler, request, group_version);
        }
        if let Some((configuration, keys)) = &self.openid {
            match path {
                "/.well-known/openid-configuration" => return respond::json(200, configuration),
                "/openid/v1/jwks" => {
                    let body = keys.to_string();
                    return respond::bytes(200, "application/jwk-set+json", body);
                }
                _ => {}
            }
        }
        if matches!(path, "/api" | "/apis")
            && let Some(response) = aggregated(handler, request, path == "/api")
        {
            return response;
        }
        let negotiated = match negotiate::negotiate(request.headers(), info) {
            Ok(negotiated) => negotiated,
            Err(error) => return respond::error(&error),
        };
        match discovery_answer(handler, path) {
            Some(value) => respond::value(200, &negotiated, &value),
            None if is_group_version(path) => respond::error(&no_such_resource()),
            None => respond::text(404, "404 page not found\n"),
        }
    }

    fn health(&self, path: &str, info: &crate::request_info::RequestInfo) -> Response<Body> {
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
            None => respond::text(404, "404 page not found\n"),
        }
    }
}

fn metrics(handler: &Arc<Handler>) -> Response<Body> {
    respond::bytes(200, "text/plain; version=0.0.4; charset=utf-8", handler.metrics.render())
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
    paths.sort();
    paths
}

/// The aggregated discovery document, when the client asks for it.
fn aggregated(
    handler: &Arc<Handler>,
    request: &Request<Body>,
    core: bool,
) -> Option<Response<Body>> {
    let accept = request.headers().get(ACCEPT)?.to_str().ok()?;
    let clause = accept
        .split(',')
        .map(str::trim)
        .find(|c| c.starts_with("application/json") || c.starts_with("application/vnd"))?;
    if !clause.contains("g=apidiscovery.k8s.io") || !clause.starts_with("application/json") {
        return None;
    }
    let version = ["v2", "v2beta1"]
        .into_iter()
        .find(|v| clause.split(';').any(|part| part.trim() == format!("v={v}")))?;
    let table = handler.api.registry.table();
    let body = discovery::aggregated(&table, core, version).to_string();
    let etag = format!("\"{}\"", hex(&Sha256::digest(body.as_bytes())));
    let known = request.headers().get(IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let mut response = if known == Some(etag.as_str()) {
        let mut response = Response::new(crate::body::full(""));
        *response.status_mut() = http::StatusCode::NOT_MODIFIED;
        response
    } else {
        let media_type =
            format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        respond::bytes(200, &media_type, body)
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_str(&etag).expect("hexadecimal is a header value"));
    headers.insert(http::header::VARY, HeaderValue::from_static("Accept"));
    Some(response)
}

/// Lower-case hexadecimal digits, for entity tags.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether a path has the form of an API version, served or not.
fn is_group_version(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    matches!(segments.as_slice(), ["api", _] | ["apis", _, _])
}
