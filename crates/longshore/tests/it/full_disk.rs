//! A data directory whose disk is full: the server goes on, says so, and loses nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::server::Server;

/// A file system of its own in memory, seen through the mount namespace of a process that holds it.
struct Disk {
    holder: Child,
    folder: tempfile::TempDir,
}

impl Disk {
    fn new(megabytes: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "mount -t tmpfs -o size={megabytes}m tmpfs '{}' && echo mounted && read end",
            folder.path().display()
        );
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = holder.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "this test needs root");
        Self { holder, folder }
    }

    fn path(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.folder.path().strip_prefix("/").unwrap())
    }

    /// Writes a file until nothing more goes.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).unwrap();
        let mut block = vec![b'x'; 1 << 20];
        while !block.is_empty() {
            if file.write_all(&block).is_err() {
                block.truncate(block.len() / 2);
            }
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The file system goes with the last process that sees it.
        if self.holder.kill().is_ok() {
            self.holder.wait().expect("a killed child can be waited for");
        }
    }
}

fn names(server: &Server) -> Vec<String> {
    let text = server.kubectl(&["get", "configmaps", "-o", "name"]);
    let own = text.lines().filter(|line| line.contains("/own-"));
    own.map(|line| line.trim_start_matches("configmap/").to_owned()).collect()
}

fn create(server: &Server, name: &str, value: &str) -> Result<(), String> {
    let literal = format!("--from-literal=value={value}");
    let output = server.try_kubectl(&["create", "configmap", name, &literal]);
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    let disk = Disk::new(24);
    let data = disk.path().join("data");
    let server =
        Server::start_with(&data, &["--disable", "controllers,scheduler,kubelet,proxy,dns"]);
    let value = "v".repeat(20_000);
    let mut kept: Vec<String> = Vec::new();
    for count in 0..5 {
        let name = format!("own-{count}");
        create(&server, &name, &value).unwrap();
        kept.push(name);
    }
    let finalizers = |list: &str| format!("{{\"metadata\":{{\"finalizers\":{list}}}}}");
    let hold = finalizers("[\"example.com/hold\"]");
    server.kubectl(&["patch", "configmap", "own-0", "-p", &hold]);
    let start = Instant::now();
    disk.fill();
    let error = loop {
        let name = format!("own-{}", kept.len());
        match create(&server, &name, &value) {
            Ok(()) => kept.push(name),
            Err(error) => break error,
        }
        assert!(kept.len() < 1000, "there is always room");
    };
    assert!(error.contains("database space exceeded"), "{error}");
    assert!(error.contains("free space on it, or delete objects"), "{error}");
    // Reads and deletions go on; what was refused is not there.
    kept.sort();
    assert_eq!(names(&server), kept);
    let gone = kept.remove(1);
    server.kubectl(&["delete", "configmap", &gone]);
    assert_eq!(names(&server), kept);
    // So does what a deletion needs before it.
    server.kubectl(&["delete", "configmap", "own-0", "--wait=false"]);
    assert_eq!(names(&server), kept);
    server.kubectl(&["patch", "configmap", "own-0", "--type=merge", "-p", &finalizers("null")]);
    kept.remove(0);
    assert_eq!(names(&server), kept);
    let log = server.log();
    // Once a minute at most.
    let told = log.matches("no room for a write").count();
    let most = 1 + usize::try_from(start.elapsed().as_secs() / 60).unwrap();
    assert!((1..=most).contains(&told), "{told} times: {log}");

    // Full or not, it starts, and everything that was acknowledged is there.
    server.kill();
    let server =
        Server::start_with(&data, &["--disable", "controllers,scheduler,kubelet,proxy,dns"]);
    assert_eq!(names(&server), kept);
    disk.free();
    create(&server, "own-new", &value).unwrap();
    kept.push("own-new".to_owned());
    server.kill();
    let server =
        Server::start_with(&data, &["--disable", "controllers,scheduler,kubelet,proxy,dns"]);
    kept.sort();
    assert_eq!(names(&server), kept);
}
