//! A disk that is full, at every byte of a batch and at every step of tidying: nothing that was
//! acknowledged is lost, nothing that was refused is there, and it goes on when there is room.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use longshore_store::embedded::{Change, Disk, Engine, Garbage, Loaded, LogEngine};
use longshore_store::{
    EmbeddedStore, Error, KeyValue, MemoryStore, Op, Options, RangeRequest, Revision, Store, Txn,
    TxnOutcome,
};

const FILE_BYTES: u64 = 4000;

/// How a disk behaves at present.
#[derive(Default)]
struct State {
    /// What all files together may take; 0 for no limit.
    capacity: AtomicU64,
    /// This and all later calls that may take space fail with ENOSPC, counted from 1; 0 for none.
    refuse_from: AtomicUsize,
    calls: AtomicUsize,
    /// Nothing can be cut off, nothing can be synced.
    no_cut: AtomicBool,
    no_sync: AtomicBool,
}

/// A disk of a limited size: the folder's files are what is on it.
struct SmallDisk {
    dir: PathBuf,
    state: Arc<State>,
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(28)
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl SmallDisk {
    fn used(&self) -> u64 {
        let entries = fs::read_dir(&self.dir).expect("the folder is there");
        entries.map(|entry| entry.expect("an entry").metadata().map_or(0, |m| m.len())).sum()
    }

    fn free(&self) -> u64 {
        match self.state.capacity.load(Ordering::SeqCst) {
            0 => u64::MAX / 2,
            capacity => capacity.saturating_sub(self.used()),
        }
    }

    fn call(&self) -> io::Result<()> {
        let count = self.state.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let from = self.state.refuse_from.load(Ordering::SeqCst);
        if from > 0 && count >= from { Err(full()) } else { Ok(()) }
    }
}

impl Disk for SmallDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.call()?;
        File::options().create(true).truncate(true).read(true).write(true).open(path)
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        self.call()?;
        let more = (at + bytes.len() as u64).saturating_sub(file.metadata()?.len());
        let short = usize::try_from(more.saturating_sub(self.free())).expect("small");
        file.write_all_at(&bytes[..bytes.len() - short.min(bytes.len())], at)?;
        if short > 0 { Err(full()) } else { Ok(()) }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.state.no_sync.load(Ordering::SeqCst) {
            return Err(full());
        }
        file.sync_data()
    }

    fn cut(&self, file: &File, bytes: u64) -> io::Result<()> {
        if self.state.no_cut.load(Ordering::SeqCst) {
            return Err(broken());
        }
        file.set_len(bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        fs::rename(from, to)
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.call()?;
        if bytes > self.free() {
            return Err(full());
        }
        file.set_len(bytes)
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        // Where there is no limit, no reserve.
        let limited = self.state.capacity.load(Ordering::SeqCst) > 0;
        Ok(if limited { self.free() } else { 0 })
    }
}

/// A log on a disk of its own, without a reserve.
fn open(dir: &Path) -> (LogEngine, Loaded, Arc<State>) {
    let state = Arc::new(State::default());
    let disk = SmallDisk { dir: dir.to_owned(), state: state.clone() };
    let mut engine = LogEngine::open_with(dir, FILE_BYTES, Box::new(disk)).expect("it opens");
    let loaded = engine.load().expect("it is read");
    (engine, loaded, state)
}

fn change(key: &str, revision: u64, value: Option<&[u8]>) -> Change {
    Change {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.map(Bytes::copy_from_slice),
        revision: Revision(revision),
        expires_at: None,
    }
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).expect("the folder is there").map(|e| e.expect("an entry"));
    let of = |path: PathBuf| (path.clone(), fs::read(path).expect("readable"));
    entries.map(|entry| of(entry.path())).collect()
}

fn copy(dir: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("a temporary folder");
    for (path, bytes) in files(dir) {
        fs::write(to.path().join(path.file_name().expect("a name")), bytes).expect("writable");
    }
    to
}

/// A batch finds room for some of its bytes: for each number of them.
#[test]
fn a_batch_without_room_is_taken_back_at_each_of_its_bytes() {
    let first = [change("a", 1, Some(b"one")), change("b", 2, Some(b"two"))];
    let second = [change("a", 3, None), change("c", 4, Some(&[b'v'; 60]))];
    let third = [change("d", 3, Some(b"later"))];
    let whole = {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (mut engine, _, _) = open(dir.path());
        engine.commit(&first).expect("written");
        let before = files(dir.path()).into_values().map(|bytes| bytes.len()).sum::<usize>();
        engine.commit(&second).expect("written");
        files(dir.path()).into_values().map(|bytes| bytes.len()).sum::<usize>() - before
    };
    for room in 0..whole as u64 {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (mut engine, _, state) = open(dir.path());
        engine.commit(&first).expect("written");
        let before = files(dir.path());
        let used = before.values().map(|bytes| bytes.len() as u64).sum::<u64>();
        state.capacity.store(used + room, Ordering::SeqCst);
        // The process may end before anything is cut off, and nobody was told of the batch.
        state.no_cut.store(true, Ordering::SeqCst);
        let crashed = copy(dir.path());
        {
            let (mut engine, _, state) = open(crashed.path());
            state.capacity.store(used + room, Ordering::SeqCst);
            state.no_cut.store(true, Ordering::SeqCst);
            let error = engine.commit(&second).expect_err("it can neither be written nor cut");
            assert!(matches!(error, Error::Backend(_)), "{error:?}");
        }
        let (_, loaded, _) = open(crashed.path());
        assert_eq!(loaded.changes, first, "{room}");
        state.no_cut.store(false, Ordering::SeqCst);
        for _ in 0..2 {
            let error = engine.commit(&second).expect_err("there is no room");
            assert!(matches!(error, Error::NoSpace(_)), "{error:?}");
            assert_eq!(files(dir.path()), before, "{room}");
        }
        let error = engine.set_floor(Revision(2)).err();
        let floor = error.is_none();
        assert_eq!(floor, room >= 21, "a floor takes 21 bytes");
        state.capacity.store(0, Ordering::SeqCst);
        engine.commit(&third).expect("there is room again");
        drop(engine);
        let (_, loaded, _) = open(dir.path());
        assert_eq!(loaded.changes, [&first[..], &third[..]].concat(), "{room}");
        assert_eq!(loaded.floor, Revision(if floor { 2 } else { 0 }), "{room}");
    }
}

/// After a failed sync nobody knows what is on the disk, whatever the reason was.
#[test]
fn a_failed_sync_is_no_full_disk() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (mut engine, _, state) = open(dir.path());
    engine.commit(&[change("a", 1, Some(b"one"))]).expect("written");
    state.no_sync.store(true, Ordering::SeqCst);
    let error = engine.commit(&[change("a", 2, Some(b"two"))]).expect_err("it is not synced");
    assert!(matches!(error, Error::Backend(_)), "{error:?}");
}

/// The newest states of what was loaded.
fn newest(loaded: &Loaded) -> BTreeMap<Bytes, Change> {
    let mut seen = BTreeMap::new();
    for change in &loaded.changes {
        seen.insert(change.key.clone(), change.clone());
    }
    seen.retain(|_, change: &mut Change| change.value.is_some());
    seen
}

/// Tidying finds no room at each of its steps: the old files are used on, no new one lies about,
/// and the next time it comes to its end.
#[test]
fn tidying_without_room_is_undone_at_each_of_its_steps() {
    const REVISIONS: u64 = 240;
    let mut steps = 0;
    for step in 1.. {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (mut engine, _, state) = open(dir.path());
        let mut want = BTreeMap::new();
        let mut garbage = Vec::new();
        for revision in 1..=REVISIONS {
            // Some stay, so that there is something to be kept of each file.
            let key = if revision % 4 == 0 { revision } else { revision % 11 };
            let key = format!("key-{key}");
            let value = (revision % 17 != 0).then_some(&[b'v'; 120][..]);
            let new = change(&key, revision, value);
            engine.commit(std::slice::from_ref(&new)).expect("written");
            let old: Option<Change> = want.insert(new.key.clone(), new);
            garbage.extend(old.map(|c| Garbage::new(c.revision, &c.key, c.value.as_deref())));
        }
        engine.set_floor(Revision(REVISIONS)).expect("written");
        engine.discard(&garbage);
        want.retain(|_, change| change.value.is_some());
        let size = |dir: &Path| files(dir).values().map(Vec::len).sum::<usize>();
        let before = size(dir.path());
        state.calls.store(0, Ordering::SeqCst);
        state.refuse_from.store(step, Ordering::SeqCst);
        let refused = loop {
            match engine.tidy(true) {
                Ok(true) => {}
                Ok(false) => break false,
                Err(Error::NoSpace(_)) => break true,
                Err(error) => panic!("{error}"),
            }
        };
        let unfinished =
            files(dir.path()).into_keys().filter(|p| p.extension().is_some_and(|e| e == "tmp"));
        assert_eq!(unfinished.count(), 0, "step {step}");
        // As a crash would leave it, and as it goes on.
        let crashed = copy(dir.path());
        let (_, loaded, _) = open(crashed.path());
        assert_eq!(newest(&loaded), want, "step {step}");
        state.refuse_from.store(0, Ordering::SeqCst);
        while engine.tidy(true).expect("there is room again") {}
        assert!(size(dir.path()) < before / 2, "step {step}: {} of {before}", size(dir.path()));
        engine.commit(&[change("last", REVISIONS + 1, Some(b"x"))]).expect("written");
        drop(engine);
        let (_, loaded, _) = open(dir.path());
        want.insert(Bytes::from("last"), change("last", REVISIONS + 1, Some(b"x")));
        assert_eq!(newest(&loaded), want, "step {step}");
        if !refused {
            steps = step;
            break;
        }
    }
    assert!(steps > 10, "{steps}");
}

fn next(random: &mut u64, below: u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random % below
}

/// A state without the revision at which the key was made, which is forgotten with its history.
fn state_of(kv: &KeyValue) -> (Bytes, usize, Revision) {
    (kv.key.clone(), kv.value.len(), kv.mod_revision)
}

type Seen = Result<Revision, Option<(Bytes, usize, Revision)>>;

fn seen(outcome: Result<TxnOutcome, Error>) -> Result<Seen, Error> {
    Ok(match outcome? {
        TxnOutcome::Committed(revision) => Ok(revision),
        TxnOutcome::Conflict(present) => Err(present.as_ref().map(state_of)),
    })
}

/// Random writes on a disk whose size changes, compared with the reference: what one refuses for
/// lack of room the other never hears of.
#[tokio::test]
async fn a_store_on_a_small_disk_agrees_with_the_reference() {
    let mut refusals = [0, 0];
    for seed in 1..=3u64 {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let state = Arc::new(State::default());
        state.capacity.store(100_000, Ordering::SeqCst);
        let open = || {
            let disk = SmallDisk { dir: dir.path().to_owned(), state: state.clone() };
            let engine = LogEngine::open_with(dir.path(), FILE_BYTES, Box::new(disk));
            let options = Options { history: None, ..Options::default() };
            let engine = Box::new(engine.expect("it opens"));
            EmbeddedStore::with_engine(engine, options).expect("it is read")
        };
        let mut store = open();
        let reference = MemoryStore::new();
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for round in 0..800 {
            let key = Bytes::from(format!("key-{}", next(&mut random, 60)));
            let present = reference.get(&key).await.expect("the reference works");
            let expect = match next(&mut random, 8) {
                0 => Revision(next(&mut random, round + 1)),
                _ => present.map_or(Revision(0), |kv| kv.mod_revision),
            };
            let op = match next(&mut random, 3) {
                0 => Op::Delete,
                kind => Op::Put {
                    value: vec![b'v'; next(&mut random, 2000) as usize].into(),
                    ttl: None,
                    ends: kind == 2 && next(&mut random, 4) == 0,
                },
            };
            let is_delete = op == Op::Delete;
            let txn = Txn { key, expect, op };
            match store.txn(txn.clone()).await {
                Err(Error::NoSpace(_)) => refusals[usize::from(is_delete)] += 1,
                outcome => {
                    let want = reference.txn(txn).await;
                    assert_eq!(seen(outcome), seen(want), "seed {seed}, {round}");
                }
            }
            if next(&mut random, 40) == 0 {
                let newest = store.current_revision().await.expect("the store works");
                match store.compact(newest).await {
                    Err(Error::NoSpace(_)) => {}
                    done => done.expect("the store works"),
                }
            }
            match next(&mut random, 100) {
                0 => drop(state.capacity.fetch_add(10_000, Ordering::SeqCst)),
                1 if state.capacity.load(Ordering::SeqCst) > 60_000 => {
                    state.capacity.fetch_sub(10_000, Ordering::SeqCst);
                }
                2 => {
                    drop(store);
                    store = open();
                }
                _ => {}
            }
            let newest = reference.current_revision().await;
            assert_eq!(store.current_revision().await, newest, "seed {seed}, {round}");
        }
        let all = reference.range(RangeRequest::default()).await.expect("the reference works");
        for _ in 0..2 {
            let found = store.range(RangeRequest::default()).await.expect("the store works");
            assert_eq!(found.revision, all.revision, "seed {seed}");
            assert!(found.kvs.iter().map(state_of).eq(all.kvs.iter().map(state_of)), "seed {seed}");
            drop(store);
            store = open();
        }
    }
    assert!(refusals[0] > 20, "{refusals:?}");
}

/// Deletions, and what leads to one, use what was kept aside; then tidying makes room by itself.
#[tokio::test]
async fn a_full_store_is_emptied_by_deletions() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let state = Arc::new(State::default());
    state.capacity.store(400_000, Ordering::SeqCst);
    let disk = SmallDisk { dir: dir.path().to_owned(), state: state.clone() };
    let engine = LogEngine::open_with(dir.path(), FILE_BYTES, Box::new(disk)).expect("it opens");
    let store =
        EmbeddedStore::with_engine(Box::new(engine), Options::default()).expect("it is read");
    let txn = |key: String, expect, ends| Txn {
        key: key.into(),
        expect,
        op: Op::Put { value: vec![b'v'; 2000].into(), ttl: None, ends },
    };
    let mut revisions = Vec::new();
    let why = loop {
        match store.txn(txn(format!("key-{}", revisions.len()), Revision(0), false)).await {
            Ok(TxnOutcome::Committed(revision)) => revisions.push(revision),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(why.contains("No space left on device") && why.contains("delete objects"), "{why}");
    assert!(revisions.len() > 150, "{}", revisions.len());
    // A lost race is told as such, and what leads to a deletion is written.
    let lost = store.txn(txn("key-0".into(), Revision(0), false)).await.expect("it is decided");
    assert!(matches!(lost, TxnOutcome::Conflict(Some(_))), "{lost:?}");
    let marked = store.txn(txn("key-0".into(), revisions[0], true)).await.expect("it is written");
    let TxnOutcome::Committed(marked) = marked else { panic!("{marked:?}") };
    revisions[0] = marked;
    let half = revisions.len() / 2;
    for (at, expect) in revisions.iter().enumerate().take(half) {
        let key = Bytes::from(format!("key-{at}"));
        let txn = Txn { key, expect: *expect, op: Op::Delete };
        let done = store.txn(txn).await.expect("deletions are written");
        assert!(matches!(done, TxnOutcome::Committed(_)), "{done:?}");
    }
    // The writer tidies while nobody writes; each try meets it a step later.
    let mut tries = 0;
    while let Err(error) = store.txn(txn("new".into(), Revision(0), false)).await {
        assert!(matches!(error, Error::NoSpace(_)), "{error:?}");
        tries += 1;
        assert!(tries < 100_000, "no room was made");
        tokio::task::yield_now().await;
    }
    drop(store);
    let mut engine = LogEngine::open(dir.path()).expect("it opens");
    assert_eq!(newest(&engine.load().expect("it is read")).len(), revisions.len() - half + 1);
}
