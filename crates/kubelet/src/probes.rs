//! Probes: whether containers have started, live, and are ready.
//!
//! upstream: pkg/kubelet/prober

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use longshore_api::Object;
use longshore_base::TaskKind;
use longshore_client::recorder::Severity;
use longshore_cri::v1::ExecSyncRequest;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::Shared;
use crate::plan::Health;

/// The three probes of a container.
const KINDS: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];

/// What is known of a container by its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    pub(crate) started: bool,
    pub(crate) broken: bool,
    pub(crate) ready: bool,
}

/// What all probes say, by container id.
#[derive(Default)]
pub(crate) struct Results(Mutex<HashMap<String, Verdict>>);

impl Results {
    /// What the probes of a container say; `None` when it is not probed (yet).
    pub(crate) fn get(&self, id: &str) -> Option<Verdict> {
        self.0.lock().get(id).copied()
    }

    /// The same as the plan needs it.
    pub(crate) fn health(&self, id: &str, spec: &Value) -> Health {
        match self.get(id) {
            Some(v) => Health { started: v.started, broken: v.broken },
            None => Health { started: spec["startupProbe"].is_null(), broken: false },
        }
    }

    /// Forgets a container.
    pub(crate) fn forget(&self, id: &str) {
        self.0.lock().remove(id);
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Verdict)) -> bool {
        let mut all = self.0.lock();
        let Some(verdict) = all.get_mut(id) else { return false };
        let before = (verdict.started, verdict.broken, verdict.ready);
        change(verdict);
        before != (verdict.started, verdict.broken, verdict.ready)
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
        };
        all.insert(id.to_owned(), verdict);
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
            if verdict.broken || (self.kind == "startupProbe" && verdict.started) {
                return;
            }
            if self.kind != "startupProbe" && !verdict.started {
                continue; // the others wait for the start
            }
            let limit = Duration::from_secs(self.number("timeoutSeconds", 1));
            let outcome = match tokio::time::timeout(limit, self.ask()).await {
                Ok(outcome) => outcome,
                Err(_) => Err("context deadline exceeded".to_owned()),
            };
            match outcome {
                Ok(()) => (good, bad) = (good + 1, 0),
                Err(why) => {
                    (good, bad) = (0, bad + 1);
                    self.tell(&why);
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

    fn tell(&self, why: &str) {
        let name = match self.kind {
            "startupProbe" => "Startup",
            "livenessProbe" => "Liveness",
            _ => "Readiness",
        };
        let path = format!("spec.containers{{{}}}", self.container["name"].as_str().unwrap_or(""));
        let message = format!("{name} probe failed: {why}");
        let recorder = &self.shared.recorder;
        recorder.event_at(&self.pod, &path, Severity::Warning, "Unhealthy", &message);
    }

    async fn ask(&self) -> Result<(), String> {
        let probe = &self.container[self.kind];
        if probe["exec"].is_object() {
            let words = probe["exec"]["command"].as_array().into_iter().flatten();
            let request = ExecSyncRequest {
                container_id: self.id.clone(),
                cmd: words.filter_map(|w| w.as_str().map(str::to_owned)).collect(),
                timeout: i64::try_from(self.number("timeoutSeconds", 1)).unwrap_or(1),
            };
            let answer = self.shared.runtime.exec_sync(request).await.map_err(|e| e.to_string())?;
            if answer.exit_code == 0 {
                return Ok(());
            }
            return Err(
                String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned()
            );
        }
        if probe["httpGet"].is_object() {
            return self.http(&probe["httpGet"]).await;
        }
        let target =
            if probe["tcpSocket"].is_object() { &probe["tcpSocket"] } else { &probe["grpc"] };
        let address = self.address(target)?;
        TcpStream::connect(&address).await.map(drop).map_err(|e| format!("dial tcp {address}: {e}"))
    }

    /// Host and port of a probe; a named port is one of the container's.
    fn address(&self, target: &Value) -> Result<String, String> {
        let host = target["host"].as_str().filter(|h| !h.is_empty()).unwrap_or(&self.ip);
        let port = match &target["port"] {
            Value::String(name) => {
                let ports = self.container["ports"].as_array().into_iter().flatten();
                let port = ports.clone().find(|p| p["name"] == name.as_str());
                match port.and_then(|p| p["containerPort"].as_u64()).or(name.parse().ok()) {
                    Some(port) => port,
                    None => return Err(format!("port {name:?} is not known")),
                }
            }
            number => number.as_u64().unwrap_or(0),
        };
        Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
    }

    async fn http(&self, target: &Value) -> Result<(), String> {
        let address = self.address(target)?;
        let path = target["path"].as_str().filter(|p| !p.is_empty()).unwrap_or("/");
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let secure = target["scheme"] == "HTTPS";
        let url = format!("{}://{address}{path}", if secure { "https" } else { "http" });
        let failed = |e: &dyn std::fmt::Display| format!("Get {url:?}: {e}");
        if secure {
            // The certificate of a pod is not checked; reaching the port tells enough here.
            return TcpStream::connect(&address).await.map(drop).map_err(|e| failed(&e));
        }
        let stream = TcpStream::connect(&address).await.map_err(|e| failed(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| failed(&e))?;
        longshore_base::spawn(TaskKind::PerItem, "probe connection", async {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "a probe's connection ended");
            }
        });
        let mut request = http::Request::get(&path)
            .header(http::header::USER_AGENT, "kube-probe/1.36")
            .header(http::header::ACCEPT, "*/*")
            .header(http::header::CONNECTION, "close");
        let mut host = address.clone();
        for header in target["httpHeaders"].as_array().into_iter().flatten() {
            let text = |key: &str| header[key].as_str().unwrap_or("");
            if text("name").eq_ignore_ascii_case("host") {
                host = text("value").to_owned();
            } else {
                request = request.header(text("name"), text("value"));
            }
        }
        let request = request.header(http::header::HOST, host);
        let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|e| failed(&e))?;
        let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
        let code = response.status().as_u16();
        if (200..400).contains(&code) {
            return Ok(());
        }
        Err(format!("HTTP probe failed with statuscode: {code}"))
    }
}
