//! Caches follow the server through pages, events, bookmarks, expiry and failures.

use std::sync::Arc;
use std::time::Duration;

use longshore_base::Shutdown;
use longshore_client::informer::{Change, Options};
use longshore_client::resource::PODS;
use longshore_client::{Client, Informer};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::server::{Answer, Server};

fn pod(name: &str, version: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
        "name": name, "namespace": "x", "resourceVersion": version.to_string(),
        "managedFields": [{"manager": "m"}],
    }})
}

fn list(pods: &[Value], version: u64, next: &str) -> Answer {
    Answer::Json(
        200,
        json!({"kind": "PodList", "items": pods, "metadata": {
            "resourceVersion": version.to_string(), "continue": next,
        }}),
    )
}

fn event(kind: &str, object: &Value) -> Value {
    json!({ "type": kind, "object": object })
}

/// A cache that runs, and the changes that its handler was shown.
struct Following {
    cache: Informer,
    changes: Arc<Mutex<Vec<String>>>,
    shutdown: Shutdown,
}

impl Following {
    fn start(server: &Server) -> Self {
        let client = Client::new(Arc::new(server.clone()));
        let cache = Informer::new(client, PODS, Options::default());
        let changes: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, shutdown) = (changes.clone(), Shutdown::new());
        cache.on_change(move |change| {
            let what = match change {
                Change::Applied { old: None, .. } => "new",
                Change::Applied { old: Some(_), .. } => "changed",
                Change::Deleted(_) => "gone",
            };
            let object = change.object();
            let text = format!("{what} {}@{}", object.name(), object.resource_version());
            seen.lock().push(text);
        });
        tokio::spawn(cache.clone().run(shutdown.clone()));
        Self { cache, changes, shutdown }
    }

    async fn reached(&self, version: u64) {
        let object = longshore_api::Object::from_value(pod("any", version)).expect("an object");
        self.cache.wait_for(&object).await;
    }

    fn changes(&self) -> Vec<String> {
        std::mem::take(&mut self.changes.lock())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn pages_and_events_fill_the_cache() {
    let server = Server::default();
    server.will(list(&[pod("a", 1)], 5, "more"));
    server.will(list(&[pod("b", 2)], 5, ""));
    let events = server.will_watch();
    let following = Following::start(&server);
    following.cache.synced().await;
    assert_eq!(following.changes(), ["new a@1", "new b@2"]);
    assert_eq!(following.cache.list_namespace("x").len(), 2);
    assert!(following.cache.list_namespace("y").is_empty());

    let mut owned = pod("c", 6);
    owned["metadata"]["ownerReferences"] = json!([{"uid": "u", "controller": true}]);
    events.send(event("ADDED", &owned)).unwrap();
    events.send(event("MODIFIED", &pod("a", 7))).unwrap();
    events.send(event("DELETED", &pod("b", 8))).unwrap();
    following.reached(8).await;
    assert_eq!(following.changes(), ["new c@6", "changed a@7", "gone b@8"]);
    assert_eq!(following.cache.owned_by("u").len(), 1);
    let a = following.cache.get("x", "a").expect("it is there");
    assert_eq!(a.get(&["metadata", "managedFields"]), None, "nobody reads them");
    assert!(following.cache.get("x", "b").is_none());

    events.send(event("DELETED", &pod("c", 9))).unwrap();
    following.reached(9).await;
    assert!(following.cache.owned_by("u").is_empty());
    let asked = server.asked();
    assert!(asked[1].0.contains("continue=more"), "{}", asked[1].0);
    assert!(asked[2].0.contains("resourceVersion=5"), "{}", asked[2].0);
    assert!(asked[2].0.contains("allowWatchBookmarks=true"), "{}", asked[2].0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_goes_on_from_the_last_bookmark() {
    let server = Server::default();
    server.will(list(&[pod("a", 1)], 5, ""));
    let first = server.will_watch();
    let second = server.will_watch();
    let following = Following::start(&server);
    first.send(event("BOOKMARK", &pod("", 40))).unwrap();
    following.reached(40).await;
    drop(first);
    second.send(event("MODIFIED", &pod("a", 41))).unwrap();
    following.reached(41).await;
    assert_eq!(following.changes(), ["new a@1", "changed a@41"]);
    let asked = server.asked();
    assert_eq!(asked.len(), 3, "no second list");
    assert!(asked[2].0.contains("resourceVersion=40"), "{}", asked[2].0);
}

#[tokio::test(start_paused = true)]
async fn what_went_away_during_an_expiry_is_told() {
    let server = Server::default();
    server.will(list(&[pod("a", 1), pod("b", 2)], 5, ""));
    let events = server.will_watch();
    server.will(list(&[pod("b", 2), pod("c", 50)], 60, ""));
    let later = server.will_watch();
    let following = Following::start(&server);
    following.cache.synced().await;
    assert_eq!(following.changes(), ["new a@1", "new b@2"]);
    let expired = json!({"kind": "Status", "code": 410, "reason": "Expired"});
    events.send(event("ERROR", &expired)).unwrap();
    following.reached(60).await;
    assert_eq!(following.changes(), ["gone a@1", "new c@50"], "b did not change");
    later.send(event("MODIFIED", &pod("b", 61))).unwrap();
    following.reached(61).await;
    assert_eq!(following.changes(), ["changed b@61"]);
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_until_the_server_is_there() {
    let server = Server::default();
    for _ in 0..3 {
        server.will(Answer::Broken);
    }
    server.will(Answer::Json(503, json!({"kind": "Status", "reason": "ServiceUnavailable"})));
    server.will(list(&[], 5, ""));
    let following = Following::start(&server);
    following.cache.synced().await;
    let asked = server.asked();
    let pauses: Vec<Duration> = asked.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    for (pause, least) in pauses.iter().zip([50, 100, 200, 400]) {
        let least = Duration::from_millis(least);
        assert!(*pause >= least && *pause < least * 2, "{pauses:?}");
    }
    assert!(following.changes().is_empty());
}
