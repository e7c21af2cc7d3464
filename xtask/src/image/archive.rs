//! OCI image archives.
//!
//! Reference: <https://github.com/opencontainers/image-spec>, image-layout.md, manifest.md, config.md.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

enum Entry {
    Folder,
    File(Vec<u8>),
    Link(String),
}

/// The files of the one layer, in the order of their paths.
#[derive(Default)]
pub struct Layer {
    entries: BTreeMap<String, (u32, Entry)>,
}

impl Layer {
    /// Adds a folder and those it lies in.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.parents(path);
        self.entries.insert(path.to_owned(), (mode, Entry::Folder));
    }

    /// Adds a file and the folders it lies in.
    pub fn file(&mut self, path: &str, content: &[u8], mode: u32) {
        self.parents(path);
        self.entries.insert(path.to_owned(), (mode, Entry::File(content.to_vec())));
    }

    /// Adds a symbolic link and the folders it lies in.
    pub fn link(&mut self, path: &str, to: &str) {
        self.parents(path);
        self.entries.insert(path.to_owned(), (0o777, Entry::Link(to.to_owned())));
    }

    fn parents(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            self.entries.entry(path[..end].to_owned()).or_insert((0o755, Entry::Folder));
        }
    }

    fn tar(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, (mode, entry)) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(*mode);
            header.set_size(0);
            match entry {
                Entry::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
                }
                Entry::File(content) => {
                    header.set_size(content.len() as u64);
                    tar.append_data(&mut header, path, content.as_slice())?;
                }
                Entry::Link(to) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    tar.append_link(&mut header, path, to)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

/// What a container of the image runs.
#[derive(Default)]
pub struct Config {
    pub entrypoint: &'static [&'static str],
    pub command: &'static [&'static str],
    pub user: &'static str,
}

/// Writes the archive of an image with one layer.
pub fn write(path: &Path, reference: &str, layer: &Layer, config: &Config) -> Result<()> {
    let layer = layer.tar()?;
    let config = serde_json::to_vec(&json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": config.entrypoint,
            "Cmd": config.command,
            "User": config.user,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &layer)],
    }))?;
    let mut entry = descriptor(MANIFEST, &manifest);
    entry["annotations"] = json!({
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference.rsplit(':').next(),
    });
    let index =
        serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))?;

    let mut files = Layer::default();
    for blob in [&layer, &config, &manifest] {
        files.file(&format!("blobs/{}", digest(blob).replace(':', "/")), blob, 0o644);
    }
    files.file("index.json", &index, 0o644);
    files.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644);
    Ok(std::fs::write(path, files.tar()?)?)
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(blob), "size": blob.len()})
}

fn digest(blob: &[u8]) -> String {
    Sha256::digest(blob)
        .iter()
        .fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// The name that OCI gives this machine's processor.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
