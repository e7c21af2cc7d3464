//! The log engine and its files: what is refused, what is recovered, and how large it gets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use longshore_store::embedded::{Change, Engine, Garbage, Loaded, LogEngine, SystemDisk};
use longshore_store::{
    EmbeddedStore, Op, OpenError, Options, RangeRequest, Revision, Store, Txn, TxnOutcome,
};

fn put(key: &str, revision: u64, value: &[u8]) -> Change {
    Change {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Some(Bytes::copy_from_slice(value)),
        revision: Revision(revision),
        expires_at: None,
    }
}

fn deletion(key: &str, revision: u64) -> Change {
    Change { value: None, ..put(key, revision, b"") }
}

fn garbage(changes: &[Change]) -> Vec<Garbage> {
    changes.iter().map(|c| Garbage::new(c.revision, &c.key, c.value.as_deref())).collect()
}

/// Opens a log and reads it.
fn load(dir: &Path, file_bytes: u64) -> Result<(LogEngine, Loaded), OpenError> {
    let mut engine = LogEngine::open_with(dir, file_bytes, Box::new(SystemDisk))?;
    let loaded = engine.load()?;
    Ok((engine, loaded))
}

fn log_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the folder is there").map(|e| e.expect("an entry"));
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

fn size(dir: &Path) -> u64 {
    log_files(dir).iter().map(|path| fs::metadata(path).expect("a file").len()).sum()
}

/// A log of a few files, each batch of three changes.
fn some_files(dir: &Path) -> Vec<Change> {
    let mut engine = LogEngine::open_with(dir, 1000, Box::new(SystemDisk)).expect("it opens");
    engine.load().expect("it is empty");
    let changes: Vec<Change> =
        (1..=60).map(|n| put(&format!("key-{}", n % 7), n, &[b'v'; 100])).collect();
    for batch in changes.chunks(3) {
        engine.commit(batch).expect("it is written");
    }
    assert!(log_files(dir).len() > 4);
    changes
}

fn why(error: OpenError) -> String {
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn what_was_written_is_read_in_order() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut changes = some_files(dir.path());
    let (mut engine, loaded) = load(dir.path(), 1000).expect("it opens");
    assert_eq!((&loaded.changes, loaded.newest), (&changes, Revision(60)));
    let more = [Change { expires_at: Some(5), ..put("new", 61, b"x") }, deletion("new", 62)];
    engine.commit(&more).expect("it is written");
    engine.set_floor(Revision(17)).expect("it is written");
    drop(engine);
    changes.extend(more);
    let (_, loaded) = load(dir.path(), 1000).expect("it opens");
    assert_eq!((loaded.changes, loaded.floor), (changes, Revision(17)));
}

#[test]
fn a_second_process_a_newer_and_an_older_format_are_refused() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let db = dir.path().join("db");
    let engine = LogEngine::open(&db).expect("it is made");
    assert!(matches!(LogEngine::open(&db).err(), Some(OpenError::Locked(_))));
    drop(engine);
    let path = log_files(&db).remove(0);
    let mut bytes = fs::read(&path).expect("readable");
    bytes[8] = 99;
    fs::write(&path, &bytes).expect("writable");
    let newer = LogEngine::open(&db).err();
    assert!(matches!(newer, Some(OpenError::NewerFormat { found: 99, .. })), "{newer:?}");
    fs::write(db.join("longshore.db"), "SQLite format 3").expect("writable");
    let older = LogEngine::open(&db).err().expect("it is not read");
    assert!(matches!(older, OpenError::OlderFormat { .. }), "{older:?}");
    assert!(older.to_string().contains("longshore.db away"), "{older}");
    let nowhere = LogEngine::open(&dir.path().join("no/db")).err();
    assert!(matches!(nowhere, Some(OpenError::Io { .. })), "{nowhere:?}");
}

/// The last batch may be missing in part after a crash: at each of its bytes.
#[test]
fn a_torn_last_batch_is_taken_back() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut engine = LogEngine::open(dir.path()).expect("it opens");
    engine.load().expect("it is empty");
    engine.commit(&[put("a", 1, b"one"), put("b", 2, b"two")]).expect("it is written");
    let path = log_files(dir.path()).remove(0);
    let before = fs::read(&path).expect("readable").len();
    engine.commit(&[put("a", 3, b"three"), deletion("b", 4)]).expect("it is written");
    drop(engine);
    let whole = fs::read(&path).expect("readable");
    for end in before + 1..whole.len() {
        // Cut off, or with a part that never came to the disk.
        let mut with_hole = whole.clone();
        with_hole[before..end].fill(0);
        for torn in [&whole[..end], &with_hole[..]] {
            fs::write(&path, torn).expect("writable");
            let (mut engine, loaded) = load(dir.path(), 1 << 20).expect("it recovers");
            assert_eq!((loaded.changes.len(), loaded.newest), (2, Revision(2)), "{end}");
            engine.commit(&[put("c", 3, b"new")]).expect("it goes on");
            drop(engine);
            let (_, loaded) = load(dir.path(), 1 << 20).expect("it opens");
            assert_eq!(loaded.changes.last(), Some(&put("c", 3, b"new")), "{end}");
        }
    }
}

/// Damage of what was acknowledged is never taken for a torn batch.
#[test]
fn damage_is_told_and_nothing_is_cut() {
    let source = tempfile::tempdir().expect("a temporary folder");
    some_files(source.path());
    let files = log_files(source.path());
    let last = files.last().expect("there are files").clone();
    for path in &files {
        let whole = fs::read(path).expect("readable");
        // In the header, and in the first of several batches.
        for at in [0, 20, 63, 64, 70, 100, 200] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(path, &bytes).expect("writable");
            let refused = load(source.path(), 1000).err();
            // A single batch in the last file cannot be told from a torn one.
            if *path != last || at < 64 {
                why(refused.expect("it is damaged"));
            }
            let now = fs::read(path).expect("readable");
            assert!(*path == last || now == bytes, "nothing was changed");
            fs::write(path, &whole).expect("writable");
        }
        // Its end is missing.
        if *path != last {
            fs::write(path, &whole[..whole.len() - 1]).expect("writable");
            why(load(source.path(), 1000).err().expect("it is damaged"));
            fs::write(path, &whole).expect("writable");
        }
    }
    // A file in the middle is missing, or from elsewhere.
    let moved = source.path().join("moved");
    fs::rename(&files[1], &moved).expect("it is there");
    why(load(source.path(), 1000).err().expect("a file is missing"));
    let other = tempfile::tempdir().expect("a temporary folder");
    some_files(other.path());
    fs::copy(&log_files(other.path())[1], &files[1]).expect("it is copied");
    let text = why(load(source.path(), 1000).err().expect("a file is of another database"));
    assert!(text.contains("another database"), "{text}");
    fs::rename(&moved, &files[1]).expect("it is moved back");
    load(source.path(), 1000).expect("it is whole again");
}

/// In the last file a damaged batch has a whole one behind it, which was acknowledged after it.
#[test]
fn a_damaged_batch_before_a_whole_one_is_no_torn_one() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut engine = LogEngine::open(dir.path()).expect("it opens");
    engine.load().expect("it is empty");
    for revision in 1..=3 {
        engine.commit(&[put("a", revision, &[b'x'; 200])]).expect("it is written");
    }
    drop(engine);
    let path = log_files(dir.path()).remove(0);
    let whole = fs::read(&path).expect("readable");
    for at in (64..whole.len() - 260).step_by(13) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("writable");
        why(load(dir.path(), 1 << 20).err().expect("it is damaged"));
        assert_eq!(fs::read(&path).expect("readable"), bytes, "nothing was cut");
    }
}

/// Random histories with compaction and restarts: what is read back is what a reader of the newest
/// states sees, deleted keys stay deleted at whatever step the process ends, and the files stay
/// small.
#[test]
fn tidying_keeps_the_newest_states_and_no_more() {
    const FILE_BYTES: u64 = 4000;
    const REVISIONS: u64 = 3000;
    for seed in 1..=6u64 {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut model: BTreeMap<Bytes, Change> = BTreeMap::new();
        let (mut engine, _) = load(dir.path(), FILE_BYTES).expect("it opens");
        // Changes that are superseded, until the floor is raised.
        let mut superseded: Vec<Change> = Vec::new();
        let mut live_max = 0;
        let mut batch = Vec::new();
        for revision in 1..=REVISIONS {
            let key = format!("key-{}", next(40));
            let present = model.get(key.as_bytes()).is_some_and(|change| change.value.is_some());
            let change = if present && next(3) == 0 {
                deletion(&key, revision)
            } else {
                put(&key, revision, &vec![b'v'; next(200) as usize])
            };
            batch.push(change.clone());
            superseded.extend(model.insert(change.key.clone(), change));
            if next(8) > 0 && revision < REVISIONS {
                continue;
            }
            engine.commit(&batch).expect("it is written");
            batch.clear();
            if next(6) == 0 {
                engine.set_floor(Revision(revision)).expect("it is written");
                superseded.extend(model.values().filter(|change| change.value.is_none()).cloned());
                model.retain(|_, change| change.value.is_some());
                engine.discard(&garbage(&std::mem::take(&mut superseded)));
            }
            engine.tidy(next(2) == 0).expect("it is tidied");
            let live: u64 = model.values().map(|c| garbage(std::slice::from_ref(c))[0].bytes).sum();
            live_max = live_max.max(live);
            if next(12) == 0 {
                drop(engine);
                let loaded;
                (engine, loaded) = load(dir.path(), FILE_BYTES).expect("it opens");
                assert_eq!(loaded.newest, Revision(revision), "seed {seed}");
                let (seen, old) = replay(&loaded);
                let want: BTreeMap<_, _> =
                    model.iter().filter(|(_, change)| change.value.is_some()).collect();
                assert_eq!(seen.iter().collect::<BTreeMap<_, _>>(), want, "seed {seed}");
                engine.discard(&garbage(&old));
            }
        }
        engine.set_floor(Revision(REVISIONS)).expect("it is written");
        superseded.extend(model.values().filter(|change| change.value.is_none()).cloned());
        engine.discard(&garbage(&superseded));
        while engine.tidy(true).expect("it is tidied") {}
        let most = 2 * live_max + 6 * FILE_BYTES;
        assert!(
            size(dir.path()) < most,
            "seed {seed}: {} bytes, {live_max} live",
            size(dir.path())
        );
    }
}

/// The newest states of what was loaded, and the changes below the floor that nothing needs.
fn replay(loaded: &Loaded) -> (BTreeMap<Bytes, Change>, Vec<Change>) {
    let (mut seen, mut old) = (BTreeMap::new(), Vec::new());
    for change in &loaded.changes {
        let superseded: Option<Change> = seen.insert(change.key.clone(), change.clone());
        old.extend(superseded.filter(|_| change.revision <= loaded.floor));
    }
    let gone = |change: &Change| change.value.is_none();
    old.extend(seen.values().filter(|c| gone(c) && c.revision <= loaded.floor).cloned());
    seen.retain(|_, change| !gone(change));
    (seen, old)
}

/// A crash between the new file and the removal of those that it replaces.
#[test]
fn files_that_were_replaced_are_removed_at_start() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let changes = some_files(dir.path());
    let copy = tempfile::tempdir().expect("a temporary folder");
    for path in log_files(dir.path()) {
        fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copied");
    }
    let (mut engine, loaded) = load(dir.path(), 1000).expect("it opens");
    let (seen, _) = replay(&loaded);
    engine.set_floor(Revision(60)).expect("it is written");
    let newest = |change: &Change| seen[&change.key].revision == change.revision;
    let old: Vec<Change> = changes.iter().filter(|c| !newest(c)).cloned().collect();
    engine.discard(&garbage(&old));
    while engine.tidy(true).expect("it is tidied") {}
    drop(engine);
    let after = log_files(dir.path());
    assert!(after.len() < log_files(copy.path()).len() / 2, "{after:?}");
    // What was removed is there again, and an unfinished file with it.
    for path in log_files(copy.path()) {
        let back = dir.path().join(path.file_name().expect("a name"));
        if !after.contains(&back) {
            fs::copy(&path, back).expect("copied");
        }
    }
    fs::write(dir.path().join("00000000000000000004.tmp"), "half").expect("writable");
    let (_, loaded) = load(dir.path(), 1000).expect("it opens");
    assert_eq!(replay(&loaded).0, seen);
    assert_eq!(log_files(dir.path()), after);
    assert!(!dir.path().join("00000000000000000004.tmp").exists());
}

/// A key that is overwritten again and again must not make the files grow: the complaint about
/// other embedded stores is a file of many gigabytes.
#[tokio::test]
async fn compaction_keeps_the_files_bounded() {
    const ROUNDS: usize = 40;
    const WRITES: usize = 50;
    const VALUE: usize = 10_000;
    const FILE_BYTES: u64 = 500_000;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let open = || {
        let engine = LogEngine::open_with(dir.path(), FILE_BYTES, Box::new(SystemDisk));
        let engine = engine.expect("it opens");
        let options = Options { history: None, ..Options::default() };
        EmbeddedStore::with_engine(Box::new(engine), options).expect("it opens")
    };
    let store = open();
    let mut at = Revision(0);
    for _ in 0..ROUNDS {
        for _ in 0..WRITES {
            let op = Op::Put { value: vec![7; VALUE].into(), ttl: None, ends: false };
            let txn = Txn { key: Bytes::from_static(b"a"), expect: at, op };
            match store.txn(txn).await.expect("the store works") {
                TxnOutcome::Committed(revision) => at = revision,
                TxnOutcome::Conflict(present) => panic!("unexpected conflict with {present:?}"),
            }
        }
        store.compact(at).await.expect("the store works");
    }
    drop(store);
    let written = (ROUNDS * WRITES * VALUE) as u64;
    assert!(size(dir.path()) < 5 * FILE_BYTES, "{} of {written} bytes", size(dir.path()));
    let all = open().range(RangeRequest::default()).await.expect("the store works");
    assert_eq!(all.count, 1);
}
