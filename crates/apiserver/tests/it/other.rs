//! Another server with TLS, inside the test: webhooks and the like.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use longshore_apiserver::body::Body;
use longshore_apiserver::cache::entry::encode_stored;
use longshore_apiserver::pki::{self, Subject, Usage};
use longshore_apiserver::serve::{self, PeerInfo, Service};
use longshore_base::{Clock as _, Shutdown, SystemClock};
use longshore_store::{Op, Revision, Txn, TxnOutcome};
use serde_json::json;
use tokio::net::TcpListener;

use crate::wire::Rig;

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

    /// Puts the server behind the Service `hook` in `default`, at a port. The slice of its endpoints goes
    /// straight into the store: clients may not name an address of this machine alone.
    pub async fn behind_service(&self, rig: &Rig, port: u16) {
        let ports = json!([{"name": "https", "port": port}]);
        let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": ports}});
        let services = "/api/v1/namespaces/default/services";
        assert_eq!(rig.post(services, &service).await.code, 201);
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "hook", "namespace": "default", "uid": "u",
                "labels": {"kubernetes.io/service-name": "hook"},
            },
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": self.address.port(), "protocol": "TCP"}],
        });
        let value = encode_stored(&longshore_api::Object::from_value(slice).unwrap());
        let op = Op::Put { value, ttl: None, ends: false };
        let key = bytes::Bytes::from_static(b"/registry/endpointslices/default/hook");
        let written = rig.store.txn(Txn { key, expect: Revision(0), op }).await.unwrap();
        assert!(matches!(written, TxnOutcome::Committed(_)));
        let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/hook";
        assert_eq!(rig.get(path, "application/json").await.code, 200);
    }
}
