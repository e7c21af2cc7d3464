//! The audit log of a whole server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use longshore_api::protobuf;
use longshore_apiserver::audit::{
    Audit, Batch, Event, Mode, Output, Policy, Truncate, Way, Webhook,
};
use longshore_apiserver::auth::UserInfo;
use longshore_apiserver::body::full;
use longshore_apiserver::handler::Caller;
use longshore_apiserver::outbound::tls::{self, Trust};
use longshore_apiserver::outbound::{self, Address, Target, Tls};
use longshore_apiserver::pki::Pair;
use longshore_apiserver::serve::PeerInfo;
use longshore_base::SystemClock;
use longshore_base::rng::SystemRng;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::other::Other;
use crate::wire::{PATIENCE, Rig, audited};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";
const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitManagedFields: true
rules:
- {level: None, users: ["system:apiserver"]}
- {level: RequestResponse, resources: [{group: "", resources: [configmaps]}], verbs: [create, get, list, delete]}
- {level: Request, resources: [{group: "", resources: [configmaps]}], omitStages: [RequestReceived]}
- {level: Metadata, resources: [{group: "", resources: [secrets]}]}
- {level: Metadata, nonResourceURLs: ["/version"]}
"#;

/// Keeps events in memory.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    events: Arc<Mutex<Vec<Value>>>,
    changed: Arc<Notify>,
    broken: bool,
}

impl Output for Kept {
    fn name(&self) -> &'static str {
        "kept"
    }

    fn write(&self, events: Vec<Event>) -> BoxFuture<'static, Result<(), String>> {
        let parsed = events.iter().map(|event| serde_json::from_str(&event.json()).unwrap());
        self.events.lock().extend(parsed);
        self.changed.notify_waiters();
        let outcome = if self.broken { Err("it is full".to_owned()) } else { Ok(()) };
        Box::pin(std::future::ready(outcome))
    }
}

impl Kept {
    /// A server whose events are kept, with the namespace `default`.
    pub(crate) async fn server(&self, policy: &str) -> Rig {
        self.start(policy, Mode::Blocking).await.0
    }

    async fn start(&self, policy: &str, mode: Mode) -> (Rig, Arc<Audit>) {
        let way = Way { output: Arc::new(self.clone()), mode, truncate: None };
        let policy = Policy::parse(policy.as_bytes()).unwrap();
        let audit = Audit::new(policy, vec![way], Arc::new(SystemClock));
        let rig = audited(audit.clone()).await;
        let namespace = json!({"metadata": {"name": "default"}});
        assert_eq!(rig.post("/api/v1/namespaces", &namespace).await.code, 201);
        (rig, audit)
    }

    /// The events of a request.
    pub(crate) fn of(&self, id: &str) -> Vec<Value> {
        let events = self.events.lock();
        events.iter().filter(|event| event["auditID"] == id).cloned().collect()
    }

    /// The events of a request, once there are some of them.
    pub(crate) async fn wait(&self, id: &str, count: usize) -> Vec<Value> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                let found = self.of(id);
                if found.len() >= count {
                    return found;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the events come")
    }
}

fn stages(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["stage"].as_str().unwrap()).collect()
}

const COMPLETE: [&str; 2] = ["RequestReceived", "ResponseComplete"];

#[tokio::test]
async fn requests_are_written_down_as_the_policy_says() {
    let kept = Kept::default();
    let (rig, audit) = kept.start(POLICY, Mode::Blocking).await;
    // Nothing fits the request for the namespace.
    assert!(kept.events.lock().is_empty());
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
        "data": {"k": "v"}});
    let answer = rig.post(MAPS, &map).await;
    assert_eq!(answer.code, 201);
    let events = kept.of(answer.headers["audit-id"].to_str().unwrap());
    assert_eq!(stages(&events), COMPLETE);
    assert!(events[0].get("requestObject").is_none() && events[0].get("annotations").is_none());
    let last = &events[1];
    assert_eq!(last["level"], "RequestResponse");
    assert_eq!(last["verb"], "create");
    assert_eq!(last["requestURI"], MAPS);
    assert_eq!(last["user"], json!({"username": "admin", "groups": ["system:masters"]}));
    assert_eq!(
        last["objectRef"],
        json!({"resource": "configmaps", "namespace": "default",
        "name": "a", "apiVersion": "v1"})
    );
    assert_eq!(last["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(last["requestObject"], map);
    assert_eq!(last["responseObject"]["data"], json!({"k": "v"}));
    assert!(last["responseObject"]["metadata"]["uid"].is_string());
    assert!(last["responseObject"]["metadata"].get("managedFields").is_none());
    assert_eq!(last["annotations"]["authorization.k8s.io/decision"], "allow");

    // The object is JSON, however it came.
    let mut other = map.clone();
    other["metadata"]["name"] = "b".into();
    let bytes = protobuf::encode_object(&other).unwrap();
    let request = Request::post(MAPS).header("audit-id", "given");
    let request = request.header("content-type", "application/vnd.kubernetes.protobuf");
    let request = request.header("accept", "application/vnd.kubernetes.protobuf");
    let answer = rig.send(request.body(full(bytes)).unwrap()).await;
    assert_eq!((answer.code, answer.headers["audit-id"].to_str().unwrap()), (201, "given"));
    let events = kept.of("given");
    assert_eq!(events[1]["requestObject"]["data"], json!({"k": "v"}));
    assert_eq!(events[1]["responseObject"]["metadata"]["name"], "b");

    // A change at the level of requests, without the first stage.
    let patch = json!({"data": {"k": "w"}});
    let request = Request::patch(format!("{MAPS}/a")).header("audit-id", "patch");
    let request = request.header("content-type", "application/merge-patch+json");
    assert_eq!(rig.send(request.body(full(patch.to_string())).unwrap()).await.code, 200);
    let events = kept.of("patch");
    assert_eq!(stages(&events), ["ResponseComplete"]);
    assert_eq!(events[0]["requestObject"], patch);
    assert!(events[0].get("responseObject").is_none());

    // A list, and what is not there.
    let list = rig.get(MAPS, JSON).await;
    let events = kept.of(list.headers["audit-id"].to_str().unwrap());
    assert_eq!(events[1]["responseObject"]["items"].as_array().unwrap().len(), 2);
    let missing = rig.get(&format!("{MAPS}/c"), JSON).await;
    let events = kept.of(missing.headers["audit-id"].to_str().unwrap());
    let status = &events[1]["responseStatus"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(404), &json!("NotFound")));
    assert_eq!(status["message"], "configmaps \"c\" not found");

    // Secrets stay secret.
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
    let answer = rig.post("/api/v1/namespaces/default/secrets", &secret).await;
    assert_eq!(answer.code, 201);
    let events = kept.of(answer.headers["audit-id"].to_str().unwrap());
    assert_eq!(stages(&events), COMPLETE);
    assert_eq!(events[1]["objectRef"]["name"], "s");
    assert!(!json!(events).to_string().contains("hunter2"));

    // What is not allowed is said, and why.
    let eve = rig.server.client(UserInfo::new("eve", &[]));
    let request = Request::get(format!("{MAPS}/a")).header("audit-id", "eve").body(full(""));
    assert_eq!(eve.send(request.unwrap()).await.unwrap().status().as_u16(), 403);
    let events = kept.of("eve");
    assert_eq!(events[1]["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(events[1]["responseStatus"]["reason"], "Forbidden");

    let metrics = rig.get("/metrics", "*/*").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(
        metrics.contains("apiserver_audit_level_total{level=\"RequestResponse\"} 5\n"),
        "{metrics}"
    );
    audit.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_has_a_beginning_and_an_end() {
    let kept = Kept::default();
    let (rig, _audit) = kept.start(POLICY, Mode::Blocking).await;
    let request = Request::get(format!("{MAPS}?watch=1")).header("audit-id", "watch");
    let response = rig.client.send(request.body(full("")).unwrap()).await.unwrap();
    assert_eq!(stages(&kept.of("watch")), ["ResponseStarted"]);
    assert_eq!(rig.post(MAPS, &json!({"metadata": {"name": "a"}})).await.code, 201);
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(kept.of("watch").len(), 1);
    drop(body);
    let events = kept.wait("watch", 2).await;
    assert_eq!(stages(&events), ["ResponseStarted", "ResponseComplete"]);
    assert_eq!(events[1]["responseStatus"]["code"], 200);
    assert!(events[1].get("responseObject").is_none());
}

#[tokio::test]
async fn who_acts_as_somebody_else_and_who_is_nobody_is_told() {
    let kept = Kept::default();
    let (rig, _audit) = kept.start(POLICY, Mode::Blocking).await;
    let now = jiff::Timestamp::now();
    let (cert, key) = rig.pki.client_certificate("jane", &["system:masters"], now).unwrap();
    let chain = Pair { cert_pem: cert, key_pem: key }.certificates();
    let peer = |certs: Vec<_>| {
        let remote_addr = SocketAddr::from(([192, 0, 2, 7], 1234));
        Caller::Peer(PeerInfo { certs: certs.into(), memo: Arc::default(), remote_addr })
    };
    let request = Request::get(MAPS).header("audit-id", "jane");
    let request = request.header("impersonate-user", "bob").header("user-agent", "test/1");
    let handler = rig.server.handler().clone();
    let response = handler.clone().handle(request.body(full("")).unwrap(), peer(chain)).await;
    assert_eq!(response.status().as_u16(), 403);
    let event = kept.of("jane").remove(1);
    assert_eq!(event["user"]["username"], "jane");
    assert_eq!(event["impersonatedUser"]["username"], "bob");
    assert_eq!(event["sourceIPs"], json!(["192.0.2.7"]));
    assert_eq!(event["userAgent"], "test/1");

    let request = Request::get(MAPS).header("audit-id", "nobody");
    let request = request.header("authorization", "Bearer secret-token");
    let response = handler.handle(request.body(full("")).unwrap(), peer(Vec::new())).await;
    assert_eq!(response.status().as_u16(), 401);
    let events = kept.of("nobody");
    assert_eq!(stages(&events), ["ResponseStarted"]);
    assert_eq!(events[0]["user"], json!({}));
    let status = &events[0]["responseStatus"];
    assert_eq!(status["code"], 401);
    assert_eq!(status["message"], "Authentication failed, attempted: bearer");
    assert!(!events[0].to_string().contains("secret-token"));
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_done_in_the_strict_mode() {
    let kept = Kept { broken: true, ..Kept::default() };
    let (rig, _audit) = kept.start(POLICY, Mode::BlockingStrict).await;
    let map = json!({"metadata": {"name": "a"}});
    let answer = rig.post(MAPS, &map).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert_eq!(answer.code, 500);
    assert!(text.ends_with(": failed to store audit event\n"), "{text}");
    let user = UserInfo::new("system:apiserver", &["system:masters"]);
    let request = Request::get(format!("{MAPS}/a")).body(full("")).unwrap();
    let response = rig.server.client(user).send(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 404);
    let metrics = rig.get("/metrics", "*/*").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains("apiserver_audit_requests_rejected_total 1\n"), "{metrics}");
    // Without strictness the request goes on.
    let (rig, _audit) = kept.start(POLICY, Mode::Blocking).await;
    assert_eq!(rig.post(MAPS, &map).await.code, 201);
}

/// Batches reach another server, also when it does not take them at first, and at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_reach_another_server() {
    let got = Arc::new(Mutex::new(Vec::<Value>::new()));
    let seen = got.clone();
    let other = Other::start(move |request, _| {
        let seen = seen.clone();
        async move {
            assert_eq!(request.uri().path(), "/events");
            assert_eq!(request.headers()["authorization"], "Bearer t");
            let body = outbound::read(request.into_body()).await.unwrap();
            let list: Value = serde_json::from_slice(&body).unwrap();
            let mut seen = seen.lock();
            seen.push(list);
            let mut response = Response::new(full("{}"));
            if seen.len() == 1 {
                *response.status_mut() = http::StatusCode::BAD_GATEWAY;
            }
            response
        }
        .boxed()
    })
    .await;
    let trust = Trust::Authorities(other.authority.cert_pem().as_bytes());
    let config = tls::config(trust, None).unwrap();
    let target = Target {
        address: Address { host: "127.0.0.1".to_owned(), port: other.address.port() },
        tls: Some(Tls { config, server_name: "hook.default.svc".to_owned() }),
        authority: "hook.default.svc".to_owned(),
    };
    let token = Some("Bearer t".parse().unwrap());
    let pause = Duration::from_millis(1);
    let webhook = Webhook::new(target, "/events".to_owned(), token, pause, Arc::new(SystemRng));
    let batch = Batch {
        buffer_max: 100,
        size_max: 100,
        wait_max: PATIENCE,
        throttle: Some((10.0, 15)),
        side_by_side: true,
    };
    let truncate = Some(Truncate { event_max: 100 << 10, batch_max: 10 << 20 });
    let way = Way { output: Arc::new(webhook), mode: Mode::Batch(batch), truncate };
    let policy = Policy::parse(POLICY.as_bytes()).unwrap();
    let audit = Audit::new(policy, vec![way], Arc::new(SystemClock));
    let rig = audited(audit.clone()).await;
    assert_eq!(rig.get("/version", JSON).await.code, 200);
    assert_eq!(rig.get(MAPS, JSON).await.code, 200);
    assert!(got.lock().is_empty());
    audit.stopped().await;
    let got = got.lock();
    assert_eq!((got.len(), &got[0]), (2, &got[1]));
    assert_eq!(got[1]["kind"], "EventList");
    let items = got[1]["items"].as_array().unwrap();
    assert_eq!(stages(items), ["RequestReceived", "ResponseComplete"].repeat(2));
    assert!(items[0].get("kind").is_none());
}
