//! From the old ReplicaSets to the new one: rolling, recreating, and scaling in between.
//!
//! upstream: pkg/controller/deployment/{rolling.go,recreate.go,sync.go}

use std::sync::Arc;

use longshore_api::Object;
use longshore_client::Error;
use serde_json::Value;

use super::{Controller, Sets, sets, status};
use crate::common::{pod_phase_is_final, replicas, status_count};

/// How far a rolling update may leave the wanted count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Pods above it.
    pub(super) surge: i64,
    /// Unavailable pods below it.
    pub(super) unavailable: i64,
}

impl Limits {
    /// The limits of a deployment; shares are of the wanted count.
    pub(super) fn of(deployment: &Object) -> Self {
        if deployment.str(&["spec", "strategy", "type"]) == "Recreate" {
            return Self { surge: 0, unavailable: 0 };
        }
        let wanted = replicas(deployment);
        let path = |field| deployment.get(&["spec", "strategy", "rollingUpdate", field]);
        let surge = resolve(path("maxSurge"), wanted, true);
        let mut unavailable = resolve(path("maxUnavailable"), wanted, false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self { surge, unavailable: unavailable.min(wanted) }
    }
}

/// A number, or a percentage of `of`.
fn resolve(value: Option<&Value>, of: i64, round_up: bool) -> i64 {
    match value {
        Some(Value::Number(number)) => number.as_i64().unwrap_or(0),
        Some(Value::String(text)) => {
            let share: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            (share * of + if round_up { 99 } else { 0 }) / 100
        }
        _ => 0,
    }
}

fn total(sets: &Sets) -> i64 {
    sets.all().map(|set| replicas(set)).sum()
}

/// The count of the new set, which has `present` now: as much more as the surge allows.
pub(super) fn new_size(deployment: &Object, sets: &Sets, present: i64) -> i64 {
    let wanted = replicas(deployment);
    if deployment.str(&["spec", "strategy", "type"]) == "Recreate" {
        return wanted;
    }
    let most = wanted + Limits::of(deployment).surge;
    let room = most - total(sets);
    if room <= 0 { present } else { present + room.min(wanted - present) }
}

impl Controller {
    /// One step of a rolling update.
    pub(super) async fn roll(&self, deployment: &mut Object, sets: Sets) -> Result<Sets, Error> {
        let mut sets = self.find_new_set(deployment, sets, true).await?;
        if let Some(new) = sets.new.clone() {
            let (present, wanted) = (replicas(&new), replicas(deployment));
            let size = match present.cmp(&wanted) {
                std::cmp::Ordering::Equal => present,
                std::cmp::Ordering::Greater => wanted,
                std::cmp::Ordering::Less => new_size(deployment, &sets, present),
            };
            if size != present {
                sets.new = Some(self.scale_set(deployment, &new, size, false).await?);
                return Ok(sets);
            }
            if self.shrink_old(deployment, &mut sets).await? {
                return Ok(sets);
            }
        }
        if status::is_complete(deployment) {
            self.clean_up(deployment, &sets).await?;
        }
        Ok(sets)
    }

    /// Takes pods from the old sets as far as enough others are available: first those that are
    /// not available anyway. True when something changed.
    async fn shrink_old(&self, deployment: &Object, sets: &mut Sets) -> Result<bool, Error> {
        if sets.old.iter().all(|set| replicas(set) == 0) {
            return Ok(false);
        }
        let least = replicas(deployment) - Limits::of(deployment).unavailable;
        let new = sets.new.as_ref();
        let new_unavailable =
            new.map_or(0, |set| replicas(set) - status_count(set, "availableReplicas"));
        let room = total(sets) - least - new_unavailable;
        if room <= 0 {
            return Ok(false);
        }
        let mut changed = false;
        let mut left = room;
        for at in 0..sets.old.len() {
            let set = sets.old[at].clone();
            let idle = replicas(&set) - status_count(&set, "availableReplicas");
            let fewer = idle.min(left).min(replicas(&set));
            if fewer > 0 {
                let size = replicas(&set) - fewer;
                sets.old[at] = self.scale_set(deployment, &set, size, false).await?;
                left -= fewer;
                changed = true;
            }
        }
        let available: i64 = sets.all().map(|set| status_count(set, "availableReplicas")).sum();
        let mut spare = available - least;
        for at in 0..sets.old.len() {
            let set = sets.old[at].clone();
            let fewer = replicas(&set).min(spare);
            if fewer > 0 {
                let size = replicas(&set) - fewer;
                sets.old[at] = self.scale_set(deployment, &set, size, false).await?;
                spare -= fewer;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// One step of a recreation: all old pods go before the first new one comes.
    pub(super) async fn recreate(
        &self,
        deployment: &mut Object,
        sets: Sets,
    ) -> Result<Sets, Error> {
        let mut sets = self.find_new_set(deployment, sets, false).await?;
        let mut shrunk = false;
        for at in 0..sets.old.len() {
            let set = sets.old[at].clone();
            if replicas(&set) > 0 {
                sets.old[at] = self.scale_set(deployment, &set, 0, false).await?;
                shrunk = true;
            }
        }
        if shrunk || self.old_pods_run(&sets).await {
            return Ok(sets);
        }
        if sets.new.is_none() {
            sets = self.find_new_set(deployment, sets, true).await?;
        }
        if let Some(new) = sets.new.clone() {
            let wanted = replicas(deployment);
            sets.new = Some(self.scale_set(deployment, &new, wanted, false).await?);
        }
        if status::is_complete(deployment) {
            self.clean_up(deployment, &sets).await?;
        }
        Ok(sets)
    }

    /// Whether a pod of an old set has not ended yet, also one that is being deleted.
    async fn old_pods_run(&self, sets: &Sets) -> bool {
        self.pods.synced().await;
        sets.old.iter().any(|set| {
            let ended = |pod: &Object| pod_phase_is_final(pod.str(&["status", "phase"]));
            status_count(set, "replicas") > 0
                || self.pods.owned_by(set.uid()).iter().any(|pod| !ended(pod))
        })
    }

    /// Follows a change of the wanted count while the template stays: the only active set takes it
    /// all; several share it in proportion to their sizes.
    pub(super) async fn scale(&self, deployment: &Object, mut sets: Sets) -> Result<Sets, Error> {
        let wanted = replicas(deployment);
        let active: Vec<Arc<Object>> = sets.all().filter(|s| replicas(s) > 0).cloned().collect();
        if active.len() <= 1 {
            let only = active.first().or(sets.new.as_ref()).or(sets.old.last()).cloned();
            if let Some(set) = only {
                let scaled = self.scale_set(deployment, &set, wanted, false).await?;
                sets.put(scaled);
            }
            return Ok(sets);
        }
        if sets.new.as_ref().is_some_and(|new| sets::is_saturated(deployment, new)) {
            for set in sets.old.clone() {
                let scaled = self.scale_set(deployment, &set, 0, false).await?;
                sets.put(scaled);
            }
            return Ok(sets);
        }
        if deployment.str(&["spec", "strategy", "type"]) == "Recreate" {
            return Ok(sets);
        }
        for (set, size) in proportions(deployment, &active) {
            let scaled = self.scale_set(deployment, &set, size, true).await?;
            sets.put(scaled);
        }
        Ok(sets)
    }
}

impl Sets {
    fn put(&mut self, set: Arc<Object>) {
        let all = self.old.iter_mut().chain(&mut self.new);
        for slot in all.filter(|slot| slot.uid() == set.uid()) {
            *slot = set.clone();
        }
    }
}

/// The sizes of several active sets together: each follows the change of the deployment's most
/// pods, large ones first, and the largest takes what rounding leaves.
fn proportions(deployment: &Object, active: &[Arc<Object>]) -> Vec<(Arc<Object>, i64)> {
    let wanted = replicas(deployment);
    let most = if wanted > 0 { wanted + Limits::of(deployment).surge } else { 0 };
    let difference = most - active.iter().map(|set| replicas(set)).sum::<i64>();
    let mut sorted = active.to_vec();
    sorted.sort_by_key(|set| sets::created(set));
    if difference > 0 {
        sorted.reverse(); // of equally large ones the newest grows first
    }
    sorted.sort_by_key(|set| std::cmp::Reverse(replicas(set)));
    let mut added = 0;
    let mut sizes: Vec<(Arc<Object>, i64)> = Vec::new();
    for set in sorted {
        let allowed = difference - added;
        let share = fraction(deployment, &set, most);
        let share = if difference > 0 { share.min(allowed) } else { share.max(allowed) };
        let share = if difference == 0 { 0 } else { share };
        added += share;
        let size = replicas(&set) + share;
        sizes.push((set, size));
    }
    if let Some((_, first)) = sizes.first_mut()
        && difference != 0
    {
        *first = (*first + difference - added).max(0);
    }
    sizes
}

/// By how much one set changes when the deployment's most pods change.
fn fraction(deployment: &Object, set: &Object, most: i64) -> i64 {
    let size = replicas(set);
    if replicas(deployment) == 0 {
        return -size;
    }
    let before = sets::most_before(set).unwrap_or_else(|| status_count(deployment, "replicas"));
    if before == 0 {
        return 0;
    }
    // Rounded half away from zero; all numbers here are positive.
    (2 * size * most + before) / (2 * before) - size
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(wanted: i64, surge: Value, unavailable: Value) -> Object {
        Object::from_value(json!({ "spec": { "replicas": wanted, "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable },
        }}}))
        .expect("an object")
    }

    fn set(size: i64) -> Arc<Object> {
        let value =
            json!({ "metadata": { "uid": size.to_string() }, "spec": { "replicas": size } });
        Arc::new(Object::from_value(value).expect("an object"))
    }

    #[test]
    fn shares_round_up_for_surge_and_down_for_unavailable() {
        for (wanted, surge, unavailable, want) in [
            (10, json!("25%"), json!("25%"), (3, 2)),
            (1, json!("25%"), json!("25%"), (1, 0)),
            (1, json!(0), json!("25%"), (0, 1)),
            (3, json!(1), json!(0), (1, 0)),
        ] {
            let limits = Limits::of(&deployment(wanted, surge, unavailable));
            assert_eq!((limits.surge, limits.unavailable), want);
        }
    }

    #[test]
    fn a_new_set_grows_into_the_surge() {
        let d = deployment(4, json!(1), json!(0));
        assert_eq!(new_size(&d, &Sets { new: None, old: vec![set(4)] }, 0), 1);
        assert_eq!(new_size(&d, &Sets { new: None, old: Vec::new() }, 0), 4);
        assert_eq!(new_size(&d, &Sets { new: Some(set(1)), old: vec![set(4)] }, 1), 1);
        assert_eq!(new_size(&d, &Sets { new: Some(set(1)), old: vec![set(3)] }, 1), 2);
    }

    #[test]
    fn a_scaled_rollout_keeps_its_proportions() {
        let sized = |size: i64, most: i64| {
            let mut set = (*set(size)).clone();
            let most = most.to_string();
            set.set(&["metadata", "annotations", "deployment.kubernetes.io/max-replicas"], most);
            Arc::new(set)
        };
        for (wanted, surge, most, before, after) in [
            (20, 0, 10, [6, 4], [12, 8]),
            (5, 3, 13, [8, 5], [5, 3]),
            (0, 3, 13, [8, 5], [0, 0]),
            (10, 3, 13, [8, 5], [8, 5]),
        ] {
            let d = deployment(wanted, json!(surge), json!(1));
            let sizes: Vec<i64> = proportions(&d, &before.map(|size| sized(size, most)))
                .into_iter()
                .map(|(_, size)| size)
                .collect();
            assert_eq!(sizes, after, "to {wanted}");
        }
    }
}
