//! SIGKILL and a limit of the kernel in the middle of a write storm: no acknowledged write is lost,
//! none is invented.
//!
//! The test starts itself as a child that writes and tells each acknowledged write on its standard
//! output; the parent kills it without warning, opens what is left and compares.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use longshore_store::{
    EmbeddedStore, Error, Op, Options, RangeRequest, Revision, Store, Txn, TxnOutcome,
};

const ROUNDS: usize = 20;
const WRITERS: usize = 16;
/// Acknowledged writes after which the child is killed; more in later rounds, so that the kill
/// meets different moments.
const KILL_AFTER_MIN: usize = 100;
const CHILD_DIR: &str = "LONGSHORE_TEST_CRASH_DIR";

const CHILD: [&str; 3] = ["crash::child_writes_until_it_is_killed", "--exact", "--nocapture"];

/// The child's part; a test so that the test binary can be started as the child.
#[test]
fn child_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return; // a plain test run: there is nothing to write
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(storm(Path::new(&dir)));
}

async fn storm(dir: &Path) {
    let store = EmbeddedStore::open(&dir.join("db"), Options::default()).expect("it opens");
    let store = Arc::new(store);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move { write_forever(&store, writer).await })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer ends with the process, or when the disk is full");
    }
}

async fn write_forever(store: &EmbeddedStore, writer: usize) {
    let key = format!("key-{writer}");
    let present = store.get(key.as_bytes()).await.expect("the store works");
    let mut at = present.as_ref().map_or(Revision(0), |kv| kv.mod_revision);
    let mut count = present.map_or(0, |kv| number(&kv.value));
    loop {
        count += 1;
        let value = Bytes::from(format!("{count:0>1000}"));
        let op = Op::Put { value, ttl: None, ends: false };
        let txn = Txn { key: Bytes::from(key.clone()), expect: at, op };
        match store.txn(txn).await {
            Ok(TxnOutcome::Committed(revision)) => at = revision,
            Ok(TxnOutcome::Conflict(present)) => panic!("conflict with {present:?}"),
            Err(Error::NoSpace(why)) => {
                let present = store.get(key.as_bytes()).await.expect("reads go on");
                let stored = present.map_or(0, |kv| number(&kv.value));
                assert_eq!(stored, count - 1, "what was refused is not there");
                println!("refused: {why}");
                return;
            }
            Err(error) => panic!("{error}"),
        }
        // One write call per line: a line is whole or absent when the process dies.
        let line = format!("ack {key} {count}\n");
        std::io::stdout().write_all(line.as_bytes()).expect("the parent reads");
    }
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).expect("digits").parse().expect("digits")
}

#[test]
fn sigkill_in_a_write_storm_loses_no_acknowledged_write() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("the test binary"))
            .args(CHILD)
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let target = KILL_AFTER_MIN + round * 37;
        let mut lines = 0;
        let mut line = String::new();
        while lines < target && output.read_line(&mut line).expect("a pipe") > 0 {
            lines += usize::from(note(&mut acknowledged, &line));
            line.clear();
        }
        child.kill().expect("the child runs");
        child.wait().expect("the child was killed");
        // What was acknowledged between the last line read and the kill counts too.
        let mut rest = String::new();
        output.read_to_string(&mut rest).expect("a pipe");
        for line in rest.split_inclusive('\n').filter(|l| l.ends_with('\n')) {
            note(&mut acknowledged, line);
        }
        assert!(lines >= target, "the child ended by itself");
        check(dir.path(), &acknowledged);
    }
}

/// The kernel takes a part of a batch and then no more, because of a limit on the size of files:
/// writers are told, reads go on, and what was acknowledged is there when it is opened again.
#[test]
fn a_limit_on_the_size_of_files_loses_no_acknowledged_write() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for kilobytes in [101, 203, 310] {
        // Units of 512 bytes; without the trap the kernel would kill the process by a signal.
        let limited = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", 2 * kilobytes);
        let child = Command::new("sh")
            .args(["-c", &limited])
            .arg(std::env::current_exe().expect("the test binary"))
            .args(CHILD)
            .env(CHILD_DIR, dir.path())
            .output()
            .expect("the test binary starts");
        let errors = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{errors}");
        let output = String::from_utf8(child.stdout).expect("text");
        let refused = output.lines().filter(|line| line.contains("refused: File too large"));
        assert_eq!(refused.count(), WRITERS, "{output}");
        let lines = output.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let told = lines.map(|line| note(&mut acknowledged, line)).filter(|told| *told).count();
        assert!(told > 50, "{told} writes, {errors}");
        check(dir.path(), &acknowledged);
    }
}

/// Takes down an acknowledged write; false for other output.
fn note(acknowledged: &mut BTreeMap<String, u64>, line: &str) -> bool {
    let Some(at) = line.find("ack key-") else { return false };
    let mut words = line[at..].split_whitespace().skip(1);
    let key = words.next().expect("a key").to_owned();
    let count: u64 = words.next().expect("a count").parse().expect("digits");
    let newest = acknowledged.entry(key).or_insert(0);
    *newest = count.max(*newest);
    true
}

fn check(dir: &Path, acknowledged: &BTreeMap<String, u64>) {
    let store = EmbeddedStore::open(&dir.join("db"), Options::default()).expect("it recovers");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let all = runtime.block_on(store.range(RangeRequest::default())).expect("the store works");
    let found: BTreeMap<String, u64> = all
        .kvs
        .iter()
        .map(|kv| (String::from_utf8(kv.key.to_vec()).expect("text"), number(&kv.value)))
        .collect();
    for (key, count) in acknowledged {
        let stored = found.get(key).copied().unwrap_or(0);
        // Each writer has at most one write under way that it could not tell about any more.
        assert!(
            stored == *count || stored == count + 1,
            "{key}: acknowledged {count}, stored {stored}"
        );
    }
    assert!(found.len() <= WRITERS, "keys that nobody wrote: {found:?}");
}
