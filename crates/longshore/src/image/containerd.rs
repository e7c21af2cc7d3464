//! The few calls of containerd's API that an import needs, with messages of our own.
//!
//! Reference: containerd's api/services/{content,images,leases}/v1/*.proto and the CRI's api.proto; the
//! field numbers are the contract.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tonic::{Code, Request, Status};

use crate::runtime::Runtime;

use super::archive::{Archive, Descriptor, Image};

/// The namespace of containerd that its CRI service uses.
const NAMESPACE: &str = "k8s.io";
/// How long the runtime may take to learn of an image.
const VISIBLE_MAX: Duration = Duration::from_secs(20);
/// Bytes of a blob per message; containerd takes messages up to 16 MiB.
const CHUNK_BYTES: usize = 1 << 20;
const CONTENT_WRITE: &str = "/containerd.services.content.v1.Content/Write";
const CONTENT_UPDATE: &str = "/containerd.services.content.v1.Content/Update";
const IMAGES_CREATE: &str = "/containerd.services.images.v1.Images/Create";
const IMAGES_UPDATE: &str = "/containerd.services.images.v1.Images/Update";
const LEASES_CREATE: &str = "/containerd.services.leases.v1.Leases/Create";
const LEASES_DELETE: &str = "/containerd.services.leases.v1.Leases/Delete";
const IMAGE_STATUS: &str = "/runtime.v1.ImageService/ImageStatus";

/// A connection to containerd.
pub struct Containerd {
    runtime: Runtime,
}

impl Containerd {
    /// Wraps a connection.
    pub fn new(runtime: Runtime) -> Self {
        Self { runtime }
    }

    /// Stores the image's blobs and names it; an image that is there already is replaced.
    pub async fn import(&self, archive: &Archive, image: &Image) -> Result<()> {
        // The lease keeps the garbage collector away until the image refers to the blobs.
        let lease = format!("longshore-import-{}-{}", std::process::id(), image.target.digest);
        self.unary::<_, Empty>(LEASES_CREATE, LeaseCreate { id: lease.clone() }, "")
            .await
            .context("create a lease")?;
        let stored = self.store(archive, image, &lease).await;
        let released =
            self.unary::<_, Empty>(LEASES_DELETE, LeaseDelete { id: lease, sync: false }, "").await;
        stored?;
        released.context("release the lease")?;
        self.wait_visible(&image.name).await
    }

    async fn store(&self, archive: &Archive, image: &Image, lease: &str) -> Result<()> {
        let mut references = HashMap::new();
        for (index, part) in image.parts.iter().enumerate() {
            let label = match index {
                0 => "containerd.io/gc.ref.content.config".to_owned(),
                layer => format!("containerd.io/gc.ref.content.l.{}", layer - 1),
            };
            references.insert(label, part.digest.clone());
            self.write(part, archive.blob(part)?, HashMap::new(), lease).await?;
        }
        self.write(&image.target, archive.blob(&image.target)?, references, lease).await?;

        let stored = StoredImage {
            name: image.name.clone(),
            labels: HashMap::new(),
            target: Some(StoredDescriptor {
                media_type: image.target.media_type.clone(),
                digest: image.target.digest.clone(),
                size: i64::try_from(image.target.size)?,
            }),
        };
        let created = self
            .unary::<_, Empty>(
                IMAGES_CREATE,
                ImageWrite { image: Some(stored.clone()), mask: None },
                lease,
            )
            .await;
        match created {
            Err(status) if status.code() == Code::AlreadyExists => {
                let mask = Some(FieldMask { paths: vec!["target".to_owned()] });
                self.unary::<_, Empty>(
                    IMAGES_UPDATE,
                    ImageWrite { image: Some(stored), mask },
                    lease,
                )
                .await?;
            }
            other => {
                other?;
            }
        }
        Ok(())
    }

    /// Writes one blob; one that is there already is left and gets the labels.
    async fn write(
        &self,
        descriptor: &Descriptor,
        blob: &[u8],
        labels: HashMap<String, String>,
        lease: &str,
    ) -> Result<()> {
        let reference = format!("longshore-import-{}", descriptor.digest);
        let total = i64::try_from(blob.len())?;
        let mut messages: Vec<ContentWrite> = blob
            .chunks(CHUNK_BYTES)
            .enumerate()
            .map(|(index, chunk)| ContentWrite {
                action: WRITE,
                offset: i64::try_from(index * CHUNK_BYTES)
                    .expect("a blob in memory is shorter than an i64"),
                data: chunk.to_vec(),
                ..ContentWrite::default()
            })
            .collect();
        messages.push(ContentWrite {
            action: COMMIT,
            offset: total,
            labels: labels.clone(),
            ..ContentWrite::default()
        });
        for message in &mut messages {
            message.reference.clone_from(&reference);
            message.expected.clone_from(&descriptor.digest);
            message.total = total;
        }
        match self.runtime.stream::<_, Empty>(CONTENT_WRITE, with_headers(messages, lease)).await {
            Err(status) if status.code() == Code::AlreadyExists => {}
            other => return other.with_context(|| format!("write blob {}", descriptor.digest)),
        }
        if !labels.is_empty() {
            let paths = labels.keys().map(|label| format!("labels.{label}")).collect();
            let info = ContentInfo { digest: descriptor.digest.clone(), labels };
            let update = ContentUpdate { info: Some(info), mask: Some(FieldMask { paths }) };
            self.unary::<_, Empty>(CONTENT_UPDATE, update, lease)
                .await
                .context("label the manifest")?;
        }
        Ok(())
    }

    /// Waits until the CRI service lists the image.
    async fn wait_visible(&self, name: &str) -> Result<()> {
        let ask = async {
            loop {
                let spec = Some(ImageSpec { image: name.to_owned() });
                let answer: ImageStatusResponse =
                    self.unary(IMAGE_STATUS, ImageStatusRequest { spec }, "").await?;
                if answer.image.is_some() {
                    return Ok::<(), Status>(());
                }
                // The CRI has no watch for images.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let outcome = tokio::time::timeout(VISIBLE_MAX, ask).await;
        ensure!(
            outcome.is_ok(),
            "the runtime stored the image but its CRI service does not list it"
        );
        Ok(outcome.expect("checked above")?)
    }

    async fn unary<M, R>(&self, path: &'static str, message: M, lease: &str) -> Result<R, Status>
    where
        M: prost::Message + 'static,
        R: prost::Message + Default + 'static,
    {
        self.runtime.unary(path, with_headers(message, lease)).await
    }
}

fn with_headers<T>(message: T, lease: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("containerd-namespace", NAMESPACE.parse().expect("the name is ASCII"));
    if !lease.is_empty() {
        request
            .metadata_mut()
            .insert("containerd-lease", lease.parse().expect("a lease's name is ASCII"));
    }
    request
}

const WRITE: i32 = 1;
const COMMIT: i32 = 2;

/// Stands for every answer whose content does not matter.
#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct FieldMask {
    #[prost(string, repeated, tag = "1")]
    paths: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseCreate {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseDelete {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bool, tag = "2")]
    sync: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContentWrite {
    #[prost(int32, tag = "1")]
    action: i32,
    #[prost(string, tag = "2")]
    reference: String,
    #[prost(int64, tag = "3")]
    total: i64,
    #[prost(string, tag = "4")]
    expected: String,
    #[prost(int64, tag = "5")]
    offset: i64,
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
    #[prost(map = "string, string", tag = "7")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContentInfo {
    #[prost(string, tag = "1")]
    digest: String,
    #[prost(map = "string, string", tag = "5")]
    labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContentUpdate {
    #[prost(message, optional, tag = "1")]
    info: Option<ContentInfo>,
    #[prost(message, optional, tag = "2")]
    mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredDescriptor {
    #[prost(string, tag = "1")]
    media_type: String,
    #[prost(string, tag = "2")]
    digest: String,
    #[prost(int64, tag = "3")]
    size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredImage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(map = "string, string", tag = "2")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "3")]
    target: Option<StoredDescriptor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageWrite {
    #[prost(message, optional, tag = "1")]
    image: Option<StoredImage>,
    #[prost(message, optional, tag = "2")]
    mask: Option<FieldMask>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageStatusRequest {
    #[prost(message, optional, tag = "1")]
    spec: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageStatusResponse {
    #[prost(message, optional, tag = "1")]
    image: Option<Empty>,
}
