//! Another server with TLS, inside the test: webhooks and the like.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use longshore_apiserver::body::Body;
use longshore_apiserver::pki::{self, Subject, Usage};
use longshore_apiserver::serve::{self, PeerInfo, Service};
use longshore_base::{Clock as _, Shutdown, SystemClock};
use tokio::net::TcpListener;

/// Answers one request; told how many certificates the client has shown.
pub(crate) type Answerer =
    dyn Fn(Request<Body>, usize) -> BoxFuture<'static, Response<Body>> + Send + Sync;

struct Answering(Box<Answerer>);

impl Service for Answering {
    fn call(&self, request: Request<Body>, peer: PeerInfo) -> BoxFuture<'static, Response<Body>> {
        (self.0)(request, peer.certs.len())
    }
}

/// A server for `127.0.0.1` and `hook.default.svc`.
pub(crate) struct Other {
    pub address: SocketAddr,
    pub authority: pki::Authority,
    pub client: pki::Pair,
    shutdown: Shutdown,
}

impl Drop for Other {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Other {
    pub async fn start(
        answer: impl Fn(Request<Body>, usize) -> BoxFuture<'static, Response<Body>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let authority = pki::ensure(dir.path(), &[], &[], now).unwrap().ca;
        let subject = |usage| Subject {
            common_name: "hook",
            organizations: &[],
            names: vec!["hook.default.svc".to_owned()],
            ips: vec![IpAddr::from([127, 0, 0, 1])],
            usage,
        };
        let serving = authority.issue(&subject(Usage::Server), now).unwrap();
        let client = authority.issue(&subject(Usage::Client), now).unwrap();
        let tls = serve::tls_config(&serving, &[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let service = Arc::new(Answering(Box::new(answer)));
        tokio::spawn(serve::serve(listener, tls, service, shutdown.clone()));
        Self { address, authority, client, shutdown }
    }
}
