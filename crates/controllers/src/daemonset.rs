//! DaemonSets: a pod on every node that wants one.
//!
//! upstream: pkg/controller/daemon

mod update;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use longshore_api::{Object, placement};
use longshore_client::recorder::Severity;
use longshore_client::resource::{CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Queue};
use serde_json::{Value, json};

use crate::common::{
    Key, claim, follow, follow_orphans, follow_owned, is_available, is_ready, key_of,
};
use crate::history::{self, History, REVISION_LABEL};
use crate::{Context, pods};

/// Workers side by side.
const WORKERS: usize = 2;
/// Pods that one look creates or deletes at most.
///
/// upstream: pkg/controller/daemon BurstReplicas
const BURST_MAX: usize = 250;
/// How long a failed pod is left before it is replaced.
const FAILED_PAUSE: Duration = Duration::from_secs(1);
/// The annotation with the number of the template, from before there were revisions.
const GENERATION: &str = "deprecated.daemonset.template.generation";

/// The claimed pods of each node.
type ByNode = BTreeMap<String, Vec<Arc<Object>>>;

#[derive(Clone)]
struct Controller {
    ctx: Context,
    sets: Informer,
    pods: Informer,
    nodes: Informer,
    revisions: Informer,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (sets, pods) = (ctx.caches.get(DAEMON_SETS), ctx.caches.get(PODS));
    let (nodes, revisions) = (ctx.caches.get(NODES), ctx.caches.get(CONTROLLER_REVISIONS));
    follow(&sets, &queue);
    follow_owned(&pods, "DaemonSet", &queue);
    follow_orphans(&sets, &pods, &queue);
    follow_owned(&revisions, "DaemonSet", &queue);
    follow_nodes(&nodes, &sets, &queue);
    let controller = Controller { ctx, sets, pods, nodes, revisions };
    let shutdown = controller.ctx.shutdown.clone();
    workers::run("daemonset-controller", queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

/// A node that comes, goes, or changes its labels or taints matters to every set.
fn follow_nodes(nodes: &Informer, sets: &Informer, queue: &Queue<Key>) {
    use longshore_client::informer::Change;
    let (sets, queue) = (sets.clone(), queue.clone());
    nodes.on_change(move |change| {
        if let Change::Applied { old: Some(old), new } = change {
            let look = |o: &Object| (o.labels().cloned(), o.list(&["spec", "taints"]).to_vec());
            if look(old) == look(new) {
                return;
            }
        }
        sets.list().iter().for_each(|set| queue.add(key_of(set)));
    });
}

impl Controller {
    async fn sync(&self, (namespace, name): Key) -> Outcome {
        for cache in [&self.sets, &self.pods, &self.nodes] {
            cache.synced().await;
        }
        let Some(set) = self.sets.get(&namespace, &name) else { return Ok(None) };
        let selector = set.get(&["spec", "selector"]).and_then(Value::as_object);
        if selector.is_none_or(serde_json::Map::is_empty) {
            let text = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.ctx.recorder.event(&set, Severity::Warning, "SelectingAll", text);
            return Ok(None);
        }
        if set.is_deleting() {
            return Ok(None);
        }
        let history = history::load(&self.ctx, &self.revisions, &set, REVISION_LABEL).await?;
        let hash = history.current.label(REVISION_LABEL).unwrap_or("").to_owned();
        let by_node = self.by_node(&set).await?;
        let (missing, surplus, mut again) = self.compare(&set, &by_node, &hash);
        self.change(&set, missing, surplus, &hash).await?;
        if set.str(&["spec", "updateStrategy", "type"]) != "OnDelete" {
            self.roll(&set, &hash).await?;
        }
        self.forget_revisions(&set, &history).await?;
        let wait = self.update_status(&set, &history, &hash).await?;
        again = [again, wait].into_iter().flatten().min();
        Ok(again)
    }

    async fn by_node(&self, set: &Object) -> Result<ByNode, Error> {
        let mut by_node = ByNode::new();
        for pod in claim(&self.ctx.client, PODS, &self.pods, set).await? {
            let terminal = matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed");
            if terminal && pod.is_deleting() {
                continue;
            }
            if let Some(node) = target_node(&pod) {
                by_node.entry(node).or_default().push(pod);
            }
        }
        Ok(by_node)
    }

    /// The nodes that lack a pod and the pods that are too many; and when to look again.
    fn compare(
        &self,
        set: &Object,
        by_node: &ByNode,
        hash: &str,
    ) -> (Vec<String>, Vec<Arc<Object>>, Option<Duration>) {
        let (mut missing, mut surplus, mut again) = (Vec::new(), Vec::new(), None);
        let surge = update::surge(set, by_node.len()) > 0;
        for node in self.nodes.list() {
            let pods = by_node.get(node.name()).map_or(&[][..], Vec::as_slice);
            let (run, stay) = should_run(set, &node);
            if run && pods.is_empty() {
                missing.push(node.name().to_owned());
            } else if !stay {
                surplus.extend(pods.iter().filter(|pod| !pod.is_deleting()).cloned());
            } else {
                let kept = self.replace_ended(set, &node, pods, &mut surplus, &mut again);
                surplus.extend(too_many(kept, surge, hash));
            }
        }
        for (node, pods) in by_node {
            if self.nodes.get("", node).is_none() {
                surplus.extend(pods.iter().filter(|pod| !pod.is_deleting()).cloned());
            }
        }
        (missing, surplus, again)
    }

    /// Pods that ended are replaced, failed ones after a pause; gives the others.
    fn replace_ended(
        &self,
        set: &Object,
        node: &Object,
        pods: &[Arc<Object>],
        surplus: &mut Vec<Arc<Object>>,
        again: &mut Option<Duration>,
    ) -> Vec<Arc<Object>> {
        let mut kept = Vec::new();
        for pod in pods.iter().filter(|pod| !pod.is_deleting()) {
            let place = format!("{}/{} on node {}", pod.namespace(), pod.name(), node.name());
            let (severity, reason, text) = match pod.str(&["status", "phase"]) {
                "Failed" if self.is_fresh(pod) => {
                    *again = Some(FAILED_PAUSE);
                    continue;
                }
                "Failed" => {
                    let text = format!("Found failed daemon pod {place}, will try to kill it");
                    (Severity::Warning, "FailedDaemonPod", text)
                }
                "Succeeded" => {
                    let text = format!("Found succeeded daemon pod {place}, will try to delete it");
                    (Severity::Normal, "SucceededDaemonPod", text)
                }
                _ => {
                    kept.push(pod.clone());
                    continue;
                }
            };
            self.ctx.recorder.event(set, severity, reason, &text);
            surplus.push(pod.clone());
        }
        kept
    }

    /// Whether a pod is so young that replacing it at once could become a hot loop with the node.
    fn is_fresh(&self, pod: &Object) -> bool {
        let created = pod.str(&["metadata", "creationTimestamp"]).parse::<jiff::Timestamp>();
        let age = created.map(|at| self.ctx.clock.now().as_second() - at.as_second());
        age.is_ok_and(|age| age < i64::try_from(FAILED_PAUSE.as_secs()).unwrap_or(1))
    }

    async fn change(
        &self,
        set: &Object,
        mut missing: Vec<String>,
        mut surplus: Vec<Arc<Object>>,
        hash: &str,
    ) -> Result<(), Error> {
        missing.truncate(BURST_MAX);
        surplus.truncate(BURST_MAX);
        let new: Vec<Object> = missing.iter().map(|node| pod_of(set, node, hash)).collect();
        let created = pods::create_slowly(&self.ctx, &self.pods, set, new).await;
        let deletions = surplus.iter().map(|pod| pods::delete(&self.ctx, &self.pods, set, pod));
        let deleted: Result<(), Error> = join_all(deletions).await.into_iter().collect();
        created.and(deleted)
    }

    async fn forget_revisions(&self, set: &Object, history: &History) -> Result<(), Error> {
        let pods = self.pods.owned_by(set.uid());
        let live = |revision: &Object| {
            let hash = revision.label(REVISION_LABEL);
            pods.iter().any(|pod| pod.label(REVISION_LABEL) == hash)
        };
        history::truncate(&self.ctx, set, history, live).await
    }

    async fn update_status(
        &self,
        set: &Object,
        history: &History,
        hash: &str,
    ) -> Result<Option<Duration>, Error> {
        let by_node = self.by_node(set).await?;
        let now = self.ctx.clock.now();
        let min_ready = set.int(&["spec", "minReadySeconds"]).unwrap_or(0);
        let (mut desired, mut current, mut wrong, mut ready) = (0, 0, 0, 0);
        let (mut updated, mut available, mut wait) = (0, 0, None::<i64>);
        for node in self.nodes.list() {
            let (run, _) = should_run(set, &node);
            let mut pods = by_node.get(node.name()).cloned().unwrap_or_default();
            let has = !pods.is_empty();
            if !run {
                wrong += i64::from(has);
                continue;
            }
            desired += 1;
            current += i64::from(has);
            pods.sort_by_key(|pod| pod.str(&["metadata", "creationTimestamp"]).to_owned());
            let Some(pod) = pods.first() else { continue };
            updated += i64::from(is_new(set, pod, hash));
            ready += i64::from(is_ready(pod));
            match is_available(pod, min_ready, now) {
                Ok(()) => available += 1,
                Err(left) => wait = [wait, left].into_iter().flatten().min(),
            }
        }
        let mut status = json!({
            "currentNumberScheduled": current, "numberMisscheduled": wrong,
            "desiredNumberScheduled": desired, "numberReady": ready,
        });
        for (field, count) in [
            ("observedGeneration", set.generation()),
            ("updatedNumberScheduled", updated),
            ("numberAvailable", available),
            ("numberUnavailable", desired - available),
        ] {
            if count != 0 {
                status[field] = count.into();
            }
        }
        if let Some(collisions) = history.collisions {
            status["collisionCount"] = collisions.into();
        }
        if !set.list(&["status", "conditions"]).is_empty() {
            status["conditions"] = set.list(&["status", "conditions"]).to_vec().into();
        }
        pods::write_status(&self.ctx, &self.sets, DAEMON_SETS, set, status).await?;
        Ok(wait.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs))
    }
}

/// The running pods of a node that are one too many: all but the oldest; while an update surges, one
/// of the old template may stay beside one of the new.
fn too_many(mut pods: Vec<Arc<Object>>, surge: bool, hash: &str) -> Vec<Arc<Object>> {
    pods.sort_by_key(|pod| {
        let unscheduled = pod.str(&["spec", "nodeName"]).is_empty();
        (unscheduled, pod.str(&["metadata", "creationTimestamp"]).to_owned(), pod.name().to_owned())
    });
    if !surge {
        return pods.split_off(1.min(pods.len()));
    }
    let (new, old): (Vec<_>, Vec<_>) =
        pods.into_iter().partition(|pod| pod.label(REVISION_LABEL) == Some(hash));
    new.into_iter().skip(1).chain(old.into_iter().skip(1)).collect()
}

/// Whether a pod was made from the present template.
fn is_new(set: &Object, pod: &Object, hash: &str) -> bool {
    let generation = set.annotation(GENERATION);
    pod.label(REVISION_LABEL) == Some(hash)
        || (generation.is_some() && pod.label("pod-template-generation") == generation)
}

/// The node that a pod is on or meant for.
fn target_node(pod: &Object) -> Option<String> {
    let node = pod.str(&["spec", "nodeName"]);
    if !node.is_empty() {
        return Some(node.to_owned());
    }
    let path = [
        "spec",
        "affinity",
        "nodeAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "nodeSelectorTerms",
    ];
    let fields = pod.list(&path).iter().flat_map(|t| t["matchFields"].as_array()).flatten();
    let mut names = fields.filter(|field| field["key"] == "metadata.name");
    names.find_map(|field| field["values"][0].as_str().map(str::to_owned))
}

/// Tolerations that daemon pods have on top of their own: they run where others may not.
///
/// upstream: pkg/controller/daemon/util/daemonset_util.go AddOrUpdateDaemonPodTolerations
fn tolerations(spec: &Value) -> Vec<Value> {
    let mut all = spec["tolerations"].as_array().cloned().unwrap_or_default();
    let mut extra = vec![
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    if spec["hostNetwork"] == true {
        extra.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    for (key, effect) in extra {
        let toleration = json!({ "key": key, "operator": "Exists", "effect": effect });
        all.retain(|t| *t != toleration);
        all.push(toleration);
    }
    all
}

/// Whether a set's pod should be put on a node, and whether one that is there may stay.
fn should_run(set: &Object, node: &Object) -> (bool, bool) {
    let empty = Value::Null;
    let spec = set.get(&["spec", "template", "spec"]).unwrap_or(&empty);
    let wanted = spec["nodeName"].as_str().unwrap_or("");
    if (!wanted.is_empty() && wanted != node.name()) || !placement::affinity_fits(spec, node) {
        return (false, false);
    }
    let tolerations = tolerations(spec);
    let taints = node.list(&["spec", "taints"]).iter();
    let mut repelling = taints.filter(|taint| {
        (taint["effect"] == "NoSchedule" || taint["effect"] == "NoExecute")
            && !placement::tolerated(&tolerations, taint)
    });
    let evicted = repelling.clone().any(|taint| taint["effect"] == "NoExecute");
    (repelling.next().is_none(), !evicted)
}

fn pod_of(set: &Object, node: &str, hash: &str) -> Object {
    let empty = Value::Null;
    let template = set.get(&["spec", "template"]).unwrap_or(&empty);
    let mut pod = pods::from_template(set, template);
    pod.set(&["metadata", "labels", REVISION_LABEL], hash);
    if let Some(generation) = set.annotation(GENERATION) {
        pod.set(&["metadata", "labels", "pod-template-generation"], generation);
    }
    pod.set(&["spec", "tolerations"], tolerations(&template["spec"]));
    let path = ["spec", "affinity", "nodeAffinity"];
    let mut affinity = pod.get(&path).cloned().unwrap_or_else(|| json!({}));
    affinity["requiredDuringSchedulingIgnoredDuringExecution"] = json!({ "nodeSelectorTerms": [{
        "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }],
    }]});
    pod.set(&path, affinity);
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemon_pods_are_bound_to_their_node_and_run_where_others_may_not() {
        let set = json!({"metadata": {"name": "d", "namespace": "x", "uid": "u"}, "spec": {
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}},
        }});
        let set = Object::from_value(set).unwrap();
        let pod = pod_of(&set, "n1", "h");
        assert_eq!(target_node(&pod).as_deref(), Some("n1"));
        assert_eq!(pod.label(REVISION_LABEL), Some("h"));
        let tainted = |effect: &str, key: &str| {
            let node = json!({"metadata": {"name": "n1"},
                "spec": {"taints": [{"key": key, "effect": effect}]}});
            should_run(&set, &Object::from_value(node).unwrap())
        };
        assert_eq!(tainted("NoSchedule", "node.kubernetes.io/unschedulable"), (true, true));
        assert_eq!(tainted("NoSchedule", "mine"), (false, true));
        assert_eq!(tainted("NoExecute", "mine"), (false, false));
        assert_eq!(tainted("PreferNoSchedule", "mine"), (true, true));
    }
}
