//! The table of pods.
//!
//! upstream: pkg/printers/internalversion/printers.go printPod

use jiff::Timestamp;
use longshore_api::Object;
use serde_json::{Value, json};

use super::cells::{AGE, NAME, age, since, text_column, wide};
use super::resources::is_sidecar;
use super::tree::{flag, int, list, part, text};
use crate::table::Column;

/// The columns.
pub(crate) fn columns() -> Vec<Column> {
    vec![
        NAME,
        text_column("Ready", "Ready containers of all."),
        text_column("Status", "What the pod's containers are doing."),
        text_column("Restarts", "How often containers were restarted, and when last."),
        AGE,
        wide("IP", "Address of the pod."),
        wide("Node", "Node that the pod runs on."),
        wide("Nominated Node", "Node that the pod waits for."),
        wide("Readiness Gates", "True conditions of all that readiness needs."),
    ]
}

/// The condition of the row of a pod that has ended.
pub(crate) fn completed(object: &Object) -> Option<Value> {
    let phase = object.str(&["status", "phase"]);
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    let (kind, status) = ("Completed", "True");
    Some(json!({"type": kind, "status": status, "reason": phase, "message": message}))
}

/// The cells.
pub(crate) fn row(object: &Object, now: Timestamp) -> Vec<Value> {
    let status = object.get(&["status"]).unwrap_or(&Value::Null);
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let summary = Summary::of(object, spec, status);
    let mut restarts = summary.restarts.to_string();
    if summary.restarts != 0 && !summary.last_restart.is_empty() {
        restarts = format!("{restarts} ({} ago)", since(&summary.last_restart, now));
    }
    let or_none = |text: &str| Value::from(if text.is_empty() { "<none>" } else { text });
    let ip = list(status, "podIPs").first().map_or("", |ip| text(ip, "ip"));
    vec![
        object.name().into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(object, now),
        or_none(ip),
        or_none(text(spec, "nodeName")),
        or_none(text(status, "nominatedNodeName")),
        gates(spec, status).into(),
    ]
}

fn gates(spec: &Value, status: &Value) -> String {
    let gates = list(spec, "readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let met = gates.iter().filter(|gate| {
        let wanted = text(gate, "conditionType");
        let condition = list(status, "conditions").iter().find(|c| text(c, "type") == wanted);
        condition.is_some_and(|c| text(c, "status") == "True")
    });
    format!("{}/{}", met.count(), gates.len())
}

fn is_true(status: &Value, condition: &str) -> bool {
    let found = list(status, "conditions").iter().find(|c| text(c, "type") == condition);
    found.is_some_and(|c| text(c, "status") == "True")
}

/// What a pod's containers do, summed up.
#[derive(Default)]
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: String,
}

/// The restarts of a group of containers.
#[derive(Clone, Default)]
struct Restarts {
    count: i64,
    last: String,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += int(container, "restartCount").unwrap_or(0);
        let ended = part(container, "lastState").and_then(|s| part(s, "terminated"));
        let time = ended.map_or("", |t| text(t, "finishedAt"));
        // Timestamps in whole seconds and UTC sort as texts.
        if time > self.last.as_str() {
            self.last = time.to_owned();
        }
    }
}

fn state<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    part(container, "state").and_then(|s| part(s, name))
}

fn ended_reason(ended: &Value) -> String {
    match (text(ended, "reason"), int(ended, "signal").unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", int(ended, "exitCode").unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

impl Summary {
    fn of(object: &Object, spec: &Value, status: &Value) -> Self {
        let init = list(spec, "initContainers");
        let sidecars = init.iter().filter(|c| is_sidecar(c)).count();
        let phase = text(status, "phase");
        let reason = match text(status, "reason") {
            "" => phase,
            reason => reason,
        };
        let gated = list(status, "conditions")
            .iter()
            .any(|c| text(c, "type") == "PodScheduled" && text(c, "reason") == "SchedulingGated");
        let mut summary = Self {
            total: list(spec, "containers").len() + sidecars,
            reason: if gated { "SchedulingGated" } else { reason }.to_owned(),
            ..Self::default()
        };
        let sidecar_restarts = summary.starting(init, status);
        let initializing = sidecar_restarts.is_err();
        let (Ok(before) | Err(before)) = sidecar_restarts;
        if !initializing || is_true(status, "Initialized") {
            summary.running(before, status);
        }
        if object.is_deleting() {
            if text(status, "reason") == "NodeLost" {
                summary.reason = "Unknown".to_owned();
            } else if phase != "Failed" && phase != "Succeeded" {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Init containers. Gives the restarts of the sidecars, as an error when the pod is still
    /// initializing.
    fn starting(&mut self, init: &[Value], status: &Value) -> Result<Restarts, Restarts> {
        let (mut all, mut sidecars) = (Restarts::default(), Restarts::default());
        let mut waiting = None;
        for (i, container) in list(status, "initContainerStatuses").iter().enumerate() {
            let name = text(container, "name");
            let sidecar = init.iter().any(|c| text(c, "name") == name && is_sidecar(c));
            all.add(container);
            if sidecar {
                sidecars.add(container);
            }
            let ended = state(container, "terminated");
            if ended.is_some_and(|t| int(t, "exitCode").unwrap_or(0) == 0) {
                continue;
            }
            if sidecar && flag(container, "started") {
                self.ready += usize::from(flag(container, "ready"));
                continue;
            }
            let pending = state(container, "waiting").map_or("", |w| text(w, "reason"));
            waiting = Some(match (ended, pending) {
                (Some(ended), _) => format!("Init:{}", ended_reason(ended)),
                (None, "" | "PodInitializing") => format!("Init:{i}/{}", init.len()),
                (None, reason) => format!("Init:{reason}"),
            });
            break;
        }
        self.restarts = all.count;
        self.last_restart = all.last;
        match waiting {
            Some(reason) => {
                self.reason = reason;
                Err(sidecars)
            }
            None => Ok(sidecars),
        }
    }

    /// The main containers.
    fn running(&mut self, mut restarts: Restarts, status: &Value) {
        let (mut running, mut error) = (false, String::new());
        for container in list(status, "containerStatuses").iter().rev() {
            restarts.add(container);
            let pending = state(container, "waiting").map_or("", |w| text(w, "reason"));
            if !pending.is_empty() {
                self.reason = pending.to_owned();
            } else if let Some(ended) = state(container, "terminated") {
                self.reason = ended_reason(ended);
                if int(ended, "exitCode").unwrap_or(0) != 0 {
                    error.clone_from(&self.reason);
                }
            } else if flag(container, "ready") && state(container, "running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        self.restarts = restarts.count;
        self.last_restart = restarts.last;
        if self.reason == "Completed" {
            if running && is_true(status, "Ready") {
                self.reason = "Running".to_owned();
            } else if !error.is_empty() {
                self.reason = error;
            } else if running {
                self.reason = "NotReady".to_owned();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cells(status: Value, deleting: bool) -> (String, String, String) {
        let mut object = Object::from_value(json!({
            "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
                "containers": [{"name": "c"}],
            },
            "status": status,
        }))
        .expect("an object");
        if deleting {
            object.set(&["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z");
        }
        let row = row(&object, "2026-01-01T00:00:10Z".parse().expect("a time"));
        let cell = |i: usize| row[i].as_str().expect("a text").to_owned();
        (cell(1), cell(2), cell(3))
    }

    #[test]
    fn the_status_sums_up_the_containers() {
        let running = json!({"name": "c", "ready": true, "state": {"running": {}}});
        let crash = json!({"name": "c", "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:05Z"}}});
        let done = json!({"name": "c", "state": {"terminated":
            {"reason": "Completed", "exitCode": 0}}});
        let init = json!([{"name": "i", "state": {"waiting": {"reason": "PodInitializing"}}}]);
        let failed = json!([{"name": "i", "state": {"terminated": {"exitCode": 2}}}]);
        for (status, deleting, want) in [
            (json!({"phase": "Pending"}), false, ("0/2", "Pending", "0")),
            (
                json!({"phase": "Running", "containerStatuses": [running]}),
                false,
                ("1/2", "Running", "0"),
            ),
            (
                json!({"phase": "Running", "containerStatuses": [running]}),
                true,
                ("1/2", "Terminating", "0"),
            ),
            (
                json!({"phase": "Running", "containerStatuses": [crash]}),
                false,
                ("0/2", "CrashLoopBackOff", "3 (5s ago)"),
            ),
            (
                json!({"phase": "Succeeded", "containerStatuses": [done]}),
                false,
                ("0/2", "Completed", "0"),
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": init}),
                false,
                ("0/2", "Init:0/2", "0"),
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": failed}),
                false,
                ("0/2", "Init:ExitCode:2", "0"),
            ),
        ] {
            let (ready, reason, restarts) = cells(status.clone(), deleting);
            assert_eq!((ready.as_str(), reason.as_str(), restarts.as_str()), want, "{status}");
        }
    }
}
