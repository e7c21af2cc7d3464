//! The contract suite: what every [`Store`] must do. Each case gets an empty store and panics when
//! a rule does not hold.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{
    BoxFuture, Error, Event, KeyValue, Op, RangeRequest, Revision, Store, Txn, TxnOutcome,
    WatchItem, WatchStream, prefix_end,
};

/// One case: what it proves, and the proof.
pub type Case = (&'static str, fn(Arc<dyn Store>) -> BoxFuture<'static, ()>);

/// All cases.
pub const CASES: &[Case] = &[
    ("a compaction refuses older reads and watches", |s| Box::pin(compaction(s))),
    ("a key with a time to live goes, unless it is written again", |s| Box::pin(time_to_live(s))),
    ("a lost race shows the present state", |s| Box::pin(conflicts(s))),
    ("a range is ordered, limited and counted", |s| Box::pin(ranges(s))),
    ("a read at a revision sees that revision", |s| Box::pin(history(s))),
    ("a watch delivers history, then changes, in order", |s| Box::pin(watch_order(s))),
    ("concurrent writers lose no update", |s| Box::pin(concurrent_writers(s))),
    ("creating, changing and deleting move the revisions", |s| Box::pin(life_of_a_key(s))),
];

fn put_txn(key: &str, expect: Revision, value: &str, ttl: Option<Duration>) -> Txn {
    let op = Op::Put { value: Bytes::copy_from_slice(value.as_bytes()), ttl, ends: false };
    Txn { key: Bytes::copy_from_slice(key.as_bytes()), expect, op }
}

async fn put(store: &Arc<dyn Store>, key: &str, expect: Revision, value: &str) -> Revision {
    match store.txn(put_txn(key, expect, value, None)).await.expect("the store works") {
        TxnOutcome::Committed(revision) => revision,
        TxnOutcome::Conflict(present) => panic!("{key}: unexpected conflict with {present:?}"),
    }
}

async fn delete(store: &Arc<dyn Store>, key: &str, expect: Revision) -> Revision {
    let txn = Txn { key: Bytes::copy_from_slice(key.as_bytes()), expect, op: Op::Delete };
    match store.txn(txn).await.expect("the store works") {
        TxnOutcome::Committed(revision) => revision,
        TxnOutcome::Conflict(present) => panic!("{key}: unexpected conflict with {present:?}"),
    }
}

async fn get(store: &Arc<dyn Store>, key: &str) -> Option<KeyValue> {
    store.get(key.as_bytes()).await.expect("the store works")
}

fn all(prefix: &str) -> RangeRequest {
    RangeRequest {
        start: Bytes::copy_from_slice(prefix.as_bytes()),
        end: prefix_end(prefix.as_bytes()),
        ..RangeRequest::default()
    }
}

/// The next `count` events of a watch.
async fn take(stream: &mut Box<dyn WatchStream>, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        match stream.next().await.expect("the watch goes on") {
            WatchItem::Events(more) => events.extend(more),
            WatchItem::Progress(_) => {}
        }
    }
    assert_eq!(events.len(), count, "more events than expected: {events:?}");
    events
}

async fn life_of_a_key(store: Arc<dyn Store>) {
    assert_eq!(get(&store, "a").await, None);
    let first = put(&store, "a", Revision(0), "1").await;
    assert!(first > Revision(0));
    let kv = get(&store, "a").await.expect("just written");
    assert_eq!((kv.value.as_ref(), kv.mod_revision), (&b"1"[..], first));
    let second = put(&store, "a", first, "2").await;
    assert!(second > first);
    let kv = get(&store, "a").await.expect("just written");
    assert_eq!((kv.value.as_ref(), kv.mod_revision), (&b"2"[..], second));
    let third = delete(&store, "a", second).await;
    assert!(third > second);
    assert_eq!(get(&store, "a").await, None);
    assert_eq!(store.current_revision().await.expect("the store works"), third);
    let nothing = delete(&store, "a", Revision(0)).await;
    assert_eq!(nothing, third, "deleting what is absent makes no revision");
    let again = put(&store, "a", Revision(0), "3").await;
    let kv = get(&store, "a").await.expect("just written");
    assert_eq!((kv.value.as_ref(), kv.mod_revision), (&b"3"[..], again));
}

async fn conflicts(store: Arc<dyn Store>) {
    let first = put(&store, "a", Revision(0), "1").await;
    let before = store.current_revision().await.expect("the store works");
    for expect in [Revision(0), Revision(first.0 + 7)] {
        let outcome = store.txn(put_txn("a", expect, "2", None)).await.expect("the store works");
        let TxnOutcome::Conflict(Some(present)) = outcome else {
            panic!("no conflict for {expect:?}: {outcome:?}");
        };
        assert_eq!((present.value.as_ref(), present.mod_revision), (&b"1"[..], first));
    }
    let missing = store.txn(put_txn("b", first, "2", None)).await.expect("the store works");
    assert_eq!(missing, TxnOutcome::Conflict(None));
    assert_eq!(store.current_revision().await.expect("the store works"), before);
}

async fn ranges(store: Arc<dyn Store>) {
    for key in ["p/c", "p/a", "q", "p/b", "p", "p0"] {
        put(&store, key, Revision(0), key).await;
    }
    let full = store.range(all("p/")).await.expect("the store works");
    let keys: Vec<&[u8]> = full.kvs.iter().map(|kv| kv.key.as_ref()).collect();
    assert_eq!(keys, [&b"p/a"[..], b"p/b", b"p/c"]);
    assert_eq!((full.count, full.more, full.revision), (3, false, Revision(6)));
    let limited = RangeRequest { limit: 2, ..all("p/") };
    let limited = store.range(limited).await.expect("the store works");
    assert_eq!((limited.kvs.len(), limited.count, limited.more), (2, 3, true));
    let rest = RangeRequest { start: Bytes::from_static(b"p0"), ..RangeRequest::default() };
    assert_eq!(store.range(rest).await.expect("the store works").count, 2, "no end means all");
    let none = RangeRequest {
        start: Bytes::from_static(b"b"),
        end: Bytes::from_static(b"a"),
        ..RangeRequest::default()
    };
    assert_eq!(store.range(none).await.expect("the store works").count, 0);
}

async fn history(store: Arc<dyn Store>) {
    let first = put(&store, "a", Revision(0), "1").await;
    let other = put(&store, "b", Revision(0), "x").await;
    let second = put(&store, "a", first, "2").await;
    delete(&store, "a", second).await;
    for (at, want) in [(first, vec!["1"]), (other, vec!["1", "x"]), (second, vec!["2", "x"])] {
        let seen = store.range(RangeRequest { at: Some(at), ..all("") }).await;
        let seen = seen.expect("the store works");
        let values: Vec<&[u8]> = seen.kvs.iter().map(|kv| kv.value.as_ref()).collect();
        assert_eq!(values, want.iter().map(|s| s.as_bytes()).collect::<Vec<_>>(), "{at:?}");
    }
    let future = Revision(99);
    let error = store.range(RangeRequest { at: Some(future), ..all("") }).await;
    let error = error.expect_err("the revision does not exist yet");
    assert_eq!(error, Error::FutureRevision { requested: future, current: Revision(4) });
}

async fn watch_order(store: Arc<dyn Store>) {
    let a1 = put(&store, "w/a", Revision(0), "1").await;
    put(&store, "other", Revision(0), "x").await;
    let a2 = put(&store, "w/a", a1, "2").await;
    let mut from_start = store.watch(b"w/", Revision(0)).await.expect("the store works");
    let mut from_middle = store.watch(b"w/", a1).await.expect("the store works");
    let mut from_now = store.watch(b"w/", a2).await.expect("the store works");
    let gone = delete(&store, "w/a", a2).await;
    let b1 = put(&store, "w/b", Revision(0), "3").await;
    let events = take(&mut from_start, 4).await;
    let revisions: Vec<Revision> = events.iter().map(|e| e.revision).collect();
    assert_eq!(revisions, [a1, a2, gone, b1]);
    assert_eq!(events[0].previous, None);
    assert_eq!(events[1].previous, events[0].current);
    assert_eq!(events[2].current, None);
    assert_eq!(events[2].previous, events[1].current);
    assert_eq!(events[3].current.as_ref().map(|kv| kv.value.as_ref()), Some(&b"3"[..]));
    assert_eq!(take(&mut from_middle, 3).await, events[1..]);
    assert_eq!(take(&mut from_now, 2).await, events[2..]);
}

async fn compaction(store: Arc<dyn Store>) {
    let first = put(&store, "a", Revision(0), "1").await;
    let second = put(&store, "a", first, "2").await;
    let third = put(&store, "a", second, "3").await;
    let gone = put(&store, "b", Revision(0), "x").await;
    delete(&store, "b", gone).await;
    store.compact(second).await.expect("the store works");
    store.compact(first).await.expect("lowering the floor is a no-op");
    let error = store.range(RangeRequest { at: Some(first), ..all("") }).await;
    let want = Error::Compacted { requested: first, floor: second };
    assert_eq!(error.expect_err("below the floor"), want);
    let error = store.watch(b"", first).await.err().expect("below the floor");
    assert_eq!(error, want);
    let seen = store.range(RangeRequest { at: Some(second), ..all("") }).await;
    assert_eq!(seen.expect("at the floor").kvs[0].value.as_ref(), b"2");
    let mut stream = store.watch(b"", second).await.expect("at the floor");
    assert_eq!(take(&mut stream, 3).await[0].revision, third);
    let newest = store.current_revision().await.expect("the store works");
    store.compact(newest).await.expect("the store works");
    assert_eq!(get(&store, "a").await.expect("live keys stay").value.as_ref(), b"3");
    let error = store.compact(Revision(newest.0 + 1)).await.expect_err("the future");
    assert!(matches!(error, Error::FutureRevision { .. }));
}

async fn time_to_live(store: Arc<dyn Store>) {
    let ttl = Some(Duration::from_millis(300));
    for key in ["short", "renewed"] {
        store.txn(put_txn(key, Revision(0), "1", ttl)).await.expect("the store works");
    }
    let mut stream = store.watch(b"", Revision(2)).await.expect("the store works");
    let renewed = get(&store, "renewed").await.expect("its time is not over");
    put(&store, "renewed", renewed.mod_revision, "2").await;
    let events = take(&mut stream, 2).await;
    assert_eq!(events[1].key.as_ref(), b"short");
    assert_eq!(events[1].current, None);
    assert_eq!(get(&store, "short").await, None);
    assert_eq!(get(&store, "renewed").await.expect("written again").value.as_ref(), b"2");
}

async fn concurrent_writers(store: Arc<dyn Store>) {
    const WRITERS: u32 = 8;
    const STEPS: u32 = 50;
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..STEPS {
                    increment(&store).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no writer panics");
    }
    let counter = get(&store, "counter").await.expect("written");
    assert_eq!(counter.value.as_ref(), (WRITERS * STEPS).to_string().as_bytes());
    let mut stream = store.watch(b"", Revision(0)).await.expect("the store works");
    let events = take(&mut stream, (WRITERS * STEPS) as usize).await;
    for (i, event) in events.iter().enumerate() {
        let value = event.current.as_ref().expect("never deleted").value.clone();
        assert_eq!(value.as_ref(), (i + 1).to_string().as_bytes(), "each update exactly once");
    }
}

/// Adds one to a counter with compare-and-swap.
async fn increment(store: &Arc<dyn Store>) {
    let mut present = get(store, "counter").await;
    loop {
        let (expect, count) = match &present {
            None => (Revision(0), 0),
            Some(kv) => {
                let text = std::str::from_utf8(&kv.value).expect("digits");
                (kv.mod_revision, text.parse::<u32>().expect("digits"))
            }
        };
        let txn = put_txn("counter", expect, &(count + 1).to_string(), None);
        match store.txn(txn).await.expect("the store works") {
            TxnOutcome::Committed(_) => return,
            TxnOutcome::Conflict(fresh) => present = fresh,
        }
    }
}
