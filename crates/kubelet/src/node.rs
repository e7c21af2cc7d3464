//! The node itself: its registration, its status, and the lease that says that it lives.
//!
//! upstream: pkg/kubelet/kubelet_node_status.go, pkg/kubelet/nodestatus, nodelease

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_base::rng::Rng;
use longshore_base::{Shutdown, TaskKind};
use longshore_client::resource::{LEASES, NODES};
use longshore_client::{Error, Patch};
use longshore_cri::v1::{ListImagesRequest, StatusRequest, VersionResponse};
use serde_json::{Value, json};

use crate::eviction::signals::Condition;
use crate::{Shared, cni};

/// How often the lease is renewed.
const LEASE_PERIOD: Duration = Duration::from_secs(10);
/// How long the lease is good for, in seconds.
const LEASE_SECONDS: i64 = 40;
/// How often the status is looked at.
const STATUS_PERIOD: Duration = Duration::from_secs(10);
/// How often until the node is ready: its network comes soon after its address.
const STATUS_PERIOD_STARTING: Duration = Duration::from_millis(100);
/// How often the status is written when nothing changed, in seconds.
const REPORT_SECONDS: i64 = 300;
/// How often the images are listed, in seconds.
///
/// upstream: pkg/kubelet/images/image_gc_manager.go
const IMAGES_SECONDS: i64 = 30;
/// Images that are told, and names of each.
///
/// upstream: pkg/kubelet/apis/config/v1beta1/defaults.go NodeStatusMaxImages, pkg/kubelet/nodestatus/setters.go
const IMAGES_MAX: usize = 50;
const IMAGE_NAMES_MAX: usize = 5;
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Memory that is kept for the system, in bytes.
const RESERVED_MEMORY: u64 = 100 << 20;

/// What a node may lack: reason and message while it does, and while it does not.
type Pressure = (Condition, (&'static str, &'static str), (&'static str, &'static str));

/// upstream: pkg/kubelet/nodestatus/setters.go
const PRESSURES: [Pressure; 3] = [
    (
        Condition::Memory,
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    (
        Condition::Disk,
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ),
    (
        Condition::Pid,
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
];

struct Node {
    shared: Arc<Shared>,
    version: VersionResponse,
    written: Timestamp,
    images: Value,
    images_listed: Timestamp,
}

/// Starts the tasks of the node.
pub(crate) fn start(
    shared: Arc<Shared>,
    version: VersionResponse,
    _rng: Arc<dyn Rng>,
    shutdown: &Shutdown,
) {
    let lease = keep_lease(shared.clone(), shutdown.clone());
    longshore_base::spawn(TaskKind::Critical, "node lease", lease);
    let shutdown = shutdown.clone();
    longshore_base::spawn(TaskKind::Critical, "node status", async move {
        let mut node = Node {
            shared,
            version,
            written: Timestamp::UNIX_EPOCH,
            images: json!([]),
            images_listed: Timestamp::UNIX_EPOCH,
        };
        node.run(&shutdown).await;
    });
}

async fn keep_lease(shared: Arc<Shared>, shutdown: Shutdown) {
    let mut tick = tokio::time::interval(LEASE_PERIOD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = renew(&shared).await {
            tracing::debug!(%error, "the node could not tell that it lives");
        }
    }
}

async fn renew(shared: &Shared) -> Result<(), Error> {
    let name = &shared.config.node_name;
    let now = shared.clock.now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let spec = json!({
        "holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now,
    });
    let Some(mut lease) = shared.client.find(LEASES, LEASE_NAMESPACE, name).await? else {
        let Some(node) = shared.nodes.get("", name) else { return Ok(()) };
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec,
            "metadata": {
                "name": name, "namespace": LEASE_NAMESPACE,
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Node", "name": name, "uid": node.uid(),
                }],
            },
        });
        return shared.client.create(LEASES, &lease).await.map(drop);
    };
    lease.set(&["spec"], spec);
    shared.client.update(LEASES, &lease).await.map(drop)
}

impl Node {
    async fn run(&mut self, shutdown: &Shutdown) {
        loop {
            let ready = match self.step().await {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::warn!(%error, "the node's status could not be written");
                    false
                }
            };
            let pause = if ready { STATUS_PERIOD } else { STATUS_PERIOD_STARTING };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                () = self.shared.evictions.changed.notified() => {}
            }
        }
    }

    /// Brings registration and status up to date; tells whether the node is ready.
    async fn step(&mut self) -> Result<bool, Error> {
        let name = self.shared.config.node_name.clone();
        self.shared.nodes.synced().await;
        let node = match self.shared.nodes.get("", &name) {
            Some(node) => node,
            None => {
                let made = match self.shared.client.create(NODES, &self.registration()).await {
                    Err(error) if error.is_already_exists() => {
                        self.shared.client.get(NODES, "", &name).await?
                    }
                    outcome => outcome?,
                };
                Arc::new(made)
            }
        };
        if let (Some(dir), cidr) =
            (&self.shared.config.cni_conf_dir, node.str(&["spec", "podCIDR"]))
            && !cidr.is_empty()
            && let Err(error) = cni::write(dir, &self.shared.config.root_dir.join("cni"), cidr)
        {
            tracing::warn!(path = %dir.display(), %error, "cannot write the network configuration");
        }
        let now = self.shared.clock.now();
        let (ready, problem) = self.runtime_state().await;
        self.list_images(now).await;
        let mut changed = (*node).clone();
        self.fill_status(&mut changed, ready, &problem, now);
        let due = now.as_second() - self.written.as_second() >= REPORT_SECONDS;
        if without_beats(&changed) != without_beats(&node) || due {
            // A patch: others change taints and resources all the time.
            let patch = Patch::Strategic(patch(&node, &changed));
            let written = self.shared.client.patch(NODES, "", &name, "status", &patch).await?;
            self.shared.nodes.wait_for(&written).await;
            self.written = now;
        }
        Ok(ready)
    }

    /// Looks at the images from time to time: the largest first.
    async fn list_images(&mut self, now: Timestamp) {
        if now.as_second() - self.images_listed.as_second() < IMAGES_SECONDS {
            return;
        }
        let mut list = match self.shared.runtime.list_images(ListImagesRequest::default()).await {
            Ok(answer) => answer.images,
            Err(error) => return tracing::debug!(%error, "the runtime does not tell its images"),
        };
        list.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        list.truncate(IMAGES_MAX);
        let shown = list.into_iter().map(|image| {
            let mut names = image.repo_digests;
            names.extend(image.repo_tags);
            names.truncate(IMAGE_NAMES_MAX);
            json!({ "names": names, "sizeBytes": image.size })
        });
        self.images = shown.collect();
        self.images_listed = now;
    }

    fn registration(&self) -> Value {
        let name = &self.shared.config.node_name;
        let labels = json!({
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": arch(), "beta.kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": arch(),
        });
        let mut node = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": labels },
        }))
        .expect("built as an object");
        let now = self.shared.clock.now();
        self.fill_status(&mut node, false, "the node is starting", now);
        node.into_value()
    }

    /// Whether the runtime and its network can be used.
    async fn runtime_state(&self) -> (bool, String) {
        let answer = match self.shared.runtime.status(StatusRequest::default()).await {
            Ok(answer) => answer.status.unwrap_or_default(),
            Err(error) => return (false, format!("container runtime is down: {error}")),
        };
        for condition in answer.conditions {
            if condition.status {
                continue;
            }
            let what = if condition.r#type == "NetworkReady" {
                "container runtime network not ready"
            } else {
                "container runtime not ready"
            };
            let text = format!(
                "{what}: {}=false reason:{} message:{}",
                condition.r#type, condition.reason, condition.message
            );
            return (false, text);
        }
        (true, String::new())
    }

    fn fill_status(&self, node: &mut Object, ready: bool, problem: &str, now: Timestamp) {
        let config = &self.shared.config;
        node.set(
            &["status", "addresses"],
            json!([
                { "type": "InternalIP", "address": config.node_ip.to_string() },
                { "type": "Hostname", "address": config.node_name },
            ]),
        );
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let memory = memory_bytes();
        let disk = disk_bytes(&config.root_dir);
        let resources = |memory: u64, disk: u64| {
            [
                ("cpu", cpus.to_string()),
                ("memory", format!("{}Ki", memory / 1024)),
                ("ephemeral-storage", format!("{}Ki", disk / 1024)),
                ("pods", config.max_pods.to_string()),
                ("hugepages-1Gi", "0".to_owned()),
                ("hugepages-2Mi", "0".to_owned()),
            ]
        };
        let allocatable = resources(memory.saturating_sub(RESERVED_MEMORY), disk / 10 * 9);
        set_resources(node, resources(memory, disk), allocatable);
        node.set(
            &["status", "daemonEndpoints"],
            json!({ "kubeletEndpoint": { "Port": config.port } }),
        );
        node.set(&["status", "images"], self.images.clone());
        let runtime = format!("{}://{}", self.version.runtime_name, self.version.runtime_version);
        node.set(
            &["status", "nodeInfo"],
            json!({
                "machineID": read("/etc/machine-id"),
                "systemUUID": read("/sys/class/dmi/id/product_uuid"),
                "bootID": read("/proc/sys/kernel/random/boot_id"),
                "kernelVersion": read("/proc/sys/kernel/osrelease"),
                "osImage": os_image(), "containerRuntimeVersion": runtime,
                "kubeletVersion": config.version, "kubeProxyVersion": "",
                "operatingSystem": "linux", "architecture": arch(),
            }),
        );
        for (what, bad, good) in PRESSURES {
            let words = if self.shared.evictions.lacks(what, now) {
                ["True", bad.0, bad.1]
            } else {
                ["False", good.0, good.1]
            };
            set_condition(node, what.name(), words, now);
        }
        let words = if ready {
            ["True", "KubeletReady", "kubelet is posting ready status"]
        } else {
            ["False", "KubeletNotReady", problem]
        };
        set_condition(node, "Ready", words, now);
    }
}

/// The fields that this agent tells; conditions have a patch of their own.
const TOLD: [&str; 6] =
    ["addresses", "capacity", "allocatable", "daemonEndpoints", "images", "nodeInfo"];

/// The patch that makes a node's status what it should be, and leaves what others write: with an
/// update, their change of a taint would seem to be ours.
///
/// upstream: staging/src/k8s.io/component-helpers/node/util/status.go PatchNodeStatus
fn patch(old: &Object, new: &Object) -> Value {
    let part = |field: &str| new.get(&["status", field]).cloned().unwrap_or(Value::Null);
    let told = TOLD.into_iter().map(|field| (field.to_owned(), part(field)));
    let mut status = Value::Object(told.collect());
    // They are joined with those that are there.
    if let Some(list) = status["addresses"].as_array_mut() {
        list.insert(0, json!({ "$patch": "replace" }));
    }
    let before = old.get(&["status", "allocatable"]).and_then(Value::as_object);
    for resource in before.into_iter().flat_map(|all| all.keys()) {
        if status["allocatable"][resource].is_null() {
            status["allocatable"][resource] = Value::Null;
        }
    }
    let own = |kind: &Value| kind == "Ready" || PRESSURES.iter().any(|p| kind == p.0.name());
    let conditions = new.list(&["status", "conditions"]).iter();
    status["conditions"] = conditions.filter(|c| own(&c["type"])).cloned().collect();
    json!({ "metadata": { "uid": old.uid() }, "status": status })
}

/// Sets the resources that this agent knows. Somebody may have told of others: all of those are
/// there for pods.
///
/// upstream: pkg/kubelet/nodestatus/setters.go MachineInfo
fn set_resources<const N: usize>(
    node: &mut Object,
    capacity: [(&str, String); N],
    allocatable: [(&str, String); N],
) {
    let mut all = node.get(&["status", "capacity"]).cloned().unwrap_or_else(|| json!({}));
    for (resource, amount) in capacity {
        all[resource] = amount.into();
    }
    node.set(&["status", "capacity"], all.clone());
    for (resource, amount) in allocatable {
        all[resource] = amount.into();
    }
    node.set(&["status", "allocatable"], all);
}

fn set_condition(node: &mut Object, kind: &str, words: [&str; 3], now: Timestamp) {
    let [status, reason, message] = words;
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut list = node.list(&["status", "conditions"]).to_vec();
    let since = list
        .iter()
        .find(|c| c["type"] == kind && c["status"] == status)
        .map_or_else(|| Value::from(now.clone()), |c| c["lastTransitionTime"].clone());
    let condition = json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": since,
    });
    match list.iter_mut().find(|c| c["type"] == kind) {
        Some(slot) => *slot = condition,
        None => list.push(condition),
    }
    node.set(&["status", "conditions"], list);
}

/// A status without the times of the last report, which change every time.
fn without_beats(node: &Object) -> Value {
    let mut status = node.get(&["status"]).cloned().unwrap_or(Value::Null);
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastHeartbeatTime"] = Value::Null;
    }
    status
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn os_image() -> String {
    let text = read("/etc/os-release");
    let line = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches('"').to_owned()
}

fn memory_bytes() -> u64 {
    let text = read("/proc/meminfo");
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn disk_bytes(path: &std::path::Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |stat| stat.f_blocks * stat.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(status: Value) -> Object {
        let taints = json!([{ "key": "k", "effect": "NoSchedule" }]);
        let node = json!({ "metadata": { "name": "n", "uid": "u" }, "spec": { "taints": taints }, "status": status });
        Object::from_value(node).expect("an object")
    }

    #[test]
    fn a_status_says_nothing_of_what_others_write() {
        let ready = |status: &str| json!({ "type": "Ready", "status": status });
        let foreign = json!({ "type": "NetworkUnavailable", "status": "True" });
        let address = json!({ "type": "InternalIP", "address": "192.0.2.1" });
        let old = node(json!({
            "allocatable": { "cpu": "1", "example.com/gone": "1" }, "volumesAttached": [{}],
            "conditions": [ready("False"), foreign],
        }));
        let new = node(json!({
            "allocatable": { "cpu": "1" }, "volumesAttached": [{}], "addresses": [address],
            "conditions": [ready("True"), foreign],
        }));
        let patch = patch(&old, &new);
        assert_eq!(patch["metadata"], json!({ "uid": "u" }));
        assert!(patch.get("spec").is_none() && patch["status"].get("volumesAttached").is_none());
        assert_eq!(patch["status"]["conditions"], json!([ready("True")]));
        assert_eq!(patch["status"]["addresses"], json!([{ "$patch": "replace" }, address]));
        let left = json!({ "cpu": "1", "example.com/gone": null });
        assert_eq!(patch["status"]["allocatable"], left);
    }

    #[test]
    fn resources_that_others_told_of_stay() {
        let mut node = node(json!({
            "capacity": { "cpu": "1", "example.com/new": "4" },
            "allocatable": { "cpu": "1", "example.com/gone": "1" },
        }));
        let amount = |amount: &str| [("cpu", amount.to_owned())];
        set_resources(&mut node, amount("8"), amount("7"));
        let told = |field: &str| node.get(&["status", field]).cloned().unwrap_or_default();
        assert_eq!(told("capacity"), json!({ "cpu": "8", "example.com/new": "4" }));
        assert_eq!(told("allocatable"), json!({ "cpu": "7", "example.com/new": "4" }));
    }
}
