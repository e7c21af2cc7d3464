//! Calls of other servers, over real TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response};
use longshore_apiserver::body::full;
use longshore_apiserver::outbound::tls::{self, Identity, Trust};
use longshore_apiserver::outbound::{self, Address, CallError, Client, Target, Tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::other::Other;

fn target(other: &Other, trust: Trust<'_>, identity: Option<Identity>, name: &str) -> Target {
    let config = tls::config(trust, identity).unwrap();
    Target {
        address: Address { host: "127.0.0.1".to_owned(), port: other.address.port() },
        tls: Some(Tls { config, server_name: name.to_owned() }),
        authority: "hook.default.svc:443".to_owned(),
    }
}

async fn echo() -> Other {
    Other::start(|request, certificates| {
        let host = request.headers()["host"].to_str().unwrap().to_owned();
        async move {
            let body = outbound::read(request.into_body()).await.unwrap();
            let text = format!("{host} {certificates} {}", String::from_utf8_lossy(&body));
            Response::new(full(text))
        }
        .boxed()
    })
    .await
}

async fn ask(client: &Client, target: &Target, text: &str) -> Result<String, CallError> {
    let request = Request::post("/path").body(Bytes::from(text.to_owned())).unwrap();
    let response = client.send_whole(target, request).await?;
    let body = outbound::read(response.into_body()).await?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn servers_are_checked_and_clients_show_who_they_are() {
    let other = echo().await;
    let pem = other.authority.cert_pem().as_bytes();
    let client = Client::default();
    let good = target(&other, Trust::Authorities(pem), None, "hook.default.svc");
    assert_eq!(ask(&client, &good, "a").await.unwrap(), "hook.default.svc:443 0 a");
    let by_address = target(&other, Trust::Authorities(pem), None, "127.0.0.1");
    assert_eq!(ask(&client, &by_address, "b").await.unwrap(), "hook.default.svc:443 0 b");
    let identity = Identity { chain: other.client.certificates(), key: other.client.key() };
    let known = target(&other, Trust::Anyone, Some(identity), "whatever");
    assert_eq!(ask(&client, &known, "c").await.unwrap(), "hook.default.svc:443 1 c");
    let wrong = target(&other, Trust::Authorities(pem), None, "else.default.svc");
    let error = ask(&client, &wrong, "d").await.unwrap_err().to_string();
    assert_eq!(
        error,
        "tls: failed to verify certificate: x509: certificate is valid for hook.default.svc, 127.0.0.1, not else.default.svc"
    );
    let stranger = echo().await;
    let pem = stranger.authority.cert_pem().as_bytes();
    let unknown = target(&other, Trust::Authorities(pem), None, "hook.default.svc");
    let error = ask(&client, &unknown, "e").await.unwrap_err().to_string();
    assert_eq!(
        error,
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    let error = tls::config(Trust::Authorities(b"nonsense"), None).unwrap_err();
    assert_eq!(error, "unable to load root certificates: unable to parse bytes as PEM block");
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_as_go_tells_it() {
    let client = Client::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = tls::config(Trust::Anyone, None).unwrap();
    let target = Target {
        address: Address { host: "127.0.0.1".to_owned(), port },
        tls: Some(Tls { config, server_name: "a".to_owned() }),
        authority: "a".to_owned(),
    };
    // A server without TLS.
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 1024];
        assert!(stream.read(&mut hello).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let (error, ()) = tokio::join!(ask(&client, &target, "a"), plain);
    assert_eq!(error.unwrap_err().to_string(), "http: server gave HTTP response to HTTPS client");
    drop(listener);
    let error = ask(&client, &target, "b").await.unwrap_err().to_string();
    assert_eq!(error, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
    let address = Address { host: "nothing.invalid".to_owned(), port };
    let error = ask(&client, &Target { address, ..target }, "c").await.unwrap_err().to_string();
    assert_eq!(error, "dial tcp: lookup nothing.invalid: no such host");
}

/// A connection serves many calls, and calls go on when the server closes it, even while a call is
/// on its way.
#[tokio::test]
async fn connections_are_used_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = opened.clone();
    // Answers two requests on each connection, and none but takes it on every other one.
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let odd = counted.fetch_add(1, Ordering::SeqCst) % 2;
            for request in 0..2 + odd {
                let mut seen = Vec::new();
                while !seen.ends_with(b"ping") {
                    let mut bytes = [0; 1024];
                    let count = stream.read(&mut bytes).await.unwrap();
                    seen.extend_from_slice(&bytes[..count]);
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npong";
                if request < 2 {
                    stream.write_all(answer).await.unwrap();
                }
            }
        }
    });
    let target = Target {
        address: Address { host: "127.0.0.1".to_owned(), port },
        tls: None,
        authority: "a".to_owned(),
    };
    let client = Client::default();
    for call in 0..6 {
        assert_eq!(ask(&client, &target, "ping").await.unwrap(), "pong", "call {call}");
    }
    assert_eq!(opened.load(Ordering::SeqCst), 3);
    // What may not come twice is told of it.
    let client = Client::default();
    let post = || Request::post("/path").body(full("ping")).unwrap();
    for call in 0..2 {
        let response = client.send(&target, post()).await.unwrap();
        assert_eq!(outbound::read(response.into_body()).await.unwrap(), "pong", "call {call}");
    }
    let error = client.send(&target, post()).await.unwrap_err().to_string();
    assert_eq!((error.as_str(), opened.load(Ordering::SeqCst)), ("EOF", 4));
    server.abort();
}
