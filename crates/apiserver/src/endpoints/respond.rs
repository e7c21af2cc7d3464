//! Responses: the one place that turns objects and errors into bytes on the wire.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WARNING};
use http::{HeaderMap, Response, StatusCode};
use longshore_api::StatusError;
use longshore_base::Shutdown;
use serde_json::Value;

use super::negotiate::{self, Format, Negotiated, Shapes};
use crate::body::{Body, full};

/// Marks the answers of other servers: they go to the client as they are.
#[derive(Clone, Copy, Debug)]
pub struct Passed;

/// Stands in an answer that goes on in another protocol: cancelled when that has ended.
#[derive(Clone, Debug)]
pub struct Switched(pub Shutdown);

/// A response of bytes that are already encoded.
pub fn bytes(code: u16, media_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media_type = HeaderValue::from_str(media_type)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
        .headers_mut()
        .insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A response without content.
pub fn empty(code: u16) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// Plain text, as the health endpoints answer.
pub fn text(code: u16, text: impl Into<String>) -> Response<Body> {
    let mut response = bytes(code, "text/plain; charset=utf-8", text.into());
    response.headers_mut().insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// A value in the negotiated format.
pub fn value(code: u16, negotiated: &Negotiated, value: &Value) -> Response<Body> {
    match negotiated.format {
        Format::Json if negotiated.pretty => {
            bytes(code, "application/json", format!("{value:#}\n"))
        }
        Format::Json => bytes(code, "application/json", json_line(value)),
        Format::Yaml => bytes(code, "application/yaml", longshore_api::yaml::encode(value)),
        Format::Protobuf => match super::wire::encode(value) {
            Ok(body) => bytes(code, negotiated.format.media_type(), body),
            Err(refused) => error(&refused),
        },
        Format::Cbor => {
            bytes(code, negotiated.format.media_type(), longshore_api::cbor::encode(value))
        }
    }
}

/// JSON with an end of line behind it.
fn json_line(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(2048);
    longshore_api::json::write(&mut out, value);
    out.push(b'\n');
    out
}

/// JSON of a value, whatever was negotiated.
pub fn json(code: u16, value: &Value) -> Response<Body> {
    bytes(code, "application/json", value.to_string())
}

/// JSON with indentation, for people.
pub fn pretty(code: u16, value: &Value) -> Response<Body> {
    bytes(code, "application/json", format!("{value:#}"))
}

/// A failed request in the negotiated format.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/writers.go
/// ErrorNegotiated
pub fn failure(negotiated: &Negotiated, failed: &StatusError) -> Response<Body> {
    let mut response = match negotiated.failure {
        Some(format) => {
            let plain = Negotiated { format, ..negotiated.clone() };
            value(failed.code, &plain, &failed.to_value())
        }
        None => pretty(failed.code, &failed.to_value()),
    };
    set_retry_after(&mut response, failed);
    response
}

/// A request that no handler sees: the format of the failure is looked for in its headers.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/server/handler.go serviceErrorHandler
pub fn unrouted(headers: &HeaderMap, cbor: bool, failed: &StatusError) -> Response<Body> {
    let accept = negotiate::header(headers);
    let chosen = negotiate::choose(accept, Format::served(cbor), Shapes::None);
    let mut status = failed.to_value();
    if status.get("details").is_none() {
        status["details"] = serde_json::json!({});
    }
    match chosen {
        Some(negotiated) => value(failed.code, &negotiated, &status),
        None => pretty(failed.code, &status),
    }
}

/// 404 for a path that nothing serves.
pub fn not_found() -> Response<Body> {
    text(404, "404 page not found\n")
}

fn set_retry_after(response: &mut Response<Body>, error: &StatusError) {
    if error.retry_after_seconds > 0 {
        response.headers_mut().insert(RETRY_AFTER, error.retry_after_seconds.into());
    }
}

/// A failed request.
pub fn error(error: &StatusError) -> Response<Body> {
    let mut response = json(error.code, &error.to_value());
    set_retry_after(&mut response, error);
    response
}

/// Characters of all warnings of one response together.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/filters/warning.go truncateAtTotalRunes
const WARNINGS_MAX: usize = 4096;
/// Characters of one warning where all together are more than [`WARNINGS_MAX`].
const WARNING_MAX: usize = 256;

/// Adds `Warning` headers, each distinct text once.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/filters/warning.go
pub fn add_warnings(response: &mut Response<Body>, texts: &[String]) {
    let mut seen: Vec<&str> = Vec::new();
    for text in texts {
        if !text.is_empty() && !seen.contains(&text.as_str()) {
            seen.push(text);
        }
    }
    let whole: usize = seen.iter().map(|text| text.chars().count()).sum();
    let length_max = if whole > WARNINGS_MAX { WARNING_MAX } else { WARNINGS_MAX };
    let mut written = 0;
    for text in seen {
        // Each is cut short when all together are too long, and then the last of them are left out.
        if written >= WARNINGS_MAX {
            break;
        }
        let text: String = text.chars().take(length_max).collect();
        written += text.chars().count();
        // Such a text is no header, and nobody hears of it.
        if text.contains(char::is_control) {
            continue;
        }
        let escaped: String = text
            .chars()
            .flat_map(|c| match c {
                '"' | '\\' => vec!['\\', c],
                other => vec![other],
            })
            .collect();
        if let Ok(header) = HeaderValue::from_bytes(format!("299 - \"{escaped}\"").as_bytes()) {
            response.headers_mut().append(WARNING, header);
        }
    }
}
