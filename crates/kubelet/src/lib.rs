//! The node agent: runs the pods that are bound to its node through a container runtime.
//!
//! Each pod has a worker: it looks at what is wanted and at what the runtime has, decides
//! ([`plan`]), acts, and tells ([`status`]). What is decided follows only from what is seen, so a
//! restart of the agent finds its containers again and leaves them running.

mod admit;
mod backoff;
mod cni;
mod config;
mod container;
mod env;
pub mod eviction;
mod hooks;
mod images;
mod needs;
mod node;
mod observe;
mod plan;
mod pods;
mod ports;
mod probes;
mod resize;
mod sandbox;
mod server;
mod status;
mod stops;
mod tell;
mod tokens;
mod volumes;
mod worker;

use std::sync::Arc;

use longshore_base::rng::Rng;
use longshore_base::{Clock, Shutdown};
use longshore_client::informer::Options;
use longshore_client::resource::{NODES, PODS, SERVICES};
use longshore_client::{Client, EventRecorder, Informer};
use longshore_cri::Runtime;

pub use config::Config;

/// Why the node agent cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The runtime is not there or not usable.
    #[error(transparent)]
    Runtime(#[from] longshore_cri::Error),
    /// A directory cannot be made.
    #[error("cannot prepare {path}: {source}")]
    Directory {
        /// Which one.
        path: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The server for logs and streams cannot start.
    #[error("the node agent cannot use its port: {0}")]
    Listen(std::io::Error),
}

/// What all parts of the agent share.
pub(crate) struct Shared {
    config: Config,
    client: Client,
    runtime: Runtime,
    services: Informer,
    nodes: Informer,
    recorder: EventRecorder,
    clock: Arc<dyn Clock>,
    images: images::Images,
    evictions: eviction::Evictions,
    ledger: needs::Ledger,
    ports: ports::Ports,
    probes: probes::Results,
    tokens: tokens::Tokens,
}

/// Runs the agent until shutdown.
///
/// # Errors
/// When the runtime does not answer at the start, or a port or directory cannot be used.
pub async fn run(
    config: Config,
    client: Client,
    recorder: EventRecorder,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let runtime = Runtime::new(&config.runtime_socket);
    let version =
        runtime.version(longshore_cri::v1::VersionRequest { version: "0.1.0".into() }).await?;
    tracing::info!(
        runtime = version.runtime_name,
        version = version.runtime_version,
        "found the runtime"
    );
    for path in [&config.root_dir, &config.logs_dir] {
        std::fs::create_dir_all(path)
            .map_err(|source| Error::Directory { path: path.display().to_string(), source })?;
    }
    let informer = |of, fields: String| {
        let options = Options { fields, ..Options::default() };
        let informer = Informer::new(client.clone(), of, options);
        let run = informer.clone().run(shutdown.clone());
        longshore_base::spawn(longshore_base::TaskKind::Critical, "kubelet cache", run);
        informer
    };
    let name = &config.node_name;
    let nodes = informer(NODES, format!("metadata.name={name}"));
    let services = informer(SERVICES, String::new());
    let pods = informer(PODS, format!("spec.nodeName={name}"));
    let shared = Arc::new(Shared {
        images: images::Images::default(),
        evictions: eviction::Evictions::default(),
        ledger: needs::Ledger::default(),
        ports: ports::Ports::default(),
        probes: probes::Results::default(),
        tokens: tokens::Tokens::default(),
        runtime,
        services,
        nodes,
        recorder,
        clock,
        client,
        config,
    });
    let workers = pods::Pods::new(shared.clone(), pods.clone(), shutdown.clone());
    server::start(shared.clone(), pods.clone(), &shutdown).await?;
    eviction::start(shared.clone(), pods, workers.clone(), shutdown.clone());
    node::start(shared, version, rng, &shutdown);
    workers.run().await;
    Ok(())
}
