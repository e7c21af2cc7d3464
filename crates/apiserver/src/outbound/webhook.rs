//! A webhook as configurations name it, and how it is called: one POST of JSON.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/util/webhook/client.go, client-go/rest/request.go

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, header};
use longshore_api::status::Cause;
use longshore_api::{Reason, StatusError};
use serde_json::Value;

use super::tls::{self, Trust};
use super::{Address, CallError, Client, Target, Tls, read_up_to, services};
use crate::body::Body;
use crate::reader::Reader;

/// How often a call is made again that was answered with "later".
///
/// upstream: staging/src/k8s.io/client-go/rest/request.go maxRetries
const RETRIES_MAX: usize = 10;
/// Bytes of an answer that is no status that are told.
///
/// upstream: staging/src/k8s.io/client-go/rest/request.go maxUnstructuredResponseTextBytes
const TOLD_BYTES_MAX: usize = 2048;

/// Where a webhook is.
enum Place {
    Service { namespace: String, name: String, port: u16 },
    Url { host: String, port: u16 },
}

/// A webhook that can be called.
pub struct Endpoint {
    place: Place,
    /// None where the configured address has no TLS; the rules of configurations refuse those.
    tls: Option<Arc<rustls::ClientConfig>>,
    server_name: String,
    authority: String,
    path: String,
    /// Scheme and host for messages.
    base: String,
}

/// What a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// This long at most; the webhook is told.
    pub timeout: Duration,
    /// Bytes of the answer at most.
    pub bytes_max: usize,
}

/// Why a call brought no answer.
#[derive(Debug)]
pub enum Failed {
    /// The webhook answered with a failure.
    Status(Box<StatusError>),
    /// There was no answer.
    Call(String),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => f.write_str(&status.message),
            Self::Call(why) => f.write_str(why),
        }
    }
}

impl Endpoint {
    /// The webhook of a `clientConfig`.
    ///
    /// # Errors
    /// When it cannot be used, with what upstream says of it.
    pub fn of(config: &Value) -> Result<Self, String> {
        use base64::Engine as _;
        let bundle = config["caBundle"].as_str().unwrap_or("");
        let bundle = base64::engine::general_purpose::STANDARD
            .decode(bundle)
            .map_err(|error| format!("unable to load root certificates: {error}"))?;
        let tls = || tls::config(Trust::Authorities(&bundle), None);
        if let Some(service) = config["service"].as_object() {
            let text = |key: &str| service.get(key).and_then(Value::as_str).unwrap_or("");
            let port = service.get("port").and_then(Value::as_u64).unwrap_or(0);
            let port = u16::try_from(port).ok().filter(|port| *port != 0);
            let port = port.unwrap_or(services::DEFAULT_PORT);
            let (namespace, name) = (text("namespace").to_owned(), text("name").to_owned());
            let server_name = services::server_name(&namespace, &name);
            let authority = format!("{server_name}:{port}");
            return Ok(Self {
                base: format!("https://{authority}"),
                place: Place::Service { namespace, name, port },
                tls: Some(tls()?),
                server_name,
                authority,
                path: rooted(text("path")),
            });
        }
        let url = config["url"].as_str().unwrap_or("");
        if url.is_empty() {
            return Err("webhook configuration must have either service or URL".to_owned());
        }
        let uri: Uri = url.parse().map_err(|error| format!("Unparsable URL: {error}"))?;
        let authority = uri.authority().map_or("", |authority| authority.as_str()).to_owned();
        let host = uri.host().unwrap_or("").trim_matches(['[', ']']).to_owned();
        let secure = uri.scheme_str() != Some("http");
        let port = uri.port_u16().unwrap_or(if secure { services::DEFAULT_PORT } else { 80 });
        let scheme = uri.scheme_str().unwrap_or("https");
        Ok(Self {
            base: format!("{scheme}://{authority}"),
            server_name: host.clone(),
            place: Place::Url { host, port },
            tls: if secure { Some(tls()?) } else { None },
            authority,
            path: rooted(uri.path()),
        })
    }

    fn target(&self, reader: &dyn Reader) -> Result<Target, CallError> {
        let address = match &self.place {
            Place::Service { namespace, name, port } => {
                services::resolve(reader, namespace, name, *port)?
            }
            Place::Url { host, port } => Address { host: host.clone(), port: *port },
        };
        let tls = self.tls.clone();
        let tls = tls.map(|config| Tls { config, server_name: self.server_name.clone() });
        Ok(Target { address, tls, authority: self.authority.clone() })
    }

    /// Sends a JSON document and gives the answer, within a time.
    ///
    /// # Errors
    /// When the webhook gives no answer, or one that is a failure.
    pub async fn post(
        &self,
        client: &Client,
        reader: &dyn Reader,
        document: Bytes,
        Limits { timeout, bytes_max }: Limits,
    ) -> Result<Bytes, Failed> {
        let path = format!("{}?timeout={}s", self.path, timeout.as_secs());
        let failed =
            |error: CallError| Failed::Call(format!("Post \"{}{path}\": {error}", self.base));
        let calling = async {
            let mut again = 0;
            loop {
                let target = self.target(reader).map_err(failed)?;
                let request = Request::builder()
                    .method(Method::POST)
                    .uri(&path)
                    .header(header::CONTENT_TYPE, "application/json")
                    .header(header::ACCEPT, "application/json, */*")
                    .header(header::USER_AGENT, "kube-apiserver-admission")
                    .body(document.clone())
                    .map_err(|error| Failed::Call(error.to_string()))?;
                let response = client.send_whole(&target, request).await.map_err(failed)?;
                match later(&response) {
                    Some(wait) if again < RETRIES_MAX => {
                        again += 1;
                        // The answer is read, so that the connection can be used again.
                        drop(read_up_to(response.into_body(), bytes_max).await.map_err(failed)?);
                        tokio::time::sleep(wait).await;
                    }
                    _ => return answer(response, bytes_max).await,
                }
            }
        };
        let called = tokio::time::timeout(timeout, calling).await;
        called.unwrap_or_else(|_| Err(failed(CallError::Deadline)))
    }
}

/// What a webhook has answered.
async fn answer(response: Response<Body>, bytes_max: usize) -> Result<Bytes, Failed> {
    let (parts, body) = response.into_parts();
    let body = read_up_to(body, bytes_max).await.map_err(|error| {
        Failed::Call(format!(
            "unexpected error when reading response body. Please retry. Original error: {error}"
        ))
    })?;
    let media_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    if !(200..=206).contains(&parts.status.as_u16()) {
        let wait = retry_after(&parts.headers).unwrap_or(0);
        return Err(Failed::Status(Box::new(failure(parts.status, media_type, &body, wait))));
    }
    if body.is_empty() {
        return Err(Failed::Call(format!(
            "0-length response with status code: {} and content type: {}",
            parts.status.as_u16(),
            media_type.unwrap_or("application/json")
        )));
    }
    Ok(body)
}

fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn retry_after(headers: &http::HeaderMap) -> Option<u32> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

/// How long to wait until a call is made again; none when it is not.
fn later<T>(response: &Response<T>) -> Option<Duration> {
    let code = response.status();
    let asks = code == StatusCode::TOO_MANY_REQUESTS || code.is_server_error();
    let wait = retry_after(response.headers()).filter(|_| asks)?;
    Some(Duration::from_secs(wait.into()))
}

/// The failure that an answer stands for.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/api/errors/errors.go NewGenericServerResponse
fn failure(code: StatusCode, media_type: Option<&str>, body: &[u8], wait: u32) -> StatusError {
    let number = code.as_u16();
    if let Ok(status) = serde_json::from_slice::<Value>(body)
        && status["kind"] == "Status"
        && status["status"] == "Failure"
    {
        let own = status["code"].as_u64().and_then(|code| u16::try_from(code).ok());
        return StatusError::from_value(own.filter(|code| *code != 0).unwrap_or(number), &status);
    }
    let is_text = media_type.is_none_or(|media_type| media_type.starts_with("text/"));
    let told = if is_text {
        let told = &body[..body.len().min(TOLD_BYTES_MAX)];
        String::from_utf8_lossy(told).trim().to_owned()
    } else {
        "unknown".to_owned()
    };
    let (reason, message) = match number {
        409 => (Reason::AlreadyExists, "the server reported a conflict".to_owned()),
        404 => (Reason::NotFound, "the server could not find the requested resource".to_owned()),
        400 => {
            (Reason::BadRequest, "the server rejected our request for an unknown reason".to_owned())
        }
        401 => (
            Reason::Unauthorized,
            "the server has asked for the client to provide credentials".to_owned(),
        ),
        403 => (Reason::Forbidden, told.clone()),
        406 if matches!(told.as_str(), "" | "unknown") => (
            Reason::NotAcceptable,
            "the server was unable to respond with a content type that the client supports"
                .to_owned(),
        ),
        406 => (Reason::NotAcceptable, told.clone()),
        415 => (Reason::UnsupportedMediaType, told.clone()),
        405 => (
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource".to_owned(),
        ),
        422 => (
            Reason::Invalid,
            "the server rejected our request due to an error in our request".to_owned(),
        ),
        503 => (
            Reason::ServiceUnavailable,
            "the server is currently unable to handle the request".to_owned(),
        ),
        504 => (
            Reason::Timeout,
            "the server was unable to return a response in the time allotted, but may still be processing the request"
                .to_owned(),
        ),
        429 => (
            Reason::TooManyRequests,
            "the server has received too many requests and has asked us to try again later"
                .to_owned(),
        ),
        500.. => (
            Reason::InternalError,
            format!("an error on the server ({told:?}) has prevented the request from succeeding"),
        ),
        _ => (
            Reason::Unknown,
            format!(
                "the server responded with the status code {number} but did not return more information"
            ),
        ),
    };
    let mut error = StatusError::new(reason, message);
    error.code = number;
    error.retry_after_seconds = wait;
    error.causes = vec![Cause {
        reason: "UnexpectedServerResponse".to_owned(),
        message: told,
        field: String::new(),
    }];
    error
}
