//! Probes: whether containers have started, live, and are ready.
//!
//! upstream: pkg/kubelet/prober

pub(crate) mod ask;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_api::Object;
use longshore_base::TaskKind;
use longshore_client::recorder::Severity;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::Shared;
use crate::plan::{self, Health};

/// The three probes of a container.
const KINDS: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];

/// What is known of a container by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) started: bool,
    pub(crate) broken: bool,
    pub(crate) ready: bool,
    /// Its pod ends: it is only asked whether it is ready.
    ending: bool,
}

/// What all probes say, by container id.
#[derive(Default)]
pub(crate) struct Results(Mutex<HashMap<String, Entry>>);

/// What is known of a container, and the news that it has started.
struct Entry {
    verdict: Verdict,
    started: watch::Sender<bool>,
}

impl Results {
    /// What the probes of a container say; `None` when it is not probed (yet).
    pub(crate) fn get(&self, id: &str) -> Option<Verdict> {
        self.0.lock().get(id).map(|entry| entry.verdict)
    }

    /// The same as the plan needs it.
    pub(crate) fn health(&self, id: &str, spec: &Value) -> Health {
        match self.get(id) {
            Some(v) => Health { started: v.started, broken: v.broken },
            None => Health { started: spec["startupProbe"].is_null(), broken: false },
        }
    }

    /// The pod of a container ends.
    pub(crate) fn ending(&self, id: &str) {
        if let Some(entry) = self.0.lock().get_mut(id) {
            entry.verdict.ending = true;
        }
    }

    /// Forgets a container.
    pub(crate) fn forget(&self, id: &str) {
        self.0.lock().remove(id);
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Verdict)) -> bool {
        let mut all = self.0.lock();
        let Some(Entry { verdict, started }) = all.get_mut(id) else { return false };
        let before = (verdict.started, verdict.broken, verdict.ready);
        change(verdict);
        started.send_if_modified(|now| std::mem::replace(now, verdict.started) != verdict.started);
        before != (verdict.started, verdict.broken, verdict.ready)
    }

    /// Waits until a container has started, or is forgotten.
    async fn started(&self, id: &str) {
        let Some(mut started) = self.0.lock().get(id).map(|entry| entry.started.subscribe()) else {
            return;
        };
        // Its sender goes when the container is forgotten.
        let _gone = started.wait_for(|started| *started).await.is_err();
    }
}

/// Begins to probe a container that runs; nothing happens when it is probed already. `poke` is told
/// when something changes.
pub(crate) fn begin(
    shared: &Arc<Shared>,
    pod: &Arc<Object>,
    spec: &Value,
    id: &str,
    ip: &str,
    poke: &Arc<Notify>,
) {
    {
        let mut all = shared.probes.0.lock();
        if all.contains_key(id) {
            return;
        }
        let verdict = Verdict {
            started: spec["startupProbe"].is_null(),
            broken: false,
            ready: spec["readinessProbe"].is_null(),
            ending: false,
        };
        let started = watch::Sender::new(verdict.started);
        all.insert(id.to_owned(), Entry { verdict, started });
    }
    for kind in KINDS {
        if spec[kind].is_object() {
            let probe = Probe {
                shared: shared.clone(),
                pod: pod.clone(),
                container: spec.clone(),
                kind,
                id: id.to_owned(),
                ip: ip.to_owned(),
                poke: poke.clone(),
            };
            longshore_base::spawn(TaskKind::PerItem, "probe", probe.run());
        }
    }
}

struct Probe {
    shared: Arc<Shared>,
    pod: Arc<Object>,
    container: Value,
    kind: &'static str,
    id: String,
    ip: String,
    poke: Arc<Notify>,
}

impl Probe {
    fn number(&self, key: &str, default: u64) -> u64 {
        self.container[self.kind][key].as_u64().filter(|n| *n > 0).unwrap_or(default)
    }

    /// Asks again and again until the container is forgotten.
    async fn run(self) {
        let period = Duration::from_secs(self.number("periodSeconds", 10));
        tokio::time::sleep(Duration::from_secs(self.number("initialDelaySeconds", 0))).await;
        let (mut good, mut bad) = (0, 0);
        let mut tick = tokio::time::interval(period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some(verdict) = self.shared.probes.get(&self.id) else { return };
            let over = match self.kind {
                "readinessProbe" => false,
                "startupProbe" => verdict.started || verdict.broken || verdict.ending,
                _ => verdict.broken || verdict.ending,
            };
            if over {
                return;
            }
            if self.kind != "startupProbe" && !verdict.started {
                // The others wait for the start, and then begin at once.
                self.shared.probes.started(&self.id).await;
                tick.reset_immediately();
                continue;
            }
            let limit = Duration::from_secs(self.number("timeoutSeconds", 1));
            let outcome = match tokio::time::timeout(limit, self.ask()).await {
                Ok(outcome) => outcome,
                Err(_) => Err("context deadline exceeded".to_owned()),
            };
            match outcome {
                Ok(warning) => {
                    (good, bad) = (good + 1, 0);
                    if let Some(text) = warning {
                        self.tell("ProbeWarning", &format!("warning: {text}"));
                    }
                }
                Err(why) => {
                    (good, bad) = (0, bad + 1);
                    self.tell("Unhealthy", &format!("failed: {why}"));
                }
            }
            self.decide(good, bad);
        }
    }

    fn decide(&self, good: u64, bad: u64) {
        let (enough, too_many) =
            (self.number("successThreshold", 1), self.number("failureThreshold", 3));
        let changed = self.shared.probes.change(&self.id, |verdict| match self.kind {
            "startupProbe" if good >= enough => verdict.started = true,
            "readinessProbe" if good >= enough => verdict.ready = true,
            "readinessProbe" if bad >= too_many => verdict.ready = false,
            "startupProbe" | "livenessProbe" if bad >= too_many => verdict.broken = true,
            _ => {}
        });
        if changed {
            self.poke.notify_one();
        }
    }

    fn tell(&self, reason: &str, what: &str) {
        let name = match self.kind {
            "startupProbe" => "Startup",
            "livenessProbe" => "Liveness",
            _ => "Readiness",
        };
        let path = plan::path(&self.pod, self.container["name"].as_str().unwrap_or(""));
        let message = format!("{name} probe {what}");
        let recorder = &self.shared.recorder;
        recorder.event_at(&self.pod, &path, Severity::Warning, reason, &message);
    }

    /// Asks once; what is odd about a good answer.
    async fn ask(&self) -> Result<Option<String>, String> {
        let probe = &self.container[self.kind];
        let (container, ip) = (&self.container, self.ip.as_str());
        if probe["exec"].is_object() {
            let limit = i64::try_from(self.number("timeoutSeconds", 1)).unwrap_or(1);
            let outcome = ask::exec(&self.shared.runtime, &self.id, &probe["exec"], limit).await;
            return outcome.map(|()| None);
        }
        if probe["httpGet"].is_object() {
            let answer = ask::http(container, ip, &probe["httpGet"], "kube-probe/1.36").await?;
            return match (answer.code, answer.elsewhere) {
                (200..400, None) => Ok(None),
                (200..400, Some(body)) => {
                    Ok(Some(format!("Probe terminated redirects, Response body: {body}")))
                }
                (code, _) => Err(format!("HTTP probe failed with statuscode: {code}")),
            };
        }
        if probe["grpc"].is_object() {
            return ask::grpc(container, ip, &probe["grpc"]).await.map(|()| None);
        }
        ask::tcp(container, ip, &probe["tcpSocket"]).await.map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn who_waits_for_a_start_is_told_of_it_and_of_the_end() {
        let results = Results::default();
        let verdict = Verdict { started: false, broken: false, ready: false, ending: false };
        let entry = || Entry { verdict, started: watch::Sender::new(false) };
        results.0.lock().insert("a".to_owned(), entry());
        results.0.lock().insert("b".to_owned(), entry());
        let (mut a, mut b) = (Box::pin(results.started("a")), Box::pin(results.started("b")));
        assert!(a.as_mut().now_or_never().is_none() && b.as_mut().now_or_never().is_none());
        assert!(results.change("a", |verdict| verdict.started = true));
        assert!(a.now_or_never().is_some() && b.as_mut().now_or_never().is_none());
        results.forget("b");
        assert!(b.now_or_never().is_some());
        assert!(results.started("a").now_or_never().is_some());
    }
}
