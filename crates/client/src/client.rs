//! The client: one function for each verb, over any transport.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use longshore_api::{Object, StatusError};
use serde_json::{Value, json};

use crate::error::Error;
use crate::resource::Resource;
use crate::transport::{Body, Transport, empty, full};

/// The largest answer that is read, in bytes; lists ask for pages.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What a list or watch asks for.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// `labelSelector`.
    pub labels: String,
    /// `fieldSelector`.
    pub fields: String,
    /// `limit`; 0 for everything.
    pub limit: usize,
    /// `continue` of the page before.
    pub continue_token: String,
    /// `resourceVersion`.
    pub resource_version: String,
}

/// What an answer that is no success says. Not everything there is a Status: what nothing is served at, for one, is told in
/// plain text.
fn failure(code: u16, body: &[u8]) -> Error {
    let value = serde_json::from_slice(body)
        .unwrap_or_else(|_| json!({ "message": String::from_utf8_lossy(body).trim() }));
    StatusError::from_value(code, &value).into()
}

/// A change to an object.
#[derive(Clone, Debug)]
pub enum Patch {
    /// A list of operations.
    Json(Value),
    /// A merge patch.
    Merge(Value),
    /// A strategic merge patch.
    Strategic(Value),
    /// What a field manager wants to be so, whoever else set it.
    Apply {
        /// The name of the field manager.
        manager: &'static str,
        /// The fields that it manages.
        fields: Value,
    },
}

/// A list and the resource version it was read at.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// The objects, each with its `apiVersion` and `kind`.
    pub items: Vec<Object>,
    /// The version to watch from.
    pub resource_version: String,
    /// The token of the next page; empty at the end.
    pub continue_token: String,
}

/// A client with one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    agent: &'static str,
}

impl Client {
    /// A client over a transport.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, agent: concat!("longshore/", env!("CARGO_PKG_VERSION")) }
    }

    /// The same client that calls itself something else: the server tells by this name whose
    /// changes are.
    #[must_use]
    pub fn named(mut self, agent: &'static str) -> Self {
        self.agent = agent;
        self
    }

    /// Sends a request and gives the response whatever its status.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        self.transport.call(request).await
    }

    /// Sends a request with a JSON body and reads the JSON answer; a failure status is an error.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value, Error> {
        let request = match body {
            None => self.request(method, path, "", empty())?,
            Some((media_type, value)) => {
                self.request(method, path, media_type, full(value.to_string()))?
            }
        };
        let response = self.send(request).await?;
        let status = response.status();
        let bytes = read(response.into_body()).await?;
        if !status.is_success() {
            return Err(failure(status.as_u16(), &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|e| Error::Decode(format!("{path}: {e}")))
    }

    async fn object(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Object, Error> {
        let value = self.raw(method, path, body).await?;
        Object::from_value(value).ok_or_else(|| Error::Decode(format!("{path}: not an object")))
    }

    /// One object.
    pub async fn get(&self, of: Resource, namespace: &str, name: &str) -> Result<Object, Error> {
        self.object(Method::GET, &of.path(namespace, name), None).await
    }

    /// One object, or `None` when it does not exist.
    pub async fn find(
        &self,
        of: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Object>, Error> {
        match self.get(of, namespace, name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A page of objects; an empty namespace means all.
    pub async fn list(
        &self,
        of: Resource,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<List, Error> {
        let path = format!("{}{}", of.path(namespace, ""), query(options, &[]));
        let mut value = self.raw(Method::GET, &path, None).await?;
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        let mut list = List {
            items: Vec::new(),
            resource_version: text(&value["metadata"]["resourceVersion"]),
            continue_token: text(&value["metadata"]["continue"]),
        };
        let (api_version, kind) = (of.api_version(), of.kind);
        if let Value::Array(items) = value["items"].take() {
            list.items = items.into_iter().filter_map(Object::from_value).collect();
        }
        for item in &mut list.items {
            item.set(&["apiVersion"], api_version.as_str());
            item.set(&["kind"], kind);
        }
        Ok(list)
    }

    /// Opens a watch: the body is one JSON event after another, each on a line.
    pub async fn watch(
        &self,
        of: Resource,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<Response<Body>, Error> {
        let extra = [("watch", "1"), ("allowWatchBookmarks", "true")];
        let path = format!("{}{}", of.path(namespace, ""), query(options, &extra));
        let response = self.send(self.request(Method::GET, &path, "", empty())?).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let bytes = read(response.into_body()).await?;
        Err(failure(code, &bytes))
    }

    /// Creates an object in its namespace.
    pub async fn create(&self, of: Resource, object: &Value) -> Result<Object, Error> {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("");
        let path = of.path(namespace, "");
        self.object(Method::POST, &path, Some(("application/json", object))).await
    }

    /// Replaces an object.
    pub async fn update(&self, of: Resource, object: &Object) -> Result<Object, Error> {
        self.update_subresource(of, "", object).await
    }

    /// Replaces an object's status.
    pub async fn update_status(&self, of: Resource, object: &Object) -> Result<Object, Error> {
        self.update_subresource(of, "status", object).await
    }

    /// Replaces an object through a subresource.
    pub async fn update_subresource(
        &self,
        of: Resource,
        subresource: &str,
        object: &Object,
    ) -> Result<Object, Error> {
        let path = below(of.path(object.namespace(), object.name()), subresource);
        let value = object.clone().into_value();
        self.object(Method::PUT, &path, Some(("application/json", &value))).await
    }

    /// Patches an object or, with a subresource, through it.
    pub async fn patch(
        &self,
        of: Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Patch,
    ) -> Result<Object, Error> {
        let (media_type, value) = match patch {
            Patch::Json(value) => ("application/json-patch+json", value),
            Patch::Merge(value) => ("application/merge-patch+json", value),
            Patch::Strategic(value) => ("application/strategic-merge-patch+json", value),
            Patch::Apply { fields, .. } => ("application/apply-patch+yaml", fields),
        };
        let mut path = below(of.path(namespace, name), subresource);
        if let Patch::Apply { manager, .. } = patch {
            path.push_str(&format!("?fieldManager={}&force=true", escape(manager)));
        }
        self.object(Method::PATCH, &path, Some((media_type, value))).await
    }

    /// Deletes an object; `options` are the fields of `DeleteOptions`.
    pub async fn delete(
        &self,
        of: Resource,
        namespace: &str,
        name: &str,
        options: Value,
    ) -> Result<Object, Error> {
        let body = if options.is_null() { json!({}) } else { options };
        let path = of.path(namespace, name);
        self.object(Method::DELETE, &path, Some(("application/json", &body))).await
    }

    /// Posts to a subresource such as `binding`, `eviction` or `token`.
    pub async fn create_subresource(
        &self,
        of: Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &Value,
    ) -> Result<Value, Error> {
        let path = below(of.path(namespace, name), subresource);
        self.raw(Method::POST, &path, Some(("application/json", body))).await
    }
}

fn below(mut path: String, subresource: &str) -> String {
    if !subresource.is_empty() {
        path.push('/');
        path.push_str(subresource);
    }
    path
}

impl Client {
    fn request(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: Body,
    ) -> Result<Request<Body>, Error> {
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::USER_AGENT, self.agent);
        if !media_type.is_empty() {
            builder = builder.header(http::header::CONTENT_TYPE, media_type);
        }
        builder.body(body).map_err(|e| Error::Transport(format!("{path}: {e}")))
    }
}

fn query(options: &ListOptions, extra: &[(&str, &str)]) -> String {
    let limit = options.limit.to_string();
    let pairs = [
        ("labelSelector", options.labels.as_str()),
        ("fieldSelector", &options.fields),
        ("limit", if options.limit == 0 { "" } else { &limit }),
        ("continue", &options.continue_token),
        ("resourceVersion", &options.resource_version),
    ];
    let pairs = pairs.into_iter().chain(extra.iter().copied()).filter(|(_, v)| !v.is_empty());
    let text: Vec<String> = pairs.map(|(k, v)| format!("{k}={}", escape(v))).collect();
    if text.is_empty() { String::new() } else { format!("?{}", text.join("&")) }
}

/// Escapes a text for a query.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

async fn read(mut body: Body) -> Result<Bytes, Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Error::Transport(e.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > ANSWER_BYTES_MAX {
            return Err(Error::Decode("the answer is too large".into()));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.into())
}
