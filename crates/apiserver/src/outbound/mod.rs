//! Calls to other servers: webhooks and aggregated API servers. One pool of connections for all.
//!
//! Invariant: a call holds no lock while it waits, and a server that does not answer holds up only
//! those who call it.

mod body;
mod connect;
mod error;
pub mod services;
pub mod tls;
pub mod webhook;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::Body as _;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::body::{Body, full};
pub use error::CallError;

/// Connections that are kept for one server while nobody uses them.
///
/// upstream: staging/src/k8s.io/client-go/transport/cache.go idleConnsPerHost
const IDLE_PER_SERVER_MAX: usize = 25;
/// Connections that are kept for all servers while nobody uses them.
const IDLE_MAX: usize = 512;
/// How long a connection that nobody uses is kept.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/util/net/http.go SetTransportDefaults
const IDLE_TIME_MAX: Duration = Duration::from_secs(90);
/// Calls of one server at the same time.
const CALLS_PER_SERVER_MAX: usize = 8192;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How a connection is secured.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Who is trusted, and who we are.
    pub config: Arc<rustls::ClientConfig>,
    /// The name that the server's certificate has to be for.
    pub server_name: String,
}

/// A server to call.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub address: Address,
    /// None for a server without TLS.
    pub tls: Option<Tls>,
    /// What the `Host` header says.
    pub authority: String,
}

impl Target {
    fn is_same(&self, other: &Self) -> bool {
        let tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                Arc::ptr_eq(&a.config, &b.config) && a.server_name == b.server_name
            }
            _ => false,
        };
        tls && self.address == other.address
    }
}

/// A connection that waits for its next request.
struct Idle {
    target: Target,
    sender: SendRequest<Body>,
    since: Instant,
}

#[derive(Default)]
struct Pool {
    idle: Mutex<Vec<Idle>>,
    calls: Mutex<HashMap<Address, usize>>,
}

/// Sends requests to other servers.
#[derive(Clone, Default)]
pub struct Client {
    pool: Arc<Pool>,
}

/// Counts a call as long as it lasts.
struct Turn {
    pool: Arc<Pool>,
    address: Address,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut calls = self.pool.calls.lock();
        if let Some(count) = calls.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                calls.remove(&self.address);
            }
        }
    }
}

impl Pool {
    fn enter(self: &Arc<Self>, address: &Address) -> Result<Turn, CallError> {
        let mut calls = self.calls.lock();
        let count = calls.entry(address.clone()).or_default();
        if *count >= CALLS_PER_SERVER_MAX {
            return Err(CallError::Busy(address.clone()));
        }
        *count += 1;
        Ok(Turn { pool: self.clone(), address: address.clone() })
    }

    fn take(&self, target: &Target) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock();
        idle.retain(|one| one.since.elapsed() < IDLE_TIME_MAX && !one.sender.is_closed());
        let at = idle.iter().rposition(|one| one.target.is_same(target))?;
        Some(idle.remove(at).sender)
    }

    fn put(&self, target: Target, sender: SendRequest<Body>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        let own = idle.iter().filter(|one| one.target.is_same(&target)).count();
        if own >= IDLE_PER_SERVER_MAX || idle.len() >= IDLE_MAX {
            return;
        }
        idle.push(Idle { target, sender, since: Instant::now() });
    }
}

impl Client {
    /// Sends one request and gives the answer when its head has come; the body follows while it is
    /// read. The URI has a path and a query only. There is no deadline: the caller sets one.
    ///
    /// # Errors
    /// When the server cannot be reached or does not speak HTTP.
    pub async fn send(
        &self,
        target: &Target,
        request: Request<Body>,
    ) -> Result<Response<Body>, CallError> {
        let (head, body) = request.into_parts();
        let reads = head.method.is_safe() && body.is_end_stream();
        let again = reads.then(|| (head.clone(), Bytes::new()));
        self.exchange(target, Request::from_parts(head, body), again).await
    }

    /// Sends a request that does no harm when it comes twice, see [`Client::send`].
    ///
    /// # Errors
    /// When the server cannot be reached or does not speak HTTP.
    pub async fn send_whole(
        &self,
        target: &Target,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, CallError> {
        let again = request.clone().into_parts();
        self.exchange(target, request.map(full), Some(again)).await
    }

    /// `again` is the request once more. It is needed when a connection that has been used before is
    /// closed instead of an answer: most likely the server closed it when the request was on its way.
    ///
    /// upstream: Go's net/http/transport.go shouldRetryRequest
    async fn exchange(
        &self,
        target: &Target,
        mut request: Request<Body>,
        again: Option<(Parts, Bytes)>,
    ) -> Result<Response<Body>, CallError> {
        let turn = self.pool.enter(&target.address)?;
        let host = HeaderValue::from_str(&target.authority)
            .map_err(|_| CallError::Other(format!("invalid host {:?}", target.authority)))?;
        let ready = |mut request: Request<Body>| {
            *request.version_mut() = Version::HTTP_11;
            request.headers_mut().insert(header::HOST, host.clone());
            request
        };
        while let Some(mut sender) = self.pool.take(target) {
            if sender.ready().await.is_err() {
                continue;
            }
            let mut failed = match sender.try_send_request(ready(request)).await {
                Ok(response) => return Ok(self.answer(target, turn, sender, response)),
                Err(failed) => failed,
            };
            request = match (failed.take_message(), &again) {
                (Some(unsent), _) => unsent,
                (None, Some((head, body))) if error::is_closed(failed.error()) => {
                    Request::from_parts(head.clone(), full(body.clone()))
                }
                _ => return Err(CallError::http(&failed.into_error())),
            };
        }
        let mut sender = connect::open(target).await?;
        let response = sender.send_request(ready(request)).await;
        let response = response.map_err(|error| CallError::http(&error))?;
        Ok(self.answer(target, turn, sender, response))
    }

    fn answer(
        &self,
        target: &Target,
        turn: Turn,
        sender: SendRequest<Body>,
        response: Response<hyper::body::Incoming>,
    ) -> Response<Body> {
        let back = body::Back { target: target.clone(), sender, turn };
        response.map(|incoming| body::returning(incoming, back))
    }
}

/// Answers that are longer than this are refused.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Reads the whole body of an answer.
///
/// # Errors
/// When it breaks off or is longer than [`ANSWER_BYTES_MAX`].
pub async fn read(body: Body) -> Result<Bytes, CallError> {
    read_up_to(body, ANSWER_BYTES_MAX).await
}

/// Reads the whole body of an answer that may not be longer than this.
///
/// # Errors
/// When it breaks off or is longer.
pub async fn read_up_to(mut body: Body, max: usize) -> Result<Bytes, CallError> {
    use http_body_util::BodyExt as _;
    let mut all = bytes::BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| CallError::Other("unexpected EOF".to_owned()))?;
        let Some(data) = frame.data_ref() else { continue };
        if all.len() + data.len() > max {
            let why = format!("the answer is longer than {max} bytes");
            return Err(CallError::Other(why));
        }
        all.extend_from_slice(data);
    }
    Ok(all.freeze())
}
