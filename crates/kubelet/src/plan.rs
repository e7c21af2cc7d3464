//! What to do next for a pod: it follows from what is wanted, what the runtime has, and what the
//! probes say. Pure.
//!
//! upstream: pkg/kubelet/kuberuntime/kuberuntime_manager.go computePodActions

use std::collections::HashMap;

use longshore_api::Object;
use serde_json::Value;

use crate::observe::{Container, Observed, State};

/// What the probes say about a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// The startup probe has succeeded, or there is none.
    pub(crate) started: bool,
    /// A startup or liveness probe has failed for good.
    pub(crate) broken: bool,
}

/// Why a container is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The pod ends.
    PodEnds,
    /// A liveness probe failed.
    Unhealthy,
    /// A startup probe failed.
    NotStarted,
    /// What it had to do after its start failed.
    HookFailed,
    /// Its part of the spec changed.
    Changed,
    /// It gets other resources, which it wants to be started anew for.
    Resized,
    /// Its sandbox is gone.
    SandboxGone,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Containers to stop, by id.
    pub(crate) stop: Vec<(String, Why)>,
    /// Stop and forget these sandboxes once their containers have ended.
    pub(crate) stop_sandboxes: Vec<String>,
    /// Make a sandbox with this attempt number.
    pub(crate) make_sandbox: Option<u32>,
    /// Containers to start, by name.
    pub(crate) start: Vec<String>,
    /// Nothing of the pod runs any more, and nothing will.
    pub(crate) finished: bool,
}

/// The lists of containers in the spec of a pod.
pub(crate) const CONTAINER_FIELDS: [&str; 3] =
    ["initContainers", "containers", "ephemeralContainers"];

/// The names of the containers in a list of the spec.
fn names(pod: &Object, field: &str) -> Vec<String> {
    let list = pod.list(&["spec", field]).iter();
    list.filter_map(|c| c["name"].as_str().map(str::to_owned)).collect()
}

/// The containers of a pod by name.
pub(crate) fn specs(pod: &Object) -> HashMap<String, Value> {
    let all = CONTAINER_FIELDS.iter().flat_map(|f| pod.list(&["spec", f]));
    all.filter_map(|c| Some((c["name"].as_str()?.to_owned(), c.clone()))).collect()
}

/// Where a container stands in its pod, for events about it.
///
/// upstream: pkg/kubelet/container/ref.go
pub(crate) fn path(pod: &Object, name: &str) -> String {
    let has = |field: &&&str| pod.list(&["spec", field]).iter().any(|c| c["name"] == name);
    let field = CONTAINER_FIELDS.iter().find(has).unwrap_or(&"containers");
    format!("spec.{field}{{{name}}}")
}

fn spec_of<'a>(pod: &'a Object, name: &str) -> Option<&'a Value> {
    CONTAINER_FIELDS.iter().flat_map(|field| pod.list(&["spec", field])).find(|c| c["name"] == name)
}

/// A part of the spec in a short form that changes when it changes.
pub(crate) fn hash(spec: &Value) -> String {
    // Only the image may change while a container runs; everything else is fixed.
    let text = format!("{}\n{}", spec["name"], spec["image"]);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:x}")
}

/// Whether an init container runs beside the others.
pub(crate) fn is_sidecar(spec: &Value) -> bool {
    spec["restartPolicy"] == "Always"
}

fn restarts(pod: &Object, exit_code: i32) -> bool {
    match pod.str(&["spec", "restartPolicy"]) {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        _ => true,
    }
}

/// Decides. `health` tells what the probes say about a running container.
pub(crate) fn decide(
    pod: &Object,
    observed: &Observed,
    ends: bool,
    health: &dyn Fn(&str) -> Health,
) -> Plan {
    let mut plan = Plan::default();
    if ends || is_over(pod, observed) {
        end(pod, observed, &mut plan);
        return plan;
    }
    let sandbox = observed.sandbox().filter(|s| s.ready);
    let Some(sandbox) = sandbox else {
        for container in running(observed) {
            plan.stop.push((container.id.clone(), Why::SandboxGone));
        }
        plan.stop_sandboxes.extend(observed.sandboxes.iter().map(|s| s.id.clone()));
        let attempt = observed.sandboxes.iter().map(|s| s.attempt + 1).max().unwrap_or(0);
        plan.make_sandbox = Some(attempt);
        return plan;
    };
    // Older sandboxes are left over from a restart of the pod.
    plan.stop_sandboxes.extend(observed.sandboxes[1..].iter().map(|s| s.id.clone()));
    let in_sandbox = |name: &str| observed.newest(name).filter(|c| c.sandbox == sandbox.id);
    // Those for debugging start once, whatever the others do.
    let debuggers = names(pod, "ephemeralContainers").into_iter();
    plan.start.extend(debuggers.filter(|name| in_sandbox(name).is_none()));
    if !init_containers(pod, &in_sandbox, health, &mut plan) {
        return plan;
    }
    for name in names(pod, "containers") {
        let Some(spec) = spec_of(pod, &name) else { continue };
        match in_sandbox(&name) {
            None => plan.start.push(name),
            Some(c) if c.state == State::Running => {
                if c.hash != hash(spec) {
                    plan.stop.push((c.id.clone(), Why::Changed));
                } else if let Some(why) = unhealthy(health(&name)) {
                    plan.stop.push((c.id.clone(), why));
                }
            }
            Some(c) if c.state == State::Created => plan.start.push(name),
            Some(c) => {
                if c.hash != hash(spec) || restarts(pod, c.exit_code) {
                    plan.start.push(name);
                }
            }
        }
    }
    plan
}

/// Goes through the init containers in order. True when all are done and the others may start.
fn init_containers<'a>(
    pod: &Object,
    in_sandbox: &dyn Fn(&str) -> Option<&'a Container>,
    health: &dyn Fn(&str) -> Health,
    plan: &mut Plan,
) -> bool {
    // Once a main container has been started, the init containers are not looked at again, except
    // those that keep running.
    let begun = names(pod, "containers").iter().any(|name| in_sandbox(name).is_some());
    for spec in pod.list(&["spec", "initContainers"]) {
        let name = spec["name"].as_str().unwrap_or("");
        let found = in_sandbox(name);
        if is_sidecar(spec) {
            match found {
                Some(c) if c.state == State::Running => {
                    let health = health(name);
                    if let Some(why) = unhealthy(health) {
                        plan.stop.push((c.id.clone(), why));
                    }
                    if !health.started && !begun {
                        return false;
                    }
                }
                _ => {
                    plan.start.push(name.to_owned());
                    if !begun {
                        return false;
                    }
                }
            }
            continue;
        }
        if begun {
            continue;
        }
        match found {
            None => {
                plan.start.push(name.to_owned());
                return false;
            }
            Some(c) if c.state == State::Exited && c.exit_code == 0 => {}
            Some(c) if c.state == State::Exited => {
                if pod.str(&["spec", "restartPolicy"]) != "Never" {
                    plan.start.push(name.to_owned());
                }
                return false;
            }
            Some(c) if c.state == State::Created => {
                plan.start.push(name.to_owned());
                return false;
            }
            Some(_) => return false,
        }
    }
    true
}

fn unhealthy(health: Health) -> Option<Why> {
    let why = if health.started { Why::Unhealthy } else { Why::NotStarted };
    health.broken.then_some(why)
}

fn running(observed: &Observed) -> impl Iterator<Item = &Container> {
    observed.containers.iter().filter(|c| matches!(c.state, State::Running | State::Created))
}

/// Whether a pod has ended by itself: every container ended and none is started again, or an init
/// container failed for good.
pub(crate) fn is_over(pod: &Object, observed: &Observed) -> bool {
    if matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed") {
        return true;
    }
    let never = pod.str(&["spec", "restartPolicy"]) == "Never";
    let init_failed = pod.list(&["spec", "initContainers"]).iter().any(|spec| {
        let newest = observed.newest(spec["name"].as_str().unwrap_or(""));
        let failed = newest.is_some_and(|c| c.state == State::Exited && c.exit_code != 0);
        never && failed && !is_sidecar(spec)
    });
    let names = names(pod, "containers");
    let all_ended = names.iter().all(|name| {
        let newest = observed.newest(name);
        newest.is_some_and(|c| c.state == State::Exited && !restarts(pod, c.exit_code))
    });
    init_failed || (all_ended && !names.is_empty())
}

/// Ends the containers: those that run beside the others after them, the last one first.
///
/// upstream: pkg/kubelet/kuberuntime/kuberuntime_termination_order.go
fn end(pod: &Object, observed: &Observed, plan: &mut Plan) {
    let place = |c: &Container| {
        let list = pod.list(&["spec", "initContainers"]);
        list.iter().position(|spec| is_sidecar(spec) && spec["name"] == c.name.as_str())
    };
    let main = running(observed).filter(|c| place(c).is_none());
    plan.stop.extend(main.map(|c| (c.id.clone(), Why::PodEnds)));
    if plan.stop.is_empty() {
        let last = running(observed).max_by_key(|c| place(c));
        plan.stop.extend(last.map(|c| (c.id.clone(), Why::PodEnds)));
    }
    if plan.stop.is_empty() {
        let ready = observed.sandboxes.iter().filter(|s| s.ready);
        plan.stop_sandboxes.extend(ready.map(|s| s.id.clone()));
        plan.finished = plan.stop_sandboxes.is_empty();
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(crate) mod tests;
