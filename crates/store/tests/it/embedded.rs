//! What only the durable store can show: reopening and failing disks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use longshore_store::embedded::{Change, Engine, Garbage, Loaded};
use longshore_store::{
    EmbeddedStore, Error, Op, OpenError, Options, Revision, Store, Txn, TxnOutcome, WatchItem,
};

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, Options { history: None, ..Options::default() }).expect("it opens")
}

async fn put(store: &dyn Store, key: &str, expect: Revision, value: Vec<u8>) -> Revision {
    let op = Op::Put { value: value.into(), ttl: None, ends: false };
    let txn = Txn { key: Bytes::copy_from_slice(key.as_bytes()), expect, op };
    match store.txn(txn).await.expect("the store works") {
        TxnOutcome::Committed(revision) => revision,
        TxnOutcome::Conflict(present) => panic!("unexpected conflict with {present:?}"),
    }
}

#[tokio::test]
async fn reopening_keeps_data_history_and_the_floor() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("db");
    let store = open(&path);
    let first = put(&store, "a", Revision(0), b"1".to_vec()).await;
    let second = put(&store, "a", first, b"2".to_vec()).await;
    store.compact(second).await.expect("the store works");
    let third = put(&store, "b", Revision(0), b"x".to_vec()).await;
    drop(store);
    let store = open(&path);
    let kv = store.get(b"a").await.expect("the store works").expect("it was acknowledged");
    assert_eq!((kv.value.as_ref(), kv.mod_revision), (&b"2"[..], second));
    assert_eq!(store.current_revision().await.expect("the store works"), third);
    let error = store.watch(b"", first).await.err().expect("below the stored floor");
    assert_eq!(error, Error::Compacted { requested: first, floor: second });
    let mut stream = store.watch(b"", second).await.expect("the history above the floor is there");
    let WatchItem::Events(events) = stream.next().await.expect("an event") else {
        panic!("no event");
    };
    assert_eq!(events[0].revision, third);
    // The newest revision survives even when the newest change is a deletion that was removed.
    let op = Op::Delete;
    let txn = Txn { key: Bytes::from_static(b"b"), expect: third, op };
    let TxnOutcome::Committed(fourth) = store.txn(txn).await.expect("the store works") else {
        panic!("conflict");
    };
    store.compact(fourth).await.expect("the store works");
    put(&store, "c", Revision(0), b"y".to_vec()).await;
    drop(store);
    let store = open(&path);
    assert_eq!(put(&store, "d", Revision(0), b"z".to_vec()).await, Revision(fourth.0 + 2));
}

/// An engine whose disk fails at the n-th commit.
struct FailingDisk {
    good_commits: usize,
}

impl Engine for FailingDisk {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        Ok(Loaded::default())
    }

    fn commit(&mut self, _batch: &[Change]) -> Result<(), Error> {
        match self.good_commits.checked_sub(1) {
            Some(left) => self.good_commits = left,
            None => return Err(Error::Backend("input/output error".into())),
        }
        Ok(())
    }

    fn set_floor(&mut self, _floor: Revision) -> Result<(), Error> {
        Ok(())
    }

    fn discard(&mut self, _garbage: &[Garbage]) {}

    fn tidy(&mut self, _idle: bool) -> Result<bool, Error> {
        Ok(false)
    }

    fn release(&mut self) {}

    fn recover(&mut self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_failed_commit_is_not_acknowledged_and_stops_the_store() {
    let fatal = Arc::new(AtomicUsize::new(0));
    let seen = fatal.clone();
    let options = Options {
        history: None,
        on_fatal: Box::new(move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
        }),
    };
    let engine = Box::new(FailingDisk { good_commits: 1 });
    let store = EmbeddedStore::with_engine(engine, options).expect("it opens");
    let first = put(&store, "a", Revision(0), b"1".to_vec()).await;
    let mut stream = store.watch(b"", first).await.expect("the store works");
    let op = Op::Put { value: Bytes::from_static(b"2"), ttl: None, ends: false };
    let txn = Txn { key: Bytes::from_static(b"a"), expect: first, op };
    let error = store.txn(txn.clone()).await.expect_err("the disk is broken");
    assert!(matches!(error, Error::Backend(_)), "{error:?}");
    let kv = store.get(b"a").await.expect("reads go on").expect("written");
    assert_eq!(kv.value.as_ref(), b"1", "what was not committed is not visible");
    let error = store.txn(txn).await.expect_err("the store has stopped");
    assert_eq!(error, Error::Closed);
    assert_eq!(fatal.load(Ordering::SeqCst), 1);
    drop(store);
    let end = stream.next().await.expect_err("no event of a failed commit");
    assert_eq!(end, Error::SlowWatcher);
}
