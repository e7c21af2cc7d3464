//! What a deployment tells about itself.
//!
//! upstream: pkg/controller/deployment/{progress.go,util/deployment_util.go}

use jiff::Timestamp;
use longshore_api::Object;
use longshore_client::workers::Outcome;
use serde_json::{Value, json};

use super::rollout::Limits;
use super::{Controller, Sets, after_seconds};
use crate::common::{condition, replicas, rfc3339, status_count};

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";
/// A deadline that means none.
const NO_DEADLINE: i64 = i32::MAX as i64;

/// Sets a condition; its transition time changes only with its status.
fn set_condition(object: &mut Object, kind: &str, words: [&str; 3], now: Timestamp) {
    let [status, reason, message] = words;
    let now = rfc3339(now);
    let mut conditions = object.list(&["status", "conditions"]).to_vec();
    let present = conditions.iter().find(|c| c["type"] == kind);
    if present.is_some_and(|c| c["status"] == status && c["reason"] == reason) {
        return;
    }
    let since = present
        .filter(|c| c["status"] == status)
        .map_or_else(|| Value::from(now.clone()), |c| c["lastTransitionTime"].clone());
    conditions.retain(|c| c["type"] != kind);
    conditions.push(json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastUpdateTime": now, "lastTransitionTime": since,
    }));
    object.set(&["status", "conditions"], conditions);
}

fn has_deadline(deployment: &Object) -> bool {
    deployment.int(&["spec", "progressDeadlineSeconds"]).is_some_and(|s| s != NO_DEADLINE)
}

fn reason(deployment: &Object) -> &str {
    condition(deployment, PROGRESSING).and_then(|c| c["reason"].as_str()).unwrap_or("")
}

/// Tells that the deployment was paused or goes on: the time in between does not count. True when
/// that is news.
pub(super) fn note_pause(deployment: &mut Object, now: Timestamp) -> bool {
    if !has_deadline(deployment) || reason(deployment) == "ProgressDeadlineExceeded" {
        return false;
    }
    let paused = deployment.bool(&["spec", "paused"]);
    let was_paused = reason(deployment) == "DeploymentPaused";
    if paused && !was_paused {
        let words = ["Unknown", "DeploymentPaused", "Deployment is paused"];
        set_condition(deployment, PROGRESSING, words, now);
    } else if !paused && was_paused {
        let words = ["Unknown", "DeploymentResumed", "Deployment is resumed"];
        set_condition(deployment, PROGRESSING, words, now);
    }
    paused != was_paused
}

/// Tells that the set of the template was there already. True when that is news.
pub(super) fn note_found(deployment: &mut Object, set: &Object, now: Timestamp) -> bool {
    let news = has_deadline(deployment) && condition(deployment, PROGRESSING).is_none();
    if news {
        let message = format!("Found new replica set {:?}", set.name());
        let words = ["True", "FoundNewReplicaSet", &message];
        set_condition(deployment, PROGRESSING, words, now);
    }
    news
}

/// Tells that the set of the template was made. True when there is somebody to tell.
pub(super) fn note_created(deployment: &mut Object, set: &Object, now: Timestamp) -> bool {
    if has_deadline(deployment) {
        let message = format!("Created new replica set {:?}", set.name());
        let words = ["True", "NewReplicaSetCreated", &message];
        set_condition(deployment, PROGRESSING, words, now);
    }
    has_deadline(deployment)
}

/// Tells that the set of the template could not be made. True when there is somebody to tell.
pub(super) fn note_not_created(deployment: &mut Object, why: &str, now: Timestamp) -> bool {
    if has_deadline(deployment) {
        let words = ["False", "ReplicaSetCreateError", why];
        set_condition(deployment, PROGRESSING, words, now);
    }
    has_deadline(deployment)
}

/// The status without conditions that follows from the sets.
fn counts(deployment: &Object, sets: &Sets) -> Value {
    let sum = |field| sets.all().map(|set| status_count(set, field)).sum::<i64>();
    let wanted: i64 = sets.all().map(|set| replicas(set)).sum();
    let available = sum("availableReplicas");
    let mut status = json!({
        "observedGeneration": deployment.generation(),
        "replicas": sum("replicas"),
        "updatedReplicas": sets.new.as_ref().map_or(0, |set| status_count(set, "replicas")),
        "readyReplicas": sum("readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": (wanted - available).max(0),
    });
    let fields = status.as_object_mut().expect("built as an object");
    fields.retain(|_, value| *value != 0);
    // The sum is known when every set that was looked at tells its part.
    let untold = |set: &Object| {
        set.get(&["status", "terminatingReplicas"]).is_none()
            && status_count(set, "observedGeneration") > 0
    };
    if !sets.all().any(|set| untold(set)) {
        status["terminatingReplicas"] = sum("terminatingReplicas").into();
    }
    if let Some(collisions) = deployment.get(&["status", "collisionCount"]) {
        status["collisionCount"] = collisions.clone();
    }
    status
}

/// Whether the deployment tells that every pod is of the present template and available.
pub(super) fn is_complete(deployment: &Object) -> bool {
    let wanted = replicas(deployment);
    ["updatedReplicas", "replicas", "availableReplicas"]
        .iter()
        .all(|field| status_count(deployment, field) == wanted)
        && status_count(deployment, "observedGeneration") >= deployment.generation()
}

fn progressed(before: &Object, after: &Object) -> bool {
    let old = |d| status_count(d, "replicas") - status_count(d, "updatedReplicas");
    let grew = |field| status_count(after, field) > status_count(before, field);
    grew("updatedReplicas")
        || old(after) < old(before)
        || grew("readyReplicas")
        || grew("availableReplicas")
}

/// Seconds until the deadline passes without progress; `None` when there is nothing to wait for.
fn deadline(deployment: &Object, now: Timestamp) -> Option<i64> {
    if !has_deadline(deployment) || reason(deployment) == "NewReplicaSetAvailable" {
        return None;
    }
    let since: Timestamp =
        condition(deployment, PROGRESSING)?["lastUpdateTime"].as_str()?.parse().ok()?;
    let limit = deployment.int(&["spec", "progressDeadlineSeconds"])?;
    Some(since.as_second() + limit - now.as_second())
}

/// The condition with which a set tells that it cannot make pods; the present set goes first.
fn failure(sets: &Sets) -> Option<&Value> {
    let all = sets.new.iter().chain(&sets.old);
    all.flat_map(|set| set.list(&["status", "conditions"])).find(|c| c["type"] == FAILURE)
}

fn remove_condition(deployment: &mut Object, kind: &str) {
    let mut conditions = deployment.list(&["status", "conditions"]).to_vec();
    conditions.retain(|c| c["type"] != kind);
    if conditions.is_empty() {
        deployment.remove(&["status", "conditions"]);
    } else {
        deployment.set(&["status", "conditions"], conditions);
    }
}

impl Controller {
    /// Writes the status that follows from the sets, if it is another one. `rollout` tells also how
    /// the way to the present template goes.
    pub(super) async fn update_status(
        &self,
        deployment: &mut Object,
        sets: &Sets,
        rollout: bool,
    ) -> Outcome {
        let now = self.ctx.clock.now();
        let mut changed = deployment.clone();
        let conditions = deployment.list(&["status", "conditions"]).to_vec();
        changed.set(&["status"], counts(deployment, sets));
        if !conditions.is_empty() {
            changed.set(&["status", "conditions"], conditions);
        }
        let least = replicas(deployment) - Limits::of(deployment).unavailable;
        let words = if status_count(&changed, "availableReplicas") >= least {
            ["True", "MinimumReplicasAvailable", "Deployment has minimum availability."]
        } else {
            let text = "Deployment does not have minimum availability.";
            ["False", "MinimumReplicasUnavailable", text]
        };
        set_condition(&mut changed, AVAILABLE, words, now);
        if rollout {
            note_progress(deployment, &mut changed, sets, now);
            match failure(sets) {
                None => remove_condition(&mut changed, FAILURE),
                Some(c) => {
                    let text = |key: &str| c[key].as_str().unwrap_or("");
                    let words = [text("status"), text("reason"), text("message")];
                    set_condition(&mut changed, FAILURE, words, now);
                }
            }
        }
        if changed.get(&["status"]) != deployment.get(&["status"]) {
            self.write(&mut changed).await?;
        }
        let exceeded = reason(&changed) == "ProgressDeadlineExceeded";
        if !rollout || is_complete(&changed) || exceeded {
            return Ok(None);
        }
        // One second more: the deadline has to have passed.
        Ok(deadline(&changed, now).and_then(|left| after_seconds(left.max(0) + 1)))
    }
}

/// Tells how far the way to the present template is.
///
/// upstream: pkg/controller/deployment/progress.go syncRolloutStatus
fn note_progress(before: &Object, changed: &mut Object, sets: &Sets, now: Timestamp) {
    if !has_deadline(before) {
        remove_condition(changed, PROGRESSING);
        return;
    }
    let updated = status_count(changed, "updatedReplicas");
    let all_updated = status_count(changed, "replicas") == updated;
    if all_updated && reason(before) == "NewReplicaSetAvailable" {
        return;
    }
    let name = match &sets.new {
        Some(set) => format!("ReplicaSet {:?}", set.name()),
        None => format!("Deployment {:?}", changed.name()),
    };
    if is_complete(changed) {
        let message = format!("{name} has successfully progressed.");
        set_condition(changed, PROGRESSING, ["True", "NewReplicaSetAvailable", &message], now);
    } else if progressed(before, changed) {
        let message = format!("{name} is progressing.");
        let since = condition(before, PROGRESSING)
            .filter(|c| c["status"] == "True")
            .map(|c| c["lastTransitionTime"].clone());
        // Each step starts the deadline anew, also when the words stay.
        remove_condition(changed, PROGRESSING);
        set_condition(changed, PROGRESSING, ["True", "ReplicaSetUpdated", &message], now);
        let mut conditions = changed.list(&["status", "conditions"]).to_vec();
        if let (Some(last), Some(since)) = (conditions.last_mut(), since) {
            last["lastTransitionTime"] = since;
            changed.set(&["status", "conditions"], conditions);
        }
    } else if deadline(changed, now).is_some_and(|left| left < 0) {
        let message = format!("{name} has timed out progressing.");
        set_condition(changed, PROGRESSING, ["False", "ProgressDeadlineExceeded", &message], now);
    }
}
