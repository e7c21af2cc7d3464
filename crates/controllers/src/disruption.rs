//! Disruption budgets: how many pods may be taken away now.
//!
//! upstream: pkg/controller/disruption/disruption.go

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_client::recorder::Severity;
use longshore_client::resource::{
    DEPLOYMENTS, POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS,
};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Informer, Queue};
use serde_json::{Map, Value, json};

use crate::common::{Key, follow, is_ready, key_of, replicas, rfc3339, selector_of};
use crate::{Context, pods};

/// Workers side by side.
const WORKERS: usize = 2;
/// How long an evicted pod may take until its deletion is seen, in seconds.
///
/// upstream: pkg/controller/disruption DeletionTimeout
const DELETION_MAX: i64 = 2 * 60;

#[derive(Clone)]
struct Controller {
    ctx: Context,
    budgets: Informer,
    pods: Informer,
    /// What can own pods, by kind.
    owners: Arc<BTreeMap<&'static str, Informer>>,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (budgets, pods) = (ctx.caches.get(POD_DISRUPTION_BUDGETS), ctx.caches.get(PODS));
    follow(&budgets, &queue);
    let of_kinds = [DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS, REPLICATION_CONTROLLERS];
    let owners: BTreeMap<_, _> = of_kinds.iter().map(|of| (of.kind, ctx.caches.get(*of))).collect();
    for informer in owners.values().chain([&pods]) {
        follow_neighbours(informer, &budgets, &queue);
    }
    let controller = Controller { ctx, budgets, pods, owners: Arc::new(owners) };
    let shutdown = controller.ctx.shutdown.clone();
    workers::run("disruption-controller", queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

/// What changes may matter to every budget of its namespace.
fn follow_neighbours(informer: &Informer, budgets: &Informer, queue: &Queue<Key>) {
    let (budgets, queue) = (budgets.clone(), queue.clone());
    informer.on_change(move |change| {
        for budget in budgets.list_namespace(change.object().namespace()) {
            queue.add(key_of(&budget));
        }
    });
}

/// A count, or a percentage of `total` rounded up.
fn scaled(value: &Value, total: i64) -> i64 {
    if let Some(count) = value.as_i64() {
        return count;
    }
    let percent = value.as_str().and_then(|t| t.strip_suffix('%')).and_then(|t| t.parse().ok());
    let percent: i64 = percent.unwrap_or(0);
    total.saturating_mul(percent).saturating_add(99) / 100
}

impl Controller {
    async fn sync(&self, (namespace, name): Key) -> Outcome {
        for cache in self.owners.values().chain([&self.budgets, &self.pods]) {
            cache.synced().await;
        }
        let Some(budget) = self.budgets.get(&namespace, &name) else { return Ok(None) };
        // Without a selector a budget is about no pod.
        let selector = selector_of(&budget);
        let mut pods = self.pods.list_namespace(&namespace);
        pods.retain(|pod| selector.as_ref().is_some_and(|s| s.matches_map(pod.labels())));
        if pods.is_empty() {
            let text = "No matching pods found";
            self.ctx.recorder.event(&budget, Severity::Normal, "NoPods", text);
        }
        let now = self.ctx.clock.now();
        let (expected, desired) = match self.expected(&budget, &pods).await {
            Ok(counts) => counts,
            Err(why) => {
                let text = format!("Failed to calculate the number of expected pods: {why}");
                let reason = "CalculateExpectedPodCountFailed";
                self.ctx.recorder.event(&budget, Severity::Warning, reason, &text);
                // Nobody is evicted while nobody knows how many there should be.
                let mut status = budget.get(&["status"]).cloned().unwrap_or_else(|| json!({}));
                status["disruptionsAllowed"] = 0.into();
                status["conditions"] = conditions(&budget, "SyncFailed", &why, now).into();
                let of = POD_DISRUPTION_BUDGETS;
                pods::write_status(&self.ctx, &self.budgets, of, &budget, status).await?;
                return Ok(None);
            }
        };
        let (disrupted, again) = self.disrupted(&budget, &pods, now);
        let healthy = pods.iter().filter(|pod| {
            !pod.is_deleting() && is_ready(pod) && !disrupted.contains_key(pod.name())
        });
        let healthy = i64::try_from(healthy.count()).unwrap_or(0);
        let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
        let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
        let mut status = json!({
            "currentHealthy": healthy, "desiredHealthy": desired, "disruptionsAllowed": allowed,
            "expectedPods": expected, "observedGeneration": budget.generation(),
            "conditions": conditions(&budget, reason, "", now),
        });
        if !disrupted.is_empty() {
            status["disruptedPods"] = Value::Object(disrupted);
        }
        pods::write_status(&self.ctx, &self.budgets, POD_DISRUPTION_BUDGETS, &budget, status)
            .await?;
        Ok(again)
    }

    /// How many pods there should be, and how many healthy ones at least.
    async fn expected(&self, budget: &Object, pods: &[Arc<Object>]) -> Result<(i64, i64), String> {
        if let Some(most) = budget.get(&["spec", "maxUnavailable"]) {
            let expected = self.scale(budget, pods).await?;
            return Ok((expected, (expected - scaled(most, expected)).max(0)));
        }
        match budget.get(&["spec", "minAvailable"]) {
            Some(least) if least.is_string() => {
                let expected = self.scale(budget, pods).await?;
                Ok((expected, scaled(least, expected)))
            }
            least => {
                let count = i64::try_from(pods.len()).unwrap_or(0);
                Ok((count, least.and_then(Value::as_i64).unwrap_or(0)))
            }
        }
    }

    /// The replicas that the owners of the pods want, together.
    async fn scale(&self, budget: &Object, pods: &[Arc<Object>]) -> Result<i64, String> {
        let (mut scales, mut unmanaged) = (BTreeMap::new(), false);
        for pod in pods {
            match self.owner(pod) {
                Some(owner) => {
                    scales.insert(owner.uid().to_owned(), replicas(&owner));
                }
                None => match controller(pod) {
                    None => unmanaged = true,
                    Some(reference) => {
                        let uid = reference["uid"].as_str().unwrap_or("").to_owned();
                        if let Entry::Vacant(place) = scales.entry(uid) {
                            place.insert(self.foreign_scale(pod, reference).await?);
                        }
                    }
                },
            }
        }
        if unmanaged {
            let selector = budget.get(&["spec", "selector"]).cloned().unwrap_or_default();
            let text = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be \
                 unmanaged. As a result, the status of the PDB cannot be calculated correctly, \
                 which may result in undefined behavior. To account for these pods please set \
                 \".spec.minAvailable\" field of the PDB to an integer value."
            );
            self.ctx.recorder.event(budget, Severity::Warning, "UnmanagedPods", &text);
        }
        Ok(scales.values().sum())
    }

    /// The replicas of an owner of some other kind, which has to have a scale.
    ///
    /// upstream: pkg/controller/disruption/disruption.go getScaleController
    async fn foreign_scale(&self, pod: &Object, reference: &Value) -> Result<i64, String> {
        let text = |key: &str| reference[key].as_str().unwrap_or("");
        let none = || format!("found no controllers for pod {:?}", pod.name());
        let (group_version, kind) = (text("apiVersion"), text("kind"));
        if self.owners.contains_key(kind) {
            return Err(none()); // it is gone
        }
        let root = match group_version.split_once('/') {
            None => format!("/api/{group_version}"),
            Some(_) => format!("/apis/{group_version}"),
        };
        let get =
            |path: String| async move { self.ctx.client.raw(http::Method::GET, &path, None).await };
        let list = get(root.clone()).await.map_err(|error| error.to_string())?;
        let resources = list["resources"].as_array().map_or(&[][..], Vec::as_slice);
        let names =
            resources.iter().filter(|r| r["kind"] == kind).filter_map(|r| r["name"].as_str());
        let mut plurals = names.filter(|name| !name.contains('/'));
        let plural = plurals.next().ok_or_else(none)?;
        if !resources.iter().any(|r| r["name"] == format!("{plural}/scale")) {
            let group = group_version.split_once('/').map_or("", |(group, _)| group);
            let resource = [plural, group].join(".");
            return Err(format!(
                "{} does not implement the scale subresource",
                resource.trim_end_matches('.')
            ));
        }
        let path = format!("{root}/namespaces/{}/{plural}/{}/scale", pod.namespace(), text("name"));
        match get(path).await {
            Ok(scale) => Ok(scale["spec"]["replicas"].as_i64().unwrap_or(0)),
            Err(error) if error.is_not_found() => Err(none()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The outermost owner with a scale.
    fn owner(&self, object: &Object) -> Option<Arc<Object>> {
        let reference = controller(object)?;
        let cache = self.owners.get(reference["kind"].as_str()?)?;
        let owner = cache.get(object.namespace(), reference["name"].as_str()?)?;
        if reference["uid"] != owner.uid() {
            return None;
        }
        Some(self.owner(&owner).unwrap_or(owner))
    }

    /// Pods whose eviction was granted and that are not being deleted yet.
    fn disrupted(
        &self,
        budget: &Object,
        pods: &[Arc<Object>],
        now: Timestamp,
    ) -> (Map<String, Value>, Option<Duration>) {
        let (mut kept, mut again) = (Map::new(), None::<i64>);
        let listed = budget.get(&["status", "disruptedPods"]).and_then(Value::as_object);
        for pod in pods.iter().filter(|pod| !pod.is_deleting()) {
            let Some(at) = listed.and_then(|listed| listed.get(pod.name())) else { continue };
            let since = at.as_str().and_then(|t| t.parse::<Timestamp>().ok()).unwrap_or_default();
            let left = since.as_second() + DELETION_MAX - now.as_second();
            if left < 0 {
                let text = format!(
                    "Pod was expected by PDB {0}/{0} to be deleted but it wasn't",
                    budget.namespace()
                );
                self.ctx.recorder.event(pod, Severity::Warning, "NotDeleted", &text);
                continue;
            }
            again = Some(again.map_or(left, |soonest| soonest.min(left)));
            kept.insert(pod.name().to_owned(), at.clone());
        }
        let again = again.and_then(|left| u64::try_from(left + 1).ok()).map(Duration::from_secs);
        (kept, again)
    }
}

/// The owner that controls an object.
fn controller(object: &Object) -> Option<&Value> {
    let owners = object.list(&["metadata", "ownerReferences"]);
    owners.iter().find(|owner| owner["controller"] == true)
}

/// The condition that tells whether a disruption is allowed.
///
/// upstream: staging/src/k8s.io/component-helpers/apps/poddisruptionbudget/helpers.go
fn conditions(budget: &Object, reason: &str, message: &str, now: Timestamp) -> Vec<Value> {
    let status = if reason == "SufficientPods" { "True" } else { "False" };
    let mut conditions = budget.list(&["status", "conditions"]).to_vec();
    let mut condition = json!({
        "type": "DisruptionAllowed", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": rfc3339(now), "observedGeneration": budget.generation(),
    });
    match conditions.iter_mut().find(|c| c["type"] == "DisruptionAllowed") {
        Some(old) => {
            if old["status"] == condition["status"] {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_up() {
        assert_eq!(scaled(&json!(2), 10), 2);
        assert_eq!(scaled(&json!("25%"), 10), 3);
        assert_eq!(scaled(&json!("100%"), 3), 3);
    }

    #[test]
    fn the_condition_keeps_its_time_while_it_stays() {
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut budget = Object::default();
        let first = conditions(&budget, "SufficientPods", "", at);
        budget.set(&["status", "conditions"], first.clone());
        let later: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        assert_eq!(conditions(&budget, "SufficientPods", "", later), first);
        assert_eq!(
            conditions(&budget, "InsufficientPods", "", later)[0]["lastTransitionTime"],
            "2026-01-02T00:00:00Z"
        );
    }
}
