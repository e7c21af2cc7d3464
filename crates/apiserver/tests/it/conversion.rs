//! Conversion webhooks, called over real TLS by a whole server.

use std::sync::Arc;

use base64::Engine as _;
use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use longshore_apiserver::body::full;
use longshore_apiserver::outbound;
use longshore_store::{RangeRequest, prefix_end};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::other::Other;
use crate::wire::{Answer, PATIENCE, Rig, rig, until};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const JSON: &str = "application/json";

fn path(version: &str) -> String {
    format!("/apis/example.com/{version}/namespaces/default/hosts")
}

/// In v1 a host has `host` and `port`, in v2 both in `address`.
fn convert(object: &mut Value, to: &str) {
    object["apiVersion"] = to.into();
    let fields = object["spec"].as_object().cloned().unwrap_or_default();
    let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    object["spec"] = match to {
        "example.com/v1" => {
            let address = text("address");
            let (host, port) = address.split_once(':').unwrap_or((&address, ""));
            json!({"host": host, "port": port, "unknown": "goes"})
        }
        _ => json!({"address": format!("{}:{}", text("host"), text("port"))}),
    };
}

/// Spoils an answer.
type Spoil = fn(&mut Value);
/// What a webhook shall do wrong.
type Fault = Arc<Mutex<Option<Spoil>>>;

struct Hook {
    other: Other,
    fault: Fault,
    calls: Arc<Mutex<Vec<usize>>>,
}

impl Hook {
    async fn start() -> Self {
        let (fault, calls): (Fault, Arc<Mutex<Vec<usize>>>) = Default::default();
        let (faults, noted) = (fault.clone(), calls.clone());
        let other = Other::start(move |request, _| {
            let (fault, noted) = (faults.clone(), noted.clone());
            async move {
                let body = outbound::read(request.into_body()).await.unwrap();
                let review: Value = serde_json::from_slice(&body).unwrap();
                let to = review["request"]["desiredAPIVersion"].as_str().unwrap();
                let mut objects = review["request"]["objects"].as_array().unwrap().clone();
                noted.lock().push(objects.len());
                objects.iter_mut().for_each(|object| convert(object, to));
                let mut answer = json!({
                    "kind": "ConversionReview", "apiVersion": review["apiVersion"],
                    "response": {
                        "uid": review["request"]["uid"], "convertedObjects": objects,
                        "result": {"status": "Success"},
                    },
                });
                if let Some(fault) = *fault.lock() {
                    fault(&mut answer);
                }
                Response::new(full(answer.to_string()))
            }
            .boxed()
        })
        .await;
        Self { other, fault, calls }
    }

    fn definition(&self, reviews: &[&str]) -> Value {
        let bundle = self.other.authority.cert_pem();
        let bundle = base64::engine::general_purpose::STANDARD.encode(bundle);
        let version = |name: &str, storage: bool, fields: &[&str]| {
            let fields: serde_json::Map<_, _> = fields
                .iter()
                .map(|field| ((*field).to_owned(), json!({"type": "string"})))
                .collect();
            let selectable: Vec<_> =
                fields.keys().map(|field| json!({"jsonPath": format!(".spec.{field}")})).collect();
            let spec = json!({"type": "object", "properties": fields});
            json!({
                "name": name, "served": true, "storage": storage,
                "selectableFields": selectable,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
            })
        };
        json!({
            "metadata": {"name": "hosts.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "hosts", "kind": "Host"},
                "versions": [
                    version("v1", true, &["host", "port"]), version("v2", false, &["address"]),
                ],
                "conversion": {"strategy": "Webhook", "webhook": {
                    "conversionReviewVersions": reviews,
                    "clientConfig": {
                        "url": format!("https://{}/convert", self.other.address),
                        "caBundle": bundle,
                    },
                }},
            },
        })
    }
}

async fn serve(hook: &Hook, reviews: &[&str]) -> Rig {
    let rig = rig(false).await;
    let answer = rig.post(DEFINITIONS, &hook.definition(reviews)).await;
    assert_eq!(answer.code, 201, "{}", answer.json());
    rig.until(&path("v2"), 200).await;
    rig
}

fn host(version: &str, name: &str) -> Value {
    let mut object = json!({
        "apiVersion": "example.com/v1", "kind": "Host",
        "metadata": {"name": name, "labels": {"a": "b"}}, "spec": {"host": name, "port": "80"},
    });
    if version == "v2" {
        convert(&mut object, "example.com/v2");
    }
    object
}

async fn put(rig: &Rig, path: &str, object: &Value) -> Answer {
    let request = Request::put(path).header("content-type", JSON);
    rig.send(request.body(full(object.to_string())).unwrap()).await
}

async fn apply(rig: &Rig, path: &str, manager: &str, object: &Value) -> Answer {
    let path = format!("{path}?fieldManager={manager}");
    let request = Request::patch(path).header("content-type", "application/apply-patch+yaml");
    rig.send(request.body(full(object.to_string())).unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_read_and_written_in_every_version() {
    for reviews in [["v1", "v1beta1"], ["v1beta1", "v1"]] {
        let hook = Hook::start().await;
        let rig = serve(&hook, &reviews).await;
        assert!(hook.calls.lock().is_empty(), "nothing was to be converted");
        for (version, name) in [("v1", "one"), ("v2", "two")] {
            let answer = rig.post(&path(version), &host(version, name)).await;
            assert_eq!(answer.code, 201, "{}", answer.json());
            assert_eq!(answer.json()["spec"], host(version, name)["spec"]);
        }
        for name in ["one", "two"] {
            for version in ["v1", "v2"] {
                let got = rig.get(&format!("{}/{name}", path(version)), JSON).await.json();
                assert_eq!(got["spec"], host(version, name)["spec"], "{version} {name}");
                assert_eq!(got["apiVersion"], format!("example.com/{version}"));
            }
        }
        hook.calls.lock().clear();
        for (version, calls) in [("v1", vec![]), ("v2", vec![2])] {
            let list = rig.get(&path(version), JSON).await.json();
            let specs: Vec<_> =
                list["items"].as_array().unwrap().iter().map(|i| &i["spec"]).collect();
            assert_eq!(specs, [&host(version, "one")["spec"], &host(version, "two")["spec"]]);
            assert_eq!(std::mem::take(&mut *hook.calls.lock()), calls, "a list is one call");
        }
        // What is stored is of the one version.
        let start = bytes::Bytes::from_static(b"/registry/example.com/");
        let end = prefix_end(&start);
        let stored = rig.store.range(RangeRequest { start, end, ..RangeRequest::default() }).await;
        for kv in stored.unwrap().kvs {
            let text = String::from_utf8_lossy(&kv.value).into_owned();
            assert!(text.contains("example.com/v1") && text.contains("\"port\":\"80\""), "{text}");
        }
        let one = format!("{}/one", path("v2"));
        let mut object = rig.get(&one, JSON).await.json();
        object["spec"]["address"] = "one:81".into();
        assert_eq!(put(&rig, &one, &object).await.code, 200);
        let got = rig.get(&format!("{}/one", path("v1")), JSON).await.json();
        assert_eq!(got["spec"], json!({"host": "one", "port": "81"}));
        let deleted = rig.send(Request::delete(&one).body(full("")).unwrap()).await;
        assert_eq!(deleted.code, 200, "{}", deleted.json());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_tell_in_the_version_that_is_watched() {
    let hook = Hook::start().await;
    let rig = serve(&hook, &["v1"]).await;
    assert_eq!(rig.post(&path("v1"), &host("v1", "one")).await.code, 201);
    let watch = || Request::get(format!("{}?watch=true&timeoutSeconds=60", path("v2")));
    let mut body = rig.open(watch().body(full("")).unwrap()).await;
    // A change of the definition that is none of its conversion parts no watches.
    let definition = format!("{DEFINITIONS}/hosts.example.com");
    let change = br#"{"spec": {"names": {"shortNames": ["ho"]}}}"#;
    let changed = rig.patch_as(&definition, "application/merge-patch+json", change.to_vec()).await;
    assert_eq!(changed.code, 200, "{}", changed.json());
    until("discovery tells the short name", async || {
        let answer = rig.get("/apis/example.com/v2", JSON).await;
        answer.code == 200 && answer.json()["resources"][0]["shortNames"] == json!(["ho"])
    })
    .await;
    let mut second = rig.open(watch().body(full("")).unwrap()).await;
    let mut seen = String::new();
    let mut told = async |count: usize| {
        let reading = async {
            while seen.lines().count() < count {
                let frame = body.frame().await.unwrap().unwrap();
                seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("it is told");
        seen.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let events = told(1).await;
    assert_eq!(events[0]["object"]["spec"], json!({"address": "one:80"}));
    assert_eq!(rig.post(&path("v1"), &host("v1", "two")).await.code, 201);
    second.frame().await.unwrap().unwrap();
    second.frame().await.unwrap().unwrap();
    let events = told(2).await;
    // One for the state of each watch, one for the change that both are told.
    assert_eq!(*hook.calls.lock(), [1, 1, 1]);
    assert_eq!(
        (&events[1]["type"], &events[1]["object"]["spec"]["address"]),
        (&json!("ADDED"), &json!("two:80"))
    );
    // What cannot be converted ends the watch.
    *hook.fault.lock() = Some(|answer| answer["response"]["result"]["status"] = "Failure".into());
    assert_eq!(rig.post(&path("v1"), &host("v1", "three")).await.code, 201);
    let events = told(3).await;
    assert_eq!(events[2]["type"], "ERROR");
    assert_eq!(
        events[2]["object"]["message"],
        "conversion webhook for example.com/v1, Kind=Host failed: response.result.status was 'Failure', not 'Success'"
    );
    // Who watches on from before it is told of it when the webhook is well again.
    *hook.fault.lock() = None;
    let from = events[1]["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    let on = format!("{}?watch=true&timeoutSeconds=60&resourceVersion={from}", path("v2"));
    let mut body = rig.open(Request::get(on).body(full("")).unwrap()).await;
    let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("it is told");
    let frame = frame.unwrap().unwrap();
    let event: Value = serde_json::from_slice(frame.data_ref().unwrap()).unwrap();
    assert_eq!(event["object"]["spec"], json!({"address": "three:80"}), "{event}");
}

/// Who applied in one version keeps what they own in another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_are_compared_in_their_own_versions() {
    let hook = Hook::start().await;
    let rig = serve(&hook, &["v1"]).await;
    let (one, two) = (format!("{}/one", path("v1")), format!("{}/one", path("v2")));
    let wanted = |version: &str, spec: Value| {
        let api_version = format!("example.com/{version}");
        json!({"apiVersion": api_version, "kind": "Host", "metadata": {"name": "one"}, "spec": spec})
    };
    let config = wanted("v1", json!({"host": "h", "port": "80"}));
    let answer = apply(&rig, &one, "first", &config).await;
    assert_eq!(answer.code, 201, "{}", answer.json());
    // The same address is no conflict; another one is, and names what the first owns.
    let config = wanted("v2", json!({"address": "h:80"}));
    let answer = apply(&rig, &two, "second", &config).await;
    assert_eq!(answer.code, 200, "{}", answer.json());
    let config = wanted("v2", json!({"address": "h:81"}));
    let answer = apply(&rig, &two, "second", &config).await;
    assert_eq!(answer.code, 409, "{}", answer.json());
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("\"first\": .spec.port"), "{message}");
    let answer = apply(&rig, &two, "second&force=true", &config).await;
    assert_eq!(answer.code, 200, "{}", answer.json());
    let managers = answer.json()["metadata"]["managedFields"].as_array().unwrap().clone();
    let first = managers.iter().find(|entry| entry["manager"] == "first").unwrap();
    assert_eq!(first["apiVersion"], "example.com/v1");
    assert_eq!(first["fieldsV1"], json!({"f:spec": {"f:host": {}}}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_answers_are_refused() {
    let hook = Hook::start().await;
    let rig = serve(&hook, &["v1"]).await;
    assert_eq!(rig.post(&path("v1"), &host("v1", "one")).await.code, 201);
    let one = format!("{}/one", path("v2"));
    let faults: [(Spoil, &str); 5] = [
        (|answer| answer["response"]["uid"] = "x".into(), "failed: expected response.uid="),
        (
            |answer| answer["response"]["convertedObjects"] = json!([]),
            "returned 0 objects, expected 1",
        ),
        (
            |answer| answer["response"]["convertedObjects"][0]["metadata"]["name"] = "x".into(),
            "returned invalid object: must have the same name: one != x",
        ),
        (
            |answer| {
                answer["response"]["convertedObjects"][0]["apiVersion"] = "example.com/v3".into()
            },
            "returned invalid object at index 0: invalid groupVersion (expected example.com/v2, received example.com/v3)",
        ),
        (
            |answer| {
                answer["response"]["convertedObjects"][0]["metadata"]["labels"] = json!({"a": 1})
            },
            "returned invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object",
        ),
    ];
    for (fault, want) in faults {
        *hook.fault.lock() = Some(fault);
        let answer = rig.get(&one, JSON).await;
        let told = answer.json();
        assert_eq!((answer.code, told.get("reason")), (500, None), "{told}");
        let want = format!("conversion webhook for example.com/v1, Kind=Host {want}");
        let message = told["message"].as_str().unwrap();
        assert!(message.starts_with(&want), "{message}");
        assert_eq!(rig.get(&path("v2"), JSON).await.code, 500);
        assert_eq!(rig.get(&path("v1"), JSON).await.code, 200);
    }
    // What else a webhook does to metadata is passed over.
    *hook.fault.lock() = Some(|answer| {
        let metadata = &mut answer["response"]["convertedObjects"][0]["metadata"];
        metadata["labels"] = json!({"c": "d"});
        metadata["finalizers"] = json!(["example.com/f"]);
    });
    let got = rig.get(&one, JSON).await.json();
    assert_eq!(got["metadata"]["labels"], json!({"c": "d"}));
    assert_eq!(got["metadata"].get("finalizers"), None);
    let metrics = rig.get("/metrics", "text/plain").await.text();
    for line in [
        "apiserver_conversion_webhook_request_total{failure_type=\"conversion_webhook_partial_response_failure\",result=\"failure\"} 2",
        "apiserver_crd_conversion_webhook_duration_seconds_count{crd_name=\"hosts.example.com\",from_version=\"v1\",succeeded=\"true\",to_version=\"v2\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

/// Objects are selected by what they hold in the version that is asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_are_those_of_the_version() {
    let hook = Hook::start().await;
    let rig = serve(&hook, &["v1"]).await;
    let query = "fieldSelector=spec.address%3Done:80";
    let watch = Request::get(format!("{}?watch=true&timeoutSeconds=60&{query}", path("v2")));
    for (version, name) in [("v1", "one"), ("v2", "two")] {
        assert_eq!(rig.post(&path(version), &host(version, name)).await.code, 201);
    }
    let names = async |query: String| {
        let list = rig.get(&query, JSON).await.json();
        let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}")).clone();
        let names = items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(format!("{}?{query}", path("v2"))).await, ["one"]);
    assert_eq!(names(format!("{}?{query}&limit=1", path("v2"))).await, ["one"]);
    let other = "fieldSelector=spec.host%3Dtwo,spec.port!%3D81";
    assert_eq!(names(format!("{}?{other}", path("v1"))).await, ["two"]);
    let mut body = rig.open(watch.body(full("")).unwrap()).await;
    let mut seen = String::new();
    let mut events = Vec::new();
    for (name, address) in [("two", "one:80"), ("one", "x:1"), ("two", "y:2"), ("one", "one:80")] {
        let object = format!("{}/{name}", path("v2"));
        let mut changed = rig.get(&object, JSON).await.json();
        changed["spec"]["address"] = address.into();
        assert_eq!(put(&rig, &object, &changed).await.code, 200);
    }
    let reading = async {
        while seen.lines().count() < 5 {
            let frame = body.frame().await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it is told");
    for line in seen.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        events.push((
            text(&event["type"]),
            text(&event["object"]["metadata"]["name"]),
            text(&event["object"]["spec"]["address"]),
        ));
    }
    let want = [
        ("ADDED", "one"),
        ("ADDED", "two"),
        ("DELETED", "one"),
        ("DELETED", "two"),
        ("ADDED", "one"),
    ];
    let want = want.map(|(kind, name)| (kind.to_owned(), name.to_owned(), "one:80".to_owned()));
    assert_eq!(events, want);
}

/// A webhook that asks for another version than the request's is shown the object in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_shown_to_an_admission_webhook_is_refused() {
    let hook = Hook::start().await;
    let rig = serve(&hook, &["v1"]).await;
    let webhook = json!({
        "name": "look.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://nothing.invalid/"},
        "rules": [{
            "operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"],
            "resources": ["hosts"],
        }],
    });
    let path_of_webhooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let webhooks = json!({"metadata": {"name": "a"}, "webhooks": [webhook]});
    assert_eq!(rig.post(path_of_webhooks, &webhooks).await.code, 201);
    rig.until(&format!("{path_of_webhooks}/a"), 200).await;
    *hook.fault.lock() = Some(|answer| answer["response"]["result"]["status"] = "Failure".into());
    let answer = rig.post(&path("v2"), &host("v2", "one")).await;
    assert_eq!(answer.code, 500);
    assert_eq!(
        answer.json()["message"],
        "Internal error occurred: Internal error occurred: conversion webhook for example.com/v2, Kind=Host failed: response.result.status was 'Failure', not 'Success'"
    );
}
