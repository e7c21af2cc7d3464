//! The wire as clients see it: formats, shapes, lists and watches of a whole server.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use longshore_api::{cbor, protobuf, yaml};
use longshore_apiserver::audit::Audit;
use longshore_apiserver::auth::{ClientCertificates, FrontProxy, TokenIssuer, UserInfo};
use longshore_apiserver::body::full;
use longshore_apiserver::limits::WatchLimits;
use longshore_apiserver::pki;
use longshore_apiserver::server::{Config, Server};
use longshore_base::rng::SystemRng;
use longshore_base::{Clock as _, Shutdown, SystemClock};
use longshore_client::Client;
use longshore_store::{MemoryStore, Revision, Store};
use serde_json::{Value, json};

/// How long anything in these tests may take at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";

pub(crate) struct Rig {
    pub server: Server,
    pub client: Client,
    pub pki: pki::Pki,
    shutdown: Shutdown,
    pub store: Arc<dyn Store>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// An answer that has been read to its end.
pub(crate) struct Answer {
    pub code: u16,
    media_type: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        let lines = self.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

async fn serve(store: Arc<dyn Store>, cbor: bool) -> Rig {
    serve_watches(store, cbor, WatchLimits::default()).await
}

/// A server that writes down what it is asked.
pub(crate) async fn audited(audit: Arc<Audit>) -> Rig {
    serve_all(Arc::new(MemoryStore::new()), false, WatchLimits::default(), Some(audit)).await
}

async fn serve_watches(store: Arc<dyn Store>, cbor: bool, watches: WatchLimits) -> Rig {
    serve_all(store, cbor, watches, None).await
}

async fn serve_all(
    store: Arc<dyn Store>,
    cbor: bool,
    watches: WatchLimits,
    audit: Option<Arc<Audit>>,
) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki::ensure(dir.path(), &[], &[], SystemClock.now()).unwrap();
    let (private, public) = (&pki.service_account_key, &pki.service_account_public);
    let tokens = TokenIssuer::new("https://test", private, public, Arc::new(SystemRng)).unwrap();
    let proxy = FrontProxy::new(&pki.front_proxy_ca.pair().certificates()).unwrap();
    let certificates = ClientCertificates::new(&pki.ca.pair().certificates()).unwrap();
    let proxy = proxy.with_identity(&pki.front_proxy_client);
    let config = Config {
        store: store.clone(),
        resources: longshore_resources::all(),
        clock: Arc::new(SystemClock),
        rng: Arc::new(SystemRng),
        service_range: (Ipv4Addr::new(10, 96, 0, 0), 16),
        node_ports: 30000..=32767,
        client_certificates: certificates.with_front_proxy(proxy),
        tokens: Arc::new(tokens),
        kubelets: None,
        address: "192.0.2.1:6443".into(),
        version: json!({}),
        cbor,
        watches,
        audit,
    };
    let shutdown = Shutdown::new();
    let server = Server::start(config, shutdown.clone()).await.unwrap();
    let client = server.client(UserInfo::new("admin", &["system:masters"]));
    Rig { server, client, pki, shutdown, store }
}

pub(crate) async fn rig(cbor: bool) -> Rig {
    let rig = serve(Arc::new(MemoryStore::new()), cbor).await;
    let namespace = json!({"metadata": {"name": "default"}});
    assert_eq!(rig.post("/api/v1/namespaces", &namespace).await.code, 201);
    rig
}

/// Asks until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("not reached: {what}"));
}

impl Rig {
    pub async fn send(&self, request: Request<longshore_apiserver::body::Body>) -> Answer {
        let (parts, body) = self.client.send(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let media_type = parts.headers.get("content-type").map(|v| v.to_str().unwrap().to_owned());
        let media_type = media_type.unwrap_or_default();
        Answer { code: parts.status.as_u16(), media_type, headers: parts.headers, body }
    }

    /// Sends a request whose answer is read while it comes.
    pub async fn open(
        &self,
        request: Request<longshore_apiserver::body::Body>,
    ) -> longshore_apiserver::body::Body {
        self.client.send(request).await.unwrap().into_body()
    }

    pub async fn get(&self, path: &str, accept: &str) -> Answer {
        let request = Request::get(path).header("accept", accept);
        self.send(request.body(full("")).unwrap()).await
    }

    async fn post_as(&self, path: &str, media_type: &str, body: Vec<u8>) -> Answer {
        let request = Request::post(path).header("content-type", media_type);
        self.send(request.body(full(body)).unwrap()).await
    }

    /// Asks for a path until it answers with a code.
    pub async fn until(&self, path: &str, code: u16) {
        until(path, async || self.get(path, "application/json").await.code == code).await;
    }

    pub async fn patch_as(&self, path: &str, media_type: &str, body: Vec<u8>) -> Answer {
        let request = Request::patch(path).header("content-type", media_type);
        self.send(request.body(full(body)).unwrap()).await
    }

    pub async fn post(&self, path: &str, object: &Value) -> Answer {
        self.post_as(path, "application/json", object.to_string().into_bytes()).await
    }

    async fn map(&self, name: &str) {
        let object =
            json!({"metadata": {"name": name, "labels": {"n": name}}, "data": {"k": name}});
        assert_eq!(self.post(MAPS, &object).await.code, 201, "{name}");
    }

    async fn delete(&self, name: &str) {
        let request = Request::delete(format!("{MAPS}/{name}")).body(full("")).unwrap();
        assert_eq!(self.send(request).await.code, 200, "{name}");
    }

    async fn names(&self, query: &str) -> Vec<String> {
        let list = self.get(&format!("{MAPS}?{query}"), "application/json").await.json();
        names(&list)
    }
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_format_says_the_same() {
    let rig = rig(true).await;
    rig.map("a").await;
    rig.map("b").await;
    for path in [MAPS, "/api/v1/namespaces/default/configmaps/a"] {
        let want = rig.get(path, "application/json").await.json();
        let answer = rig.get(path, "application/yaml").await;
        assert_eq!(answer.media_type, "application/yaml");
        assert_eq!(yaml::decode(&answer.body).unwrap(), want);
        let answer = rig.get(path, "application/cbor").await;
        assert_eq!(answer.media_type, "application/cbor");
        assert_eq!(cbor::decode(&answer.body).unwrap(), want);
        let answer = rig.get(path, "application/vnd.kubernetes.protobuf").await;
        let read = protobuf::decode_object(&answer.body, ("", "")).unwrap();
        assert_eq!(names_or_name(&read), names_or_name(&want));
    }
    let missing = rig.get("/api/v1/namespaces/default/configmaps/none", "application/cbor").await;
    assert_eq!(
        (missing.code, cbor::decode(&missing.body).unwrap()["reason"].clone()),
        (404, json!("NotFound"))
    );
}

fn names_or_name(value: &Value) -> Vec<String> {
    match value.get("items") {
        Some(_) => names(value),
        None => vec![value["metadata"]["name"].as_str().unwrap().to_owned()],
    }
}

#[tokio::test]
async fn bodies_come_in_every_format() {
    let rig = rig(true).await;
    let object =
        |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    for (name, media_type, body) in [
        ("j", "application/json", object("j").to_string().into_bytes()),
        ("y", "Application/YAML;charset=utf-8", yaml::encode(&object("y")).into_bytes()),
        ("c", "application/cbor", cbor::encode(&object("c"))),
        (
            "p",
            "application/vnd.kubernetes.protobuf",
            protobuf::encode_object(&object("p")).unwrap(),
        ),
    ] {
        let answer = rig.post_as(MAPS, media_type, body).await;
        assert_eq!((answer.code, answer.json()["metadata"]["name"].clone()), (201, json!(name)));
    }
    for media_type in ["text/plain", "application/json;;", "application/xml"] {
        let answer = rig.post_as(MAPS, media_type, b"{}".to_vec()).await;
        assert_eq!(
            (answer.code, answer.json()["reason"].clone()),
            (415, json!("UnsupportedMediaType"))
        );
    }
}

#[tokio::test]
async fn cbor_is_off_unless_asked_for() {
    let rig = rig(false).await;
    let answer = rig.get(MAPS, "application/cbor").await;
    assert_eq!((answer.code, answer.media_type.as_str()), (406, "application/json"));
    let body = cbor::encode(&json!({"metadata": {"name": "c"}}));
    assert_eq!(rig.post_as(MAPS, "application/cbor", body).await.code, 415);
    assert_eq!(
        rig.get(MAPS, "application/cbor, application/yaml").await.media_type,
        "application/yaml"
    );
}

#[tokio::test]
async fn shapes_are_made_of_objects_and_lists() {
    let rig = rig(false).await;
    rig.map("a").await;
    let table = rig.get(MAPS, TABLE).await.json();
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let path = format!("{MAPS}/a");
    let table = rig.get(&format!("{path}?includeObject=None"), TABLE).await.json();
    assert_eq!(table["rows"][0]["object"], Value::Null);
    assert_eq!(rig.get(&format!("{path}?includeObject=All"), TABLE).await.code, 400);
    let metadata = rig.get(&path, METADATA).await.json();
    assert_eq!((&metadata["kind"], metadata.get("data")), (&json!("PartialObjectMetadata"), None));
    let list = METADATA.replace("Metadata;", "MetadataList;");
    assert_eq!(rig.get(MAPS, &list).await.json()["items"][0]["metadata"]["name"], "a");
    // One object is no list, and a list is not one object.
    assert_eq!(rig.get(&path, &list).await.code, 406);
    assert_eq!(rig.get(MAPS, METADATA).await.code, 406);
    let packed = TABLE.replace("json", "vnd.kubernetes.protobuf");
    assert_eq!(rig.get(&path, &packed).await.code, 406);
}

#[tokio::test]
async fn pages_stay_in_their_state() {
    let rig = rig(false).await;
    for name in ["a", "b", "c", "d"] {
        rig.map(name).await;
    }
    let first = rig.get(&format!("{MAPS}?limit=2"), "application/json").await.json();
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a".into(), "b".into()], &json!(2))
    );
    rig.delete("c").await;
    rig.map("cc").await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let query = format!("limit=2&continue={token}");
    assert_eq!(rig.names(&query).await, ["c", "d"]);
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = format!("resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(rig.names(&exact).await, ["a", "b", "c", "d"]);
    assert_eq!(
        rig.names(&format!("limit=9&resourceVersion={version}")).await,
        ["a", "b", "c", "d"]
    );
    assert_eq!(rig.names("").await, ["a", "b", "cc", "d"]);
    let both = rig.get(&format!("{MAPS}?{query}&resourceVersion={version}"), "").await;
    assert_eq!(both.code, 400);
    // Whether there is more is known without looking at what is not selected.
    let first = rig.get(&format!("{MAPS}?limit=1&labelSelector=n=a"), "").await.json();
    assert!(first["metadata"]["continue"].is_string());
    assert_eq!(first["metadata"].get("remainingItemCount"), None);
}

#[tokio::test]
async fn a_lost_state_goes_on_in_the_newest() {
    let old = rig(false).await;
    for name in ["a", "b", "c"] {
        old.map(name).await;
    }
    let first = old.get(&format!("{MAPS}?limit=1"), "").await.json();
    let token = first["metadata"]["continue"].as_str().unwrap();
    old.delete("b").await;
    // A server that starts later knows nothing of earlier states.
    let rig = serve(old.store.clone(), false).await;
    let gone = rig.get(&format!("{MAPS}?limit=9&continue={token}"), "").await;
    assert_eq!((gone.code, gone.json()["reason"].clone()), (410, json!("Expired")));
    let token = gone.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    assert_eq!(rig.names(&format!("limit=9&continue={token}")).await, ["c"]);
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let watch =
        rig.get(&format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}"), "").await;
    assert_eq!((watch.code, watch.lines().len()), (200, 1));
    assert_eq!(watch.lines()[0]["type"], "ERROR");
    assert_eq!(watch.lines()[0]["object"]["code"], 410);
}

#[tokio::test]
async fn what_the_store_has_compacted_is_not_listed() {
    let rig = rig(false).await;
    rig.map("a").await;
    let list = rig.get(MAPS, "").await.json();
    let version: u64 = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    rig.map("b").await;
    let exact = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    rig.store.compact(Revision(version)).await.unwrap();
    assert_eq!(names(&rig.get(&exact, "").await.json()), ["a"]);
    rig.store.compact(Revision(version + 1)).await.unwrap();
    let gone = rig.get(&exact, "").await;
    assert_eq!((gone.code, gone.json()["reason"].clone()), (410, json!("Expired")));
}

#[tokio::test]
async fn watches_start_with_the_state_or_after_it() {
    let rig = rig(true).await;
    rig.map("a").await;
    rig.map("b").await;
    let list = rig.get(MAPS, "").await.json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    rig.delete("a").await;
    let watch = |query: &str| format!("{MAPS}?watch=1&timeoutSeconds=1&{query}");
    let types = |events: &[Value]| -> Vec<String> {
        events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
    };
    let path = watch(&format!("resourceVersion={version}"));
    let after = rig.get(&path, "application/json").await.lines();
    assert_eq!(types(&after), ["DELETED"]);
    let stream = rig.get(&path, "application/cbor-seq").await;
    assert_eq!(stream.media_type, "application/json", "a sequence is no format of a document");
    let stream = rig.get(&path, "application/cbor").await;
    assert_eq!(stream.media_type, "application/cbor-seq");
    assert_eq!(cbor::decode_sequence(&stream.body).unwrap(), after);
    let packed = rig.get(&path, "application/vnd.kubernetes.protobuf").await;
    assert_eq!(packed.media_type, "application/vnd.kubernetes.protobuf;stream=watch");
    let length = u32::from_be_bytes(packed.body[..4].try_into().unwrap());
    assert_eq!(packed.body.len(), 4 + length as usize);
    assert_eq!(rig.get(&path, "application/yaml").await.code, 406);
    let state =
        watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    let events = rig.get(&state, "application/json").await.lines();
    assert_eq!(types(&events), ["ADDED", "BOOKMARK"]);
    let mark = &events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
    assert_eq!(mark, "true");
    let table = rig.get(&state, TABLE).await.lines();
    assert!(table[0]["object"]["columnDefinitions"].is_array());
    assert_eq!(table[1]["object"]["columnDefinitions"], Value::Null);
    let one = rig.get(&watch("fieldSelector=metadata.name=none"), "").await.lines();
    assert!(one.is_empty(), "{one:?}");
    for (query, code) in [
        ("resourceVersion=abc", 500),
        ("resourceVersion=5&resourceVersionMatch=Exact", 422),
        ("limit=x", 400),
        ("fieldSelector=spec.x=1", 400),
        ("labelSelector=(", 400),
    ] {
        assert_eq!(rig.get(&watch(query), "").await.code, code, "{query}");
    }
}

#[tokio::test]
async fn large_answers_are_compressed() {
    let rig = rig(false).await;
    let text = "x".repeat(200_000);
    rig.post(MAPS, &json!({"metadata": {"name": "big"}, "data": {"k": text}})).await;
    let request = Request::get(MAPS).header("accept-encoding", "gzip").body(full("")).unwrap();
    let answer = rig.send(request).await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*answer.body).read_to_end(&mut plain).unwrap();
    let list: Value = serde_json::from_slice(&plain).unwrap();
    assert_eq!(list["items"][0]["data"]["k"], text);
    assert!(!rig.get(MAPS, "").await.headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn documents_have_entity_tags() {
    let rig = rig(false).await;
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for (path, accept) in
        [("/apis", v2), ("/api", v2), ("/openapi/v2", "*/*"), ("/openapi/v3/apis/apps/v1", "*/*")]
    {
        let answer = rig.get(path, accept).await;
        let tag = answer.headers["etag"].clone();
        let request = Request::get(path).header("accept", accept).header("if-none-match", tag);
        let again = rig.send(request.body(full("")).unwrap()).await;
        assert_eq!((again.code, again.body.len()), (304, 0), "{path}");
    }
    let index = rig.get("/openapi/v3", "*/*").await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let kept = rig.get(url, "*/*").await;
    assert_eq!(
        (kept.code, kept.headers["cache-control"].to_str().unwrap()),
        (200, "public, immutable")
    );
    let moved = rig.get("/openapi/v3/apis/apps/v1?hash=0", "*/*").await;
    assert_eq!((moved.code, moved.headers["location"].to_str().unwrap()), (301, url));
}

#[tokio::test]
async fn nobody_opens_more_watches_than_their_share() {
    let watches = WatchLimits { per_user: 3, total: 4 };
    let rig = serve_watches(Arc::new(MemoryStore::new()), false, watches).await;
    let open = async |client: &Client| {
        let request = Request::get(format!("{MAPS}?watch=1")).body(full("")).unwrap();
        client.send(request).await.unwrap()
    };
    let mut opened = Vec::new();
    for _ in 0..3 {
        opened.push(open(&rig.client).await);
        assert_eq!(opened.last().unwrap().status().as_u16(), 200);
    }
    let (head, body) = open(&rig.client).await.into_parts();
    assert_eq!(head.status.as_u16(), 429);
    assert_eq!(head.headers["retry-after"], "1");
    let text = body.collect().await.unwrap().to_bytes();
    assert_eq!(&text[..], b"Too many requests, please try again later.\n");
    let other = rig.server.client(UserInfo::new("other", &["system:masters"]));
    let last = open(&other).await;
    assert_eq!(last.status().as_u16(), 200, "another user has a share of their own");
    assert_eq!(open(&other).await.status().as_u16(), 429, "all together have one, too");
    drop(opened.pop());
    drop(last);
    assert_eq!(open(&rig.client).await.status().as_u16(), 200, "one was closed");
}

#[tokio::test]
async fn configurations_come_in_cbor_where_it_is_served() {
    const CONFIGURATION: &str = "application/apply-patch+cbor";
    let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
        "data": {"k": "v"}});
    let path = format!("{MAPS}/a?fieldManager=m");
    let with = rig(true).await;
    let made = with.patch_as(&path, CONFIGURATION, cbor::encode(&wanted)).await;
    assert_eq!(made.code, 201);
    assert_eq!(made.json()["metadata"]["managedFields"][0]["operation"], "Apply");
    let list = cbor::encode(&json!([]));
    assert_eq!(with.patch_as(&path, CONFIGURATION, list).await.code, 400);
    let without = rig(false).await;
    assert_eq!(without.patch_as(&path, CONFIGURATION, cbor::encode(&wanted)).await.code, 415);
}

#[tokio::test]
async fn annotations_that_stand_for_fields_are_numbers() {
    let rig = rig(false).await;
    let workload = |annotation: &str, value: &str| {
        json!({"metadata": {"name": "a", "annotations": {annotation: value}},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
    };
    let (deployments, daemons) = (
        "/apis/apps/v1/namespaces/default/deployments",
        "/apis/apps/v1/namespaces/default/daemonsets",
    );
    let rollback = "deprecated.deployment.rollback.to";
    assert_eq!(rig.post(deployments, &workload(rollback, "x")).await.code, 400);
    assert_eq!(rig.post(deployments, &workload(rollback, "3")).await.code, 201);
    let generation = "deprecated.daemonset.template.generation";
    assert_eq!(rig.post(daemons, &workload(generation, "1.5")).await.code, 400);
    let path = format!("{deployments}/a");
    let patch = json!({"metadata": {"annotations": {rollback: "x"}}}).to_string().into_bytes();
    let strategic = "application/strategic-merge-patch+json";
    let refused = rig.patch_as(&path, strategic, patch).await;
    assert_eq!(refused.code, 500);
    let why = "failed to parse annotation[deprecated.deployment.rollback.to]=x as int64";
    assert!(refused.json()["message"].as_str().unwrap().starts_with(why));
    // A strategic patch is JSON.
    let yaml = b"metadata: {labels: {a: b}}".to_vec();
    assert_eq!(rig.patch_as(&path, strategic, yaml).await.code, 400);
}
