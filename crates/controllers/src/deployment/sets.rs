//! The ReplicaSets of a deployment: finding, making, annotating and cleaning them up.
//!
//! upstream: pkg/controller/deployment/{sync.go,util/deployment_util.go}

use std::sync::Arc;

use longshore_api::Object;
use longshore_client::Error;
use longshore_client::recorder::Severity;
use longshore_client::resource::{DEPLOYMENTS, REPLICA_SETS};
use serde_json::{Map, Value, json};

use super::{Controller, Sets, hash, rollout, status};
use crate::common::{controller_ref, gone_is_fine, replicas, status_count};

/// The label that tells a deployment's sets apart.
pub(super) const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// A history limit that means none.
const NO_LIMIT: i64 = i32::MAX as i64;
/// Bytes of earlier revisions that a set remembers; the oldest are forgotten first.
///
/// upstream: pkg/controller/deployment/sync.go maxRevHistoryLengthInChars
const HISTORY_BYTES_MAX: usize = 2000;
const NAME_BYTES_MAX: usize = 253;
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a deployment that its sets do not get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

fn same_template(set: &Object, deployment: &Object) -> bool {
    let mut template = set.get(&["spec", "template"]).cloned().unwrap_or(Value::Null);
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove(HASH_LABEL);
    }
    Some(&template) == deployment.get(&["spec", "template"])
}

pub(super) fn created(object: &Object) -> (String, String) {
    (object.str(&["metadata", "creationTimestamp"]).to_owned(), object.name().to_owned())
}

/// Tells the set of the present template from the others.
pub(super) fn split(deployment: &Object, mut sets: Vec<Arc<Object>>) -> Sets {
    sets.sort_by_key(|set| created(set));
    let new = sets.iter().position(|set| same_template(set, deployment));
    let new = new.map(|at| sets.remove(at));
    Sets { new, old: sets }
}

/// The revision of a set; 0 when it has none.
pub(super) fn revision(set: &Object) -> i64 {
    set.annotation(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// Whether the wanted count changed since the sets were last scaled.
pub(super) fn was_scaled(deployment: &Object, sets: &Sets) -> bool {
    let wanted = replicas(deployment).to_string();
    let mut active = sets.all().filter(|set| replicas(set) > 0);
    active.any(|set| set.annotation(DESIRED).is_some_and(|desired| desired != wanted))
}

impl Controller {
    /// Brings the set of the present template up to date, and with `make` creates a missing one.
    pub(super) async fn find_new_set(
        &self,
        deployment: &mut Object,
        mut sets: Sets,
        make: bool,
    ) -> Result<Sets, Error> {
        let newest = sets.old.iter().map(|set| revision(set)).max().unwrap_or(0);
        let wanted = newest + 1;
        if let Some(new) = &sets.new {
            let mut changed = (**new).clone();
            annotate(&mut changed, deployment, wanted);
            match deployment.get(&["spec", "minReadySeconds"]).cloned() {
                Some(seconds) => changed.set(&["spec", "minReadySeconds"], seconds),
                None => drop(changed.remove(&["spec", "minReadySeconds"])),
            }
            if changed != **new {
                changed = self.ctx.client.update(REPLICA_SETS, &changed).await?;
                self.sets.wait_for(&changed).await;
            }
            let taken = take_revision(deployment, changed.annotation(REVISION).unwrap_or(""));
            let noted = status::note_found(deployment, &changed, self.ctx.clock.now());
            if taken || noted {
                self.write(deployment).await?;
            }
            sets.new = Some(Arc::new(changed));
            return Ok(sets);
        }
        if !make {
            return Ok(sets);
        }
        let (set, made) = self.create_set(deployment, &sets, wanted).await?;
        let taken = take_revision(deployment, &wanted.to_string());
        let noted = made && status::note_created(deployment, &set, self.ctx.clock.now());
        if taken || noted {
            self.write(deployment).await?;
        }
        sets.new = Some(Arc::new(set));
        Ok(sets)
    }

    /// Writes what the deployment tells: its status and its revision.
    pub(super) async fn write(&self, deployment: &mut Object) -> Result<(), Error> {
        let written = self.ctx.client.update_status(DEPLOYMENTS, deployment).await?;
        self.deployments.wait_for(&written).await;
        let version = written.resource_version().to_owned();
        deployment.set(&["metadata", "resourceVersion"], version);
        Ok(())
    }

    /// Makes the set of the present template. Tells whether it was not there before.
    async fn create_set(
        &self,
        deployment: &mut Object,
        sets: &Sets,
        revision: i64,
    ) -> Result<(Object, bool), Error> {
        let set = set_of(deployment, sets, revision);
        let name = set["metadata"]["name"].as_str().unwrap_or("").to_owned();
        match self.ctx.client.create(REPLICA_SETS, &set).await {
            Ok(made) => {
                self.sets.wait_for(&made).await;
                let size = replicas(&made);
                if size > 0 {
                    let text = format!("Scaled up replica set {name} from 0 to {size}");
                    self.tell(deployment, Severity::Normal, "ScalingReplicaSet", &text);
                }
                Ok((made, true))
            }
            Err(error) if error.is_already_exists() => {
                let namespace = deployment.namespace().to_owned();
                let taken = self.ctx.client.get(REPLICA_SETS, &namespace, &name).await?;
                let own = longshore_client::informer::controller_uid(&taken);
                if own == Some(deployment.uid()) && same_template(&taken, deployment) {
                    return Ok((taken, false));
                }
                // The name belongs to something else: another hash next time.
                let collisions = status_count(deployment, "collisionCount") + 1;
                deployment.set(&["status", "collisionCount"], collisions);
                self.write(deployment).await?;
                Err(error)
            }
            Err(error) if error.is_namespace_terminating() => Err(error),
            Err(error) => {
                let text = format!("Failed to create new replica set {name:?}: {error}");
                if status::note_not_created(deployment, &text, self.ctx.clock.now()) {
                    self.write(deployment).await?;
                }
                self.tell(deployment, Severity::Warning, "ReplicaSetCreateError", &text);
                Err(error)
            }
        }
    }

    fn tell(&self, deployment: &Object, severity: Severity, reason: &str, text: &str) {
        self.ctx.recorder.event(deployment, severity, reason, text);
    }

    /// Scales a set and tells about it; without `force` only when its size changes. Gives the set
    /// as it is then.
    pub(super) async fn scale_set(
        &self,
        deployment: &Object,
        set: &Arc<Object>,
        wanted: i64,
        force: bool,
    ) -> Result<Arc<Object>, Error> {
        let before = replicas(set);
        if !force && before == wanted {
            return Ok(set.clone());
        }
        let mut changed = (**set).clone();
        changed.set(&["spec", "replicas"], wanted);
        annotate_sizes(&mut changed, deployment);
        if changed == **set {
            return Ok(set.clone());
        }
        let written = self.ctx.client.update(REPLICA_SETS, &changed).await?;
        self.sets.wait_for(&written).await;
        if before != wanted {
            let way = if wanted > before { "up" } else { "down" };
            let text = format!("Scaled {way} replica set {} from {before} to {wanted}", set.name());
            self.tell(deployment, Severity::Normal, "ScalingReplicaSet", &text);
        }
        Ok(Arc::new(written))
    }

    /// Deletes the oldest empty sets beyond the history limit.
    pub(super) async fn clean_up(&self, deployment: &Object, sets: &Sets) -> Result<(), Error> {
        let limit = deployment.int(&["spec", "revisionHistoryLimit"]);
        let Some(limit) = limit.filter(|limit| *limit != NO_LIMIT) else { return Ok(()) };
        let limit = usize::try_from(limit).unwrap_or(0);
        let mut old: Vec<&Arc<Object>> = sets.old.iter().filter(|s| !s.is_deleting()).collect();
        if old.len() <= limit {
            return Ok(());
        }
        old.sort_by_key(|set| (revision(set), created(set)));
        let surplus = old.len() - limit;
        for set in &old[..surplus] {
            let empty = replicas(set) == 0
                && status_count(set, "replicas") == 0
                && status_count(set, "observedGeneration") >= set.generation();
            if empty {
                let options = json!({ "preconditions": { "uid": set.uid() } });
                let (namespace, name) = (set.namespace(), set.name());
                gone_is_fine(self.ctx.client.delete(REPLICA_SETS, namespace, name, options).await)?;
            }
        }
        Ok(())
    }
}

fn annotate_sizes(set: &mut Object, deployment: &Object) {
    let wanted = replicas(deployment);
    set.set(&["metadata", "annotations", DESIRED], wanted.to_string());
    let max = wanted + rollout::Limits::of(deployment).surge;
    set.set(&["metadata", "annotations", MAX], max.to_string());
}

/// Gives a set the deployment's annotations and its own revision.
fn annotate(set: &mut Object, deployment: &Object, wanted: i64) {
    let copied = deployment.get(&["metadata", "annotations"]).and_then(Value::as_object);
    for (key, value) in copied.into_iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            set.set(&["metadata", "annotations", key], value.clone());
        }
    }
    let before = set.annotation(REVISION).unwrap_or("").to_owned();
    let number = if before.is_empty() { Ok(0) } else { before.parse::<i64>() };
    if !number.is_ok_and(|number| number < wanted) {
        return;
    }
    set.set(&["metadata", "annotations", REVISION], wanted.to_string());
    if before.is_empty() {
        return;
    }
    let history = set.annotation(REVISION_HISTORY).unwrap_or("").to_owned();
    let mut revisions: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
    revisions.push(&before);
    while revisions.join(",").len() > HISTORY_BYTES_MAX {
        revisions.remove(0);
    }
    set.set(&["metadata", "annotations", REVISION_HISTORY], revisions.join(","));
}

/// The deployment shows the revision of its present set. True when it did not before.
fn take_revision(deployment: &mut Object, revision: &str) -> bool {
    if deployment.annotation(REVISION) == Some(revision) {
        return false;
    }
    deployment.set(&["metadata", "annotations", REVISION], revision);
    true
}

/// The name of a set: as much of the deployment's as there is room for, and the hash.
fn set_name(deployment: &str, hash: &str) -> String {
    let room = NAME_BYTES_MAX - hash.len() - 1;
    format!("{}-{hash}", deployment.get(..room).unwrap_or(deployment))
}

/// Whether a set was last scaled to the wanted count, has it, and all of it is available.
pub(super) fn is_saturated(deployment: &Object, set: &Object) -> bool {
    let wanted = replicas(deployment);
    set.annotation(DESIRED).is_some_and(|desired| desired.parse() == Ok(wanted))
        && replicas(set) == wanted
        && status_count(set, "availableReplicas") == wanted
}

/// The most pods that the deployment had when the set was last scaled.
pub(super) fn most_before(set: &Object) -> Option<i64> {
    set.annotation(MAX)?.parse().ok().filter(|most| *most > 0)
}

fn set_of(deployment: &Object, sets: &Sets, revision: i64) -> Value {
    let mut template = deployment.get(&["spec", "template"]).cloned().unwrap_or_else(|| json!({}));
    let collisions = deployment.int(&["status", "collisionCount"]);
    let hash = hash::of(&template, collisions);
    template["metadata"]["labels"][HASH_LABEL] = hash.as_str().into();
    let mut selector = deployment.get(&["spec", "selector"]).cloned().unwrap_or_else(|| json!({}));
    if selector.get("matchLabels").is_none() {
        selector["matchLabels"] = Value::Object(Map::new());
    }
    selector["matchLabels"][HASH_LABEL] = hash.as_str().into();
    let wanted = rollout::new_size(deployment, sets, 0);
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": set_name(deployment.name(), &hash), "namespace": deployment.namespace(),
            "labels": template["metadata"]["labels"], "annotations": {},
            "ownerReferences": [controller_ref(deployment)],
        },
        "spec": { "replicas": wanted, "selector": selector, "template": template },
    });
    let mut set = Object::from_value(set).expect("built as an object");
    if let Some(seconds) = deployment.get(&["spec", "minReadySeconds"]) {
        set.set(&["spec", "minReadySeconds"], seconds.clone());
    }
    annotate(&mut set, deployment, revision);
    annotate_sizes(&mut set, deployment);
    set.into_value()
}
