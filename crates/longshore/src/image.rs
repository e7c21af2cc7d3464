//! `longshore image import`: loads OCI image archives into the node's container runtime.
//!
//! The container runtime interface cannot import, so this speaks containerd's own services: it writes the blobs
//! into the content store under a lease, names the manifest in the image store and waits until the runtime's
//! CRI service knows the image (it learns of it through containerd's events).

mod archive;
mod containerd;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::runtime::Runtime;
use archive::Archive;
use containerd::Containerd;

/// Arguments of `longshore image import`.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportArgs {
    /// OCI image archives (tar)
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Socket of the container runtime (containerd)
    #[arg(long, default_value = "unix:///run/containerd/containerd.sock", value_name = "ENDPOINT")]
    pub runtime_endpoint: String,
}

/// Imports every archive and prints the names of the images.
///
/// # Errors
/// When an archive is damaged or the runtime refuses it; archives before it stay imported.
pub async fn import(args: ImportArgs) -> Result<()> {
    let runtime = Containerd::new(Runtime::connect(&args.runtime_endpoint).await?);
    for file in &args.files {
        let bytes = tokio::fs::read(file)
            .await
            .with_context(|| format!("cannot read {}", file.display()))?;
        let archive = Archive::parse(&bytes)
            .with_context(|| format!("{} is not an OCI image archive", file.display()))?;
        for image in archive.images()? {
            runtime
                .import(&archive, &image)
                .await
                .with_context(|| format!("cannot import {}", image.name))?;
            println!("{} {}", image.name, image.target.digest);
        }
    }
    Ok(())
}
