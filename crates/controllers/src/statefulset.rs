//! StatefulSets: pods with names, numbers and volumes of their own, made and replaced in order.
//!
//! upstream: pkg/controller/statefulset

mod identity;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_api::Object;
use longshore_client::recorder::Severity;
use longshore_client::resource::{
    CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS,
};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Queue};
use serde_json::{Value, json};

use crate::common::{
    Key, claim, follow, follow_owned, gone_is_fine, is_available, is_ready, replicas,
};
use crate::history::{self, History, REVISION_LABEL};
use crate::{Context, pods};

/// Workers side by side.
const WORKERS: usize = 3;
/// The label that carries a revision's own hash.
///
/// upstream: pkg/controller/history ControllerRevisionHashLabel
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

#[derive(Clone)]
struct Controller {
    ctx: Context,
    sets: Informer,
    pods: Informer,
    revisions: Informer,
    claims: Informer,
}

/// What one look works with.
struct Look {
    set: Arc<Object>,
    history: History,
    /// The revision that pods had before the update.
    current: Arc<Object>,
    /// Pods with a wanted number, by number.
    wanted: BTreeMap<i64, Option<Arc<Object>>>,
    /// Other pods, highest number first.
    condemned: Vec<Arc<Object>>,
    /// When a pod becomes available that is only ready now.
    again: Option<Duration>,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (sets, pods) = (ctx.caches.get(STATEFUL_SETS), ctx.caches.get(PODS));
    let revisions = ctx.caches.get(CONTROLLER_REVISIONS);
    let claims = ctx.caches.get(PERSISTENT_VOLUME_CLAIMS);
    follow(&sets, &queue);
    follow_owned(&pods, "StatefulSet", &queue);
    let controller = Controller { ctx, sets, pods, revisions, claims };
    let shutdown = controller.ctx.shutdown.clone();
    workers::run("statefulset-controller", queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

fn revision_of(pod: &Object) -> &str {
    pod.label(REVISION_LABEL).unwrap_or("")
}

fn is_created(pod: &Object) -> bool {
    !pod.str(&["status", "phase"]).is_empty()
}

fn is_running_and_ready(pod: &Object) -> bool {
    pod.str(&["status", "phase"]) == "Running" && is_ready(pod)
}

impl Controller {
    async fn sync(&self, (namespace, name): Key) -> Outcome {
        for cache in [&self.sets, &self.pods, &self.claims] {
            cache.synced().await;
        }
        let Some(set) = self.sets.get(&namespace, &name) else { return Ok(None) };
        if set.is_deleting() {
            return Ok(None);
        }
        let history = history::load(&self.ctx, &self.revisions, &set, HASH_LABEL).await?;
        let mut look = self.look(set.clone(), history).await?;
        let outcome = self.act(&mut look).await;
        let look = self.look(set, look.history).await?;
        self.update_status(&look).await?;
        self.forget_revisions(&look).await?;
        outcome?;
        Ok(look.again)
    }

    async fn look(&self, set: Arc<Object>, history: History) -> Result<Look, Error> {
        let named = set.str(&["status", "currentRevision"]).to_owned();
        let current = history.old.iter().find(|revision| revision.name() == named);
        let current = current.unwrap_or(&history.current).clone();
        let first = set.int(&["spec", "ordinals", "start"]).unwrap_or(0);
        let mut wanted: BTreeMap<i64, Option<Arc<Object>>> =
            (first..first + replicas(&set)).map(|ordinal| (ordinal, None)).collect();
        let mut condemned = Vec::new();
        let mut wait = None::<i64>;
        let (min_ready, now) = (min_ready(&set), self.ctx.clock.now());
        for pod in claim(&self.ctx.client, PODS, &self.pods, &set).await? {
            let Some(ordinal) = identity::ordinal(&set, pod.name()) else { continue };
            if let Err(left) = is_available(&pod, min_ready, now) {
                wait = [wait, left].into_iter().flatten().min();
            }
            match wanted.get_mut(&ordinal) {
                Some(place) => *place = Some(pod),
                None => condemned.push(pod),
            }
        }
        condemned.sort_by_key(|pod| std::cmp::Reverse(identity::ordinal(&set, pod.name())));
        let again = wait.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
        Ok(Look { set, history, current, wanted, condemned, again })
    }

    fn is_healthy(&self, set: &Object, pod: &Object) -> bool {
        !pod.is_deleting()
            && is_running_and_ready(pod)
            && is_available(pod, min_ready(set), self.ctx.clock.now()).is_ok()
    }

    /// Makes, removes and replaces pods; with ordered management one after the other.
    async fn act(&self, look: &mut Look) -> Result<(), Error> {
        let set = look.set.clone();
        let ordered = set.str(&["spec", "podManagementPolicy"]) != "Parallel";
        for (ordinal, pod) in &look.wanted {
            if self.tend(look, *ordinal, pod.as_deref()).await? && ordered {
                return Ok(());
            }
        }
        for pod in &look.condemned {
            if pod.is_deleting() {
                if ordered {
                    return Ok(());
                }
                continue;
            }
            // An unhealthy pod of a lower number is mended before a healthy one is taken away.
            let others = || look.condemned.iter().filter(|other| other.uid() != pod.uid());
            if ordered
                && !is_running_and_ready(pod)
                && others().any(|other| !self.is_healthy(&set, other))
            {
                return Ok(());
            }
            self.delete(&set, pod).await?;
            if ordered {
                return Ok(());
            }
        }
        self.roll(look).await
    }

    /// Brings one wanted pod forward; true when the next one has to wait.
    async fn tend(&self, look: &Look, ordinal: i64, pod: Option<&Object>) -> Result<bool, Error> {
        let set = &look.set;
        let Some(pod) = pod else {
            self.create(look, ordinal).await?;
            return Ok(true);
        };
        if pod.is_deleting() {
            return Ok(true);
        }
        if matches!(pod.str(&["status", "phase"]), "Failed" | "Succeeded") {
            self.delete(set, pod).await?;
            return Ok(true);
        }
        self.ensure_claims(set, ordinal, pod).await?;
        Ok(!self.is_healthy(set, pod))
    }

    async fn create(&self, look: &Look, ordinal: i64) -> Result<(), Error> {
        let set = &look.set;
        let old = self.keeps_current(look, ordinal);
        let revision = if old { &look.current } else { &look.history.current };
        let template = history::template_of(revision);
        let pod = identity::pod(set, &template, revision.name(), ordinal);
        self.ensure_claims(set, ordinal, &pod).await?;
        let name = pod.name().to_owned();
        let outcome = self.ctx.client.create(PODS, &pod.into_value()).await;
        match outcome {
            Ok(made) => self.pods.wait_for(&made).await,
            Err(error) if error.is_already_exists() => return Err(error),
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => {
                let what = format!("create Pod {name} in StatefulSet {} failed", set.name());
                self.tell(
                    set,
                    Severity::Warning,
                    "FailedCreate",
                    &format!("{what} error: {error}"),
                );
                return Err(error);
            }
        }
        let what = format!("create Pod {name} in StatefulSet {} successful", set.name());
        self.tell(set, Severity::Normal, "SuccessfulCreate", &what);
        Ok(())
    }

    /// Whether a new pod of this number is still made from the template before the update.
    ///
    /// upstream: pkg/controller/statefulset/stateful_set_utils.go newVersionedStatefulSetPod
    fn keeps_current(&self, look: &Look, ordinal: i64) -> bool {
        let set = &look.set;
        if set.str(&["spec", "updateStrategy", "type"]) == "OnDelete" {
            return false;
        }
        let first = set.int(&["spec", "ordinals", "start"]).unwrap_or(0);
        match set.get(&["spec", "updateStrategy", "rollingUpdate"]) {
            None => ordinal < first + set.int(&["status", "currentReplicas"]).unwrap_or(0),
            Some(_) => ordinal < first + partition(set),
        }
    }

    async fn delete(&self, set: &Object, pod: &Object) -> Result<(), Error> {
        let options = json!({ "preconditions": { "uid": pod.uid() } });
        let gone = self.ctx.client.delete(PODS, pod.namespace(), pod.name(), options).await;
        match gone_is_fine(gone) {
            Ok(Some(left)) => self.pods.wait_for(&left).await,
            Ok(None) => return Ok(()),
            Err(error) => {
                let what =
                    format!("delete Pod {} in StatefulSet {} failed", pod.name(), set.name());
                self.tell(
                    set,
                    Severity::Warning,
                    "FailedDelete",
                    &format!("{what} error: {error}"),
                );
                return Err(error);
            }
        }
        let what = format!("delete Pod {} in StatefulSet {} successful", pod.name(), set.name());
        self.tell(set, Severity::Normal, "SuccessfulDelete", &what);
        Ok(())
    }

    fn tell(&self, set: &Object, severity: Severity, reason: &str, message: &str) {
        self.ctx.recorder.event(set, severity, reason, message);
    }

    /// The claims of a pod's volumes exist before the pod does.
    async fn ensure_claims(&self, set: &Object, ordinal: i64, pod: &Object) -> Result<(), Error> {
        for claim in identity::claims(set, ordinal) {
            let name = claim["metadata"]["name"].as_str().unwrap_or("").to_owned();
            if self.claims.get(set.namespace(), &name).is_some() {
                continue;
            }
            let what = |end: &str| {
                format!(
                    "create Claim {name} Pod {} in StatefulSet {} {end}",
                    pod.name(),
                    set.name()
                )
            };
            match self.ctx.client.create(PERSISTENT_VOLUME_CLAIMS, &claim).await {
                Ok(made) => {
                    self.claims.wait_for(&made).await;
                    self.tell(set, Severity::Normal, "SuccessfulCreate", &what("success"));
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    let text = what(&format!("failed error: {error}"));
                    self.tell(set, Severity::Warning, "FailedCreate", &text);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Replaces pods of older templates, highest number first, and waits for each.
    async fn roll(&self, look: &Look) -> Result<(), Error> {
        let set = &look.set;
        if set.str(&["spec", "updateStrategy", "type"]) == "OnDelete" {
            return Ok(());
        }
        let first = set.int(&["spec", "ordinals", "start"]).unwrap_or(0);
        let range = look.wanted.range(first + partition(set)..).rev();
        for pod in range.filter_map(|(_, pod)| pod.as_deref()) {
            if revision_of(pod) != look.history.current.name() && !pod.is_deleting() {
                return self.delete(set, pod).await;
            }
            if !self.is_healthy(set, pod) {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn forget_revisions(&self, look: &Look) -> Result<(), Error> {
        let pods = self.pods.owned_by(look.set.uid());
        let live = |revision: &Object| {
            revision.name() == look.current.name()
                || pods.iter().any(|pod| revision_of(pod) == revision.name())
        };
        history::truncate(&self.ctx, &look.set, &look.history, live).await
    }

    async fn update_status(&self, look: &Look) -> Result<(), Error> {
        let status = self.status(look);
        pods::write_status(&self.ctx, &self.sets, STATEFUL_SETS, &look.set, status).await
    }

    fn status(&self, look: &Look) -> Value {
        let set = &look.set;
        let update = look.history.current.name();
        let (mut total, mut ready, mut available) = (0, 0, 0);
        let (mut current, mut updated) = (0, 0);
        let pods = look.wanted.values().flatten().chain(&look.condemned);
        for pod in pods {
            total += i64::from(is_created(pod));
            ready += i64::from(is_running_and_ready(pod));
            let enough = is_available(pod, min_ready(set), self.ctx.clock.now()).is_ok();
            available += i64::from(is_running_and_ready(pod) && enough);
            if is_created(pod) && !pod.is_deleting() {
                current += i64::from(revision_of(pod) == look.current.name());
                updated += i64::from(revision_of(pod) == update);
            }
        }
        let mut current_name = look.current.name();
        let rolling = set.str(&["spec", "updateStrategy", "type"]) != "OnDelete";
        if rolling && updated == total && ready == total && total == replicas(set) {
            current = updated;
            current_name = update;
        }
        let mut status = json!({
            "replicas": total, "availableReplicas": available,
            "currentRevision": current_name, "updateRevision": update,
        });
        for (field, count) in [
            ("observedGeneration", set.generation()),
            ("readyReplicas", ready),
            ("currentReplicas", current),
            ("updatedReplicas", updated),
        ] {
            if count != 0 {
                status[field] = count.into();
            }
        }
        status["collisionCount"] = look.history.collisions.unwrap_or(0).into();
        if !set.list(&["status", "conditions"]).is_empty() {
            status["conditions"] = set.list(&["status", "conditions"]).to_vec().into();
        }
        status
    }
}

fn min_ready(set: &Object) -> i64 {
    set.int(&["spec", "minReadySeconds"]).unwrap_or(0)
}

fn partition(set: &Object) -> i64 {
    set.int(&["spec", "updateStrategy", "rollingUpdate", "partition"]).unwrap_or(0)
}
