//! Containers that are being stopped: beside the worker, which goes on to look and tell meanwhile.
//!
//! upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go killContainer

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_api::Object;
use longshore_base::TaskKind;
use longshore_client::recorder::Severity;
use longshore_cri::v1::StopContainerRequest;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use crate::plan::{self, Why};
use crate::{Shared, hooks};

/// The shortest time between the signal and the end, in seconds.
///
/// upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go minimumGracePeriodInSeconds
const GRACE_MIN: i64 = 2;
/// How long until the next attempt when the runtime could not stop a container.
const RETRY: Duration = Duration::from_secs(2);

/// The containers of one pod that are being stopped, with the seconds they have.
#[derive(Clone, Default)]
pub(crate) struct Stops(Arc<Mutex<HashMap<String, i64>>>);

/// A container to stop.
pub(crate) struct Stop {
    pub(crate) pod: Arc<Object>,
    /// Its part of the spec, when there still is one.
    pub(crate) spec: Value,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) ip: String,
    pub(crate) why: Why,
    /// Seconds from now to the end.
    pub(crate) grace: i64,
}

impl Stops {
    /// Begins to stop a container, unless that is going on with no more time than now. Tells `poke`
    /// when it is done.
    pub(crate) fn begin(&self, shared: &Arc<Shared>, stop: Stop, poke: &Arc<Notify>) {
        let first = {
            let mut all = self.0.lock();
            let present = all.get(&stop.id).copied();
            if present.is_some_and(|grace| grace <= stop.grace) {
                return;
            }
            all.insert(stop.id.clone(), stop.grace);
            present.is_none()
        };
        let (stops, shared, poke) = (self.clone(), shared.clone(), poke.clone());
        longshore_base::spawn(TaskKind::PerItem, "container stop", async move {
            if !Box::pin(stop.carry_out(&shared, first)).await {
                tokio::time::sleep(RETRY).await;
            }
            let mut all = stops.0.lock();
            if all.get(&stop.id) == Some(&stop.grace) {
                all.remove(&stop.id);
            }
            drop(all);
            poke.notify_one();
        });
    }
}

impl Stop {
    /// The hook first, then the signal, and after the grace period the end. True when it ended.
    async fn carry_out(&self, shared: &Shared, first: bool) -> bool {
        let path = plan::path(&self.pod, &self.name);
        let tell = |severity, reason: &str, message: &str| {
            shared.recorder.event_at(&self.pod, &path, severity, reason, message);
        };
        let start = tokio::time::Instant::now();
        if first {
            let name = &self.name;
            let message = match self.why {
                Why::Unhealthy => {
                    format!("Container {name} failed liveness probe, will be restarted")
                }
                Why::NotStarted => {
                    format!("Container {name} failed startup probe, will be restarted")
                }
                Why::Changed => format!("Container {name} definition changed, will be restarted"),
                Why::Resized => format!("Container {name} resize requires restart"),
                Why::HookFailed => "FailedPostStartHook".to_owned(),
                Why::PodEnds | Why::SandboxGone => format!("Stopping container {name}"),
            };
            tell(Severity::Normal, "Killing", &message);
            let hook = &self.spec["lifecycle"]["preStop"];
            if hook.is_object() && self.why != Why::SandboxGone && self.grace > 0 {
                let outcome =
                    hooks::run(shared, &self.pod, &self.spec, &self.id, &self.ip, hook, self.grace);
                if let Err(why) = outcome.await {
                    tracing::debug!(pod = self.pod.name(), why, "a hook failed");
                    tell(Severity::Warning, "FailedPreStopHook", "PreStopHook failed");
                }
            }
        }
        let gone = i64::try_from(start.elapsed().as_secs()).unwrap_or(i64::MAX);
        let timeout = self.grace.saturating_sub(gone).max(GRACE_MIN);
        let request = StopContainerRequest { container_id: self.id.clone(), timeout };
        match shared.runtime.stop_container(request).await {
            Ok(_) => true,
            Err(error) if error.is_not_found() => true,
            Err(error) => {
                let text = format!(
                    "error killing pod: failed to \"KillContainer\" for {:?} with KillContainerError: {error}",
                    self.name
                );
                shared.recorder.event(&self.pod, Severity::Warning, "FailedKillPod", &text);
                false
            }
        }
    }
}
