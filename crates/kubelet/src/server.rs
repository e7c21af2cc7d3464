//! The server of the node agent: logs, and streams into containers. Mostly the API server calls it.
//!
//! upstream: pkg/kubelet/server/server.go

mod access;
mod logs;
mod streams;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use longshore_base::{Shutdown, TaskKind};
use longshore_client::Informer;
use longshore_client::transport::{Body, full};
use longshore_cri::v1::{ContainerFilter, ListContainersRequest};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::observe::labels;
use crate::{Error, Shared};

/// Open connections.
const CONNECTIONS_MAX: usize = 1024;
/// Time for a TLS handshake and for the headers of a request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A failed request: its status code and what to say.
pub(crate) struct Refused(StatusCode, String);

impl Refused {
    fn new(code: StatusCode, why: impl std::fmt::Display) -> Self {
        Self(code, why.to_string())
    }
}

struct Server {
    shared: Arc<Shared>,
    pods: Informer,
}

/// Listens; requests are answered in the background until shutdown.
pub(crate) async fn start(
    shared: Arc<Shared>,
    pods: Informer,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let listener = shared.config.listener.try_clone().and_then(TcpListener::from_std);
    let listener = listener.map_err(Error::Listen)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(shared.config.tls.clone());
    let server = Arc::new(Server { shared, pods });
    let limit = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let shutdown = shutdown.clone();
    longshore_base::spawn(TaskKind::Critical, "kubelet server", async move {
        loop {
            let permit =
                limit.clone().acquire_owned().await.expect("the semaphore is never closed");
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    continue;
                }
            };
            let (server, acceptor) = (server.clone(), acceptor.clone());
            longshore_base::spawn(TaskKind::PerItem, "kubelet connection", async move {
                server.connection(stream, acceptor).await;
                drop(permit);
            });
        }
    });
    Ok(())
}

impl Server {
    async fn connection(self: Arc<Self>, stream: TcpStream, acceptor: tokio_rustls::TlsAcceptor) {
        let tls = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => return,
        };
        let chain = tls.get_ref().1.peer_certificates();
        let user = chain.and_then(|chain| access::User::of_certificate(chain.first()?));
        let service = service_fn(move |request: Request<Incoming>| {
            let (server, user) = (self.clone(), user.clone());
            async move {
                let answer = server.admit(user.as_ref(), request).await;
                let response = answer.unwrap_or_else(|Refused(code, why)| {
                    let mut response = Response::new(full(format!("{why}\n")));
                    *response.status_mut() = code;
                    response
                });
                Ok::<_, Infallible>(response)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE_TIMEOUT)
            .serve_connection(TokioIo::new(tls), service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
    }

    /// Answers who may ask.
    async fn admit(
        &self,
        user: Option<&access::User>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refused> {
        let (parts, body) = request.into_parts();
        let (client, node) = (&self.shared.client, &self.shared.config.node_name);
        access::check(client, node, user, &parts).await?;
        self.answer(Request::from_parts(parts, body)).await
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Refused> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let query = Query::parse(request.uri().query().unwrap_or(""));
        match parts.as_slice() {
            ["healthz"] => Ok(Response::new(full("ok"))),
            ["pods" | "runningpods"] => {
                let pods = self.pods.list();
                Ok(pod_list(pods.iter().map(|pod| (**pod).clone().into_value()).collect()))
            }
            ["containerLogs", namespace, pod, container] => {
                let uid = self.uid(namespace, pod)?;
                logs::answer(&self.shared, namespace, pod, &uid, container, &query)
            }
            [verb @ ("exec" | "attach"), namespace, pod, container] => {
                let id = self.container(&self.uid(namespace, pod)?, container).await?;
                let url = streams::container_url(&self.shared, verb, &id, &query).await?;
                streams::proxy(&url, request).await
            }
            ["portForward", namespace, pod] => {
                let uid = self.uid(namespace, pod)?;
                let url = streams::pod_url(&self.shared, &uid).await?;
                streams::proxy(&url, request).await
            }
            _ => Err(Refused::new(StatusCode::NOT_FOUND, "404 page not found")),
        }
    }

    fn uid(&self, namespace: &str, pod: &str) -> Result<String, Refused> {
        let found = self.pods.get(namespace, pod);
        found.map(|pod| pod.uid().to_owned()).ok_or_else(|| {
            Refused::new(StatusCode::NOT_FOUND, format!("pod {pod:?} does not exist"))
        })
    }

    /// The id of the newest container of a name.
    async fn container(&self, uid: &str, name: &str) -> Result<String, Refused> {
        let selector = [(labels::POD_UID, uid), (labels::CONTAINER, name)];
        let selector = selector.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let filter = ContainerFilter { label_selector: selector, ..Default::default() };
        let request = ListContainersRequest { filter: Some(filter) };
        let list = self.shared.runtime.list_containers(request).await;
        let list = list.map_err(|e| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, e))?;
        let newest = list.containers.into_iter().max_by_key(|c| c.created_at);
        newest.map(|c| c.id).ok_or_else(|| {
            Refused::new(StatusCode::NOT_FOUND, format!("container not found (\"{name}\")"))
        })
    }
}

/// The answer to a request for all pods. Clients read it by its content type, whatever they asked for.
fn pod_list(items: Vec<Value>) -> Response<Body> {
    let list = json!({ "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items });
    let mut response = Response::new(full(list.to_string()));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The parameters of a request.
pub(crate) struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    fn parse(text: &str) -> Self {
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            map.entry(decode(key)).or_default().push(decode(value));
        }
        Self(map)
    }

    fn get(&self, key: &str) -> &str {
        self.0.get(key).and_then(|v| v.first()).map_or("", String::as_str)
    }

    fn all(&self, key: &str) -> Vec<String> {
        self.0.get(key).cloned().unwrap_or_default()
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), "1" | "true")
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3)).flatten();
        match (bytes[i], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (_, Some(byte)) => {
                out.push(byte);
                i += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_told_to_be_json() {
        let response = pod_list(vec![json!({ "metadata": { "name": "a" } })]);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    }
}
