//! Task supervision: every background task has a kind that says what its end means, and a token
//! that says when to stop.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Tells tasks to stop. Clones share one signal; a child stops with its parent.
pub type Shutdown = CancellationToken;

/// What a background task is, and what it means when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// The component cannot work without it: a panic ends the process.
    Critical,
    /// Serves one connection, request or object: a panic is logged, the rest goes on.
    PerItem,
}

/// Starts a background task. Panics are reported by kind; see [`TaskKind`].
pub fn spawn<F>(kind: TaskKind, name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        let outcome = tokio::spawn(future).await;
        let Err(error) = outcome else { return };
        if error.is_cancelled() {
            return;
        }
        match kind {
            TaskKind::PerItem => tracing::error!(task = name, %error, "task failed"),
            TaskKind::Critical => {
                tracing::error!(task = name, %error, "critical task failed, stopping the process");
                std::process::abort();
            }
        }
    })
}
