//! Readiness without sleeping: a component publishes that it is ready, others wait for it.

use tokio::sync::watch;

/// The publishing side; dropping it without [`Ready::set`] means the component failed.
#[derive(Debug)]
pub struct Ready(watch::Sender<bool>);

/// The waiting side; cheap to clone.
#[derive(Clone, Debug)]
pub struct ReadySignal(watch::Receiver<bool>);

/// A component went away before it became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the component stopped before it became ready")]
pub struct NeverReady;

/// A pair of ends, not ready yet.
pub fn channel() -> (Ready, ReadySignal) {
    let (sender, receiver) = watch::channel(false);
    (Ready(sender), ReadySignal(receiver))
}

impl Ready {
    /// Publishes readiness; waiting tasks go on.
    pub fn set(&self) {
        self.0.send_replace(true);
    }
}

impl ReadySignal {
    /// Whether the component is ready now.
    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the component is ready.
    pub async fn wait(&mut self) -> Result<(), NeverReady> {
        self.0.wait_for(|ready| *ready).await.map(|_| ()).map_err(|_| NeverReady)
    }
}
