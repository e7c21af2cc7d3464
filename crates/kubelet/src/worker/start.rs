//! How a worker starts a container: its image, its volumes, its configuration, its first hook.
//!
//! upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go startContainer

use std::sync::Arc;
use std::time::Duration;

use longshore_api::Object;
use longshore_client::recorder::Severity;
use longshore_cri::v1::*;
use serde_json::Value;
use tokio::sync::watch;

use super::Worker;
use crate::observe::{Observed, State};
use crate::plan::{self, Why};
use crate::stops::Stop;
use crate::{container, hooks, images, sandbox};

/// How long a container's hook after its start may take, in seconds.
const POST_START_MAX: i64 = 600;

impl Worker {
    fn wait(&mut self, name: &str, reason: &str, message: &str, again: i64) {
        self.waiting.insert(name.to_owned(), (reason.to_owned(), message.to_owned()));
        let again = Duration::from_secs(u64::try_from(again.max(1)).unwrap_or(1));
        self.again = Some(self.again.map_or(again, |a| a.min(again)));
    }

    /// Starts a container, unless it failed too recently. True when it was started.
    pub(super) async fn start(
        &mut self,
        pod: &Arc<Object>,
        observed: &Observed,
        spec: &Value,
    ) -> bool {
        let name = spec["name"].as_str().unwrap_or("").to_owned();
        let before = self.waiting.get(&name).cloned();
        let started = self.try_start(pod, observed, spec, &name).await;
        match started {
            true => {
                self.waiting.remove(&name);
                true
            }
            // A new reason to wait has to be told.
            false => self.waiting.get(&name) != before.as_ref(),
        }
    }

    async fn try_start(
        &mut self,
        pod: &Arc<Object>,
        observed: &Observed,
        spec: &Value,
        name: &str,
    ) -> bool {
        let Some(sandbox) = observed.sandbox() else { return false };
        let path = plan::path(pod, name);
        let newest = observed.newest(name);
        let now = self.shared.clock.now();
        // One that was stopped to be started anew does not wait for its own end.
        let ended = newest.filter(|c| c.state == State::Exited);
        let ended = match ended {
            Some(ended) if self.renewed.contains(&ended.id) => observed.previous(name),
            other => other,
        };
        if let Some(ended) = ended {
            let finished = ended.finished.unwrap_or(ended.created);
            // Another image does not wait for what the one before did.
            let key = format!("{name} {}", plan::hash(spec));
            if let Err((pause, left)) = self.backoff.attempt(&key, finished, now) {
                let message = format!(
                    "back-off {} restarting failed container={name} pod={}_{}({})",
                    go_duration(pause),
                    pod.name(),
                    pod.namespace(),
                    pod.uid()
                );
                let text = format!(
                    "Back-off restarting failed container {name} in pod {}_{}({})",
                    pod.name(),
                    pod.namespace(),
                    pod.uid()
                );
                self.shared.recorder.event_at(pod, &path, Severity::Warning, "BackOff", &text);
                self.wait(name, "CrashLoopBackOff", &message, left);
                return false;
            }
        }
        // A pod that ends does not wait for what it will not use.
        let ensured = tokio::select! {
            ensured = images::ensure(&self.shared, pod, spec, &path) => ensured,
            () = pod_ends(self.pod.clone()) => return false,
        };
        let image = match ensured {
            Ok(image) => image,
            Err(none) => {
                self.wait(name, none.reason, &none.message, none.again);
                return false;
            }
        };
        if let Err(error) = self.prepare(pod).await {
            self.wait(name, "ContainerCreating", &error.to_string(), 2);
            return false;
        }
        let attempt = newest.map_or(0, |c| c.attempt + 1);
        let ips = &sandbox.ips;
        let target = spec["targetContainerName"].as_str().and_then(|name| observed.newest(name));
        let target = target.map(|container| container.id.as_str());
        let config = container::config(&self.shared, pod, spec, attempt, &image, ips, target).await;
        let config = match config {
            Ok(config) => config,
            Err(error) => {
                let text = format!("Error: {error}");
                self.shared.recorder.event_at(pod, &path, Severity::Warning, "Failed", &text);
                self.wait(name, "CreateContainerConfigError", &error.to_string(), 5);
                return false;
            }
        };
        Box::pin(self.create_and_start(pod, observed, config, spec, name, &path)).await
    }

    async fn create_and_start(
        &mut self,
        pod: &Arc<Object>,
        observed: &Observed,
        config: ContainerConfig,
        spec: &Value,
        name: &str,
        path: &str,
    ) -> bool {
        let Some(sandbox) = observed.sandbox() else { return false };
        let attempt = config.metadata.as_ref().map_or(0, |m| m.attempt);
        let logs = sandbox::logs_dir(&self.shared, pod).join(name);
        if let Err(error) = std::fs::create_dir_all(&logs) {
            self.wait(name, "CreateContainerError", &error.to_string(), 5);
            return false;
        }
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(config),
            sandbox_config: sandbox::config(&self.shared, pod, sandbox.attempt).ok(),
        };
        let recorder = self.shared.recorder.clone();
        let created = match self.shared.runtime.create_container(request).await {
            Ok(created) => created.container_id,
            Err(error) => {
                let text = format!("Error: {error}");
                recorder.event_at(pod, path, Severity::Warning, "Failed", &text);
                self.wait(name, "CreateContainerError", &error.to_string(), 5);
                return false;
            }
        };
        let text = "Container created";
        recorder.event_at(pod, path, Severity::Normal, "Created", text);
        let request = StartContainerRequest { container_id: created.clone() };
        if let Err(error) = self.shared.runtime.start_container(request).await {
            let text = format!("Error: {error}");
            recorder.event_at(pod, path, Severity::Warning, "Failed", &text);
            self.wait(name, "RunContainerError", &error.to_string(), 5);
            tracing::debug!(name, attempt, %error, "a container did not start");
            return false;
        }
        self.started.push(created.clone());
        self.resizes.started(&created, spec);
        recorder.event_at(pod, path, Severity::Normal, "Started", "Container started");
        let hook = &spec["lifecycle"]["postStart"];
        if hook.is_object() {
            let ip = self.ip(pod, observed).unwrap_or_default();
            let ip = ip.as_str();
            let outcome = tokio::select! {
                outcome = hooks::run(&self.shared, pod, spec, &created, ip, hook, POST_START_MAX) => outcome,
                () = pod_ends(self.pod.clone()) => return false,
            };
            if let Err(why) = outcome {
                recorder.event_at(
                    pod,
                    path,
                    Severity::Warning,
                    "FailedPostStartHook",
                    "PostStartHook failed",
                );
                self.wait(name, "PostStartHookError", &why, 5);
                let grace = self.grace(pod, spec, &Why::HookFailed);
                let stop = Stop {
                    pod: pod.clone(),
                    spec: spec.clone(),
                    id: created,
                    name: name.to_owned(),
                    ip: ip.to_owned(),
                    why: Why::HookFailed,
                    grace,
                };
                self.stops.begin(&self.shared, stop, &self.poke);
                return false;
            }
        }
        true
    }
}

/// Waits until a pod is deleted.
async fn pod_ends(mut pod: watch::Receiver<Option<Arc<Object>>>) {
    let over = |pod: &Option<Arc<Object>>| pod.as_ref().is_none_or(|pod| pod.is_deleting());
    if pod.wait_for(over).await.is_err() {
        std::future::pending::<()>().await; // the process ends
    }
}

/// Seconds in Go's form, such as `1m20s`.
fn go_duration(seconds: i64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}
