//! Requests over HTTPS and their answers, with every byte visible.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use longshore_client::https::Https;
use longshore_client::transport::{Body, Transport as _, full};
use serde_json::Value;

use crate::server;

/// How long any single answer or watch event may take.
pub const ANSWER_MAX: Duration = Duration::from_secs(120);
/// The first bytes of an object in protobuf.
const PROTOBUF_MAGIC: &[u8] = b"k8s\0";

/// Who sends a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sender {
    /// The administrator, by the kubeconfig's credentials.
    #[default]
    Admin,
    /// Somebody without a client certificate; a token may stand in the headers.
    Plain,
}

/// The ways to one server.
pub struct Wire {
    admin: Https,
    plain: Https,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Wire {
    /// The ways to the server of a kubeconfig.
    pub fn new(kubeconfig: &str) -> Result<Self> {
        let plain = server::transport(&server::without_credentials(kubeconfig)?)?;
        Ok(Self { admin: server::transport(kubeconfig)?, plain })
    }

    /// Sends a request and gives the response as soon as its head is there.
    pub async fn open(&self, sender: Sender, request: Request<Body>) -> Result<Response<Body>> {
        let way = match sender {
            Sender::Admin => &self.admin,
            Sender::Plain => &self.plain,
        };
        let answer = tokio::time::timeout(ANSWER_MAX, way.call(request)).await;
        Ok(answer.context("the server does not answer")??)
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, sender: Sender, request: Request<Body>) -> Result<Answer> {
        let (head, body) = self.open(sender, request).await?.into_parts();
        let body = tokio::time::timeout(ANSWER_MAX, body.collect()).await;
        let body = body.context("the answer does not end")?;
        let body = body.map_err(|e| anyhow::anyhow!("the answer breaks off: {e}"))?.to_bytes();
        Ok(Answer { code: head.status.as_u16(), headers: head.headers, body })
    }

    /// The administrator's GET.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Sender::Admin, Request::get(path).body(full(""))?).await
    }

    /// The administrator's request with a JSON body.
    pub async fn json(&self, method: Method, path: &str, body: &Value) -> Result<Answer> {
        let media_type = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", media_type);
        self.send(Sender::Admin, request.body(full(body.to_string()))?).await
    }
}

impl Answer {
    /// The body as a tree, whichever of the formats it has; a string when it has none of them.
    pub fn value(&self) -> Value {
        if self.body.starts_with(PROTOBUF_MAGIC) {
            let decoded = longshore_api::protobuf::decode_object(&self.body, ("", ""));
            return decoded.unwrap_or_else(|e| Value::String(format!("no protobuf object: {e}")));
        }
        let text = String::from_utf8_lossy(&self.body);
        if let Ok(value) = serde_json::from_str(&text) {
            return value;
        }
        let media_type = self.headers.get("content-type").and_then(|v| v.to_str().ok());
        if media_type.is_some_and(|t| t.contains("yaml"))
            && let Ok(value) = longshore_api::yaml::decode(&self.body)
        {
            return value;
        }
        Value::String(text.into_owned())
    }
}

/// The events of one open watch in JSON.
pub struct Events {
    body: Body,
    read: BytesMut,
}

impl Events {
    /// The events of a response.
    pub fn new(body: Body) -> Self {
        Self { body, read: BytesMut::new() }
    }

    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end + 1);
                if line.len() > 1 {
                    return Ok(Some(serde_json::from_slice(&line)?));
                }
                continue;
            }
            let frame = tokio::time::timeout(ANSWER_MAX, self.body.frame()).await;
            match frame.context("no event comes")? {
                None if self.read.is_empty() => return Ok(None),
                None => bail!("the watch ends inside an event: {:?}", self.read),
                Some(Err(error)) => bail!("the watch breaks off: {error:?}"),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
