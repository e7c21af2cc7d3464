//! What a pod's status says. Pure.
//!
//! upstream: pkg/kubelet/kubelet_pods.go, pkg/kubelet/status/generate.go

use std::collections::HashMap;

use jiff::Timestamp;
use longshore_api::Object;
use serde_json::{Value, json};

use crate::eviction::{EVICTED, Eviction};
use crate::observe::{Container, Observed, State};
use crate::plan::is_sidecar;
use crate::probes::Verdict;
use crate::resize::{IN_PROGRESS, PENDING, Resizes};

/// Why a container waits: reason and message, by name.
pub(crate) type Waiting = HashMap<String, (String, String)>;

/// What the status is made from.
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Object,
    pub(crate) observed: &'a Observed,
    pub(crate) waiting: &'a Waiting,
    pub(crate) verdict: &'a dyn Fn(&str) -> Option<Verdict>,
    pub(crate) resizes: &'a Resizes,
    pub(crate) host_ip: &'a str,
    pub(crate) now: Timestamp,
    /// Nothing runs any more, and nothing will.
    pub(crate) finished: bool,
    /// The pod was active for longer than it may be.
    pub(crate) late: bool,
    /// Why the node ends the pod, if it does.
    pub(crate) evicted: Option<&'a Eviction>,
}

/// Why a pod that was active for too long failed.
///
/// upstream: pkg/kubelet/active_deadline.go
pub(crate) const DEADLINE: &str = "DeadlineExceeded";

fn time(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into())
}

fn ended(container: &Container) -> Value {
    let reason = match (container.reason.as_str(), container.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    let mut state = json!({
        "exitCode": container.exit_code, "reason": reason,
        "startedAt": time(container.started.or(Some(container.created))),
        "finishedAt": time(container.finished),
        "containerID": format!("containerd://{}", container.id),
    });
    if !container.message.is_empty() {
        state["message"] = container.message.as_str().into();
    }
    json!({ "terminated": state })
}

/// The three kinds of containers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Init,
    Main,
    Ephemeral,
}

impl Kind {
    /// Where the status of such containers stands.
    fn field(self) -> &'static str {
        match self {
            Self::Init => "initContainerStatuses",
            Self::Main => "containerStatuses",
            Self::Ephemeral => "ephemeralContainerStatuses",
        }
    }
}

/// The mounts of a container as its status shows them.
fn mounts(spec: &Value) -> Option<Value> {
    let mounts = spec["volumeMounts"].as_array().filter(|list| !list.is_empty())?;
    let shown = mounts.iter().map(|mount| {
        let mut shown = json!({ "name": mount["name"], "mountPath": mount["mountPath"] });
        if mount["readOnly"] == true {
            shown["readOnly"] = true.into();
            shown["recursiveReadOnly"] = "Disabled".into();
        }
        shown
    });
    Some(shown.collect())
}

/// The status of a container that the runtime does not have: it waits, or it is not known how it
/// ended.
fn missing(
    facts: &Facts<'_>,
    mut status: Value,
    before: Option<&Value>,
    kind: Kind,
    initial: &str,
    waiting: Option<&(String, String)>,
) -> Value {
    if let Some(before) = before {
        if before["state"]["terminated"].is_object() {
            return before.clone();
        }
        status["restartCount"] = before["restartCount"].clone();
        status["lastState"] = before["lastState"].clone();
        if before["state"]["running"].is_object() && kind == Kind::Main {
            let text = "The container could not be located when the pod was deleted.  The container used to be Running";
            let end = json!({
                "exitCode": 137, "reason": "ContainerStatusUnknown", "message": text,
                "startedAt": null, "finishedAt": null,
            });
            if facts.finished {
                status["state"] = json!({ "terminated": end });
                return status;
            }
            if !status["lastState"]["terminated"].is_object() {
                status["lastState"] = json!({ "terminated": end });
                if !facts.pod.is_deleting() {
                    let count = status["restartCount"].as_i64().unwrap_or(0) + 1;
                    status["restartCount"] = count.into();
                }
            }
        }
    }
    let (reason, message) = waiting.cloned().unwrap_or((initial.to_owned(), String::new()));
    status["state"] = wait(&reason, &message);
    status
}

/// The status of one container of the spec.
fn container_status(facts: &Facts<'_>, spec: &Value, kind: Kind) -> Value {
    let init = kind == Kind::Init;
    let name = spec["name"].as_str().unwrap_or("");
    let before = facts.pod.list(&["status", kind.field()]).iter().find(|s| s["name"] == name);
    let newest = facts.observed.newest(name);
    let previous = facts.observed.previous(name);
    let waiting = facts.waiting.get(name);
    let mut status = json!({
        "name": name, "image": spec["image"], "imageID": "", "ready": false, "restartCount": 0,
        "started": false, "lastState": {},
    });
    if let Some(mounts) = mounts(spec) {
        status["volumeMounts"] = mounts;
    }
    let waits_for_init = !facts.pod.list(&["spec", "initContainers"]).is_empty();
    let initial = if waits_for_init { "PodInitializing" } else { "ContainerCreating" };
    let Some(container) = newest else {
        return missing(facts, status, before, kind, initial, waiting);
    };
    if kind != Kind::Ephemeral {
        let (applied, given) = facts.resizes.shown(spec, Some(container));
        status["resources"] = if applied.is_object() { applied } else { json!({}) };
        if given["requests"].is_object() {
            status["allocatedResources"] = given["requests"].clone();
        }
    }
    if !container.image.is_empty() {
        status["image"] = container.image.as_str().into();
    }
    status["containerID"] = format!("containerd://{}", container.id).into();
    status["imageID"] = container.image_id.as_str().into();
    status["restartCount"] = container.attempt.into();
    let verdict = (facts.verdict)(&container.id);
    match container.state {
        State::Running => {
            let started = verdict.is_none_or(|v| v.started) && spec["startupProbe"].is_null()
                || verdict.is_some_and(|v| v.started);
            let ready = match verdict {
                Some(v) => v.ready && v.started,
                None => spec["readinessProbe"].is_null() && spec["startupProbe"].is_null(),
            };
            status["state"] = json!({ "running": { "startedAt": time(container.started) } });
            status["started"] = started.into();
            status["ready"] = (ready && (!init || is_sidecar(spec))).into();
            if let Some(previous) = previous {
                status["lastState"] = ended(previous);
            }
        }
        State::Exited => match waiting {
            Some((reason, message)) if !facts.finished => {
                status["state"] = wait(reason, message);
                status["lastState"] = ended(container);
            }
            _ => {
                status["state"] = ended(container);
                if let Some(previous) = previous {
                    status["lastState"] = ended(previous);
                }
                // A finished init container counts as ready.
                status["ready"] = (init && container.exit_code == 0).into();
            }
        },
        State::Created | State::Unknown => {
            let (reason, message) = waiting.cloned().unwrap_or((initial.to_owned(), String::new()));
            status["state"] = wait(&reason, &message);
            if let Some(previous) = previous {
                status["lastState"] = ended(previous);
            }
        }
    }
    status
}

fn wait(reason: &str, message: &str) -> Value {
    let mut waiting = json!({ "reason": reason });
    if !message.is_empty() {
        waiting["message"] = message.into();
    }
    json!({ "waiting": waiting })
}

/// upstream: pkg/kubelet/kubelet_pods.go getPhase
fn phase(facts: &Facts<'_>, statuses: &[Value], init: &[Value], initialized: bool) -> &'static str {
    let policy = facts.pod.str(&["spec", "restartPolicy"]);
    let exit = |s: &Value| s["state"]["terminated"]["exitCode"].as_i64();
    if policy == "Never" && init.iter().any(|s| exit(s).is_some_and(|code| code != 0)) {
        return "Failed";
    }
    if !initialized {
        return "Pending";
    }
    let all_ended = !statuses.is_empty() && statuses.iter().all(|s| exit(s).is_some());
    if all_ended {
        let failed = statuses.iter().any(|s| exit(s) != Some(0));
        return match policy {
            "Always" if !facts.finished => "Running",
            "OnFailure" if failed && !facts.finished => "Running",
            _ if failed => "Failed",
            _ => "Succeeded",
        };
    }
    let begun = statuses.iter().any(|s| {
        s["state"]["running"].is_object()
            || s["state"]["terminated"].is_object()
            || s["lastState"]["terminated"].is_object()
    });
    let all_begun = statuses
        .iter()
        .all(|s| s["state"]["waiting"].is_null() || s["lastState"]["terminated"].is_object());
    if begun && all_begun { "Running" } else { "Pending" }
}

/// Gives the containers of a pod at its end an end, too: those that never ran, once their turn had come.
///
/// upstream: pkg/kubelet/status/status_manager.go TerminatePod
fn close(init: &mut [Value], main: &mut [Value]) {
    let over = |s: &Value| s["state"]["terminated"].is_object();
    let begun =
        |s: &Value| s["state"]["waiting"].is_null() || s["lastState"]["terminated"].is_object();
    let initialized = main.iter().any(begun)
        || init.last().is_none_or(|s| s["state"]["terminated"]["exitCode"] == 0);
    let tried = init.iter().rposition(begun).map_or(usize::from(!init.is_empty()), |last| last + 1);
    let main = if initialized { main } else { &mut [] };
    for status in init[..tried].iter_mut().chain(main).filter(|s| !over(s)) {
        status["state"] = json!({ "terminated": {
            "exitCode": 137, "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the pod was terminated",
            "startedAt": null, "finishedAt": null,
        }});
    }
}

/// The whole status of a pod.
pub(crate) fn of(facts: &Facts<'_>) -> Value {
    let pod = facts.pod;
    let init_specs = pod.list(&["spec", "initContainers"]);
    let mut init: Vec<Value> =
        init_specs.iter().map(|spec| container_status(facts, spec, Kind::Init)).collect();
    let initialized = init_specs.iter().zip(&init).all(|(spec, s)| {
        if is_sidecar(spec) {
            s["started"] == true
        } else {
            s["state"]["terminated"]["exitCode"] == 0
        }
    }) || pod
        .list(&["spec", "containers"])
        .iter()
        .any(|spec| facts.observed.newest(spec["name"].as_str().unwrap_or("")).is_some());
    let mut main: Vec<Value> = pod
        .list(&["spec", "containers"])
        .iter()
        .map(|spec| container_status(facts, spec, Kind::Main))
        .collect();
    main.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let debuggers = pod.list(&["spec", "ephemeralContainers"]).iter();
    let debuggers: Vec<Value> =
        debuggers.map(|spec| container_status(facts, spec, Kind::Ephemeral)).collect();
    if facts.finished {
        close(&mut init, &mut main);
    }
    let was = pod.str(&["status", "phase"]);
    let phase = match was {
        // An end is final.
        "Succeeded" | "Failed" => was,
        _ if facts.late || facts.evicted.is_some() => match was {
            // Who counts the ends of pods must not take for free what still runs.
            _ if facts.finished => "Failed",
            "" => "Pending",
            _ => was,
        },
        _ => match phase(facts, &main, &init, initialized) {
            // Nothing runs any more: a pod that could not begin has failed.
            "Pending" | "Running" if facts.finished => "Failed",
            phase => phase,
        },
    };
    let mut status = pod.get(&["status"]).cloned().unwrap_or_else(|| json!({}));
    status["phase"] = phase.into();
    let fails_now = phase == "Failed" && was != phase;
    if let Some(eviction) = facts.evicted.filter(|_| fails_now) {
        status["reason"] = EVICTED.into();
        status["message"] = eviction.why.as_str().into();
    } else if facts.late && fails_now {
        status["reason"] = DEADLINE.into();
        status["message"] = "Pod was active on the node longer than the specified deadline".into();
    }
    status["hostIP"] = facts.host_ip.into();
    status["hostIPs"] = json!([{ "ip": facts.host_ip }]);
    status["observedGeneration"] = pod.generation().into();
    if status["startTime"].is_null() {
        status["startTime"] = time(Some(facts.now));
    }
    let ips: Vec<String> = if pod.bool(&["spec", "hostNetwork"]) {
        vec![facts.host_ip.to_owned()]
    } else {
        facts.observed.sandbox().map_or_else(Vec::new, |s| s.ips.clone())
    };
    if let Some(ip) = ips.first() {
        status["podIP"] = ip.as_str().into();
        status["podIPs"] = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    }
    conditions(facts, &mut status, phase, initialized, &main, &init);
    if let Some(Eviction { why, .. }) = facts.evicted.filter(|e| e.is_disruption && fails_now) {
        note_disruption(&mut status, pod, why, facts.now);
    }
    status["containerStatuses"] = main.into();
    if !init.is_empty() {
        status["initContainerStatuses"] = init.into();
    }
    if !debuggers.is_empty() {
        status["ephemeralContainerStatuses"] = debuggers.into();
    }
    status
}

/// Says that the pod did not end by itself.
fn note_disruption(status: &mut Value, pod: &Object, why: &str, now: Timestamp) {
    const KIND: &str = "DisruptionTarget";
    let Some(list) = status["conditions"].as_array_mut() else { return };
    if list.iter().any(|condition| condition["type"] == KIND) {
        return;
    }
    list.push(json!({
        "type": KIND, "status": "True", "reason": "TerminationByKubelet", "message": why,
        "observedGeneration": pod.generation(), "lastProbeTime": null,
        "lastTransitionTime": time(Some(now)),
    }));
}

fn conditions(
    facts: &Facts<'_>,
    status: &mut Value,
    phase: &str,
    initialized: bool,
    main: &[Value],
    init: &[Value],
) {
    let over = matches!(phase, "Succeeded" | "Failed");
    // In the order of the spec, those that run beside the others first.
    let names = |field: &str, list: &[Value], lacks: &dyn Fn(&Value, &Value) -> bool| {
        let specs = facts.pod.list(&["spec", field]).iter();
        let lacking = specs.filter(|spec| {
            list.iter().find(|s| s["name"] == spec["name"]).is_none_or(|s| lacks(spec, s))
        });
        lacking.filter_map(|spec| spec["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let beside = names("initContainers", init, &|spec, s| is_sidecar(spec) && s["ready"] != true);
    let unready = names("containers", main, &|_, s| s["ready"] != true);
    let unready = [beside, unready].concat().join(" ");
    let incomplete = names("initContainers", init, &|spec, s| {
        if is_sidecar(spec) { s["started"] != true } else { s["ready"] != true }
    });
    let incomplete = incomplete.join(" ");
    let gates = gates(facts);
    let completed = if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" };
    let containers = if over {
        ("False", completed, String::new())
    } else if unready.is_empty() {
        ("True", "", String::new())
    } else {
        ("False", "ContainersNotReady", format!("containers with unready status: [{unready}]"))
    };
    let ready = if containers.0 == "True" && !gates.is_empty() {
        ("False", "ReadinessGatesNotReady", gates)
    } else {
        containers.clone()
    };
    let begun = if initialized && phase == "Succeeded" {
        ("True", "PodCompleted", String::new())
    } else if initialized {
        ("True", "", String::new())
    } else {
        let text = format!("containers with incomplete status: [{incomplete}]");
        ("False", "ContainersNotInitialized", text)
    };
    let sandbox = facts.observed.sandbox().is_some_and(|s| s.ready);
    let sandbox = (if sandbox { "True" } else { "False" }, "", String::new());
    for (kind, (value, reason, message)) in [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", begun),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", ("True", "", String::new())),
    ] {
        set_condition(status, facts, kind, value, reason, &message);
    }
    let resizes = if over { Vec::new() } else { facts.resizes.conditions() };
    for (kind, reason, message) in &resizes {
        set_condition(status, facts, kind, "True", reason, message);
    }
    if let Some(list) = status["conditions"].as_array_mut() {
        let ours = |c: &Value| c["type"] == PENDING || c["type"] == IN_PROGRESS;
        list.retain(|c| !ours(c) || resizes.iter().any(|(kind, ..)| c["type"] == *kind));
    }
}

/// What the readiness gates lack.
///
/// upstream: pkg/kubelet/status/generate.go GeneratePodReadyCondition
fn gates(facts: &Facts<'_>) -> String {
    let conditions = facts.pod.list(&["status", "conditions"]);
    let lacks = facts.pod.list(&["spec", "readinessGates"]).iter().filter_map(|gate| {
        let kind = gate["conditionType"].as_str().unwrap_or("");
        match conditions.iter().find(|c| c["type"] == kind) {
            None => Some(format!(
                "corresponding condition of pod readiness gate {kind:?} does not exist."
            )),
            Some(c) if c["status"] == "True" => None,
            Some(c) => Some(format!(
                "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                c["status"].as_str().unwrap_or("")
            )),
        }
    });
    lacks.collect::<Vec<_>>().join(", ")
}

fn set_condition(
    status: &mut Value,
    facts: &Facts<'_>,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let list = status["conditions"].as_array_mut().expect("made a list just above");
    let present = list.iter().find(|c| c["type"] == kind);
    let since = present
        .filter(|c| c["status"] == value)
        .map_or_else(|| time(Some(facts.now)), |c| c["lastTransitionTime"].clone());
    let mut condition = json!({
        "type": kind, "status": value, "lastProbeTime": null, "lastTransitionTime": since,
        "observedGeneration": facts.pod.generation(),
    });
    if !reason.is_empty() {
        condition["reason"] = reason.into();
    }
    if !message.is_empty() {
        condition["message"] = message.into();
    }
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(slot) => *slot = condition,
        None => list.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_the_end(init: &[&str], finished: bool) -> Value {
        let list =
            |names: &[&str]| -> Value { names.iter().map(|n| json!({ "name": n })).collect() };
        let pod = Object::from_value(json!({ "spec": {
            "restartPolicy": "Always", "initContainers": list(init), "containers": list(&["c"]),
        }}))
        .expect("an object");
        shown(&pod, finished, false, None)
    }

    /// The status of a pod of which nothing was observed.
    fn shown(pod: &Object, finished: bool, late: bool, evicted: Option<&Eviction>) -> Value {
        of(&Facts {
            pod,
            observed: &Observed::default(),
            waiting: &Waiting::new(),
            verdict: &|_| None,
            resizes: &Resizes::default(),
            host_ip: "192.0.2.1",
            now: Timestamp::UNIX_EPOCH,
            finished,
            late,
            evicted,
        })
    }

    /// Phase, reason and disruption of a pod that runs and that the node ends.
    fn ended_by_the_node(finished: bool, late: bool, evicted: Option<&Eviction>) -> [Value; 3] {
        let pod = Object::from_value(json!({
            "spec": { "restartPolicy": "Never", "containers": [{ "name": "c" }] },
            "status": { "phase": "Running" },
        }))
        .expect("an object");
        let status = shown(&pod, finished, late, evicted);
        let list = status["conditions"].as_array().cloned().unwrap_or_default();
        let disruption = list.into_iter().find(|c| c["type"] == "DisruptionTarget");
        [status["phase"].clone(), status["reason"].clone(), disruption.unwrap_or_default()]
    }

    /// upstream: pkg/kubelet/status/status_manager.go mergePodStatus
    #[test]
    fn a_pod_that_the_node_ends_has_failed_when_nothing_runs_any_more() {
        let eviction = |is_disruption| Eviction { why: "too much".to_owned(), is_disruption };
        for (late, evicted) in [(true, None), (false, Some(eviction(true)))] {
            let [phase, reason, disruption] = ended_by_the_node(false, late, evicted.as_ref());
            assert_eq!([phase, reason, disruption], [json!("Running"), Value::Null, Value::Null]);
        }
        let [phase, reason, _] = ended_by_the_node(true, true, None);
        assert_eq!([phase, reason], ["Failed", DEADLINE]);
        let [phase, reason, disruption] = ended_by_the_node(true, true, Some(&eviction(true)));
        assert_eq!([phase, reason], ["Failed", EVICTED]);
        assert_eq!(disruption["message"], "too much");
        // Its own fault is no disruption.
        let [_, reason, disruption] = ended_by_the_node(true, false, Some(&eviction(false)));
        assert_eq!([reason, disruption], [json!(EVICTED), Value::Null]);
    }

    #[test]
    fn a_pod_that_never_began_has_failed_at_its_end() {
        assert_eq!(at_the_end(&[], false)["phase"], "Pending");
        let status = at_the_end(&[], true);
        assert_eq!(status["phase"], "Failed");
        let end = &status["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(
            (&end["exitCode"], &end["reason"]),
            (&json!(137), &json!("ContainerStatusUnknown"))
        );

        let status = at_the_end(&["a", "b"], true);
        assert_eq!(status["phase"], "Failed");
        let init = &status["initContainerStatuses"];
        assert_eq!(init[0]["state"]["terminated"]["exitCode"], 137);
        // Their turn had not come.
        assert!(init[1]["state"]["waiting"].is_object(), "{status}");
        assert!(status["containerStatuses"][0]["state"]["waiting"].is_object(), "{status}");
    }

    #[test]
    fn what_runs_beside_the_others_has_to_be_ready_too() {
        let pod = Object::from_value(json!({ "spec": {
            "initContainers": [
                { "name": "first" },
                { "name": "side", "restartPolicy": "Always" },
            ],
            "containers": [{ "name": "b" }, { "name": "a" }],
        }}))
        .expect("an object");
        let of = |name: &str, ready: bool| json!({ "name": name, "ready": ready, "started": true });
        let condition = |side: bool, main: bool, kind: &str| {
            let facts = Facts {
                pod: &pod,
                observed: &Observed::default(),
                waiting: &Waiting::new(),
                verdict: &|_| None,
                resizes: &Resizes::default(),
                host_ip: "192.0.2.1",
                now: Timestamp::UNIX_EPOCH,
                finished: false,
                late: false,
                evicted: None,
            };
            let (main, init) =
                ([of("a", main), of("b", main)], [of("first", true), of("side", side)]);
            let mut status = json!({});
            conditions(&facts, &mut status, "Running", false, &main, &init);
            let list = status["conditions"].as_array().cloned().unwrap_or_default();
            list.into_iter().find(|c| c["type"] == kind).unwrap_or_default()
        };
        assert_eq!(condition(true, true, "Ready")["status"], "True");
        let unready = condition(false, true, "Ready");
        assert_eq!(unready["message"], "containers with unready status: [side]");
        let unready = condition(false, false, "ContainersReady");
        assert_eq!(unready["message"], "containers with unready status: [side b a]");
        let begun = condition(false, true, "Initialized");
        assert_eq!(begun["message"], "containers with incomplete status: []");
    }
}
