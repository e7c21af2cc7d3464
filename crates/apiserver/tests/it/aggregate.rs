//! API services of other servers: requests that are passed on, and what is told of them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use longshore_apiserver::auth::UserInfo;
use longshore_apiserver::body::{self, Body, full};
use longshore_apiserver::bootstrap;
use longshore_apiserver::outbound;
use longshore_apiserver::serve;
use longshore_apiserver::server::Network;
use longshore_base::Shutdown;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::audit::Kept;
use crate::other::Other;
use crate::wire::{Answer, PATIENCE, Rig, rig, until};

const JSON: &str = "application/json";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1.wardle.example";
const FLUNDERS: &str = "/apis/wardle.example/v1/namespaces/default/flunders";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Everything is written down.
const EVERYTHING: &str =
    "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: RequestResponse}]}";

/// What the other server has seen and what it does.
#[derive(Clone, Default)]
struct Wardle {
    /// Requests for flunders: how many certificates were shown, and the headers.
    seen: Arc<Mutex<Vec<(usize, HeaderMap)>>>,
    /// Events of the watch that is open.
    events: Arc<Mutex<Option<mpsc::UnboundedSender<&'static str>>>>,
    /// Whether it knows the newer discovery and OpenAPI documents.
    modern: bool,
    /// Whether it answers at all.
    broken: Arc<Mutex<bool>>,
}

fn answer(value: &Value, media_type: &str) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    response.headers_mut().insert("content-type", media_type.parse().unwrap());
    response.headers_mut().insert("etag", "\"1\"".parse().unwrap());
    response
}

fn status(code: u16) -> Response<Body> {
    let mut response = Response::new(full("refused"));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

impl Wardle {
    async fn start(self) -> Other {
        Other::start(move |request, certificates| {
            let wardle = self.clone();
            async move { wardle.answer(request, certificates).await }.boxed()
        })
        .await
    }

    async fn answer(&self, mut request: Request<Body>, certificates: usize) -> Response<Body> {
        if *self.broken.lock() {
            return status(500);
        }
        let path = request.uri().path().to_owned();
        let resources = json!([{"name": "flunders", "singularName": "flunder", "kind": "Flunder",
            "namespaced": true, "verbs": ["get", "list"]}]);
        match (request.method(), path.as_str()) {
            (&Method::GET, "/apis") if self.modern => {
                let kind = json!({"group": "wardle.example", "version": "v1", "kind": "Flunder"});
                let resource = json!({"resource": "flunders", "responseKind": kind,
                    "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get"]});
                let version = json!({"version": "v1", "resources": [resource]});
                let group = json!({"metadata": {"name": "wardle.example"}, "versions": [version]});
                answer(&json!({"kind": "APIGroupDiscoveryList", "items": [group]}), AGGREGATED)
            }
            (&Method::GET, "/apis/wardle.example/v1") => {
                let list = json!({"kind": "APIResourceList", "groupVersion": "wardle.example/v1",
                    "resources": resources});
                answer(&list, JSON)
            }
            (&Method::GET, "/openapi/v3") if self.modern => {
                let url = "/openapi/v3/apis/wardle.example/v1?hash=AB";
                let own = json!({"serverRelativeURL": url});
                answer(&json!({"paths": {"apis/wardle.example/v1": own, "version": own}}), JSON)
            }
            (&Method::GET, "/openapi/v3/apis/wardle.example/v1") if self.modern => {
                answer(&json!({"openapi": "3.0.0", "info": {"title": "Wardle"}}), JSON)
            }
            (&Method::GET, "/openapi/v2") => {
                let definitions = json!({"example.Flunder": {"type": "object"}});
                let schema = json!({"$ref": "#/definitions/example.Flunder"});
                let get = json!({"get": {"responses": {"200": {"schema": schema}}}});
                let paths = json!({FLUNDERS: get, "/apis/else/v1/things": {}});
                answer(&json!({"paths": paths, "definitions": definitions}), JSON)
            }
            (_, path) if path.starts_with(FLUNDERS) => {
                self.seen.lock().push((certificates, request.headers().clone()));
                if request.uri().query() == Some("watch=1") {
                    return self.watch();
                }
                if path.ends_with("/moved") {
                    let mut moved = status(302);
                    moved.headers_mut().insert("location", "https://elsewhere/".parse().unwrap());
                    return moved;
                }
                if path.ends_with("/stuck") {
                    let mut stuck = Response::new(body::stream(stream::pending()));
                    *stuck.status_mut() = StatusCode::BAD_GATEWAY;
                    stuck.headers_mut().insert("content-length", "100".parse().unwrap());
                    return stuck;
                }
                if path.ends_with("/exec") {
                    return upgrade(&mut request);
                }
                let method = request.method().clone();
                let body = outbound::read(request.into_body()).await.unwrap();
                let mut response =
                    answer(&json!({"method": method.as_str(), "bytes": body.len()}), JSON);
                response.headers_mut().insert("x-wardle", "yes".parse().unwrap());
                if method == Method::POST {
                    *response.status_mut() = StatusCode::CREATED;
                }
                response
            }
            _ => status(404),
        }
    }

    fn watch(&self) -> Response<Body> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.events.lock() = Some(sender);
        let frames = stream::unfold(receiver, |mut receiver| async {
            let event: &str = receiver.recv().await?;
            Some((Ok(Frame::data(Bytes::from_static(event.as_bytes()))), receiver))
        });
        Response::new(body::stream(frames))
    }
}

/// Answers `ping` with `pong` in another protocol.
fn upgrade(request: &mut Request<Body>) -> Response<Body> {
    let upgraded = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"ping");
        stream.write_all(b"pong").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let mut response = status(101);
    response.headers_mut().insert("connection", "Upgrade".parse().unwrap());
    response.headers_mut().insert("upgrade", "echo".parse().unwrap());
    response
}

/// The condition of the API service, as `status/reason`.
async fn condition(rig: &Rig) -> (String, String) {
    let object = rig.get(&format!("{SERVICES}/{NAME}"), JSON).await.json();
    let condition = &object["status"]["conditions"][0];
    let text = |key: &str| condition[key].as_str().unwrap_or("").to_owned();
    (format!("{}/{}", text("status"), text("reason")), text("message"))
}

async fn reaches(rig: &Rig, wanted: &str) -> String {
    until(wanted, async || condition(rig).await.0 == wanted).await;
    condition(rig).await.1
}

/// Makes the API service, and the Service that the server is behind.
async fn register(rig: &Rig, other: &Other, bundle: &str) {
    other.behind_service(rig, other.address.port()).await;
    assert_eq!(rig.post(SERVICES, &api_service(other, bundle)).await.code, 201);
}

fn api_service(other: &Other, bundle: &str) -> Value {
    let port = other.address.port();
    json!({
        "metadata": {"name": NAME},
        "spec": {
            "group": "wardle.example", "version": "v1",
            "groupPriorityMinimum": 17_795, "versionPriority": 15,
            "caBundle": STANDARD.encode(bundle),
            "service": {"namespace": "default", "name": "hook", "port": port},
        },
    })
}

async fn send(rig: &Rig, method: Method, path: &str, bytes: usize) -> Answer {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("x-remote-user", "nobody").header("accept", JSON);
    rig.send(request.body(full(vec![b'x'; bytes])).unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_passed_on_in_the_name_of_the_user() {
    let wardle = Wardle::default();
    let (rig, other) = (rig(false).await, wardle.clone().start().await);
    register(&rig, &other, other.authority.cert_pem()).await;
    assert_eq!(reaches(&rig, "True/Passed").await, "all checks passed");
    for (method, path, code) in [
        (Method::GET, FLUNDERS.to_owned(), 200),
        (Method::POST, format!("{FLUNDERS}?dryRun=All"), 201),
        (Method::PUT, format!("{FLUNDERS}/a/status"), 200),
        (Method::PATCH, format!("{FLUNDERS}/a"), 200),
        (Method::DELETE, format!("{FLUNDERS}/a"), 200),
    ] {
        let bytes = if method == Method::GET { 0 } else { 3 << 20 };
        let answer = send(&rig, method.clone(), &path, bytes).await;
        assert_eq!(answer.code, code, "{method} {path}");
        assert_eq!(answer.headers["x-wardle"], "yes");
        assert_eq!(answer.json(), json!({"method": method.as_str(), "bytes": bytes}));
    }
    let audit_id = {
        let seen = wardle.seen.lock();
        let (certificates, headers) = seen.last().unwrap();
        assert_eq!((*certificates, seen.len()), (1, 5));
        assert_eq!(headers["x-remote-user"], "admin");
        assert_eq!(headers["x-remote-group"], "system:masters");
        headers["audit-id"].clone()
    };
    assert!(!audit_id.is_empty());
    // A redirect would send the client, with what it shows, to somebody else.
    assert_eq!(send(&rig, Method::GET, &format!("{FLUNDERS}/moved"), 0).await.code, 502);
    // Who may do nothing here is not passed on.
    let eve = rig.server.client(UserInfo::new("eve", &[]));
    let request = Request::get(FLUNDERS).body(full("")).unwrap();
    assert_eq!(eve.send(request).await.unwrap().status().as_u16(), 403);
    assert_eq!(wardle.seen.lock().len(), 6);
    // A server that nothing vouches for is not asked.
    let stranger = rig.pki.ca.cert_pem();
    let path = format!("{SERVICES}/{NAME}");
    let bundle = json!({"spec": {"caBundle": STANDARD.encode(stranger)}}).to_string();
    let answer = rig.patch_as(&path, "application/merge-patch+json", bundle.into_bytes()).await;
    assert_eq!(answer.code, 200);
    let message = reaches(&rig, "False/FailedDiscoveryCheck").await;
    let url = format!("https://{}/apis/wardle.example/v1", other.address);
    let why = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    let wanted = format!("failing or missing response from {url}: Get \"{url}\": {why}");
    assert_eq!(message, wanted);
    let answer = send(&rig, Method::GET, FLUNDERS, 0).await;
    assert_eq!((answer.code, &answer.body[..]), (503, &b"service unavailable\n"[..]));
    assert_eq!(wardle.seen.lock().len(), 6);
    let metrics = rig.get("/metrics", "*/*").await;
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in [
        "aggregator_unavailable_apiservice{name=\"v1.wardle.example\"} 1\n",
        "aggregator_unavailable_apiservice_total{name=\"v1.wardle.example\",reason=\"FailedDiscoveryCheck\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_are_streamed_and_protocols_changed() {
    let (wardle, kept) = (Wardle::default(), Kept::default());
    let (rig, other) = (kept.server(EVERYTHING).await, wardle.clone().start().await);
    register(&rig, &other, other.authority.cert_pem()).await;
    reaches(&rig, "True/Passed").await;
    let request = Request::get(format!("{FLUNDERS}?watch=1")).body(full("")).unwrap();
    let mut events = rig.client.send(request).await.unwrap().into_body();
    // Each event comes while the watch goes on.
    for event in ["{\"type\":\"ADDED\"}\n", "{\"type\":\"DELETED\"}\n"] {
        wardle.events.lock().as_ref().unwrap().send(event).unwrap();
        let frame = events.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
    }
    // The server learns that the watch has ended.
    drop(events);
    let sender = wardle.events.lock().take().unwrap();
    tokio::time::timeout(PATIENCE, sender.closed()).await.unwrap();

    let tls = serve::tls_config(&rig.pki.apiserver, &[]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (network, shutdown) = (Arc::new(Network(rig.server.handler().clone())), Shutdown::new());
    let serving = tokio::spawn(serve::serve(listener, tls, network, shutdown.clone()));
    let now = jiff::Timestamp::now();
    let (cert, key) = rig.pki.client_certificate("jane", &["system:masters"], now).unwrap();
    let jane = longshore_apiserver::pki::Pair { cert_pem: cert, key_pem: key };
    let identity = outbound::tls::Identity { chain: jane.certificates(), key: jane.key() };
    let trust = outbound::tls::Trust::Authorities(rig.pki.ca.cert_pem().as_bytes());
    let config = outbound::tls::config(trust, Some(identity)).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let tls = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
    let handshake = hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(tls)).await;
    let (mut sender, connection) = handshake.unwrap();
    let connection = tokio::spawn(connection.with_upgrades());
    let request = Request::post(format!("{FLUNDERS}/a/exec")).header("host", "localhost");
    let request = request.header("connection", "Upgrade").header("upgrade", "echo");
    let request = request.header("audit-id", "exec");
    let response = sender.send_request(request.body(full("")).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "echo");
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"ping").await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, b"pong");
    // It is not complete while one side is open.
    assert_eq!(kept.of("exec").pop().unwrap()["stage"], "ResponseStarted");
    let headers = wardle.seen.lock().last().unwrap().1.clone();
    assert_eq!(headers["x-remote-user"], "jane");
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    drop(stream);
    assert_eq!(kept.wait("exec", 3).await.pop().unwrap()["stage"], "ResponseComplete");
    shutdown.cancel();
    connection.await.unwrap().unwrap();
    serving.await.unwrap();
}

/// Who writes a request down does not wait for the bodies of other servers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_never_ends_begins_all_the_same() {
    let kept = Kept::default();
    let rig = kept.server(EVERYTHING).await;
    let other = Wardle::default().start().await;
    register(&rig, &other, other.authority.cert_pem()).await;
    reaches(&rig, "True/Passed").await;
    let request = Request::get(format!("{FLUNDERS}/stuck")).header("audit-id", "stuck");
    let sending = rig.client.send(request.body(full("")).unwrap());
    let answer = tokio::time::timeout(PATIENCE, sending).await.expect("it begins").unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let last = kept.of("stuck").pop().unwrap();
    assert_eq!(
        (&last["stage"], &last["responseStatus"]["code"]),
        (&json!("ResponseComplete"), &json!(502))
    );
}

/// The entry of the group in the aggregated document.
async fn entry(rig: &Rig) -> Value {
    let document = rig.get("/apis", AGGREGATED).await.json();
    let items = document["items"].as_array().unwrap();
    let found = items.iter().find(|item| item["metadata"]["name"] == "wardle.example");
    found.cloned().unwrap_or_default()
}

async fn discovery_is_merged(modern: bool) {
    let wardle = Wardle { modern, ..Wardle::default() };
    let (rig, other) = (rig(false).await, wardle.clone().start().await);
    *wardle.broken.lock() = true;
    register(&rig, &other, other.authority.cert_pem()).await;
    let message = reaches(&rig, "False/FailedDiscoveryCheck").await;
    assert!(message.ends_with(": 500"), "{message}");
    // It is told of, although nobody knows what it has.
    let wanted = json!({"metadata": {"name": "wardle.example"},
        "versions": [{"version": "v1", "freshness": "Stale"}]});
    assert_eq!(entry(&rig).await, wanted);
    *wardle.broken.lock() = false;
    reaches(&rig, "True/Passed").await;
    until("fresh", async || entry(&rig).await["versions"][0]["freshness"] == "Current").await;
    let fresh = entry(&rig).await;
    let resource = &fresh["versions"][0]["resources"][0];
    assert_eq!(
        (&resource["resource"], &resource["scope"]),
        (&json!("flunders"), &json!("Namespaced"))
    );
    assert_eq!(resource["responseKind"]["kind"], "Flunder");

    let version = json!({"groupVersion": "wardle.example/v1", "version": "v1"});
    let groups = rig.get("/apis", JSON).await.json();
    let groups = groups["groups"].as_array().unwrap().clone();
    let names: Vec<&str> = groups.iter().map(|group| group["name"].as_str().unwrap()).collect();
    // Its priority puts it behind `apps`.
    assert_eq!(names[..3], ["apiregistration.k8s.io", "apps", "wardle.example"]);
    assert_eq!(groups[2]["preferredVersion"], version);
    let group = rig.get("/apis/wardle.example", JSON).await.json();
    assert_eq!((&group["kind"], &group["versions"]), (&json!("APIGroup"), &json!([version])));
    let list = rig.get("/apis/wardle.example/v1", JSON).await.json();
    assert_eq!(list["resources"][0]["name"], "flunders");
    assert_eq!(rig.get("/apis/wardle.example/v2", JSON).await.code, 404);
    let roots = rig.get("/", JSON).await.json();
    assert!(roots["paths"].as_array().unwrap().contains(&json!("/apis/wardle.example/v1")));

    let path = FLUNDERS.replace('/', "~1");
    let found = async || {
        let document = rig.get("/openapi/v2", JSON).await.json();
        document.pointer(&format!("/paths/{path}")).is_some()
    };
    until("merged OpenAPI", found).await;
    let whole = rig.get("/openapi/v2", JSON).await.json();
    assert!(whole["definitions"]["example.Flunder"].is_object());
    assert!(whole["paths"].get("/apis/else/v1/things").is_none());
    assert!(whole["paths"].get("/apis/apps/v1/deployments").is_some());
    let index = rig.get("/openapi/v3", JSON).await.json();
    let document = "/openapi/v3/apis/wardle.example/v1";
    let url = &index["paths"]["apis/wardle.example/v1"]["serverRelativeURL"];
    if modern {
        assert_eq!(*url, json!(format!("{document}?hash=AB")));
        assert_eq!(rig.get(document, JSON).await.json()["info"]["title"], "Wardle");
    } else {
        // It is made of the older one.
        let made = rig.get(document, JSON).await;
        let hash = made.headers["etag"].to_str().unwrap().trim_matches('"').to_owned();
        assert_eq!(*url, json!(format!("{document}?hash={hash}")));
        let made = made.json();
        assert!(made["components"]["schemas"]["example.Flunder"].is_object());
        assert_eq!(rig.get(url.as_str().unwrap(), JSON).await.code, 200);
    }
    let own = &index["paths"]["version"]["serverRelativeURL"];
    assert!(!own.as_str().unwrap().ends_with("hash=AB"));

    // What is gone is told of no more.
    let request = Request::delete(format!("{SERVICES}/{NAME}")).body(full("")).unwrap();
    assert_eq!(rig.send(request).await.code, 200);
    until("gone", async || entry(&rig).await.is_null()).await;
    assert_eq!(rig.get(FLUNDERS, JSON).await.code, 404);
    assert_eq!(rig.get("/apis/wardle.example", JSON).await.code, 404);
    let index = async || rig.get("/openapi/v3", JSON).await.json();
    until("forgotten", async || index().await["paths"].get("apis/wardle.example/v1").is_none())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_documents_of_another_server_are_merged() {
    discovery_is_merged(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_documents_of_another_server_are_merged() {
    discovery_is_merged(false).await;
}

/// Many who ask at once get one document, which was made once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_made_once() {
    let rig = Arc::new(rig(false).await);
    for path in ["/openapi/v2", "/openapi/v3/apis/apps/v1"] {
        let asking = (0..4).map(|_| {
            let rig = rig.clone();
            tokio::spawn(async move { rig.get(path, JSON).await.body })
        });
        let bodies = futures_util::future::try_join_all(asking).await.unwrap();
        assert!(bodies.iter().all(|body| body.as_ptr() == bodies[0].as_ptr()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_tells_servers_whom_to_trust_stays() {
    let rig = rig(false).await;
    let namespace = json!({"metadata": {"name": "kube-system"}});
    assert_eq!(rig.post("/api/v1/namespaces", &namespace).await.code, 201);
    let (ca, proxy) = (&rig.pki.ca, &rig.pki.front_proxy_ca);
    let trust = bootstrap::trust::config_map(ca.cert_pem(), proxy.cert_pem());
    let shutdown = Shutdown::new();
    // It is made when it is not there.
    rig.server.keep(trust.0, trust.1, &shutdown);
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    rig.until(path, 200).await;
    let first = rig.get(path, JSON).await.json();
    assert_eq!(first["data"]["requestheader-client-ca-file"], proxy.cert_pem());
    let request = Request::delete(path).body(full("")).unwrap();
    assert_eq!(rig.send(request).await.code, 200);
    until("made again", async || rig.get(path, JSON).await.json()["data"] == first["data"]).await;
    let mut emptied = rig.get(path, JSON).await.json();
    // Whatever its version is by now.
    emptied["metadata"]["resourceVersion"].take();
    emptied["data"] = json!({"requestheader-allowed-names": "[\"other\"]"});
    let request = Request::put(path).header("content-type", JSON);
    assert_eq!(rig.send(request.body(full(emptied.to_string())).unwrap()).await.code, 200);
    let names = async || {
        let present = rig.get(path, JSON).await.json();
        present["data"]["requestheader-allowed-names"] == "[\"other\",\"front-proxy-client\"]"
    };
    until("filled again", names).await;
    shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_server_registered_for_itself_goes() {
    let rig = rig(false).await;
    let service = |name: &str, managed: &str| {
        let (version, group) = name.split_once('.').unwrap();
        json!({
            "metadata": {"name": name,
                "labels": {"kube-aggregator.kubernetes.io/automanaged": managed}},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": 1000,
                "versionPriority": 1},
        })
    };
    for (name, managed) in
        [("v1beta1.apps", "onstart"), ("v1.apps", "onstart"), ("v1.mine.example", "no")]
    {
        assert_eq!(rig.post(SERVICES, &service(name, managed)).await.code, 201);
    }
    rig.server.bootstrap(bootstrap::objects()).await.unwrap();
    let code = async |name: &str| rig.get(&format!("{SERVICES}/{name}"), JSON).await.code;
    assert_eq!(code("v1beta1.apps").await, 404);
    assert_eq!(code("v1.mine.example").await, 200);
    // What is there of a version that is served is made what it should be.
    let apps = rig.get(&format!("{SERVICES}/v1.apps"), JSON).await.json();
    assert_eq!(apps["spec"]["groupPriorityMinimum"], 17_800);
}
