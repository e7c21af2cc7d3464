//! What hostile clients try: each gets a clear error, memory stays bounded, and the server lives.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Request};
use longshore_client::transport::full;
use longshore_test_api::server::{Server, check_open_files};
use longshore_test_api::wire::{Answer, Events, Sender, Wire};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::raw;

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How long an answer to anything hostile may take, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the server may grow by while it refuses something, in bytes.
const GROWTH_MAX: u64 = 300 << 20;

async fn start() -> (Server, Wire) {
    let server = Server::start("controllers,scheduler,kubelet,proxy,dns").await.unwrap();
    let wire = Wire::new(&std::fs::read_to_string(server.kubeconfig()).unwrap()).unwrap();
    (server, wire)
}

/// The server lives, is of a decent size, and nothing in it panicked.
async fn lives(server: &Server, wire: &Wire, before: u64) {
    assert_eq!(wire.get("/livez").await.unwrap().code, 200);
    let grown = server.resident().unwrap().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "the server has grown by {} MiB", grown >> 20);
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
}

async fn send(wire: &Wire, method: Method, path: &str, media_type: &str, body: Vec<u8>) -> Answer {
    let request = Request::builder().method(method).uri(path).header("content-type", media_type);
    let started = Instant::now();
    let answer = wire.send(Sender::Admin, request.body(full(body)).unwrap()).await.unwrap();
    assert!(started.elapsed() < PATIENCE, "{path} took {:?}", started.elapsed());
    answer
}

/// The body is refused with one of these codes, as a Status.
async fn refused(wire: &Wire, media_type: &str, body: impl Into<Vec<u8>>, codes: &[u16]) {
    let answer = send(wire, Method::POST, CONFIGMAPS, media_type, body.into()).await;
    let value = answer.value();
    assert!(codes.contains(&answer.code), "{}: {value}", answer.code);
    assert_eq!(value["kind"], "Status", "{value}");
    assert!(answer.body.len() < 256 << 10, "the refusal has {} bytes", answer.body.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_bodies_are_refused() {
    let (server, wire) = start().await;
    let before = server.resident().unwrap();
    for depth in [200, 10_000, 1_000_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = format!("{}0{}", open.repeat(depth), close.repeat(depth));
            let body = format!("{{\"metadata\":{{\"name\":\"deep\"}},\"data\":{nested}}}");
            let code: &[u16] = if body.len() > 3 << 20 { &[413] } else { &[400] };
            refused(&wire, "application/json", body, code).await;
            refused(&wire, "application/json", open.repeat(depth), &[400, 413]).await;
        }
    }
    for depth in [200, 10_000, 500_000] {
        refused(&wire, "application/yaml", format!("data: {}", "[".repeat(depth)), &[400]).await;
        let nested = format!("data: {}{}", "{a: ".repeat(depth / 4), "}".repeat(depth / 4));
        refused(&wire, "application/yaml", nested, &[400]).await;
        refused(&wire, "application/yaml", "- ".repeat(depth), &[400]).await;
    }
    let lines: String = (0..1500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    refused(&wire, "application/yaml", lines, &[400]).await;
    // A definition's schema may hold itself.
    let mut message = Vec::new();
    for _ in 0..20_000 {
        let mut outer = vec![0x82, 0x01];
        put_length(&mut outer, message.len());
        outer.append(&mut message);
        message = outer;
    }
    let mut body = b"k8s\0\x0a\x30\x0a\x17apiextensions.k8s.io/v1\x12\x15".to_vec();
    body.extend_from_slice(b"CustomResourceDefinition");
    body.extend_from_slice(&message);
    refused(&wire, "application/vnd.kubernetes.protobuf", body, &[400]).await;
    lives(&server, &wire, before).await;
}

fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_cannot_make_monsters() {
    let (server, wire) = start().await;
    let made = wire
        .json(Method::POST, CONFIGMAPS, &json!({"metadata": {"name": "a"}, "data": {"a": "b"}}))
        .await
        .unwrap();
    assert_eq!(made.code, 201);
    let before = server.resident().unwrap();
    let path = format!("{CONFIGMAPS}/a");
    let patch = async |operations: Vec<Value>, codes: &[u16]| {
        let body = Value::Array(operations).to_string().into_bytes();
        assert!(body.len() < 3 << 20, "the patch itself is too large");
        let answer = send(&wire, Method::PATCH, &path, "application/json-patch+json", body).await;
        assert!(codes.contains(&answer.code), "{} {}", answer.code, answer.value());
    };
    // Twice as large with every step.
    let copies = (0..200).map(|i| json!({"op": "copy", "from": "", "path": format!("/x{i}")}));
    patch(copies.collect(), &[413, 422]).await;
    let lists = (0..200).map(|_| json!({"op": "copy", "from": "/data", "path": "/data/a"}));
    patch(lists.collect(), &[413, 422]).await;
    // Deeper with every step.
    let deeper = (0..1200).map(|i| json!({"op": "add", "path": "/x".repeat(i + 1), "value": {}}));
    patch(deeper.collect(), &[422]).await;
    let hundred = (0..100).fold(json!({}), |inner, _| json!({ "x": inner }));
    let much_deeper =
        (0..100).map(|i| json!({"op": "add", "path": "/x".repeat(100 * i + 1), "value": hundred}));
    patch(much_deeper.collect(), &[422]).await;
    let many = (0..10_001).map(|_| json!({"op": "test", "path": "/kind", "value": "ConfigMap"}));
    patch(many.collect(), &[413]).await;
    let wide = json!({"op": "add", "path": "/data/99999999999999999999", "value": "x"});
    patch(vec![wide], &[200]).await;
    let after = wire.get(&path).await.unwrap().value();
    assert_eq!(after["data"], json!({"a": "b", "99999999999999999999": "x"}));
    for kind in ["merge-patch", "strategic-merge-patch"] {
        let media_type = format!("application/{kind}+json");
        for body in [
            format!("{{\"data\":{}0{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000)),
            format!("{{\"metadata\":{{\"finalizers\":[{}0]}}}}", "[],".repeat(500_000)),
            format!(
                "{{\"metadata\":{{\"$setElementOrder/ownerReferences\":[{}{{}}]}}}}",
                "{\"uid\":\"a\"},".repeat(100_000)
            ),
        ] {
            let answer = send(&wire, Method::PATCH, &path, &media_type, body.into_bytes()).await;
            assert!([200, 400, 422].contains(&answer.code), "{} {}", answer.code, answer.value());
        }
    }
    lives(&server, &wire, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_numbers_and_repetitions_are_refused() {
    let (server, wire) = start().await;
    let before = server.resident().unwrap();
    let digits = "9".repeat(100_000);
    for number in
        ["1e999", "-1e999", "1e-999999999", digits.as_str(), "18446744073709551616", "1.5"]
    {
        let body = format!(
            "{{\"metadata\":{{\"name\":\"n\",\"generation\":{number}}},\"immutable\":{number}}}"
        );
        refused(&wire, "application/json", body.clone(), &[400]).await;
        refused(&wire, "application/yaml", body, &[400]).await;
    }
    for quantity in [
        "1e2147483647",
        "1e-2147483648",
        "1e99999999999",
        digits.as_str(),
        "0x10",
        "1e",
        "-9999999999999999999Ei",
    ] {
        let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"cpu": quantity}}});
        let path = "/api/v1/namespaces/default/resourcequotas?dryRun=All";
        let answer = wire.json(Method::POST, path, &quota).await.unwrap();
        assert!([201, 400, 422].contains(&answer.code), "{quantity}: {}", answer.code);
    }
    // Every repeated or unknown field is worth a warning, but not a header without end.
    let name = "u".repeat(5_000);
    let unknown: String = (0..500).map(|i| format!(",\"{name}{i}\":1")).collect();
    let repeated = ",\"data\":{\"a\":\"1\",\"a\":\"2\"}".repeat(50_000);
    for (name, extra) in [("unknown", unknown), ("repeated", repeated)] {
        let body = format!("{{\"metadata\":{{\"name\":\"{name}\"}}{extra}}}");
        let path = format!("{CONFIGMAPS}?dryRun=All");
        let answer =
            send(&wire, Method::POST, &path, "application/json", body.clone().into_bytes()).await;
        assert_eq!(answer.code, 201, "{}", answer.value());
        let size: usize = answer.headers.get_all("warning").iter().map(|v| v.len()).sum();
        assert!(size > 0 && size < 16 << 10, "{name}: the warnings have {size} bytes");
        let path = format!("{CONFIGMAPS}?fieldValidation=Strict");
        let strict = send(&wire, Method::POST, &path, "application/json", body.into_bytes()).await;
        assert_eq!(strict.code, 400);
    }
    // Times and counts that do not fit.
    for query in [
        "watch=1&timeoutSeconds=18446744073709551615",
        "watch=1&timeoutSeconds=9223372036854775807",
        "watch=1&timeoutSeconds=-1",
        "limit=18446744073709551616",
        "limit=9223372036854775807",
        "limit=-9223372036854775808",
        "resourceVersion=18446744073709551616",
        "watch=1&resourceVersion=18446744073709551615",
    ] {
        let request = Request::get(format!("{CONFIGMAPS}?{query}")).body(full("")).unwrap();
        let head = wire.open(Sender::Admin, request).await.unwrap();
        assert_ne!(head.status().as_u16(), 500, "{query}");
    }
    lives(&server, &wire, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_bodies_do_not_become_large() {
    let (server, wire) = start().await;
    let before = server.resident().unwrap();
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for i in 1..40 {
        let tens = vec![format!("*a{}", i - 1); 10].join(", ");
        laughs.push_str(&format!("a{i}: &a{i} [{tens}]\n"));
    }
    laughs.push_str("metadata: {name: laughs}\ndata: *a39\n");
    refused(&wire, "application/yaml", laughs, &[400]).await;
    let mut merges = "a0: &a0 {k: v}\n".to_owned();
    for i in 1..40 {
        merges.push_str(&format!("a{i}: &a{i} {{x: *a{p}, y: *a{p}, <<: *a{p}}}\n", p = i - 1));
    }
    refused(&wire, "application/yaml", merges, &[400]).await;
    let text = "x".repeat(100_000);
    let quadratic = format!("a: &a \"{text}\"\nb: [{}]\n", vec!["*a"; 200_000].join(","));
    refused(&wire, "application/yaml", quadratic, &[400]).await;
    let myself = "a: &a [*a]\nmetadata: &m {name: *m}\n";
    refused(&wire, "application/yaml", myself, &[400]).await;
    refused(&wire, "application/yaml", "a: !!binary x\n--- \n".repeat(100_000), &[400]).await;
    lives(&server, &wire, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giant_selectors_and_heads_are_refused() {
    let (server, wire) = start().await;
    let before = server.resident().unwrap();
    let tls = raw::tls(&server);
    let get = async |path: &str, headers: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        tokio::time::timeout(PATIENCE, raw::exchange(&server, &tls, request.as_bytes()))
            .await
            .unwrap()
    };
    assert!(get(CONFIGMAPS, "").await.starts_with("HTTP/1.1 200"));
    // As long as a request line may be.
    let keys: Vec<String> = (0..5_000).map(|i| format!("k{i}")).collect();
    let selector = format!("{CONFIGMAPS}?labelSelector={}", keys.join(","));
    assert!(selector.len() < 60_000 && get(&selector, "").await.starts_with("HTTP/1.1 200"));
    let listed = format!("{CONFIGMAPS}?labelSelector=a+in+({})", keys.join(","));
    assert!(get(&listed, "").await.starts_with("HTTP/1.1 200"));
    let nested = format!("{CONFIGMAPS}?labelSelector={}", "(".repeat(30_000));
    assert!(get(&nested, "").await.starts_with("HTTP/1.1 400"));
    let token = format!("{CONFIGMAPS}?limit=1&continue={}", "A".repeat(50_000));
    assert!(get(&token, "").await.starts_with("HTTP/1.1 400"));
    // Longer ones.
    let giant = format!("{CONFIGMAPS}?labelSelector={}", "k,".repeat(1 << 20));
    let answer = get(&giant, "").await;
    assert!(
        ["HTTP/1.1 414", "HTTP/1.1 431", "HTTP/1.1 400", "cut off"]
            .iter()
            .any(|s| answer.starts_with(s)),
        "{answer}"
    );
    let headers = "X-Filler: y\r\n".repeat(20_000);
    let answer = get("/livez", &headers).await;
    assert!(
        ["HTTP/1.1 431", "HTTP/1.1 400", "cut off"].iter().any(|s| answer.starts_with(s)),
        "{answer}"
    );
    let answer = get("/livez", &format!("X-Filler: {}\r\n", "y".repeat(8 << 20))).await;
    assert!(
        ["HTTP/1.1 431", "HTTP/1.1 400", "cut off"].iter().any(|s| answer.starts_with(s)),
        "{answer}"
    );
    for noise in [
        &b"\x00\x01\x02\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        tokio::time::timeout(PATIENCE, raw::exchange(&server, &tls, noise)).await.unwrap();
    }
    // A selector of an object may be long.
    let expressions: Vec<Value> =
        (0..20_000).map(|i| json!({"key": format!("k{i}"), "operator": "Exists"})).collect();
    let policy = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {"matchExpressions": expressions}}});
    let path = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let answer = wire.json(Method::POST, path, &policy).await.unwrap();
    assert_eq!(answer.code, 201, "{}", answer.value());
    lives(&server, &wire, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_hold_nobody_up() {
    // More bodies than writes may run at one time.
    const SLOW: usize = 390;
    let (server, wire) = start().await;
    let before = server.resident().unwrap();
    let tls = raw::tls(&server);
    let slow = (0..SLOW).map(|index| {
        let (server, tls) = (&server, &tls);
        async move {
            let mut stream = raw::connect(server, tls).await;
            let start = if index % 3 == 0 {
                // A head that does not end.
                format!("POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            } else {
                let head = "Content-Type: application/json\r\nContent-Length: 1000000";
                format!("POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n{{\"metadata\":")
            };
            stream.write_all(start.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream
        }
    });
    let mut slow = join_all(slow).await;
    for index in 0..40 {
        for stream in &mut slow {
            stream.write_all(b" ").await.unwrap();
        }
        let started = Instant::now();
        let object = json!({"metadata": {"name": format!("quick-{index}")}});
        let answer = wire.json(Method::POST, CONFIGMAPS, &object).await.unwrap();
        assert_eq!(answer.code, 201);
        assert_eq!(wire.get(CONFIGMAPS).await.unwrap().code, 200);
        assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
    }
    drop(slow);
    let listed = wire.get(CONFIGMAPS).await.unwrap().value();
    assert_eq!(listed["items"].as_array().unwrap().len(), 40, "nothing half-sent is stored");
    lives(&server, &wire, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_judged() {
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
    let (server, wire) = start().await;
    let before = server.resident().unwrap();
    let folder = server.data().join("pki");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let ca_key = KeyPair::from_pem(&read("ca.key")).unwrap();
    let own = Issuer::from_ca_cert_pem(&read("ca.crt"), ca_key).unwrap();
    let other_key = KeyPair::generate().unwrap();
    let other = Issuer::new(CertificateParams::new(Vec::new()).unwrap(), other_key);
    let ask = async |issuer: &Issuer<'_, KeyPair>, years: (i32, i32), key_for_clients: bool| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "eve");
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        params.extended_key_usages = vec![if key_for_clients {
            rcgen::ExtendedKeyUsagePurpose::ClientAuth
        } else {
            rcgen::ExtendedKeyUsagePurpose::ServerAuth
        }];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, issuer).unwrap();
        let text = std::fs::read_to_string(server.kubeconfig()).unwrap();
        let mut config = longshore_api::yaml::decode(text.as_bytes()).unwrap();
        let base64 = |pem: String| {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(pem)
        };
        config["users"][0]["user"] = json!({
            "client-certificate-data": base64(certificate.pem()),
            "client-key-data": base64(key.serialize_pem()),
        });
        let answer = Wire::new(&config.to_string()).unwrap().get(CONFIGMAPS).await.unwrap();
        (answer.code, answer.value()["reason"].clone())
    };
    assert_eq!(ask(&own, (2020, 2099), true).await.0, 200, "a good one");
    let unauthorized = (401, json!("Unauthorized"));
    assert_eq!(ask(&own, (2020, 2021), true).await, unauthorized, "an expired one");
    assert_eq!(ask(&own, (2098, 2099), true).await, unauthorized, "one of the future");
    assert_eq!(ask(&own, (2020, 2099), false).await, unauthorized, "one for servers");
    assert_eq!(ask(&other, (2020, 2099), true).await, unauthorized, "one of somebody else");
    lives(&server, &wire, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_is_not_stored() {
    let (server, wire) = start().await;
    let before = server.resident().unwrap();
    let tls = raw::tls(&server);
    let whole = br#"{"metadata":{"name":"broken-off"}}"#;
    let head = format!(
        "POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        whole.len() + 1
    );
    let mut stream = raw::connect(&server, &tls).await;
    stream.write_all(&Bytes::from([head.as_bytes(), whole].concat())).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    let chunks = format!(
        "POST {CONFIGMAPS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    );
    let answer = raw::exchange(&server, &tls, chunks.as_bytes()).await;
    assert!(!answer.contains("HTTP/1.1 201"), "{answer}");
    let path = format!("{CONFIGMAPS}/broken-off");
    assert_eq!(wire.get(&path).await.unwrap().code, 404);
    lives(&server, &wire, before).await;
}
/// Open watches of one client, and those that share a connection: a client's own HTTP/2 library gives up when
/// events of many more wait to be read.
const WATCHES: usize = 10_000;
const WATCHES_PER_CONNECTION: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watches_of_one_client() {
    check_open_files(1024).unwrap();
    let (server, wire) = start().await;
    let text = std::fs::read_to_string(server.kubeconfig()).unwrap();
    let before = server.resident().unwrap();
    let wires: Vec<Wire> =
        (0..WATCHES / WATCHES_PER_CONNECTION).map(|_| Wire::new(&text).unwrap()).collect();
    let mut watches = Vec::with_capacity(WATCHES);
    for one in &wires {
        let opening = (0..WATCHES_PER_CONNECTION).map(|_| async {
            let request = Request::get(format!("{CONFIGMAPS}?watch=1")).body(full("")).unwrap();
            let (head, body) = one.open(Sender::Admin, request).await.unwrap().into_parts();
            assert_eq!(head.status.as_u16(), 200);
            Events::new(body)
        });
        watches.extend(join_all(opening).await);
    }
    let grown = server.resident().unwrap().saturating_sub(before);
    let made =
        wire.json(Method::POST, CONFIGMAPS, &json!({"metadata": {"name": "seen"}})).await.unwrap();
    assert_eq!(made.code, 201);
    let started = Instant::now();
    let told = join_all(watches.iter_mut().map(Events::next)).await;
    for event in told {
        let event = event.unwrap().expect("the watch goes on");
        assert_eq!(event["object"]["metadata"]["name"], "seen", "{event}");
    }
    println!(
        "{WATCHES} watches cost {} MiB, all were told after {:?}",
        grown >> 20,
        started.elapsed()
    );
    assert!(grown < GROWTH_MAX, "they cost {} MiB", grown >> 20);
    drop(watches);
    drop(wires);
    // The server has forgotten them when it serves others as before.
    let made =
        wire.json(Method::POST, CONFIGMAPS, &json!({"metadata": {"name": "after"}})).await.unwrap();
    assert_eq!(made.code, 201);
    lives(&server, &wire, before).await;
}

/// Watches that a client tries to open, and those that one user may have: the server's default.
const FLOOD: usize = 100_000;
const FLOOD_TAKEN: usize = 32_768;
const FLOOD_PER_CONNECTION: usize = 500;

/// As above with more than the server takes; docs/performance.md has its figures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_watches_of_one_client() {
    check_open_files(1024).unwrap();
    let (server, wire) = start().await;
    let text = std::fs::read_to_string(server.kubeconfig()).unwrap();
    let before = server.resident().unwrap();
    let started = Instant::now();
    let wires: Vec<Wire> =
        (0..FLOOD / FLOOD_PER_CONNECTION).map(|_| Wire::new(&text).unwrap()).collect();
    let (mut taken, mut refused) = (Vec::new(), 0);
    for one in &wires {
        let opening = (0..FLOOD_PER_CONNECTION).map(|_| async {
            let request = Request::get(format!("{CONFIGMAPS}?watch=1")).body(full("")).unwrap();
            one.open(Sender::Admin, request).await.unwrap().into_parts()
        });
        for (head, body) in join_all(opening).await {
            if head.status.as_u16() == 200 {
                taken.push(body);
                continue;
            }
            assert_eq!(head.status.as_u16(), 429);
            assert_eq!(head.headers["retry-after"], "1");
            refused += 1;
        }
    }
    let grown = server.resident().unwrap().saturating_sub(before);
    println!(
        "{} watches taken, {refused} refused in {:?}; they cost {} MiB",
        taken.len(),
        started.elapsed(),
        grown >> 20
    );
    assert_eq!(taken.len() + refused, FLOOD);
    // The server's own watches are another user's.
    assert!(taken.len() <= FLOOD_TAKEN && taken.len() > FLOOD_TAKEN - 1000);
    assert!(grown < GROWTH_MAX, "they cost {} MiB", grown >> 20);
    drop((taken, wires));
    let made =
        wire.json(Method::POST, CONFIGMAPS, &json!({"metadata": {"name": "after"}})).await.unwrap();
    assert_eq!(made.code, 201);
    lives(&server, &wire, before).await;
}
