//! When memory, disk or process numbers run out, the node says so, takes no more pods, and ends
//! one pod after another until there is enough again.
//!
//! upstream: pkg/kubelet/eviction/eviction_manager.go

mod rank;
pub mod signals;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use longshore_api::quantity::Quantity;
use longshore_api::{Object, placement};
use longshore_base::{Shutdown, TaskKind};
use longshore_client::Informer;
use longshore_client::recorder::Severity;
use longshore_cri::v1::*;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use self::signals::{Condition, Level, Signal, Threshold};
use crate::admit::Refusal;
use crate::pods::Pods;
use crate::{Shared, volumes};

/// How often is looked at what is left.
///
/// upstream: pkg/kubelet/kubelet.go evictionMonitoringPeriod
const PERIOD: Duration = Duration::from_secs(10);
/// How long a node says that it lacks something after it was seen last, in seconds.
///
/// upstream: pkg/kubelet/apis/config/v1beta1/defaults.go EvictionPressureTransitionPeriod
const TRANSITION_SECONDS: i64 = 300;
/// How long a pod that goes may take before the next one goes, in seconds.
///
/// upstream: pkg/kubelet/eviction podCleanupTimeout
const CLEANUP_SECONDS: i64 = 30;
/// Why a pod ended, and why one was not taken.
pub(crate) const EVICTED: &str = "Evicted";
/// The seconds that the containers of a pod have when it goes.
///
/// upstream: pkg/kubelet/eviction immediateEvictionGracePeriodSeconds
pub(crate) const GRACE: i64 = 1;

/// Why the node ends a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eviction {
    /// In words.
    pub(crate) why: String,
    /// The node lacked something; otherwise it is the pod's own fault.
    pub(crate) is_disruption: bool,
}

/// What other parts of the agent need to know.
#[derive(Default)]
pub(crate) struct Evictions {
    /// Why pods go, by uid.
    chosen: Mutex<HashMap<String, Eviction>>,
    /// When each lack was seen last.
    seen: Mutex<BTreeMap<Condition, Timestamp>>,
    /// Told when the node begins or ceases to lack something.
    pub(crate) changed: Notify,
}

impl Evictions {
    /// Why a pod goes, if it does.
    pub(crate) fn why(&self, uid: &str) -> Option<Eviction> {
        self.chosen.lock().get(uid).cloned()
    }

    /// A pod is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.chosen.lock().remove(uid);
    }

    /// Whether the node lacks something.
    pub(crate) fn lacks(&self, what: Condition, now: Timestamp) -> bool {
        let seen = self.seen.lock();
        seen.get(&what).is_some_and(|at| now.as_second() - at.as_second() < TRANSITION_SECONDS)
    }

    /// Refuses a new pod when the node lacks something: with too little memory those that ask for
    /// nothing, otherwise all.
    pub(crate) fn check(&self, pod: &Object, now: Timestamp) -> Result<(), Refusal> {
        let all = [Condition::Disk, Condition::Memory, Condition::Pid];
        let lacking: Vec<Condition> = all.into_iter().filter(|c| self.lacks(*c, now)).collect();
        if lacking.is_empty() || rank::is_critical(pod) {
            return Ok(());
        }
        let taint = json!({ "key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule" });
        let tolerations = pod.list(&["spec", "tolerations"]);
        let modest = pod.str(&["status", "qosClass"]) == "BestEffort"
            && !placement::tolerated(tolerations, &taint);
        if lacking == [Condition::Memory] && !modest {
            return Ok(());
        }
        let names: Vec<&str> = lacking.into_iter().map(Condition::name).collect();
        let message = format!("The node had condition: [{}]. ", names.join(" "));
        Err(Refusal { reason: EVICTED.to_owned(), message })
    }
}

struct Manager {
    shared: Arc<Shared>,
    informer: Informer,
    pods: Pods,
    /// Where images lie; nothing until the runtime has told it.
    images: Option<PathBuf>,
    /// The pod that goes, and since when.
    going: Option<(String, Timestamp)>,
}

/// Starts to look at what is left.
pub(crate) fn start(shared: Arc<Shared>, informer: Informer, pods: Pods, shutdown: Shutdown) {
    let mut manager = Manager { shared, informer, pods, images: None, going: None };
    longshore_base::spawn(TaskKind::Critical, "evictions", async move {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            Box::pin(manager.step()).await;
        }
    });
}

impl Manager {
    async fn step(&mut self) {
        let levels = self.levels().await;
        let mut met = self.met(&levels);
        let now = self.shared.clock.now();
        self.note(&met, now);
        if self.waits(now) {
            return;
        }
        let pods: Vec<Arc<Object>> =
            self.informer.list().into_iter().filter(|pod| may_go(pod)).collect();
        if let Some((pod, why)) = usage::overfull(&self.shared, &pods).await {
            return self.evict(&pod, Eviction { why, is_disruption: false }, now);
        }
        // Memory first: without it nothing else works.
        met.sort_by_key(|threshold| threshold.signal);
        let Some(threshold) = met.first().copied() else { return };
        let signal = threshold.signal;
        if let Some(node) = self.shared.nodes.get("", &self.shared.config.node_name) {
            let text = format!("Attempting to reclaim {}", signal.resource());
            self.shared.recorder.event(&node, Severity::Warning, "EvictionThresholdMet", &text);
        }
        if signal.condition() == Condition::Disk {
            self.free_images().await;
            let levels = self.levels().await;
            if self.met(&levels).is_empty() {
                return;
            }
        }
        let level = levels.get(&signal).copied().unwrap_or_default();
        let mut used = usage::of_pods(&self.shared, &pods).await;
        if signal == Signal::Pids {
            usage::count_processes(&mut used).await;
        }
        let candidates = pods.iter().filter_map(|pod| Some((&**pod, used.get(pod.uid())?)));
        let order = rank::order(candidates.collect(), signal);
        let Some((pod, usage)) = order.first() else {
            return tracing::warn!(resource = signal.resource(), "no pod can be evicted");
        };
        let why = format!(
            "The node was low on resource: {}. {}{}",
            signal.resource(),
            threshold.told(level),
            rank::blame(pod, usage, signal)
        );
        self.evict(pod, Eviction { why, is_disruption: true }, now);
    }

    fn met(&self, levels: &BTreeMap<Signal, Level>) -> Vec<Threshold> {
        let all = self.shared.config.eviction.iter();
        let met = all.filter(|t| levels.get(&t.signal).is_some_and(|level| t.is_met(*level)));
        met.copied().collect()
    }

    async fn levels(&mut self) -> BTreeMap<Signal, Level> {
        if self.images.is_none() {
            let answer = self.shared.runtime.image_fs_info(ImageFsInfoRequest::default()).await;
            let place = answer.ok().and_then(|answer| answer.image_filesystems.into_iter().next());
            self.images = place.and_then(|place| Some(place.fs_id?.mountpoint.into()));
        }
        let images = self.images.clone().unwrap_or_else(|| self.shared.config.root_dir.clone());
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (node_bytes, node_inodes) = signals::disk(&self.shared.config.root_dir);
        let (image_bytes, image_inodes) = signals::disk(&images);
        let pids = signals::pids(
            &read("/proc/sys/kernel/pid_max"),
            &read("/proc/sys/kernel/threads-max"),
            &read("/proc/loadavg"),
        );
        BTreeMap::from([
            (Signal::Memory, signals::memory(&read("/proc/meminfo"))),
            (Signal::NodeBytes, node_bytes),
            (Signal::NodeInodes, node_inodes),
            (Signal::ImageBytes, image_bytes),
            (Signal::ImageInodes, image_inodes),
            (Signal::Pids, pids),
        ])
    }

    /// Notes what the node lacks, and tells when that is news.
    fn note(&self, met: &[Threshold], now: Timestamp) {
        let evictions = &self.shared.evictions;
        for what in [Condition::Memory, Condition::Disk, Condition::Pid] {
            let is_met = met.iter().any(|threshold| threshold.signal.condition() == what);
            let before = evictions.seen.lock().contains_key(&what);
            if is_met {
                evictions.seen.lock().insert(what, now);
            } else if !evictions.lacks(what, now) {
                evictions.seen.lock().remove(&what);
            }
            let after = evictions.seen.lock().contains_key(&what);
            if before == after {
                continue;
            }
            evictions.changed.notify_one();
            let reason = match (what, after) {
                (Condition::Memory, true) => "NodeHasInsufficientMemory",
                (Condition::Memory, false) => "NodeHasSufficientMemory",
                (Condition::Disk, true) => "NodeHasDiskPressure",
                (Condition::Disk, false) => "NodeHasNoDiskPressure",
                (Condition::Pid, true) => "NodeHasInsufficientPID",
                (Condition::Pid, false) => "NodeHasSufficientPID",
            };
            let name = &self.shared.config.node_name;
            if let Some(node) = self.shared.nodes.get("", name) {
                let text = format!("Node {name} status is now: {reason}");
                self.shared.recorder.event(&node, Severity::Normal, reason, &text);
            }
        }
    }

    /// Whether the last pod that was chosen still goes.
    fn waits(&mut self, now: Timestamp) -> bool {
        let Some((uid, since)) = &self.going else { return false };
        let goes = self.informer.list().iter().any(|pod| pod.uid() == uid && is_active(pod));
        let waits = goes && now.as_second() - since.as_second() < CLEANUP_SECONDS;
        if !waits {
            self.going = None;
        }
        waits
    }

    fn evict(&mut self, pod: &Object, eviction: Eviction, now: Timestamp) {
        let (namespace, name) = (pod.namespace(), pod.name());
        tracing::warn!(namespace, name, why = eviction.why, "a pod is evicted");
        self.shared.recorder.event(pod, Severity::Warning, EVICTED, &eviction.why);
        self.shared.evictions.chosen.lock().insert(pod.uid().to_owned(), eviction);
        self.going = Some((pod.uid().to_owned(), now));
        self.pods.poke(pod.uid());
    }

    /// Removes the images that no container is made from.
    async fn free_images(&self) {
        let runtime = &self.shared.runtime;
        let containers = runtime.list_containers(ListContainersRequest::default());
        let images = runtime.list_images(ListImagesRequest::default());
        let (containers, images) = match tokio::try_join!(containers, images) {
            Ok((containers, images)) => (containers.containers, images.images),
            Err(error) => return tracing::debug!(%error, "the runtime does not tell its images"),
        };
        for image in images.into_iter().filter(|image| !image.pinned) {
            let used = containers.iter().any(|container| container.image_ref == image.id);
            if used {
                continue;
            }
            let spec = ImageSpec { image: image.id, ..ImageSpec::default() };
            let request = RemoveImageRequest { image: Some(spec) };
            if let Err(error) = runtime.remove_image(request).await {
                tracing::debug!(%error, "an image could not be removed");
            }
        }
    }
}

/// Whether something of a pod may run.
fn is_active(pod: &Object) -> bool {
    !matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed")
}

/// Whether a pod runs, and may be ended.
fn may_go(pod: &Object) -> bool {
    let has_begun = !pod.str(&["status", "startTime"]).is_empty();
    has_begun && is_active(pod) && !rank::is_critical(pod)
}

/// The limit of a volume that is a folder on the node's disk.
fn limit_of(volume: &Value) -> Option<i64> {
    let spec = &volume["emptyDir"];
    if spec["medium"].as_str().is_some_and(|medium| !medium.is_empty()) {
        return None;
    }
    Quantity::parse(spec["sizeLimit"].as_str()?).ok().map(Quantity::value).filter(|size| *size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(class: &str, spec: Value) -> Object {
        let pod = json!({ "metadata": {"name": "p"}, "spec": spec, "status": {"qosClass": class} });
        Object::from_value(pod).expect("an object")
    }

    #[test]
    fn a_node_that_lacks_something_takes_no_more() {
        let evictions = Evictions::default();
        let at = |second| Timestamp::from_second(second).expect("a time");
        let best = pod("BestEffort", json!({}));
        let burst = pod("Burstable", json!({}));
        assert_eq!(evictions.check(&best, at(0)), Ok(()));
        evictions.seen.lock().insert(Condition::Memory, at(0));
        let message = "The node had condition: [MemoryPressure]. ".to_owned();
        let refusal = Refusal { reason: EVICTED.to_owned(), message };
        assert_eq!(evictions.check(&best, at(10)), Err(refusal));
        assert_eq!(evictions.check(&burst, at(10)), Ok(()));
        let tolerations =
            json!([{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]);
        let tolerant = pod("BestEffort", json!({ "tolerations": tolerations }));
        assert_eq!(evictions.check(&tolerant, at(10)), Ok(()));
        evictions.seen.lock().insert(Condition::Disk, at(0));
        let refusal = evictions.check(&burst, at(10)).expect_err("the disk is full");
        assert_eq!(refusal.message, "The node had condition: [DiskPressure MemoryPressure]. ");
        let critical = pod("Burstable", json!({ "priority": 2_000_001_000 }));
        assert_eq!(evictions.check(&critical, at(10)), Ok(()));
        // Five minutes after it was seen last it is over.
        assert_eq!(evictions.check(&best, at(300)), Ok(()));
    }

    #[test]
    fn only_what_runs_and_is_not_critical_goes() {
        let may_go = |phase: &str, start: &str, priority: i64| {
            let pod = json!({
                "spec": {"priority": priority}, "status": {"phase": phase, "startTime": start},
            });
            may_go(&Object::from_value(pod).expect("an object"))
        };
        let start = "2026-01-01T00:00:00Z";
        assert!(may_go("Running", start, 0) && may_go("Pending", start, 0));
        assert!(!may_go("Pending", "", 0) && !may_go("Failed", start, 0));
        assert!(!may_go("Running", start, 2_000_000_000));
    }

    #[test]
    fn folders_have_limits() {
        let limit = |spec: Value| limit_of(&json!({ "name": "v", "emptyDir": spec }));
        assert_eq!(limit(json!({"sizeLimit": "1Mi"})), Some(1 << 20));
        assert_eq!(limit(json!({"sizeLimit": "1Mi", "medium": "Memory"})), None);
        assert_eq!(limit(json!({})), None);
    }
}
