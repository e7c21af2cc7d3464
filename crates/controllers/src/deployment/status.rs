//! What a deployment tells about itself.
//!
//! upstream: pkg/controller/deployment/{progress.go,util/deployment_util.go}

use jiff::Timestamp;
use longshore_api::Object;
use longshore_client::resource::DEPLOYMENTS;
use longshore_client::workers::Outcome;
use serde_json::{Value, json};

use super::rollout::Limits;
use super::{Controller, Sets, after_seconds};
use crate::common::{condition, gone_is_fine, replicas, rfc3339, status_count};

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
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

/// Tells that the deployment was paused or goes on: the time in between does not count.
pub(super) fn note_pause(deployment: &mut Object, now: Timestamp) {
    if !has_deadline(deployment) || reason(deployment) == "ProgressDeadlineExceeded" {
        return;
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
}

/// Tells that the set of the template was there already.
pub(super) fn note_found(deployment: &mut Object, set: &Object, now: Timestamp) {
    if has_deadline(deployment) && condition(deployment, PROGRESSING).is_none() {
        let message = format!("Found new replica set {:?}", set.name());
        let words = ["True", "FoundNewReplicaSet", &message];
        set_condition(deployment, PROGRESSING, words, now);
    }
}

/// Tells that the set of the template was made.
pub(super) fn note_created(deployment: &mut Object, set: &Object, now: Timestamp) {
    if has_deadline(deployment) {
        let message = format!("Created new replica set {:?}", set.name());
        let words = ["True", "NewReplicaSetCreated", &message];
        set_condition(deployment, PROGRESSING, words, now);
    }
}

struct Counts {
    replicas: i64,
    updated: i64,
    ready: i64,
    available: i64,
    unavailable: i64,
    terminating: i64,
}

fn counts(sets: &Sets) -> Counts {
    let sum = |field| sets.all().map(|set| status_count(set, field)).sum::<i64>();
    let wanted: i64 = sets.all().map(|set| replicas(set)).sum();
    let available = sum("availableReplicas");
    Counts {
        replicas: sum("replicas"),
        updated: sets.new.as_ref().map_or(0, |set| status_count(set, "replicas")),
        ready: sum("readyReplicas"),
        available,
        unavailable: (wanted - available).max(0),
        terminating: sum("terminatingReplicas"),
    }
}

/// Whether every pod is of the present template and available.
pub(super) fn is_complete(deployment: &Object, sets: &Sets) -> bool {
    let (counts, wanted) = (counts(sets), replicas(deployment));
    counts.updated == wanted && counts.replicas == wanted && counts.available == wanted
}

fn progressed(deployment: &Object, counts: &Counts) -> bool {
    let old = |field| status_count(deployment, field);
    counts.updated > old("updatedReplicas")
        || counts.replicas - counts.updated < old("replicas") - old("updatedReplicas")
        || counts.ready > old("readyReplicas")
        || counts.available > old("availableReplicas")
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

impl Controller {
    /// Writes the status that follows from the sets, if it is another one.
    pub(super) async fn update_status(&self, deployment: &Object, sets: &Sets) -> Outcome {
        let now = self.ctx.clock.now();
        let counts = counts(sets);
        let mut changed = deployment.clone();
        self.note_progress(&mut changed, sets, &counts, now);
        let least = replicas(deployment) - Limits::of(deployment).unavailable;
        let words = if counts.available >= least {
            ["True", "MinimumReplicasAvailable", "Deployment has minimum availability."]
        } else {
            [
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            ]
        };
        set_condition(&mut changed, AVAILABLE, words, now);
        let fields = [
            ("observedGeneration", deployment.generation()),
            ("replicas", counts.replicas),
            ("updatedReplicas", counts.updated),
            ("readyReplicas", counts.ready),
            ("availableReplicas", counts.available),
            ("unavailableReplicas", counts.unavailable),
        ];
        for (field, value) in fields {
            if value == 0 {
                changed.remove(&["status", field]);
            } else {
                changed.set(&["status", field], value);
            }
        }
        changed.set(&["status", "terminatingReplicas"], counts.terminating);
        let stored = self.deployments.get(deployment.namespace(), deployment.name());
        if stored.is_some_and(|stored| stored.get(&["status"]) != changed.get(&["status"])) {
            let written = self.ctx.client.update_status(DEPLOYMENTS, &changed).await;
            if let Some(written) = gone_is_fine(written)? {
                self.deployments.wait_for(&written).await;
            }
        }
        Ok(deadline(&changed, now).filter(|left| *left > 0).and_then(after_seconds))
    }

    fn note_progress(&self, changed: &mut Object, sets: &Sets, counts: &Counts, now: Timestamp) {
        if !has_deadline(changed) || changed.bool(&["spec", "paused"]) {
            return;
        }
        let done = reason(changed) == "NewReplicaSetAvailable" && counts.replicas == counts.updated;
        if done {
            return;
        }
        let name = match &sets.new {
            Some(set) => format!("ReplicaSet {:?}", set.name()),
            None => format!("Deployment {:?}", changed.name()),
        };
        if is_complete(changed, sets) {
            let message = format!("{name} has successfully progressed.");
            let words = ["True", "NewReplicaSetAvailable", &message];
            set_condition(changed, PROGRESSING, words, now);
        } else if progressed(changed, counts) {
            let message = format!("{name} is progressing.");
            // Each step starts the deadline anew.
            let mut conditions = changed.list(&["status", "conditions"]).to_vec();
            if let Some(c) = conditions.iter_mut().find(|c| c["type"] == PROGRESSING) {
                c["lastUpdateTime"] = rfc3339(now).into();
            }
            changed.set(&["status", "conditions"], conditions);
            set_condition(changed, PROGRESSING, ["True", "ReplicaSetUpdated", &message], now);
        } else if deadline(changed, now).is_some_and(|left| left <= 0) {
            let message = format!("{name} has timed out progressing.");
            let words = ["False", "ProgressDeadlineExceeded", &message];
            set_condition(changed, PROGRESSING, words, now);
        }
    }
}
