//! The watch cache over a store: freshness, fan-out, selection, history and slow watchers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use longshore_api::Object;
use longshore_api::selector::{FieldSelector, LabelSelector};
use longshore_apiserver::cache::entry::encode_stored;
use longshore_apiserver::cache::{
    ChangeKind, Entry, Hub, Interest, ResourceCache, View, WatchRefused, range,
};
use longshore_base::Shutdown;
use longshore_resources::table::Text;
use longshore_store::{MemoryStore, Op, Revision, Store, Txn, TxnOutcome};
use serde_json::json;

/// A store, its hub and the cache of one resource.
struct Rig {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    cache: Arc<ResourceCache>,
    shutdown: Shutdown,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn rig(store: Arc<dyn Store>) -> Rig {
    let prefix = Bytes::from_static(b"/registry/pods/");
    let view = Arc::new(Nodes(vec!["spec.nodeName".into()]));
    let cache = Arc::new(ResourceCache::new(prefix, view));
    let hub = Hub::load(store.clone(), vec![cache.clone()]).await.expect("the store loads");
    let shutdown = Shutdown::new();
    let (running, stop) = (hub.clone(), shutdown.clone());
    tokio::spawn(async move { running.run(stop).await.expect("the hub follows the store") });
    Rig { store, hub, cache, shutdown }
}

fn pod(namespace: &str, name: &str, app: &str, node: &str) -> Object {
    Object::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": node},
        "metadata": {"name": name, "namespace": namespace, "uid": name, "labels": {"app": app}},
    }))
    .expect("an object")
}

impl Rig {
    async fn put(&self, object: &Object) -> u64 {
        let key = self.cache.key(object.namespace(), object.name());
        let present = self.store.get(&key).await.expect("the store works");
        let expect = present.map_or(Revision(0), |kv| kv.mod_revision);
        let op = Op::Put { value: encode_stored(object), ttl: None, ends: false };
        self.commit(Txn { key, expect, op }).await
    }

    async fn delete(&self, namespace: &str, name: &str) -> u64 {
        let key = self.cache.key(namespace, name);
        let present = self.store.get(&key).await.expect("the store works").expect("it exists");
        self.commit(Txn { key, expect: present.mod_revision, op: Op::Delete }).await
    }

    async fn commit(&self, txn: Txn) -> u64 {
        match self.store.txn(txn).await.expect("the store works") {
            TxnOutcome::Committed(revision) => revision.0,
            TxnOutcome::Conflict(present) => panic!("conflict with {present:?}"),
        }
    }
}

#[tokio::test]
async fn a_fresh_read_sees_every_acknowledged_write() {
    let rig = rig(Arc::new(MemoryStore::new())).await;
    for i in 0..100 {
        let name = format!("pod-{i}");
        let revision = rig.put(&pod("a", &name, "web", "")).await;
        assert!(rig.hub.fresh().await.expect("the hub runs") >= revision);
        let entry = rig.cache.get("a", &name).expect("written before the read");
        assert_eq!(entry.revision, revision);
        assert_eq!(entry.object().resource_version(), revision.to_string());
    }
}

#[tokio::test]
async fn a_restart_loads_what_was_stored() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let first = rig(store.clone()).await;
    first.put(&pod("a", "x", "web", "")).await;
    let second = rig(store).await;
    let (snapshot, revision) = second.cache.snapshot();
    assert_eq!((snapshot.size(), revision), (1, 1));
    let refused = second.cache.watch(Some(0), Interest::default()).err();
    assert_eq!(refused, Some(WatchRefused::TooOld { oldest: 1 }));
}

#[tokio::test]
async fn watchers_see_their_selection_change() {
    let rig = rig(Arc::new(MemoryStore::new())).await;
    let web = LabelSelector::parse("app=web").expect("a good selector");
    let interest = Interest { labels: Some(web), ..Interest::default() };
    let (mut watch, ..) = rig.cache.watch(None, interest).expect("it starts");
    rig.put(&pod("a", "x", "web", "")).await;
    rig.put(&pod("a", "y", "db", "")).await;
    rig.put(&pod("a", "x", "web", "n1")).await;
    let left = rig.put(&pod("a", "x", "db", "n1")).await;
    rig.put(&pod("a", "x", "web", "n1")).await;
    let gone = rig.delete("a", "x").await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let (kind, change) = watch.next().await.expect("the watch goes on");
        seen.push((kind, change.revision));
        let shown = change.shown(kind);
        assert_eq!(shown.name(), "x");
        assert_eq!(shown.label("app"), Some("web"), "what left is shown as it last was");
        assert_eq!(shown.revision, change.revision);
        let frame = change.frame(kind);
        let frame: serde_json::Value = serde_json::from_slice(frame).expect("JSON");
        assert_eq!(frame["type"], kind.name());
        assert_eq!(frame["object"], shown.object().into_value());
    }
    use ChangeKind::{Added, Deleted, Modified};
    let kinds: Vec<ChangeKind> = seen.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Added, Modified, Deleted, Added, Deleted]);
    assert_eq!((seen[2].1, seen[4].1), (left, gone));
}

#[tokio::test]
async fn a_watch_from_the_past_continues_without_gap_or_repeat() {
    let rig = rig(Arc::new(MemoryStore::new())).await;
    let first = rig.put(&pod("a", "x", "web", "n1")).await;
    let second = rig.put(&pod("b", "x", "web", "n1")).await;
    rig.hub.fresh().await.expect("the hub runs");
    let fields = FieldSelector::parse("spec.nodeName=n1").expect("a good selector");
    let interest = Interest { fields: Some(fields), ..Interest::default() };
    let (mut watch, ..) = rig.cache.watch(Some(first), interest).expect("it starts");
    let third = rig.put(&pod("a", "x", "db", "n1")).await;
    rig.put(&pod("a", "z", "db", "n2")).await;
    let fourth = rig.put(&pod("a", "y", "db", "n1")).await;
    for want in [second, third, fourth] {
        assert_eq!(watch.next().await.expect("the watch goes on").1.revision, want);
    }
}

#[tokio::test]
async fn snapshots_do_not_change_and_are_cut_by_namespace() {
    let rig = rig(Arc::new(MemoryStore::new())).await;
    for (namespace, name) in [("a", "x"), ("a", "y"), ("a-b", "x"), ("b", "x")] {
        rig.put(&pod(namespace, name, "web", "")).await;
    }
    rig.hub.fresh().await.expect("the hub runs");
    let (snapshot, _) = rig.cache.snapshot();
    rig.delete("a", "x").await;
    rig.hub.fresh().await.expect("the hub runs");
    let names = |namespace: &str, after: Option<&[u8]>| -> Vec<String> {
        let entries = range(&snapshot, namespace, after);
        entries.map(|(_, e)| format!("{}/{}", e.namespace(), e.name())).collect()
    };
    assert_eq!(names("a", None), ["a/x", "a/y"]);
    assert_eq!(names("a", Some(b"a/x\0")), ["a/y"]);
    assert_eq!(names("", None), ["a-b/x", "a/x", "a/y", "b/x"]);
    assert_eq!(rig.cache.snapshot().0.size(), 3);
}

#[tokio::test]
async fn a_slow_watcher_is_cut_off_and_others_go_on() {
    let rig = rig(Arc::new(MemoryStore::new())).await;
    let (mut slow, ..) = rig.cache.watch(None, Interest::default()).expect("it starts");
    let elsewhere = Interest { namespace: "b".into(), ..Interest::default() };
    let (mut other, ..) = rig.cache.watch(None, elsewhere).expect("it starts");
    let mut object = pod("a", "x", "web", "");
    for i in 0..4200 {
        object.set(&["spec", "count"], i);
        rig.put(&object).await;
    }
    rig.put(&pod("b", "x", "web", "")).await;
    rig.hub.fresh().await.expect("the hub runs");
    let mut delivered = 0;
    while slow.next().await.is_some() {
        delivered += 1;
    }
    assert!((1..4200).contains(&delivered), "{delivered} changes before the end");
    assert_eq!(other.next().await.expect("it was not slow").1.entry.namespace(), "b");
    // What was cut off cannot continue from the start: the history has moved on.
    let refused = rig.cache.watch(Some(1), Interest::default()).err();
    assert!(matches!(refused, Some(WatchRefused::TooOld { .. })), "{refused:?}");
}

/// What a watch is about, in words: namespace, name, labels, fields.
fn interest(namespace: &str, name: &str, labels: &str, fields: &str) -> Interest {
    let labels = LabelSelector::parse(labels).expect("a good selector");
    let fields = FieldSelector::parse(fields).expect("a good selector");
    Interest {
        namespace: namespace.into(),
        name: name.into(),
        labels: (!labels.is_empty()).then_some(labels),
        fields: (!fields.requirements().is_empty()).then_some(fields),
    }
}

#[tokio::test]
async fn every_watcher_is_told_what_concerns_it_however_it_selects() {
    use ChangeKind::{Added, Deleted, Modified};
    let rig = rig(Arc::new(MemoryStore::new())).await;
    let interests = [
        interest("", "", "", ""),
        interest("a", "", "", ""),
        interest("a", "x", "", ""),
        interest("", "x", "", ""),
        interest("b", "", "", "metadata.name=y"),
        interest("", "", "", "metadata.name=y,spec.nodeName=n1"),
        interest("", "", "", "spec.nodeName=n1"),
        interest("b", "", "app=web", "spec.nodeName=n2"),
        interest("", "", "", "spec.nodeName!=n1"),
        interest("", "", "", "spec.nodeName="),
        interest("", "", "app in (web)", ""),
    ];
    let open = |interest: &Interest| rig.cache.watch(None, interest.clone()).expect("it starts").0;
    let mut watches: Vec<_> = interests.iter().map(open).collect();
    // Watches that nobody reads any more must not stand in the way.
    for interest in interests.iter().cycle().take(3000) {
        drop(open(interest));
    }
    let mut want = vec![Vec::new(); interests.len()];
    let mut number = 7u64;
    for _ in 0..300 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let pick = |shift: u32, of: &[&'static str]| of[(number >> shift) as usize % of.len()];
        let (namespace, name) = (pick(33, &["a", "b"]), pick(36, &["x", "y", "z"]));
        rig.hub.fresh().await.expect("the hub runs");
        let before = rig.cache.get(namespace, name);
        let revision = match (&before, pick(40, &["put", "put", "delete"])) {
            (Some(_), "delete") => rig.delete(namespace, name).await,
            _ => {
                let (app, node) = (pick(44, &["web", "db"]), pick(48, &["", "n1", "n2"]));
                rig.put(&pod(namespace, name, app, node)).await
            }
        };
        rig.hub.fresh().await.expect("the hub runs");
        let after = rig.cache.get(namespace, name);
        let (all, newest) = rig.cache.snapshot();
        for interest in &interests {
            let (found, at) = rig.cache.candidates(interest);
            let found: Vec<u64> = found.select(interest).iter().map(|e| e.revision).collect();
            let selected = all.iter().filter(|(_, entry)| interest.matches(entry));
            let want: Vec<u64> = selected.map(|(_, entry)| entry.revision).collect();
            assert_eq!((found, at), (want, newest), "{interest:?}");
        }
        for (want, interest) in want.iter_mut().zip(&interests) {
            let selected =
                |entry: &Option<Arc<Entry>>| entry.as_ref().is_some_and(|e| interest.matches(e));
            match (selected(&before), selected(&after)) {
                (false, true) => want.push((Added, revision)),
                (true, true) => want.push((Modified, revision)),
                (true, false) => want.push((Deleted, revision)),
                (false, false) => {}
            }
        }
    }
    for ((watch, want), interest) in watches.iter_mut().zip(want).zip(&interests) {
        let mut seen = Vec::new();
        while let Some((kind, change)) = watch.try_next() {
            seen.push((kind, change.revision));
        }
        assert!(!want.is_empty());
        assert_eq!(seen, want, "{interest:?}");
    }
}

/// A definition may change while an object is on its way through the store, told with what the old
/// view shows of it.
#[tokio::test]
async fn what_was_written_under_an_older_view_is_seen_by_the_newer() {
    let rig = rig(Arc::new(MemoryStore::new())).await;
    let object = pod("a", "x", "web", "n1");
    let (value, parts) = rig.cache.encode(&object);
    let announcement = rig.hub.announce(&value, parts);
    let newer: Arc<dyn View> = Arc::new(Nodes(vec!["spec.host".into()]));
    rig.cache.set_view(&newer).expect("nothing is damaged");
    let op = Op::Put { value, ttl: None, ends: false };
    let key = rig.cache.key("a", "x");
    rig.commit(Txn { key, expect: Revision(0), op }).await;
    announcement.committed();
    rig.hub.fresh().await.expect("the hub runs");
    let entry = rig.cache.get("a", "x").expect("it was written");
    assert_eq!((entry.field("spec.host"), entry.field("spec.nodeName")), (Some("n1"), None));
}

/// The hub may learn of a change after a new cache has read it.
#[tokio::test]
async fn a_new_cache_is_not_told_again_what_it_has_read() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let hub = Hub::load(store.clone(), Vec::new()).await.expect("the store loads");
    let view = Arc::new(Nodes(Vec::new()));
    let cache = Arc::new(ResourceCache::new(Bytes::from_static(b"/registry/pods/"), view));
    let shutdown = Shutdown::new();
    let rig = Rig { store, hub, cache, shutdown };
    for app in ["one", "two", "three"] {
        rig.put(&pod("a", "x", app, "")).await;
    }
    rig.hub.add(&rig.cache).await.expect("the store can be read");
    let (mut watch, ..) = rig.cache.watch(None, interest("", "", "", "")).expect("it starts");
    let (running, stop) = (rig.hub.clone(), rig.shutdown.clone());
    tokio::spawn(async move { running.run(stop).await.expect("the hub follows the store") });
    let revision = rig.put(&pod("a", "x", "four", "")).await;
    let (kind, change) = watch.next().await.expect("the change");
    assert_eq!((kind, change.revision), (ChangeKind::Modified, revision));
}

#[tokio::test]
async fn a_resource_that_is_not_served_any_more_holds_nothing() {
    let rig = rig(Arc::new(MemoryStore::new())).await;
    rig.put(&pod("a", "x", "web", "")).await;
    rig.put(&pod("a", "x", "db", "")).await;
    rig.hub.fresh().await.expect("the hub runs");
    let entry = Arc::downgrade(&rig.cache.get("a", "x").expect("it was written"));
    rig.hub.remove(&rig.cache);
    assert!(entry.upgrade().is_none());
    let (mut watch, ..) = rig.cache.watch(None, interest("", "", "", "")).expect("it starts");
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_sealed_resource_waits_for_creates_and_takes_no_more() {
    let rig = rig(Arc::new(MemoryStore::new())).await;
    let creating = rig.cache.begin_create().await.expect("it is not sealed");
    let mut sealing = std::pin::pin!(rig.cache.seal());
    let waited = tokio::time::timeout(Duration::ZERO, &mut sealing).await;
    assert!(waited.is_err(), "a create is under way");
    drop(creating);
    sealing.await;
    assert!(rig.cache.begin_create().await.is_none());
}

/// Objects are selected by their node.
struct Nodes(Vec<Text>);

impl View for Nodes {
    fn field_names(&self) -> &[Text] {
        &self.0
    }

    fn field_values(&self, object: &Object) -> Vec<String> {
        vec![object.str(&["spec", "nodeName"]).to_owned()]
    }

    fn indexed_field(&self) -> Option<&'static str> {
        Some("spec.nodeName")
    }
}
