//! `longshore image import` into a real containerd (needs root; `./x test` installs it).

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::server::LONGSHORE;

#[test]
fn a_missing_runtime_is_named() {
    let output = Command::new(LONGSHORE)
        .args(["image", "import", "--runtime-endpoint", "unix:///no/such/socket", "image.tar"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("no container runtime answers at unix:///no/such/socket"), "{error}");
}

/// A containerd of our own; killed when dropped.
struct Containerd {
    child: Child,
    dir: tempfile::TempDir,
}

impl Containerd {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().display();
        let config = format!(
            "version = 2\nroot = \"{base}/root\"\nstate = \"{base}/state\"\n\
             [grpc]\n  address = \"{base}/sock\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\n  path = \"{base}/opt\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\n  disable_tcp_service = true\n  stream_server_port = \"0\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\n  conf_dir = \"{base}/cni\"\n"
        );
        std::fs::create_dir(dir.path().join("cni")).unwrap();
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let child = Command::new("containerd")
            .arg("--config")
            .arg(dir.path().join("config.toml"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("containerd is installed: ./x test installs it");
        Self { child, dir }
    }

    fn import(&self, archive: &Path) -> Output {
        let endpoint = format!("unix://{}", self.dir.path().join("sock").display());
        Command::new(LONGSHORE)
            .args(["image", "import", "--runtime-endpoint", &endpoint])
            .arg(archive)
            .output()
            .unwrap()
    }

    /// Imports; while containerd is starting its socket does not answer.
    #[track_caller]
    fn imported(&self, archive: &Path) -> String {
        let end = Instant::now() + Duration::from_secs(300);
        loop {
            let output = self.import(archive);
            if output.status.success() {
                return String::from_utf8(output.stdout).unwrap();
            }
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(Instant::now() < end, "{error}");
        }
    }

    fn images(&self) -> String {
        let output = Command::new("ctr")
            .arg("--address")
            .arg(self.dir.path().join("sock"))
            .args(["--namespace", "k8s.io", "images", "ls", "--quiet"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().expect("a killed child can be waited for");
        }
    }
}

fn digest(blob: &[u8]) -> String {
    Sha256::digest(blob).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes an archive of an image whose one layer is an empty tar; `label` makes it another image.
fn archive(path: &Path, name: &str, label: &str) {
    let layer = vec![0; 1024];
    let descriptor = |kind: &str, blob: &[u8]| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media_type, "digest": format!("sha256:{}", digest(blob)), "size": blob.len()})
    };
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"label": label}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2, "config": descriptor("config.v1+json", config.as_bytes()),
        "layers": [descriptor("layer.v1.tar", &layer)],
    })
    .to_string();
    let mut entry = descriptor("manifest.v1+json", manifest.as_bytes());
    entry["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let mut tar = tar::Builder::new(File::create(path).unwrap());
    let mut add = |name: String, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content).unwrap();
    };
    for blob in [layer.as_slice(), config.as_bytes(), manifest.as_bytes()] {
        add(format!("blobs/sha256/{}", digest(blob)), blob);
    }
    add("index.json".to_owned(), index.as_bytes());
}

#[test]
fn an_archive_is_imported_and_replaced() {
    let containerd = Containerd::start();
    let file = containerd.dir.path().join("image.tar");
    archive(&file, "localhost/test/one:dev", "first");
    let first = containerd.imported(&file);
    assert!(first.starts_with("localhost/test/one:dev sha256:"), "{first}");
    assert_eq!(containerd.imported(&file), first, "a second import changes nothing");
    assert!(containerd.images().contains("localhost/test/one:dev"));

    archive(&file, "localhost/test/one:dev", "second");
    assert_ne!(containerd.imported(&file), first, "the name belongs to the new image");

    std::fs::write(&file, "no archive").unwrap();
    let refused = containerd.import(&file);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("is not an OCI image archive"));
}
