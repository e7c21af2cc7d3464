//! `longshore server`: puts the components together and runs them until a signal.

use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use longshore_base::{Clock as _, Shutdown, SystemClock};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::ServerConfig;
use crate::control_plane::ControlPlane;

/// Runs a server until SIGINT or SIGTERM.
///
/// # Errors
/// When something it needs is missing or in use; nothing is left half-started.
pub fn run(config: ServerConfig) -> Result<()> {
    start_logging(&config.log)?;
    if let Err(error) = longshore_linux::memory::small_pages_only() {
        tracing::debug!(%error, "the kernel keeps huge pages on");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the worker threads")?;
    runtime.block_on(serve(Arc::new(config)))
}

/// The end of the server: by a signal, or because a part that it cannot be without has failed.
#[derive(Clone)]
pub struct Stop {
    /// Tells every part to end.
    pub shutdown: Shutdown,
    why: Arc<OnceLock<anyhow::Error>>,
}

impl Stop {
    /// Ends the server because of a failure; the first one counts.
    pub fn failed(&self, why: impl Into<anyhow::Error>) {
        if let Err(other) = self.why.set(why.into()) {
            tracing::warn!(%other, "another part failed as well");
        }
        self.shutdown.cancel();
    }
}

fn start_logging(filter: &str) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .with_context(|| format!("--log {filter:?} is not a log filter"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    Ok(())
}

async fn serve(config: Arc<ServerConfig>) -> Result<()> {
    let listener = crate::node::check(&config)?;
    let shutdown = Shutdown::new();
    let stop = Stop { shutdown: shutdown.clone(), why: Arc::default() };
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let plane = ControlPlane::start(config.clone(), SystemClock.now(), shutdown.clone()).await?;
    crate::components::start(&config, &plane, &stop);
    if let Some(listener) = listener {
        crate::node::start(&config, &plane, listener, &stop)?;
    }
    tracing::info!(address = %plane.address(), "the API server is ready");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = shutdown.cancelled() => {}
    }
    tracing::info!("stopping");
    shutdown.cancel();
    plane.stopped().await;
    stop.why.get().map_or(Ok(()), |why| Err(anyhow::anyhow!("{why:#}")))
}
