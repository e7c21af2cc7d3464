//! Admission webhooks, called over real TLS by a whole server.

use std::sync::Arc;

use base64::Engine as _;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use longshore_apiserver::body::full;
use longshore_apiserver::outbound;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::audit::Kept;
use crate::other::Other;
use crate::wire::{Answer, PATIENCE, Rig, rig};

const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A server of webhooks, and what it was sent.
struct Hooks {
    other: Other,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Hooks {
    /// Answers with what `answer` makes of path and request, as the response of a review.
    async fn start(
        answer: impl Fn(&str, &Value) -> BoxFuture<'static, Value> + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, noted) = (Arc::new(answer), seen.clone());
        let other = Other::start(move |request, _| {
            let (answer, noted) = (answer.clone(), noted.clone());
            async move {
                let path = request.uri().path().to_owned();
                let body = outbound::read(request.into_body()).await.unwrap();
                let mut review: Value = serde_json::from_slice(&body).unwrap();
                let request = review["request"].take();
                noted.lock().push((path.clone(), request.clone()));
                let mut response = answer(&path, &request).await;
                response["uid"] = request["uid"].clone();
                let review = json!({
                    "kind": "AdmissionReview", "apiVersion": review["apiVersion"],
                    "response": response,
                });
                Response::new(full(review.to_string()))
            }
            .boxed()
        })
        .await;
        Self { other, seen }
    }

    fn client_config(&self, path: &str) -> Value {
        let bundle = self.other.authority.cert_pem();
        let bundle = base64::engine::general_purpose::STANDARD.encode(bundle);
        let url = format!("https://{}{path}", self.other.address);
        json!({"url": url, "caBundle": bundle})
    }

    /// A webhook for config maps whose path is its name.
    fn hook(&self, name: &str, more: Value) -> Value {
        let mut hook = json!({
            "name": format!("{name}.example.com"),
            "clientConfig": self.client_config(&format!("/{name}")),
            "rules": [{
                "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["configmaps"],
            }],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            // As long as may be: the machine may be slow.
            "timeoutSeconds": 30,
        });
        for (key, value) in more.as_object().unwrap() {
            hook[key] = value.clone();
        }
        hook
    }

    fn paths(&self) -> Vec<String> {
        self.seen.lock().iter().map(|(path, _)| path.clone()).collect()
    }

    fn requests(&self) -> Vec<Value> {
        self.seen.lock().drain(..).map(|(_, request)| request).collect()
    }
}

fn allowed() -> Value {
    json!({"allowed": true})
}

fn patch(operations: &Value) -> Value {
    let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
    json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
}

async fn configure(rig: &Rig, path: &str, name: &str, hooks: &[Value]) {
    let answer = rig.post(path, &json!({"metadata": {"name": name}, "webhooks": hooks})).await;
    assert_eq!(answer.code, 201, "{}", answer.json());
    // What is read is what admission sees.
    assert_eq!(rig.get(&format!("{path}/{name}"), "application/json").await.code, 200);
}

async fn remove(rig: &Rig, path: &str, name: &str) {
    let path = format!("{path}/{name}");
    assert_eq!(send(rig, "DELETE", &path).await.code, 200);
    assert_eq!(rig.get(&path, "application/json").await.code, 404);
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "b"}})
}

async fn create(rig: &Rig, name: &str) -> Answer {
    rig.post(MAPS, &map(name)).await
}

async fn send(rig: &Rig, method: &str, path: &str) -> Answer {
    rig.send(Request::builder().method(method).uri(path).body(full("")).unwrap()).await
}

/// A webhook that names a Service is called at an endpoint of it, under the Service's name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_called_at_their_endpoints() {
    let hooks = Hooks::start(|_, _| futures_util::future::ready(allowed()).boxed()).await;
    let rig = rig(false).await;
    hooks.other.behind_service(&rig, 8443).await;
    let mut config = hooks.client_config("");
    config.as_object_mut().unwrap().remove("url");
    config["service"] =
        json!({"namespace": "default", "name": "hook", "port": 8443, "path": "/here"});
    let hook = hooks.hook("service", json!({"clientConfig": config}));
    configure(&rig, VALIDATING, "a", &[hook]).await;
    let answer = create(&rig, "one").await;
    assert_eq!(answer.code, 201, "{}", answer.json());
    assert_eq!(hooks.paths(), ["/here"]);
}

/// What a webhook does to a secret is no business of a log that has no objects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_are_written_down_where_objects_are() {
    let hooks = Hooks::start(|_, _| {
        let change = json!([{"op": "add", "path": "/data/more", "value": "aHVudGVyMg=="}]);
        let mut answer = patch(&change);
        answer["auditAnnotations"] = json!({"good": "1", "not a key": "2"});
        futures_util::future::ready(answer).boxed()
    })
    .await;
    for (level, written) in [("Metadata", false), ("Request", true)] {
        let kept = Kept::default();
        let rule = json!({"level": level, "resources": [{"resources": ["secrets"]}]});
        let policy = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [rule]});
        let rig = kept.server(&policy.to_string()).await;
        let rules = json!({"rules": [{
            "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["secrets"],
        }]});
        configure(&rig, MUTATING, "a", &[hooks.hook("add", rules)]).await;
        let secret = json!({"metadata": {"name": "s"}, "data": {"a": "Yg=="}});
        let answer = rig.post("/api/v1/namespaces/default/secrets", &secret).await;
        assert_eq!(answer.json()["data"], json!({"a": "Yg==", "more": "aHVudGVyMg=="}));
        let events = kept.of(answer.headers["audit-id"].to_str().unwrap());
        let notes = events.last().unwrap()["annotations"].as_object().unwrap().clone();
        let note = notes.get("patch.webhook.admission.k8s.io/round_0_index_0");
        assert_eq!(note.is_some(), written, "{notes:?}");
        assert_eq!(json!(events).to_string().contains("aHVudGVyMg=="), written);
        assert_eq!(
            notes["mutation.webhook.admission.k8s.io/round_0_index_0"],
            "{\"configuration\":\"a\",\"webhook\":\"add.example.com\",\"mutated\":true}"
        );
        assert_eq!(notes["add.example.com/good"], "1");
        assert!(!notes.contains_key("add.example.com/not a key"));
    }
}

/// Each webhook adds its name to a list; the first is called again when the second has changed
/// something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutating_webhooks_are_called_in_order_and_again() {
    let hooks = Hooks::start(|path, request| {
        let before = request["object"]["data"]["trail"].as_str().unwrap_or("").to_owned();
        let add = [json!({"op": "add", "path": "/data/trail", "value": before + path})];
        let mut answer = patch(&json!(add));
        answer["warnings"] = json!([format!("seen by {path}")]);
        futures_util::future::ready(answer).boxed()
    })
    .await;
    let rig = rig(false).await;
    let again = hooks.hook("first", json!({"reinvocationPolicy": "IfNeeded"}));
    let second = hooks.hook("second", json!({}));
    configure(&rig, MUTATING, "b", std::slice::from_ref(&second)).await;
    configure(&rig, MUTATING, "a", std::slice::from_ref(&again)).await;
    let answer = create(&rig, "one").await;
    assert_eq!(answer.code, 201, "{}", answer.json());
    assert_eq!(answer.json()["data"], json!({"a": "b", "trail": "/first/second/first"}));
    assert_eq!(hooks.paths(), ["/first", "/second", "/first"]);
    let warnings: Vec<_> = answer.headers.get_all("warning").iter().collect();
    assert_eq!(warnings, ["299 - \"seen by /first\"", "299 - \"seen by /second\""]);
    let request = &hooks.requests()[0];
    for (path, want) in [
        ("/kind", json!({"group": "", "version": "v1", "kind": "ConfigMap"})),
        ("/resource", json!({"group": "", "version": "v1", "resource": "configmaps"})),
        ("/requestKind", json!({"group": "", "version": "v1", "kind": "ConfigMap"})),
        ("/name", json!("one")),
        ("/namespace", json!("default")),
        ("/operation", json!("CREATE")),
        ("/userInfo", json!({"username": "admin", "groups": ["system:masters"]})),
        ("/object/data", json!({"a": "b"})),
        ("/oldObject", Value::Null),
        ("/dryRun", json!(false)),
        ("/options", json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"})),
    ] {
        assert_eq!(request.pointer(path), Some(&want), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validating_webhooks_are_called_at_the_same_time_and_refuse() {
    // Nobody is answered before both have been asked.
    let barrier = Arc::new(tokio::sync::Barrier::new(2));
    let hooks = Hooks::start(move |path, request| {
        let (barrier, path, name) = (barrier.clone(), path.to_owned(), request["name"].clone());
        async move {
            barrier.wait().await;
            match (path.as_str(), name.as_str().unwrap()) {
                ("/second", "refused") => json!({
                    "allowed": false,
                    "status": {"message": "no such maps", "reason": "Forbidden", "code": 403},
                }),
                ("/second", "unexplained") => json!({"allowed": false}),
                _ => allowed(),
            }
        }
        .boxed()
    })
    .await;
    let rig = rig(false).await;
    let both = [hooks.hook("first", json!({})), hooks.hook("second", json!({}))];
    configure(&rig, VALIDATING, "a", &both).await;
    let answer = tokio::time::timeout(PATIENCE, create(&rig, "good")).await.unwrap();
    assert_eq!(answer.code, 201, "{}", answer.json());
    let answer = create(&rig, "refused").await;
    assert_eq!(answer.code, 403);
    let told = answer.json();
    assert_eq!(
        (&told["message"], &told["reason"]),
        (
            &json!("admission webhook \"second.example.com\" denied the request: no such maps"),
            &json!("Forbidden")
        )
    );
    let answer = create(&rig, "unexplained").await;
    assert_eq!(answer.code, 400);
    assert_eq!(
        answer.json()["message"],
        "admission webhook \"second.example.com\" denied the request without explanation"
    );
    assert_eq!(rig.get(&format!("{MAPS}/refused"), "application/json").await.code, 404);
    let metrics = rig.get("/metrics", "text/plain").await.text();
    for line in [
        "apiserver_admission_webhook_request_total{code=\"200\",name=\"first.example.com\",operation=\"CREATE\",rejected=\"false\",type=\"validating\"} 3",
        "apiserver_admission_webhook_rejection_count{error_type=\"no_error\",name=\"second.example.com\",operation=\"CREATE\",rejection_code=\"403\",type=\"validating\"} 1",
        "apiserver_admission_webhook_admission_duration_seconds_count{name=\"second.example.com\",operation=\"CREATE\",rejected=\"true\",type=\"validating\"} 2",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_calls_refuse_or_are_passed_over() {
    let hooks = Hooks::start(|path, _| match path {
        "/never" => futures_util::future::pending().boxed(),
        "/stray" => futures_util::future::ready(patch(&json!([]))).boxed(),
        _ => futures_util::future::ready(allowed()).boxed(),
    })
    .await;
    let rig = rig(false).await;
    let at = hooks.other.address;
    let nobody = json!({"service": {"namespace": "default", "name": "nobody", "path": "/x"}});
    for (name, hook, want) in [
        (
            "late",
            hooks.hook("never", json!({"timeoutSeconds": 1})),
            format!("failed to call webhook: Post \"https://{at}/never?timeout=1s\": context deadline exceeded"),
        ),
        (
            "stray",
            hooks.hook("stray", json!({})),
            "received invalid webhook response: validating webhook may not return response.patch".to_owned(),
        ),
        (
            "nobody",
            hooks.hook("nobody", json!({"clientConfig": nobody})),
            "failed to call webhook: Post \"https://nobody.default.svc:443/x?timeout=30s\": service \"nobody\" not found".to_owned(),
        ),
        (
            "unknown",
            hooks.hook("unknown", json!({"clientConfig": {"url": format!("https://{at}/unknown")}})),
            format!("failed to call webhook: Post \"https://{at}/unknown?timeout=30s\": tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        ),
    ] {
        configure(&rig, VALIDATING, name, std::slice::from_ref(&hook)).await;
        let answer = create(&rig, name).await;
        assert_eq!(answer.code, 500, "{name}: {}", answer.json());
        let told = answer.json()["message"].as_str().unwrap().to_owned();
        let hook_name = hook["name"].as_str().unwrap();
        let want = format!("Internal error occurred: failed calling webhook \"{hook_name}\": {want}");
        assert_eq!(told, want);
        remove(&rig, VALIDATING, name).await;
        let mut hook = hook;
        hook["failurePolicy"] = "Ignore".into();
        configure(&rig, VALIDATING, name, &[hook]).await;
        assert_eq!(create(&rig, name).await.code, 201, "{name}");
        remove(&rig, VALIDATING, name).await;
    }
    let metrics = rig.get("/metrics", "text/plain").await.text();
    let line = "apiserver_admission_webhook_fail_open_count{name=\"stray.example.com\",type=\"validating\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_are_called_for_what_they_ask_for() {
    let hooks = Hooks::start(|_, _| futures_util::future::ready(allowed()).boxed()).await;
    let rig = rig(false).await;
    let name = "kubernetes.io/metadata.name";
    let selectors = json!({
        "namespaceSelector": {"matchLabels": {name: "default"}},
        "objectSelector": {"matchLabels": {"look": "here"}},
        "sideEffects": "NoneOnDryRun",
    });
    configure(&rig, VALIDATING, "a", &[hooks.hook("selected", selectors)]).await;
    let other = json!({"metadata": {"name": "other", "labels": {name: "other"}}});
    assert_eq!(rig.post("/api/v1/namespaces", &other).await.code, 201);
    let labelled = |name: &str| json!({"metadata": {"name": name, "labels": {"look": "here"}}});
    assert_eq!(create(&rig, "plain").await.code, 201);
    let elsewhere = "/api/v1/namespaces/other/configmaps";
    assert_eq!(rig.post(elsewhere, &labelled("elsewhere")).await.code, 201);
    assert!(hooks.requests().is_empty());
    let dry = format!("{MAPS}?dryRun=All&fieldManager=me");
    assert_eq!(rig.post(&dry, &labelled("dry")).await.code, 201);
    let asked = hooks.requests();
    assert_eq!((asked.len(), &asked[0]["dryRun"]), (1, &json!(true)));
    assert_eq!(asked[0]["options"]["fieldManager"], "me");
    assert_eq!(rig.post(MAPS, &labelled("one")).await.code, 201);
    assert_eq!(rig.post(MAPS, &labelled("two")).await.code, 201);
    assert_eq!(hooks.requests().len(), 2);
    // A deletion has only an old object.
    assert_eq!(send(&rig, "DELETE", &format!("{MAPS}/one?gracePeriodSeconds=3")).await.code, 200);
    let asked = hooks.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!((&asked[0]["operation"], &asked[0]["name"]), (&json!("DELETE"), &json!("one")));
    assert_eq!(asked[0]["object"], Value::Null);
    assert_eq!(asked[0]["oldObject"]["metadata"]["name"], "one");
    assert_eq!(asked[0]["options"]["gracePeriodSeconds"], 3);
    // One of a collection is not named.
    assert_eq!(send(&rig, "DELETE", MAPS).await.code, 200);
    let asked = hooks.requests();
    assert_eq!((asked.len(), asked[0].get("name")), (1, None));
    assert_eq!(asked[0]["oldObject"]["metadata"]["name"], "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_that_have_effects_see_no_dry_runs_and_no_webhooks() {
    let hooks =
        Hooks::start(|_, _| futures_util::future::ready(json!({"allowed": false})).boxed()).await;
    let rig = rig(false).await;
    // Such webhooks are only taken in the first version of reviews.
    let all = json!({
        "sideEffects": "Some",
        "rules": [{
            "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"],
        }],
    });
    let mut hook = hooks.hook("all", all);
    let refused =
        rig.post(VALIDATING, &json!({"metadata": {"name": "a"}, "webhooks": [hook.clone()]})).await;
    assert_eq!(refused.code, 422);
    hook["sideEffects"] = "None".into();
    configure(&rig, VALIDATING, "a", std::slice::from_ref(&hook)).await;
    configure(&rig, MUTATING, "a", &[hook]).await;
    assert_eq!(create(&rig, "one").await.code, 400);
    for path in [VALIDATING, MUTATING] {
        remove(&rig, path, "a").await;
    }
    assert_eq!(create(&rig, "one").await.code, 201);
}

/// A scale is what webhooks see of a workload that is scaled, and what they change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scales_are_shown_as_scales() {
    let hooks = Hooks::start(|path, request| {
        let change = json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]);
        let answer = match (path, &request["operation"] == "UPDATE") {
            ("/change", true) => patch(&change),
            _ => allowed(),
        };
        futures_util::future::ready(answer).boxed()
    })
    .await;
    let rig = rig(false).await;
    let rules = json!({"rules": [{
        "operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
        "resources": ["deployments/scale"],
    }]});
    configure(&rig, MUTATING, "a", &[hooks.hook("change", rules.clone())]).await;
    configure(&rig, VALIDATING, "a", &[hooks.hook("look", rules)]).await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let labels = json!({"a": "b"});
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            },
        },
    });
    let answer = rig.post(deployments, &deployment).await;
    assert_eq!(answer.code, 201, "{}", answer.json());
    let scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": 3},
    });
    let request = Request::put(format!("{deployments}/web/scale"))
        .header("content-type", "application/json")
        .body(full(scale.to_string()))
        .unwrap();
    let answer = rig.send(request).await;
    assert_eq!(answer.code, 200, "{}", answer.json());
    assert_eq!(answer.json()["spec"]["replicas"], 5);
    let kind = json!({"group": "autoscaling", "version": "v1", "kind": "Scale"});
    let asked = hooks.requests();
    let shown: Vec<_> = asked
        .iter()
        .map(|r| {
            assert_eq!((&r["kind"], &r["subResource"]), (&kind, &json!("scale")));
            (r["object"]["spec"]["replicas"].clone(), r["oldObject"]["spec"]["replicas"].clone())
        })
        .collect();
    assert_eq!(shown, [(json!(3), json!(1)), (json!(5), json!(1))]);
    let stored = rig.get(&format!("{deployments}/web"), "application/json").await.json();
    assert_eq!(stored["spec"]["replicas"], 5);
}

/// Who asks for one version is told of the others, too, in the version that was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equivalent_resources_are_converted() {
    let hooks = Hooks::start(|_, request| {
        assert_eq!(request["object"]["apiVersion"], "v1");
        let change = json!([{"op": "add", "path": "/message", "value": "changed"}]);
        futures_util::future::ready(patch(&change)).boxed()
    })
    .await;
    let rig = rig(false).await;
    let rules = json!([{
        "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["events"],
    }]);
    let exact = json!({"rules": rules, "matchPolicy": "Exact"});
    let equivalent = json!({"rules": rules, "matchPolicy": "Equivalent"});
    configure(&rig, MUTATING, "a", &[hooks.hook("exact", exact)]).await;
    configure(&rig, MUTATING, "b", &[hooks.hook("equivalent", equivalent)]).await;
    let event = json!({
        "metadata": {"name": "one"}, "eventTime": "2026-06-01T00:00:00.000000Z",
        "reportingController": "example.com/c", "reportingInstance": "i", "action": "a",
        "reason": "r", "type": "Normal", "note": "as it was",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"},
    });
    let answer = rig.post("/apis/events.k8s.io/v1/namespaces/default/events", &event).await;
    assert_eq!(answer.code, 201, "{}", answer.json());
    assert_eq!(answer.json()["note"], "changed");
    assert_eq!(hooks.paths(), ["/equivalent"]);
    let request = &hooks.requests()[0];
    assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "Event"}));
    assert_eq!(request["requestResource"]["group"], "events.k8s.io");
}

/// All plugins run a second time when a webhook has changed a pod, and do nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_round_adds_nothing() {
    let hooks = Hooks::start(|_, request| {
        assert_eq!(request["object"]["spec"]["volumes"].as_array().unwrap().len(), 1);
        let container = json!({"name": "more", "image": "i"});
        let add = json!([{"op": "add", "path": "/spec/containers/-", "value": container}]);
        futures_util::future::ready(patch(&add)).boxed()
    })
    .await;
    let rig = rig(false).await;
    let rules = json!({"rules": [{
        "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
    }]});
    configure(&rig, MUTATING, "a", &[hooks.hook("add", rules)]).await;
    let account = json!({"metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    assert_eq!(rig.post(accounts, &account).await.code, 201);
    let pod = json!({
        "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    let answer = rig.post("/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(answer.code, 201, "{}", answer.json());
    let spec = &answer.json()["spec"];
    assert_eq!(spec["volumes"].as_array().unwrap().len(), 1, "{spec}");
    for container in spec["containers"].as_array().unwrap() {
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert_eq!((mounts.len(), &mounts[0]["name"]), (1, &spec["volumes"][0]["name"]));
        assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
    }
}
