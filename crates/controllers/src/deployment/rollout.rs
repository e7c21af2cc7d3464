//! From the old ReplicaSets to the new one: rolling, recreating, and scaling in between.
//!
//! upstream: pkg/controller/deployment/{rolling.go,recreate.go,sync.go}

use std::sync::Arc;

use longshore_api::Object;
use longshore_client::Error;
use longshore_client::resource::PODS;
use serde_json::Value;

use super::{Controller, Sets, status};
use crate::common::{is_active, replicas, status_count};

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
                sets.new = Some(self.scale_set(deployment, &new, size).await?);
                return Ok(sets);
            }
            if self.shrink_old(deployment, &mut sets).await? {
                return Ok(sets);
            }
        }
        if status::is_complete(deployment, &sets) {
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
            let fewer = idle.min(left);
            if fewer > 0 {
                sets.old[at] = self.scale_set(deployment, &set, replicas(&set) - fewer).await?;
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
                sets.old[at] = self.scale_set(deployment, &set, replicas(&set) - fewer).await?;
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
                sets.old[at] = self.scale_set(deployment, &set, 0).await?;
                shrunk = true;
            }
        }
        if shrunk || self.old_pods_run(&sets).await {
            return Ok(sets);
        }
        let mut sets = self.find_new_set(deployment, sets, true).await?;
        if let Some(new) = sets.new.clone() {
            sets.new = Some(self.scale_set(deployment, &new, replicas(deployment)).await?);
        }
        if status::is_complete(deployment, &sets) {
            self.clean_up(deployment, &sets).await?;
        }
        Ok(sets)
    }

    async fn old_pods_run(&self, sets: &Sets) -> bool {
        let pods = self.ctx.caches.get(PODS);
        pods.synced().await;
        sets.old.iter().any(|set| {
            let owned = pods.owned_by(set.uid());
            owned.iter().any(|pod| is_active(pod) || pod.str(&["status", "phase"]) == "Running")
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
                let scaled = self.scale_set(deployment, &set, wanted).await?;
                sets.put(scaled);
            }
            return Ok(sets);
        }
        let saturated = sets.new.as_ref().is_some_and(|new| {
            replicas(new) == wanted && status_count(new, "availableReplicas") == wanted
        });
        if saturated {
            for set in sets.old.clone() {
                let scaled = self.scale_set(deployment, &set, 0).await?;
                sets.put(scaled);
            }
            return Ok(sets);
        }
        for (set, size) in proportions(deployment, &active) {
            let scaled = self.scale_set(deployment, &set, size).await?;
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

/// The sizes of several active sets together: the difference is spread by size, and the largest
/// set takes what rounding leaves.
fn proportions(deployment: &Object, active: &[Arc<Object>]) -> Vec<(Arc<Object>, i64)> {
    let present: i64 = active.iter().map(|set| replicas(set)).sum();
    let most = replicas(deployment) + Limits::of(deployment).surge;
    let most = if replicas(deployment) == 0 { 0 } else { most };
    let difference = most - present;
    let mut sorted = active.to_vec();
    sorted.sort_by_key(|set| std::cmp::Reverse(replicas(set)));
    let mut left = difference;
    let mut sizes: Vec<(Arc<Object>, i64)> = Vec::new();
    for set in sorted {
        let size = replicas(&set);
        let share = if present == 0 { 0 } else { (difference * size + present / 2) / present };
        let share = if difference >= 0 { share.clamp(0, left) } else { share.clamp(left, 0) };
        let new = (size + share).max(0);
        left -= new - size;
        sizes.push((set, new));
    }
    if let Some((_, first)) = sizes.first_mut() {
        *first = (*first + left).max(0);
    }
    sizes
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
        let d = deployment(20, json!(0), json!(1));
        let sizes: Vec<i64> =
            proportions(&d, &[set(6), set(4)]).into_iter().map(|(_, size)| size).collect();
        assert_eq!(sizes, [12, 8]);
    }
}
