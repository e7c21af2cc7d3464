//! The TLS listener: accepts connections and hands requests to a service.
//!
//! Invariant: a client's certificate is not judged here. Whoever presents one proves that they hold
//! its key; whether it is trusted decides the authenticator, so that a bad one is answered with 401
//! and not with a broken connection.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/server/secure_serving.go

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use longshore_base::{Shutdown, TaskKind};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::gather::gather;
use crate::pki::Pair;

/// Why a body could not be read.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of requests and responses.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Open connections at one time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16_384;
/// Concurrent requests and watches on one HTTP/2 connection.
const STREAMS_MAX: u32 = 1_000;
/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the headers of an HTTP/1.1 request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(32);
/// Bytes of all headers of one request.
const HEADERS_MAX_BYTES: u32 = 1 << 20;
/// How often an idle HTTP/2 peer is asked whether it still lives.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// Flow-control window of one HTTP/2 stream, in bytes.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Flow-control window of an HTTP/2 connection, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 25 << 20;
/// How long running requests may go on after the shutdown signal.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Pause after a failed accept (out of file descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is on the other side of a connection.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The certificates the client presented, leaf first; not verified.
    pub certs: Arc<[CertificateDer<'static>]>,
    /// What the authenticator found out about them.
    pub memo: Arc<crate::auth::Memo>,
    /// Its address.
    pub remote_addr: SocketAddr,
}

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. `hyper::upgrade::on` works on HTTP/1.1 requests.
    fn call(
        &self,
        request: http::Request<Body>,
        peer: PeerInfo,
    ) -> BoxFuture<'static, http::Response<Body>>;
}

/// The TLS settings: the serving certificate, client certificates on request, HTTP/2 and HTTP/1.1.
/// `authorities` are announced to clients, so that they can choose a certificate.
pub fn tls_config(
    serving: &Pair,
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<rustls::ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = AnyCertificate { provider: provider.clone(), hints: hints(authorities) };
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(serving.certificates(), serving.key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn hints(authorities: &[CertificateDer<'static>]) -> Vec<DistinguishedName> {
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(authorities.iter().cloned());
    store.subjects()
}

/// Takes every client certificate whose holder has the key.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Serves until `shutdown`, then lets running requests end within a limit.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    service: Arc<dyn Service>,
    shutdown: Shutdown,
) {
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    let limit = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &limit) => accepted,
        };
        let (stream, remote_addr, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, service) = (acceptor.clone(), service.clone());
        let shutdown = shutdown.clone();
        let one = tasks.track_future(async move {
            connection(stream, remote_addr, acceptor, service, shutdown).await;
            drop(permit);
        });
        longshore_base::spawn(TaskKind::PerItem, "connection", one);
    }
    tasks.close();
    if tokio::time::timeout(DRAIN_MAX, tasks.wait()).await.is_err() {
        tracing::info!(connections = tasks.len(), "connections still open after the drain time");
    }
}

async fn accept(
    listener: &TcpListener,
    limit: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = limit.clone().acquire_owned().await.expect("the semaphore is never closed");
    let (stream, address) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, address, permit))
}

/// The first byte of every TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

async fn connection(
    mut stream: TcpStream,
    remote_addr: SocketAddr,
    acceptor: tokio_rustls::TlsAcceptor,
    service: Arc<dyn Service>,
    shutdown: Shutdown,
) {
    let handshake = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
            stream.write_all(PLAIN_HTTP_ANSWER).await?;
            return Ok(None);
        }
        acceptor.accept(stream).await.map(Some)
    };
    let tls = tokio::select! {
        () = shutdown.cancelled() => return,
        outcome = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake) => match outcome {
            Ok(Ok(Some(tls))) => tls,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => return tracing::debug!(%remote_addr, %error, "TLS handshake failed"),
            Err(_) => return tracing::debug!(%remote_addr, "TLS handshake took too long"),
        },
    };
    let certs: Arc<[CertificateDer<'static>]> =
        tls.get_ref().1.peer_certificates().unwrap_or_default().into();
    let peer = PeerInfo { certs, memo: Arc::default(), remote_addr };
    let handler = service_fn(move |request: http::Request<Incoming>| {
        let request = request.map(|body| body.map_err(BoxError::from).boxed_unsync());
        let answer = service.call(request, peer.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let builder = builder();
    let (stream, mut outlet) = gather(tls);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), handler);
    tokio::pin!(connection);
    // Polls the connection, then sends what it has written.
    let mut step = |cx: &mut Context<'_>, ends: bool| {
        if ends {
            connection.as_mut().graceful_shutdown();
        }
        let outcome = connection.as_mut().poll(cx);
        if outcome.is_ready() {
            // A stream that was upgraded belongs to its handler now.
            outlet.let_go(cx);
            return outcome;
        }
        match outlet.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            _ => Poll::Pending,
        }
    };
    let outcome: Result<(), BoxError> = tokio::select! {
        outcome = poll_fn(|cx| step(cx, false)) => outcome,
        () = shutdown.cancelled() => {
            let mut ends = true;
            let rest = poll_fn(|cx| step(cx, std::mem::take(&mut ends)));
            match tokio::time::timeout(DRAIN_MAX, rest).await {
                Ok(outcome) => outcome,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%remote_addr, %error, "connection ended");
    }
}

const PLAIN_HTTP_ANSWER: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADERS_MAX_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
