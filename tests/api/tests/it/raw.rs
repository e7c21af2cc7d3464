//! HTTP/1.1 by hand: what well-behaved clients never send.

use std::sync::Arc;

use longshore_test_api::server::Server;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A client's TLS settings with the administrator's certificate.
pub fn tls(server: &Server) -> TlsConnector {
    let config = std::fs::read(server.kubeconfig()).unwrap();
    let config = longshore_api::yaml::decode(&config).unwrap();
    let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
    let pem = |of: &Value, key: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(of[key].as_str().unwrap()).unwrap()
    };
    let mut roots = RootCertStore::empty();
    let authority = pem(cluster, "certificate-authority-data");
    roots.add(CertificateDer::from_pem_slice(&authority).unwrap()).unwrap();
    let certificate = pem(user, "client-certificate-data");
    let chain = CertificateDer::pem_slice_iter(&certificate).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&pem(user, "client-key-data")).unwrap();
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// A connection.
pub async fn connect(server: &Server, tls: &TlsConnector) -> TlsStream<TcpStream> {
    let tcp = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    tls.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap()
}

/// Sends bytes and reads what comes back until the server closes or says nothing more; the start of
/// it. The server may close before it has read everything.
pub async fn exchange(server: &Server, tls: &TlsConnector, request: &[u8]) -> String {
    let mut stream = connect(server, tls).await;
    let sent = stream.write_all(request).await.is_ok() && stream.flush().await.is_ok();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap_or(0);
    answer.truncate(length);
    format!("{}{}", if sent { "" } else { "cut off " }, String::from_utf8_lossy(&answer))
}
