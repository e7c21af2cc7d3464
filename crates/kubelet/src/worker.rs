//! The worker of one pod: looks, decides, acts, tells; again when something changes.

mod start;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_base::Shutdown;
use longshore_client::recorder::Severity;
use longshore_client::resource::{NODES, PODS, RUNTIME_CLASSES};
use longshore_cri::v1::*;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::backoff::Backoff;
use crate::env::ConfigError;
use crate::eviction::{self, Eviction};
use crate::observe::{self, Known, Observed, State, observe};
use crate::plan::{self, Plan, Why};
use crate::resize::Resizes;
use crate::status::{self, Waiting};
use crate::stops::{Stop, Stops};
use crate::tell::tell;
use crate::{Shared, admit, images, probes, sandbox, volumes};

/// How long until the next attempt after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// How often the files of a pod's volumes are brought up to date.
///
/// upstream: pkg/kubelet syncFrequency
const REFRESH: Duration = Duration::from_secs(60);
/// The grace period of a pod that names none.
const GRACE_DEFAULT: i64 = 30;

/// Why a look failed, whatever it comes from.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The worker of one pod.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: watch::Receiver<Option<Arc<Object>>>,
    poke: Arc<Notify>,
    /// What the runtime has of the pod, when that is known and it need not be asked.
    next: Option<Observed>,
    known: Known,
    backoff: Backoff,
    /// Containers that were started in this step, by id.
    started: Vec<String>,
    /// After what was known without asking, the runtime is asked.
    look_again: bool,
    waiting: Waiting,
    stops: Stops,
    resizes: Resizes,
    /// Containers that were stopped to be started anew at once, by id.
    renewed: HashSet<String>,
    /// The pod was active for longer than it may be.
    late: bool,
    /// Why the node ends the pod, if it does.
    evicted: Option<Eviction>,
    /// The pod may run here.
    admitted: bool,
    /// When the pod began to end.
    ending: Option<Timestamp>,
    /// When the files of volumes were written last, and for which labels and annotations.
    refreshed: Option<(Timestamp, Value)>,
    told: Option<Value>,
    last: Arc<Object>,
    /// When to look again, if nothing happens before.
    again: Option<Duration>,
}

impl Worker {
    /// A worker for a pod; `pod` turns to `None` when the API no longer has it. Of a `fresh` one the
    /// runtime has nothing yet.
    pub(crate) fn new(
        shared: Arc<Shared>,
        pod: watch::Receiver<Option<Arc<Object>>>,
        first: Arc<Object>,
        poke: Arc<Notify>,
        fresh: bool,
    ) -> Self {
        Self {
            shared,
            pod,
            poke,
            next: fresh.then(Observed::default),
            known: Known::new(),
            backoff: Backoff::default(),
            started: Vec::new(),
            look_again: false,
            waiting: HashMap::new(),
            stops: Stops::default(),
            resizes: Resizes::default(),
            renewed: HashSet::new(),
            late: false,
            evicted: None,
            admitted: false,
            ending: None,
            refreshed: None,
            told: None,
            last: first,
            again: None,
        }
    }

    /// Works until the pod is gone from the API and from the runtime.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        loop {
            self.again = None;
            let pod = self.pod.borrow_and_update().clone();
            if let Some(pod) = &pod {
                self.last = pod.clone();
            }
            match Box::pin(self.step(pod.is_none())).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    let (namespace, name) = (self.last.namespace(), self.last.name());
                    tracing::debug!(namespace, name, %error, "look at the pod again");
                    self.again = Some(RETRY);
                }
            }
            let refresh = if volumes::may_change(&self.last) { REFRESH } else { Duration::MAX };
            let pause = self.again.unwrap_or(refresh).min(refresh);
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.pod.changed() => if changed.is_err() { return },
                () = self.poke.notified() => {}
                () = tokio::time::sleep(pause.min(Duration::from_secs(86_400))) => {}
            }
        }
    }

    /// One look and what follows from it. True when the pod is gone for good.
    async fn step(&mut self, gone: bool) -> Result<bool, Failure> {
        let pod = self.last.clone();
        let observed = match self.next.take() {
            Some(observed) => observed,
            None => observe(&self.shared.runtime, pod.uid(), &mut self.known).await?,
        };
        let again = std::mem::take(&mut self.look_again);
        self.late = self.is_late(&pod);
        self.evicted = self.shared.evictions.why(pod.uid());
        let ends = gone || pod.is_deleting() || self.late || self.evicted.is_some();
        if ends && self.ending.is_none() {
            self.ending = Some(self.shared.clock.now());
        }
        if !ends && let Err(refusal) = self.admit_here(&pod, &observed).await {
            return self.refuse(&pod, refusal).await;
        }
        if !ends && observed == Observed::default() && is_refused(&pod) {
            return Ok(false); // it stays until somebody deletes it
        }
        let specs = self.resizes.specs(&pod);
        let mut plan = plan::decide(&pod, &observed, ends, &|name| match (
            observed.newest(name),
            specs.get(name),
        ) {
            (Some(container), Some(spec)) => self.shared.probes.health(&container.id, spec),
            _ => plan::Health::default(),
        });
        self.watch_health(&pod, &observed, &specs, ends);
        if !ends {
            self.refresh(&pod, &observed).await;
        }
        let finished = plan.finished;
        if finished || gone {
            self.shared.ledger.release(pod.uid());
            self.shared.ports.release(pod.uid());
        } else if !ends {
            let restarts = self.resizes.look(&self.shared, &pod, &observed, &specs);
            plan.stop.extend(restarts.into_iter().map(|id| (id, Why::Resized)));
        }
        let status = self.news(&pod, &observed, finished, gone);
        if finished {
            self.told = tell(&self.shared, &pod, status).await?.or(self.told.take());
            return self.finish(&pod, gone).await;
        }
        // Told beside what is done, which does not depend on it.
        let shared = self.shared.clone();
        let told = tell(&shared, &pod, status);
        let acted = Box::pin(self.act(&pod, &observed, &specs, plan, ends));
        let (told, acted) = tokio::join!(told, acted);
        if acted || again {
            self.poke.notify_one();
        }
        self.told = told?.or(self.told.take());
        Ok(false)
    }

    /// Whether a pod may run here. Labels of the node may have changed just before, so one that
    /// asks for others is looked at again with the newest.
    async fn admit_here(
        &mut self,
        pod: &Object,
        observed: &Observed,
    ) -> Result<(), admit::Refusal> {
        let outcome = self.admit(pod, observed);
        if !matches!(&outcome, Err(refusal) if refusal.reason == admit::NODE_AFFINITY) {
            return outcome;
        }
        match self.shared.client.get(NODES, "", &self.shared.config.node_name).await {
            Ok(node) => self.shared.nodes.wait_for(&node).await,
            Err(_) => return outcome,
        }
        self.admit(pod, observed)
    }

    /// Whether a pod may run here; a new one may be refused.
    fn admit(&mut self, pod: &Object, observed: &Observed) -> Result<(), admit::Refusal> {
        let over = matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed");
        if over {
            return Ok(());
        }
        let known = pod.list(&["status", "containerStatuses"]).is_empty();
        let fresh = known && *observed == Observed::default();
        if fresh && !self.admitted {
            admit::check(pod)?;
            if let Some(node) = self.shared.nodes.get("", &self.shared.config.node_name) {
                admit::check_node(pod, &node)?;
            }
            self.shared.evictions.check(pod, self.shared.clock.now())?;
        }
        if !self.admitted {
            self.shared.ports.claim(pod, fresh)?;
        }
        let outcome = self.resizes.allocate(&self.shared, pod, fresh, &self.poke);
        outcome.map_err(|lack| {
            self.shared.ports.release(pod.uid());
            admit::Refusal { reason: format!("OutOf{}", lack.resource), message: lack.to_string() }
        })?;
        self.admitted = true;
        Ok(())
    }

    /// Tells that a pod does not run here.
    ///
    /// upstream: pkg/kubelet/kubelet.go rejectPod
    async fn refuse(&self, pod: &Object, refusal: admit::Refusal) -> Result<bool, Failure> {
        let admit::Refusal { reason, message } = refusal;
        self.shared.recorder.event(pod, Severity::Warning, &reason, &message);
        let mut status = pod.get(&["status"]).cloned().unwrap_or_else(|| json!({}));
        status["phase"] = "Failed".into();
        status["reason"] = reason.into();
        status["message"] = format!("Pod was rejected: {message}").into();
        tell(&self.shared, pod, Some(status)).await?;
        Ok(false)
    }

    /// Whether a pod has been active for longer than it may be.
    ///
    /// upstream: pkg/kubelet/active_deadline.go
    fn is_late(&mut self, pod: &Object) -> bool {
        if pod.str(&["status", "reason"]) == status::DEADLINE {
            return true;
        }
        let Some(limit) = pod.int(&["spec", "activeDeadlineSeconds"]) else { return false };
        let start: Option<Timestamp> = pod.str(&["status", "startTime"]).parse().ok();
        let over = matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed");
        let Some(start) = start.filter(|_| !over) else { return false };
        let left = start.as_second() + limit - self.shared.clock.now().as_second();
        if left > 0 {
            let left = Duration::from_secs(left.unsigned_abs());
            self.again = Some(self.again.map_or(left, |again| again.min(left)));
        }
        left <= 0
    }

    /// Brings the files of volumes up to date, from time to time and when the pod's own fields
    /// changed.
    async fn refresh(&mut self, pod: &Object, observed: &Observed) {
        let runs = observed.containers.iter().any(|c| c.state == State::Running);
        if !runs || !volumes::may_change(pod) {
            return;
        }
        if let Err(error) = self.prepare(pod).await {
            tracing::debug!(pod = pod.name(), %error, "the volumes are not up to date");
        }
    }

    /// Makes the volumes, unless that was done a moment ago.
    async fn prepare(&mut self, pod: &Object) -> Result<(), ConfigError> {
        let now = self.shared.clock.now();
        let fields =
            json!([pod.get(&["metadata", "labels"]), pod.get(&["metadata", "annotations"])]);
        let age =
            |at: Timestamp| now.duration_since(at).as_secs() >= REFRESH.as_secs().cast_signed();
        if self.refreshed.as_ref().is_some_and(|(at, seen)| *seen == fields && !age(*at)) {
            return Ok(());
        }
        let made = volumes::prepare(&self.shared, pod).await;
        self.refreshed = made.is_ok().then_some((now, fields));
        made
    }

    /// Begins to probe what runs, and forgets what does not.
    fn watch_health(
        &self,
        pod: &Arc<Object>,
        observed: &Observed,
        specs: &HashMap<String, Value>,
        ends: bool,
    ) {
        let ip = self.ip(pod, observed);
        for container in &observed.containers {
            let running = container.state == State::Running;
            if ends && running {
                self.shared.probes.ending(&container.id);
            }
            match (specs.get(&container.name), &ip) {
                (Some(_), Some(_)) if running && ends => {}
                (Some(spec), Some(ip)) if running => {
                    probes::begin(&self.shared, pod, spec, &container.id, ip, &self.poke);
                }
                _ => self.shared.probes.forget(&container.id),
            }
        }
    }

    fn status(&self, pod: &Object, observed: &Observed, finished: bool) -> Value {
        status::of(&status::Facts {
            pod,
            observed,
            waiting: &self.waiting,
            verdict: &|id| self.shared.probes.get(id),
            resizes: &self.resizes,
            host_ip: &self.shared.config.node_ip.to_string(),
            now: self.shared.clock.now(),
            finished,
            late: self.late,
            evicted: self.evicted.as_ref(),
        })
    }

    /// The status, if it changed since it was told.
    fn news(&self, pod: &Object, observed: &Observed, finished: bool, gone: bool) -> Option<Value> {
        if gone {
            return None;
        }
        let status = self.status(pod, observed, finished);
        let old = pod.get(&["status"]) == Some(&status) || self.told.as_ref() == Some(&status);
        (!old).then_some(status)
    }

    /// Nothing runs any more: a deleted pod leaves the API, and then the disk.
    async fn finish(&mut self, pod: &Object, gone: bool) -> Result<bool, Failure> {
        if !pod.is_deleting() && !gone {
            return Ok(false); // ended by itself: it stays until somebody deletes it
        }
        if !gone {
            let options = json!({ "gracePeriodSeconds": 0, "preconditions": { "uid": pod.uid() } });
            match self.shared.client.delete(PODS, pod.namespace(), pod.name(), options).await {
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                outcome => drop(outcome?),
            }
        }
        let observed = observe(&self.shared.runtime, pod.uid(), &mut self.known).await?;
        for sandbox in observed.sandboxes {
            let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.id };
            self.shared.runtime.remove_pod_sandbox(request).await?;
        }
        volumes::remove(&self.shared, pod.uid());
        images::forget(&self.shared, pod.uid());
        self.shared.evictions.forget(pod.uid());
        self.shared.tokens.forget(pod.uid());
        let logs = sandbox::logs_dir(&self.shared, pod);
        if let Err(error) = std::fs::remove_dir_all(&logs)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %logs.display(), %error, "cannot remove a pod's logs");
        }
        Ok(true)
    }

    /// Carries out a plan. True when something was done, so that a new look is worth it.
    async fn act(
        &mut self,
        pod: &Arc<Object>,
        observed: &Observed,
        specs: &HashMap<String, Value>,
        plan: Plan,
        ends: bool,
    ) -> bool {
        let mut done = false;
        for (id, why) in plan.stop {
            if !matches!(why, Why::PodEnds | Why::SandboxGone) {
                self.renewed.insert(id.clone());
            }
            self.stop(pod, observed, specs, &id, why);
        }
        if !ends {
            done |= self.resizes.apply(&self.shared, pod, observed, specs).await;
            if self.resizes.has_failed() {
                self.again = Some(RETRY);
            }
        }
        for id in &plan.stop_sandboxes {
            let request = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
            match self.shared.runtime.stop_pod_sandbox(request).await {
                Ok(_) => done = true,
                Err(error) => {
                    self.failed(pod, "FailedKillPod", &format!("error killing pod: {error}"))
                }
            }
            if !ends {
                let request = RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
                if let Err(error) = self.shared.runtime.remove_pod_sandbox(request).await {
                    tracing::debug!(%error, "a sandbox could not be removed yet");
                }
            }
        }
        if let Some(attempt) = plan.make_sandbox {
            let fresh = *observed == Observed::default();
            return self.make_sandbox(pod, attempt, fresh).await || done;
        }
        self.started.clear();
        for name in &plan.start {
            if let Some(spec) = specs.get(name) {
                done |= self.start(pod, observed, spec).await;
            }
        }
        if !self.started.is_empty() {
            // They are told of at once; the look after that sees what happened to others meanwhile.
            let (seen, ids) = (observed.clone(), std::mem::take(&mut self.started));
            let look = observe::new_containers(&self.shared.runtime, seen, &ids, &mut self.known);
            self.next = look.await.ok();
            self.look_again = true;
        }
        done
    }

    fn failed(&mut self, pod: &Object, reason: &str, message: &str) {
        self.shared.recorder.event(pod, Severity::Warning, reason, message);
        self.again = Some(RETRY);
    }

    /// Makes a sandbox; for a `fresh` pod the first one, before which there was nothing. True when it was made.
    async fn make_sandbox(&mut self, pod: &Arc<Object>, attempt: u32, fresh: bool) -> bool {
        if let Err(error) = self.prepare(pod).await {
            let text = format!("MountVolume.SetUp failed: {error}");
            self.failed(pod, "FailedMount", &text);
            return false;
        }
        let config = match sandbox::config(&self.shared, pod, attempt) {
            Ok(config) => config,
            Err(error) => {
                let text = format!("Failed to create pod sandbox: {error}");
                self.failed(pod, "FailedCreatePodSandBox", &text);
                return false;
            }
        };
        if let Err(error) = std::fs::create_dir_all(&config.log_directory) {
            self.failed(
                pod,
                "FailedCreatePodSandBox",
                &format!("cannot make the log folder: {error}"),
            );
            return false;
        }
        let runtime_handler = match self.runtime_handler(pod).await {
            Ok(handler) => handler,
            Err(error) => {
                let text = format!("Failed to create pod sandbox: {error}");
                self.failed(pod, "FailedCreatePodSandBox", &text);
                return false;
            }
        };
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler };
        match self.shared.runtime.run_pod_sandbox(request).await {
            Ok(made) => {
                // Of a new pod there is nothing else; if the look fails, the next one tells.
                let first = observe::first_sandbox(&self.shared.runtime, &made.pod_sandbox_id);
                self.next = if fresh { first.await.ok() } else { None };
                true
            }
            Err(error) => {
                let text = format!("Failed to create pod sandbox: {error}");
                self.failed(pod, "FailedCreatePodSandBox", &text);
                false
            }
        }
    }

    /// What the runtime calls the runtime class of a pod.
    ///
    /// upstream: pkg/kubelet/runtimeclass/runtimeclass_manager.go
    async fn runtime_handler(&self, pod: &Object) -> Result<String, Failure> {
        let name = pod.str(&["spec", "runtimeClassName"]);
        if name.is_empty() {
            return Ok(String::new());
        }
        let class = self.shared.client.find(RUNTIME_CLASSES, "", name).await?;
        let class = class.ok_or_else(|| format!("RuntimeClass {name:?} not found"))?;
        Ok(class.str(&["handler"]).to_owned())
    }

    /// Begins to stop a container.
    fn stop(
        &self,
        pod: &Arc<Object>,
        observed: &Observed,
        specs: &HashMap<String, Value>,
        id: &str,
        why: Why,
    ) {
        let Some(container) = observed.containers.iter().find(|c| c.id == id) else { return };
        let spec = specs.get(&container.name).cloned().unwrap_or(Value::Null);
        let grace = self.grace(pod, &spec, &why);
        let ip = self.ip(pod, observed).unwrap_or_default();
        let (id, name) = (id.to_owned(), container.name.clone());
        let stop = Stop { pod: pod.clone(), spec, id, name, ip, why, grace };
        self.stops.begin(&self.shared, stop, &self.poke);
    }

    /// The seconds that a container has from now on.
    ///
    /// upstream: pkg/kubelet/kuberuntime/kuberuntime_container.go setTerminationGracePeriod
    fn grace(&self, pod: &Object, spec: &Value, why: &Why) -> i64 {
        let of_probe = match why {
            Why::Unhealthy => spec["livenessProbe"]["terminationGracePeriodSeconds"].as_i64(),
            Why::NotStarted => spec["startupProbe"]["terminationGracePeriodSeconds"].as_i64(),
            _ => None,
        };
        let whole = pod.int(&["metadata", "deletionGracePeriodSeconds"]).or(of_probe);
        let whole = whole.or(pod.int(&["spec", "terminationGracePeriodSeconds"]));
        let mut whole = whole.unwrap_or(GRACE_DEFAULT);
        if self.evicted.is_some() {
            whole = whole.min(eviction::GRACE);
        }
        // What others took before is gone from the pod's time.
        let later = *why == Why::PodEnds && plan::is_sidecar(spec);
        let since = self.ending.filter(|_| later);
        let gone = since.map_or(0, |at| self.shared.clock.now().duration_since(at).as_secs());
        (whole - gone).max(0)
    }

    /// The address of a pod.
    fn ip(&self, pod: &Object, observed: &Observed) -> Option<String> {
        if pod.bool(&["spec", "hostNetwork"]) {
            return Some(self.shared.config.node_ip.to_string());
        }
        observed.sandbox().and_then(|s| s.ips.first().cloned())
    }
}

/// Whether a pod was refused by its node, and never ran.
fn is_refused(pod: &Object) -> bool {
    let nothing = pod.list(&["status", "containerStatuses"]).is_empty();
    nothing && pod.str(&["status", "phase"]) == "Failed"
}
