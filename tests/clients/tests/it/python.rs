//! The Python client: its program is `python/client.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");

/// The interpreter with the client: `./x test` makes it, and so does this where it is not made yet.
fn interpreter() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap();
    let environment = target.join("tools/python");
    let made = Command::new(Path::new(FOLDER).join("install.sh")).arg(&environment).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    environment.join("bin/python")
}

async fn run(part: &str) {
    let server = crate::start().await;
    let script = Path::new(FOLDER).join("client.py");
    let mut command = Command::new(interpreter());
    command.arg(script).arg(part).env("KUBECONFIG", server.kubeconfig());
    // The client keeps what it discovered in a file there, which would be left behind.
    let folder = tempfile::tempdir().unwrap();
    command.env("TMPDIR", folder.path());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_objects() {
    run("typed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_resume() {
    run("watch").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn informers() {
    run("informer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamic_objects_and_apply() {
    run("dynamic").await;
}
