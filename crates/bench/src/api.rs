//! The API server as the load sees it: requests as bytes, one connection per client.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use longshore_client::https::Https;
use longshore_client::transport::{Body, Transport as _, empty, full};
use serde_json::{Value, json};

/// An API server and who we are to it.
pub struct Api {
    kubeconfig: String,
}

/// One connection.
pub struct Connection(Https);

impl Api {
    /// The server of the current context.
    pub fn new(kubeconfig: String) -> Self {
        Self { kubeconfig }
    }

    /// A connection of its own; opened by the first request.
    pub fn connection(&self) -> Result<Connection> {
        let transport = longshore_client::kubeconfig::transport(&self.kubeconfig);
        Ok(Connection(transport.map_err(|error| anyhow::anyhow!("the kubeconfig: {error}"))?))
    }

    /// Makes the namespace and the service account that pods need.
    pub async fn prepare(&self, namespace: &str) -> Result<()> {
        let connection = self.connection()?;
        let body =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        connection.create("/api/v1/namespaces", &body).await?;
        let body =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
        let (status, answer) =
            connection.call(Method::POST, &path, Some(body.to_string().into())).await?;
        ensure!(
            status.is_success() || status == StatusCode::CONFLICT,
            "{status}: {}",
            text(&answer)
        );
        Ok(())
    }

    /// Removes what the load made.
    pub async fn clean(&self, namespace: &str) -> Result<()> {
        let connection = self.connection()?;
        for resource in ["pods?gracePeriodSeconds=0", "configmaps"] {
            connection
                .get_any(Method::DELETE, &format!("/api/v1/namespaces/{namespace}/{resource}"))
                .await?;
        }
        connection.get_any(Method::DELETE, &format!("/api/v1/namespaces/{namespace}")).await?;
        Ok(())
    }
}

impl Connection {
    /// One request with its whole answer.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<(StatusCode, Bytes)> {
        let answer = self.send(method, path, body).await?;
        let status = answer.status();
        let bytes = answer
            .into_body()
            .collect()
            .await
            .map_err(|e| anyhow::anyhow!("{path}: {e}"))?
            .to_bytes();
        Ok((status, bytes))
    }

    /// One request; the answer's body is still to come.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<http::Response<Body>> {
        let request =
            Request::builder().method(method).uri(path).header("accept", "application/json");
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(full(body)),
            None => request.body(empty()),
        };
        let request = request.context("a request")?;
        self.0.call(request).await.map_err(|error| anyhow::anyhow!("{path}: {error}"))
    }

    /// Creates an object; anything but success is an error.
    pub async fn create(&self, path: &str, object: &Value) -> Result<()> {
        self.create_bytes(path, object.to_string().into()).await
    }

    /// Creates an object from YAML; anything but success is an error.
    pub async fn create_yaml(&self, path: &str, object: &str) -> Result<()> {
        let request = Request::post(path)
            .header("content-type", "application/yaml")
            .body(full(object.to_owned()));
        let answer =
            self.0.call(request?).await.map_err(|error| anyhow::anyhow!("{path}: {error}"))?;
        ensure!(answer.status() == StatusCode::CREATED, "POST {path}: {}", answer.status());
        Ok(())
    }

    /// Creates an object from its bytes; anything but success is an error.
    pub async fn create_bytes(&self, path: &str, object: Bytes) -> Result<()> {
        let (status, answer) = self.call(Method::POST, path, Some(object)).await?;
        ensure!(status == StatusCode::CREATED, "POST {path}: {status}: {}", text(&answer));
        Ok(())
    }

    /// The answer of a GET; anything but success is an error.
    pub async fn get(&self, path: &str) -> Result<Bytes> {
        self.get_any(Method::GET, path).await
    }

    /// The answer of a request without a body; anything but success is an error.
    pub async fn get_any(&self, method: Method, path: &str) -> Result<Bytes> {
        let (status, answer) = self.call(method.clone(), path, None).await?;
        ensure!(status.is_success(), "{method} {path}: {status}: {}", text(&answer));
        Ok(answer)
    }
}

/// The beginning of an answer, for messages.
fn text(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).chars().take(400).collect()
}
