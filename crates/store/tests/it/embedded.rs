//! What only the durable store can show: reopening, locking, damage, failing disks, bounded files.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use longshore_store::embedded::{Change, Engine, Loaded};
use longshore_store::{
    EmbeddedStore, Error, Op, OpenError, Options, RangeRequest, Revision, Store, Txn, TxnOutcome,
    WatchItem,
};

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, Options { history: None, ..Options::default() }).expect("it opens")
}

async fn put(store: &dyn Store, key: &str, expect: Revision, value: Vec<u8>) -> Revision {
    let op = Op::Put { value: value.into(), ttl: None };
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

#[tokio::test]
async fn a_locked_a_damaged_and_a_newer_file_are_told_apart() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("db");
    let store = open(&path);
    put(&store, "a", Revision(0), b"1".to_vec()).await;
    let locked = EmbeddedStore::open(&path, Options::default()).err();
    assert!(matches!(locked, Some(OpenError::Locked(_))), "{locked:?}");
    drop(store);
    let db = rusqlite::Connection::open(&path).expect("a database");
    db.execute("UPDATE meta SET value = 99 WHERE name = 'format'", []).expect("it is writable");
    drop(db);
    let newer = EmbeddedStore::open(&path, Options::default()).err();
    assert!(matches!(newer, Some(OpenError::NewerFormat { found: 99, .. })), "{newer:?}");
    std::fs::write(&path, vec![b'x'; 8192]).expect("writable");
    let damaged = EmbeddedStore::open(&path, Options::default()).err();
    assert!(matches!(damaged, Some(OpenError::Damaged { .. })), "{damaged:?}");
    let nowhere = EmbeddedStore::open(&dir.path().join("no/db"), Options::default()).err();
    assert!(matches!(nowhere, Some(OpenError::Io { .. })), "{nowhere:?}");
}

/// A key that is overwritten again and again must not make the file grow: the complaint about
/// other embedded stores is a file of many gigabytes.
#[tokio::test]
async fn compaction_keeps_the_file_bounded() {
    const ROUNDS: usize = 40;
    const WRITES: usize = 50;
    const VALUE: usize = 10_000;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("db");
    let store = open(&path);
    let mut at = Revision(0);
    for _ in 0..ROUNDS {
        for _ in 0..WRITES {
            at = put(&store, "a", at, vec![7; VALUE]).await;
        }
        store.compact(at).await.expect("the store works");
    }
    drop(store);
    let size = std::fs::metadata(&path).expect("the file is there").len();
    let written = (ROUNDS * WRITES * VALUE) as u64;
    assert!(size < written / 10, "{size} bytes on disk after {written} written");
    let all = open(&path).range(RangeRequest::default()).await.expect("the store works");
    assert_eq!(all.count, 1);
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
            None => return Err(Error::Backend("no space left on device".into())),
        }
        Ok(())
    }

    fn set_floor(&mut self, _floor: Revision) -> Result<(), Error> {
        Ok(())
    }

    fn remove(&mut self, _revisions: &[Revision]) -> Result<(), Error> {
        Ok(())
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
    let op = Op::Put { value: Bytes::from_static(b"2"), ttl: None };
    let txn = Txn { key: Bytes::from_static(b"a"), expect: first, op };
    let error = store.txn(txn.clone()).await.expect_err("the disk is full");
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
