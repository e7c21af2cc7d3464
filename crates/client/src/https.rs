//! The transport over HTTPS: one HTTP/2 connection that is opened again when it breaks.

use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use longshore_base::TaskKind;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::error::Error;
use crate::transport::{Body, BodyError, Transport};

/// How long connecting may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often an idle server is asked whether it still lives.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Where a server is and how to prove who we are.
pub struct Https {
    shared: Arc<Shared>,
}

struct Shared {
    host: String,
    port: u16,
    tls: Arc<rustls::ClientConfig>,
    token: Option<http::HeaderValue>,
    sender: Mutex<Option<http2::SendRequest<Body>>>,
}

impl Https {
    /// A transport to a host. `tls` holds the trusted authorities and the client certificate;
    /// `token` is sent as a bearer token.
    pub fn new(
        host: &str,
        port: u16,
        mut tls: rustls::ClientConfig,
        token: Option<&str>,
    ) -> Result<Self, Error> {
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let token = match token {
            None => None,
            Some(token) => {
                let mut value = http::HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|_| Error::Transport("the token has forbidden characters".into()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let shared = Shared {
            host: host.to_owned(),
            port,
            tls: Arc::new(tls),
            token,
            sender: Mutex::new(None),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Shared {
    async fn sender(&self) -> Result<http2::SendRequest<Body>, Error> {
        let mut present = self.sender.lock().await;
        if let Some(sender) = present.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect()).await;
        let sender =
            connected.map_err(|_| Error::Transport(format!("{} does not answer", self.host)))??;
        *present = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<http2::SendRequest<Body>, Error> {
        let failed = |e: &dyn std::fmt::Display| {
            Error::Transport(format!("{}:{}: {e}", self.host, self.port))
        };
        let target = (self.host.clone(), self.port);
        let addresses = tokio::task::spawn_blocking(move || target.to_socket_addrs()).await;
        let addresses: Vec<_> =
            addresses.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?.collect();
        let tcp = TcpStream::connect(&addresses[..]).await.map_err(|e| failed(&e))?;
        tcp.set_nodelay(true).map_err(|e| failed(&e))?;
        let name = ServerName::try_from(self.host.clone()).map_err(|e| failed(&e))?;
        let connector = tokio_rustls::TlsConnector::from(self.tls.clone());
        let tls = connector.connect(name, tcp).await.map_err(|e| failed(&e))?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .adaptive_window(true)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(|e| failed(&e))?;
        longshore_base::spawn(TaskKind::PerItem, "client connection", async {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the API server ended");
            }
        });
        Ok(sender)
    }

    async fn call(&self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        let failed = |e: &dyn std::fmt::Display| Error::Transport(e.to_string());
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(Scheme::HTTPS);
        let authority = if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        };
        parts.authority = Some(authority.parse::<Authority>().map_err(|e| failed(&e))?);
        *request.uri_mut() = Uri::from_parts(parts).map_err(|e| failed(&e))?;
        if let Some(token) = &self.token {
            request.headers_mut().insert(http::header::AUTHORIZATION, token.clone());
        }
        let mut sender = self.sender().await?;
        let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
        Ok(response.map(|body| body.map_err(|e| Box::new(e) as BodyError).boxed_unsync()))
    }
}

impl Transport for Https {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Error>> {
        let shared = self.shared.clone();
        Box::pin(async move { shared.call(request).await })
    }
}
