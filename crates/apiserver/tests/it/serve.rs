//! The listener, called by a real TLS client.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_apiserver::pki::{self, Pki};
use longshore_apiserver::serve::{self, Body, PeerInfo, Service};
use longshore_base::Shutdown;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

struct CountCertificates;

impl Service for CountCertificates {
    fn call(
        &self,
        mut request: http::Request<Body>,
        peer: PeerInfo,
    ) -> BoxFuture<'static, http::Response<Body>> {
        async move {
            let mut response = http::Response::new(
                Full::new(Bytes::from(format!("{} {}", peer.certs.len(), request.uri().path())))
                    .map_err(|never| match never {})
                    .boxed_unsync(),
            );
            if request.headers().contains_key("upgrade") {
                *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
                response.headers_mut().insert("upgrade", "echo".parse().unwrap());
                response.headers_mut().insert("connection", "Upgrade".parse().unwrap());
                tokio::spawn(async move {
                    let upgraded = hyper::upgrade::on(&mut request).await.unwrap();
                    let mut io = TokioIo::new(upgraded);
                    let mut bytes = [0; 4];
                    io.read_exact(&mut bytes).await.unwrap();
                    io.write_all(&bytes).await.unwrap();
                    io.shutdown().await.unwrap();
                });
            }
            response
        }
        .boxed()
    }
}

struct Server {
    pki: Pki,
    address: std::net::SocketAddr,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

async fn start() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let ips = [IpAddr::from([10, 96, 0, 1])];
    let now = jiff::Timestamp::now();
    let pki = pki::ensure(dir.path(), &["node-1".to_owned()], &ips, now).unwrap();
    let tls = serve::tls_config(&pki.apiserver, &pki.ca.pair().certificates()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let running = serve::serve(listener, tls, Arc::new(CountCertificates), shutdown.clone());
    Server { pki, address, shutdown, task: tokio::spawn(running), _dir: dir }
}

impl Server {
    async fn connect(&self, alpn: &[u8], client: Option<(String, String)>) -> TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(self.pki.ca.pair().certificates());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("kubernetes.default.svc").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

async fn body(response: http::Response<hyper::body::Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn get(path: &str) -> http::Request<Empty<Bytes>> {
    http::Request::get(format!("https://kubernetes{path}")).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn http2_serves_with_and_without_client_certificate() {
    let server = start().await;
    let tls = server.connect(b"h2", None).await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    assert_eq!(body(sender.send_request(get("/a")).await.unwrap()).await, "0 /a");
    drop(sender);
    connection.await.unwrap().unwrap();

    // An expired certificate of an unknown authority is passed on, not refused.
    let other = start().await;
    let long_ago = "2001-01-01T00:00:00Z".parse().unwrap();
    let expired = other.pki.client_certificate("jane", &["devs"], long_ago).unwrap();
    let tls = server.connect(b"h2", Some(expired)).await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    assert_eq!(body(sender.send_request(get("/b")).await.unwrap()).await, "1 /b");
    // The drain ends idle connections by itself.
    server.stop().await;
    connection.await.unwrap().unwrap();
    other.stop().await;
}

#[tokio::test]
async fn http1_upgrades_carry_raw_bytes() {
    let server = start().await;
    let tls = server.connect(b"http/1.1", None).await;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
    let connection = tokio::spawn(connection.with_upgrades());
    let request = http::Request::get("/echo")
        .header("host", "kubernetes")
        .header("connection", "Upgrade")
        .header("upgrade", "echo")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), http::StatusCode::SWITCHING_PROTOCOLS);
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    io.write_all(b"ping").await.unwrap();
    let mut answer = String::new();
    io.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "ping");
    connection.await.unwrap().unwrap();
    server.stop().await;
}

#[tokio::test]
async fn plain_http_is_told_about_tls() {
    let server = start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // The server closes with our request unread, which may also reset the connection.
    if stream.read_to_end(&mut answer).await.is_ok() {
        let text = String::from_utf8(answer).unwrap();
        assert!(text.contains("Client sent an HTTP request to an HTTPS server."), "{text}");
    }
    server.stop().await;
}
