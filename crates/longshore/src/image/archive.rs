//! Reads OCI image archives.
//!
//! Reference: <https://github.com/opencontainers/image-spec>, image-layout.md, image-index.md, manifest.md.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// The blobs of an archive in memory, by digest, and its index.
pub struct Archive {
    blobs: BTreeMap<String, Vec<u8>>,
    index: Index,
}

/// What a descriptor of the image specification points to.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// One image of an archive.
pub struct Image {
    /// The full reference, with a tag.
    pub name: String,
    /// The manifest.
    pub target: Descriptor,
    /// Configuration first, then the layers.
    pub parts: Vec<Descriptor>,
}

impl Archive {
    /// Reads a tar with an OCI layout; every blob must have the digest that its name says.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (mut blobs, mut index) = (BTreeMap::new(), None);
        for entry in tar::Archive::new(bytes).entries()? {
            let mut entry = entry?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).with_context(|| format!("entry {path}"))?;
            if let Some(hex) = path.strip_prefix("blobs/sha256/") {
                let digest = digest(&content);
                ensure!(
                    digest == format!("sha256:{hex}"),
                    "blob {hex} is damaged: its digest is {digest}"
                );
                blobs.insert(digest, content);
            } else if path == "index.json" {
                index = Some(serde_json::from_slice(&content).context("index.json")?);
            }
        }
        Ok(Self { blobs, index: index.context("it has no index.json")? })
    }

    /// The images that the index names.
    pub fn images(&self) -> Result<Vec<Image>> {
        self.index.manifests.iter().map(|target| self.image(target)).collect()
    }

    fn image(&self, target: &Descriptor) -> Result<Image> {
        let annotation = |key: &str| target.annotations.get(key).cloned();
        let name = annotation("io.containerd.image.name")
            .or_else(|| {
                annotation("org.opencontainers.image.ref.name").filter(|name| name.contains('/'))
            })
            .context("the archive does not name its image (annotation io.containerd.image.name)")?;
        let manifest: Manifest = serde_json::from_slice(self.blob(target)?).context("manifest")?;
        let parts: Vec<_> = std::iter::once(manifest.config).chain(manifest.layers).collect();
        for part in &parts {
            self.blob(part)?;
        }
        Ok(Image { name, target: target.clone(), parts })
    }

    /// The bytes of a blob.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<&[u8]> {
        let blob = self.blobs.get(&descriptor.digest);
        let blob = blob.with_context(|| format!("blob {} is missing", descriptor.digest))?;
        ensure!(
            blob.len() as u64 == descriptor.size,
            "blob {} has the wrong size",
            descriptor.digest
        );
        Ok(blob)
    }
}

fn digest(blob: &[u8]) -> String {
    Sha256::digest(blob)
        .iter()
        .fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn a_damaged_blob_is_refused() {
        let path = format!("blobs/sha256/{}", "0".repeat(64));
        let error = Archive::parse(&tar(&[(&path, b"x")])).err().unwrap();
        assert!(error.to_string().contains("damaged"), "{error}");
    }

    #[test]
    fn an_archive_without_an_index_is_refused() {
        assert!(Archive::parse(&tar(&[("oci-layout", b"{}")])).is_err());
        assert!(Archive::parse(b"not a tar").is_err());
    }

    #[test]
    fn an_image_is_found_with_its_parts() {
        let layer = b"layer".as_slice();
        let descriptor =
            |blob: &[u8]| format!(r#"{{"digest":"{}","size":{}}}"#, digest(blob), blob.len());
        let manifest =
            format!(r#"{{"config":{},"layers":[{}]}}"#, descriptor(b"{}"), descriptor(layer));
        let index = format!(
            r#"{{"manifests":[{{"digest":"{}","size":{},"annotations":{{"io.containerd.image.name":"localhost/a:b"}}}}]}}"#,
            digest(manifest.as_bytes()),
            manifest.len()
        );
        let path = |blob: &[u8]| digest(blob).replace("sha256:", "blobs/sha256/");
        let archive = Archive::parse(&tar(&[
            (&path(layer), layer),
            (&path(b"{}"), b"{}"),
            (&path(manifest.as_bytes()), manifest.as_bytes()),
            ("index.json", index.as_bytes()),
        ]))
        .unwrap();
        let images = archive.images().unwrap();
        assert_eq!(
            (images.len(), images[0].name.as_str(), images[0].parts.len()),
            (1, "localhost/a:b", 2)
        );
    }
}
