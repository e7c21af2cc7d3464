//! The name server over real sockets, with services from a small API of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use longshore_base::Shutdown;
use longshore_client::transport::{Body, full};
use longshore_client::{Client, Error, Factory, Transport};
use longshore_dns::Config;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Answers lists; watches stay silent.
struct Api;

impl Transport for Api {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Error>> {
        let (path, query) =
            (request.uri().path().to_owned(), request.uri().query().unwrap_or("").to_owned());
        Box::pin(async move {
            if query.contains("watch=1") {
                let silent =
                    futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, _>>();
                return Ok(Response::new(StreamBody::new(silent).boxed_unsync()));
            }
            let items = match path.as_str() {
                "/api/v1/services" => services(),
                "/apis/discovery.k8s.io/v1/endpointslices" => slices(),
                _ => json!([]),
            };
            let list = json!({ "metadata": { "resourceVersion": "1" }, "items": items });
            Ok(Response::new(full(list.to_string())))
        })
    }
}

fn services() -> Value {
    json!([
        {
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "clusterIP": "10.96.0.7", "ports": [{ "name": "http", "protocol": "TCP", "port": 80 }] },
        },
        {
            "metadata": { "name": "db", "namespace": "shop" },
            "spec": { "clusterIP": "None", "ports": [{ "name": "sql", "protocol": "TCP", "port": 5432 }] },
        },
        {
            "metadata": { "name": "far", "namespace": "shop" },
            "spec": { "type": "ExternalName", "externalName": "example.com" },
        },
    ])
}

fn slices() -> Value {
    json!([{
        "metadata": {
            "name": "db-x", "namespace": "shop", "labels": { "kubernetes.io/service-name": "db" },
        },
        "ports": [{ "name": "sql", "protocol": "TCP", "port": 5432 }],
        "endpoints": [
            { "addresses": ["10.244.0.5"], "hostname": "db-0", "conditions": { "ready": true } },
            { "addresses": ["10.244.0.6"], "conditions": { "ready": true } },
            { "addresses": ["10.244.0.7"], "conditions": { "ready": false } },
        ],
    }])
}

async fn server(shutdown: &Shutdown) -> SocketAddr {
    let client = Client::new(Arc::new(Api));
    let caches = Factory::new(client.clone(), shutdown.clone());
    let services = caches.get(longshore_client::resource::SERVICES);
    let slices = caches.get(longshore_client::resource::ENDPOINT_SLICES);
    services.synced().await;
    slices.synced().await;
    let config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        cluster_domain: "cluster.local".into(),
        cluster_dns: Ipv4Addr::new(10, 96, 0, 10),
        node_ip: Ipv4Addr::LOCALHOST,
    };
    longshore_dns::start(config, client, &caches, shutdown).await.expect("it listens")
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    query.to_vec().expect("a message")
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.send_to(&question(name, kind), server).await.expect("sent");
    let mut buffer = [0; 4096];
    let count = socket.recv(&mut buffer).await.expect("an answer");
    Message::from_vec(&buffer[..count]).expect("a message")
}

fn addresses(message: &Message) -> Vec<String> {
    let mut all: Vec<String> = message
        .answers
        .iter()
        .filter_map(|r| match &r.data {
            RData::A(a) => Some(a.to_string()),
            RData::CNAME(name) => Some(name.to_string()),
            RData::PTR(name) => Some(name.to_string()),
            RData::SRV(srv) => Some(format!("{} {}", srv.port, srv.target)),
            _ => None,
        })
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn services_and_pods_have_names() {
    let shutdown = Shutdown::new();
    let server = server(&shutdown).await;
    let cases: [(&str, RecordType, &[&str]); 9] = [
        ("web.shop.svc.cluster.local.", RecordType::A, &["10.96.0.7"]),
        ("WEB.shop.svc.cluster.local.", RecordType::A, &["10.96.0.7"]),
        ("db.shop.svc.cluster.local.", RecordType::A, &["10.244.0.5", "10.244.0.6"]),
        ("db-0.db.shop.svc.cluster.local.", RecordType::A, &["10.244.0.5"]),
        ("far.shop.svc.cluster.local.", RecordType::A, &["example.com."]),
        ("10-244-0-9.shop.pod.cluster.local.", RecordType::A, &["10.244.0.9"]),
        (
            "_http._tcp.web.shop.svc.cluster.local.",
            RecordType::SRV,
            &["80 web.shop.svc.cluster.local."],
        ),
        ("7.0.96.10.in-addr.arpa.", RecordType::PTR, &["web.shop.svc.cluster.local."]),
        ("web.shop.svc.cluster.local.", RecordType::AAAA, &[]),
    ];
    for (name, kind, want) in cases {
        let answer = ask(server, name, kind).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name}");
        assert_eq!(addresses(&answer), want, "{name}");
    }
    shutdown.cancel();
}

#[tokio::test]
async fn unknown_names_do_not_exist_and_tell_who_says_so() {
    let shutdown = Shutdown::new();
    let server = server(&shutdown).await;
    for name in ["none.shop.svc.cluster.local.", "web.none.svc.cluster.local.", "x.cluster.local."]
    {
        let answer = ask(server, name, RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name}");
        assert_eq!(answer.authorities.len(), 1, "{name}");
    }
    shutdown.cancel();
}

#[tokio::test]
async fn tcp_answers_too() {
    let shutdown = Shutdown::new();
    let server = server(&shutdown).await;
    let mut stream = tokio::net::TcpStream::connect(server).await.expect("connects");
    let query = question("web.shop.svc.cluster.local.", RecordType::A);
    stream.write_u16(u16::try_from(query.len()).expect("short")).await.expect("sent");
    stream.write_all(&query).await.expect("sent");
    let length = stream.read_u16().await.expect("a length");
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.expect("an answer");
    let answer = Message::from_vec(&answer).expect("a message");
    assert_eq!(addresses(&answer), ["10.96.0.7"]);
    shutdown.cancel();
}
