//! StatefulSets: pods with names, numbers and volumes of their own, made and replaced in order.
//!
//! upstream: pkg/controller/statefulset

mod claims;
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
    Key, claim_where, follow, follow_orphans, follow_owned, gone_is_fine, is_available, is_ready,
    pod_phase_is_final, replicas,
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
    follow_orphans(&sets, &pods, &queue);
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
        let history = history::load(&self.ctx, &self.revisions, &set, HASH_LABEL).await?;
        let look = self.look(set.clone(), history).await?;
        if set.is_deleting() {
            self.update_status(&look).await?;
            return Ok(None);
        }
        let outcome = self.act(&look).await;
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
        let named = |pod: &Object| identity::ordinal(&set, pod.name()).is_some();
        for pod in claim_where(&self.ctx.client, PODS, &self.pods, &set, "", named).await? {
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

    fn is_unavailable(&self, set: &Object, pod: &Object) -> bool {
        pod.is_deleting() || is_available(pod, min_ready(set), self.ctx.clock.now()).is_err()
    }

    /// Makes, removes and replaces pods; with ordered management one after the other.
    async fn act(&self, look: &Look) -> Result<(), Error> {
        let set = look.set.clone();
        let ordered = set.str(&["spec", "podManagementPolicy"]) != "Parallel";
        for (ordinal, pod) in &look.wanted {
            if self.tend(look, *ordinal, pod.as_deref(), ordered).await? && ordered {
                return Ok(());
            }
        }
        for pod in &look.condemned {
            let Some(ordinal) = identity::ordinal(&set, pod.name()) else { continue };
            if !self.claims_are_owned(&set, ordinal, pod) {
                self.own_claims(&set, ordinal, pod).await?;
            }
        }
        let missing = look.wanted.values().any(Option::is_none);
        let present = look.wanted.values().flatten().chain(look.condemned.iter().rev());
        let first = present.into_iter().find(|pod| self.is_unavailable(&set, pod));
        let first = first.filter(|_| !missing).map(|pod| pod.uid());
        for pod in &look.condemned {
            if pod.is_deleting() {
                if ordered {
                    return Ok(());
                }
                continue;
            }
            // An unhealthy pod of a lower number is mended before this one is taken away.
            if ordered && !self.is_healthy(&set, pod) && first != Some(pod.uid()) {
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
    ///
    /// upstream: pkg/controller/statefulset/stateful_set_control.go processReplica
    async fn tend(
        &self,
        look: &Look,
        ordinal: i64,
        pod: Option<&Object>,
        ordered: bool,
    ) -> Result<bool, Error> {
        let set = &look.set;
        let Some(pod) = pod else {
            if !self.claims_are_stale(set, ordinal) {
                self.create(look, ordinal).await?;
            }
            return Ok(true);
        };
        if pod_phase_is_final(pod.str(&["status", "phase"])) {
            if !pod.is_deleting() {
                self.delete(set, pod).await?;
            }
            return Ok(true);
        }
        if pod.str(&["status", "phase"]) == "Pending" {
            self.ensure_claims(set, ordinal, pod).await?;
            self.own_claims(set, ordinal, pod).await?;
        }
        if ordered && !self.is_healthy(set, pod) {
            return Ok(true);
        }
        let owned = self.claims_are_owned(set, ordinal, pod);
        if !owned {
            self.own_claims(set, ordinal, pod).await?;
        }
        if !owned || !identity::matches(pod) {
            let mut changed = pod.clone();
            identity::put_back(&mut changed, ordinal);
            let written = self.ctx.client.update(PODS, &changed).await;
            self.tell_pod(set, "Update", pod.name(), written.as_ref().err());
            self.pods.wait_for(&written?).await;
        }
        Ok(false)
    }

    async fn create(&self, look: &Look, ordinal: i64) -> Result<(), Error> {
        let set = &look.set;
        let old = self.keeps_current(look, ordinal);
        let revision = if old { &look.current } else { &look.history.current };
        let template = history::template_of(revision);
        let pod = identity::pod(set, &template, revision.name(), ordinal);
        let name = pod.name().to_owned();
        if let Err(error) = self.ensure_claims(set, ordinal, &pod).await {
            self.tell_pod(set, "Create", &name, Some(&error));
            return Err(error);
        }
        let outcome = self.ctx.client.create(PODS, &pod.clone().into_value()).await;
        match &outcome {
            Ok(made) => self.pods.wait_for(made).await,
            Err(error) if error.is_already_exists() => {}
            Err(error) if error.is_namespace_terminating() => return Ok(()),
            Err(error) => self.tell_pod(set, "Create", &name, Some(error)),
        }
        outcome?;
        self.own_claims(set, ordinal, &pod).await?;
        self.tell_pod(set, "Create", &name, None);
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
            Ok(None) => {}
            Err(error) => {
                self.tell_pod(set, "Delete", pod.name(), Some(&error));
                return Err(error);
            }
        }
        self.tell_pod(set, "Delete", pod.name(), None);
        Ok(())
    }

    /// Tells what became of an action on a pod.
    fn tell_pod(&self, set: &Object, verb: &str, pod: &str, failure: Option<&Error>) {
        let what = format!("{verb} Pod {pod} in StatefulSet {}", set.name());
        match failure {
            None => {
                let reason = format!("Successful{verb}");
                self.tell(set, Severity::Normal, &reason, &format!("{what} successful"));
            }
            Some(error) => {
                let text = format!("{what} failed error: {error}");
                self.tell(set, Severity::Warning, &format!("Failed{verb}"), &text);
            }
        }
    }

    fn tell(&self, set: &Object, severity: Severity, reason: &str, message: &str) {
        self.ctx.recorder.event(set, severity, reason, message);
    }

    /// Replaces pods of older templates, highest number first, and waits for each.
    async fn roll(&self, look: &Look) -> Result<(), Error> {
        let set = &look.set;
        if set.str(&["spec", "updateStrategy", "type"]) == "OnDelete" {
            return Ok(());
        }
        let first = set.int(&["spec", "ordinals", "start"]).unwrap_or(0);
        let range = look.wanted.range(first + partition(set)..).rev();
        for (_, pod) in range {
            // One that is only just made is not available yet.
            let Some(pod) = pod.as_deref() else { return Ok(()) };
            if revision_of(pod) != look.history.current.name() && !pod.is_deleting() {
                return self.delete(set, pod).await;
            }
            if self.is_unavailable(set, pod) {
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
