//! Horizontal pod autoscalers: how many replicas their targets should have, from what is measured.
//!
//! upstream: pkg/controller/podautoscaler/horizontal.go

mod limits;
mod measure;
mod metrics;
mod replicas;
mod scale;

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::Object;
use longshore_api::selector::LabelSelector;
use longshore_client::informer::Change;
use longshore_client::recorder::Severity;
use longshore_client::resource::{HORIZONTAL_POD_AUTOSCALERS, PODS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Informer, Queue};
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::limits::{Bounds, History};
use self::scale::Scale;
use crate::Context;
use crate::common::{Key, key_of, rfc3339};

/// Workers side by side.
const WORKERS: usize = 5;

/// What is remembered of one autoscaler.
#[derive(Default)]
struct Remembered {
    history: History,
    /// Which pods it looks after, as of its last look.
    selector: Option<LabelSelector>,
}

/// What is remembered of autoscalers. It comes and goes with them: a look that is still on when its
/// autoscaler goes must leave nothing behind, least of all a claim to pods.
#[derive(Default)]
struct Memory(BTreeMap<Key, Remembered>);

impl Memory {
    /// Notes which pods an autoscaler looks after; gives all that look after some of them.
    fn select(&mut self, key: &Key, selector: LabelSelector, pods: &[Arc<Object>]) -> Vec<String> {
        if let Some(own) = self.0.get_mut(key) {
            own.selector = Some(selector);
        }
        let all = self.0.iter().filter(|((namespace, _), other)| {
            let selects = |selector: &LabelSelector| {
                pods.iter().any(|pod| selector.matches_map(pod.labels()))
            };
            *namespace == key.0 && other.selector.as_ref().is_some_and(selects)
        });
        all.map(|((namespace, name), _)| format!("{{{name} {namespace}}}")).collect()
    }
}

#[derive(Clone)]
struct Controller {
    ctx: Context,
    autoscalers: Informer,
    pods: Informer,
    memory: Arc<Mutex<Memory>>,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let autoscalers = ctx.caches.get(HORIZONTAL_POD_AUTOSCALERS);
    let pods = ctx.caches.get(PODS);
    let memory = Arc::new(Mutex::new(Memory::default()));
    let (again, known) = (queue.clone(), memory.clone());
    let period = ctx.config.autoscaler_period;
    autoscalers.on_change(move |change| {
        let key = key_of(change.object());
        let mut memory = known.lock();
        if let Change::Deleted(_) = change {
            memory.0.remove(&key);
        } else {
            memory.0.entry(key.clone()).or_default();
            // What is measured changes without any event, so only time tells when to look.
            again.add_after(key, period);
        }
    });
    let shutdown = ctx.shutdown.clone();
    let controller = Controller { ctx, autoscalers, pods, memory };
    let name = "horizontal-pod-autoscaler-controller";
    workers::run(name, queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

/// Sets a condition; its time is that of the last change of its status.
fn set_condition(status: &mut Value, now: &str, kind: &str, holds: bool, why: (&str, &str)) {
    let text = if holds { "True" } else { "False" };
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(list) = status["conditions"].as_array_mut() else { return };
    let place = list.iter().position(|condition| condition["type"] == kind);
    let mut changed = json!({
        "type": kind, "status": text, "lastTransitionTime": now, "reason": why.0, "message": why.1,
    });
    match place.and_then(|place| list.get_mut(place)) {
        Some(old) => {
            if old["status"] == text {
                changed["lastTransitionTime"] = old["lastTransitionTime"].take();
            }
            *old = changed;
        }
        None => list.push(changed),
    }
}

/// One look at one autoscaler.
struct Look<'a> {
    of: &'a Controller,
    autoscaler: &'a Object,
    key: Key,
    status: Value,
    now: jiff::Timestamp,
}

impl Controller {
    async fn sync(&self, key: Key) -> Outcome {
        self.pods.synced().await;
        let Some(autoscaler) = self.autoscalers.get(&key.0, &key.1) else { return Ok(None) };
        let status = autoscaler.get(&["status"]).cloned().unwrap_or_else(|| json!({}));
        let now = self.ctx.clock.now();
        let mut look = Look { of: self, autoscaler: &autoscaler, key, status, now };
        // What fails has been told in an event; the next look comes in any case.
        if let Err(why) = look.run().await {
            tracing::debug!(key = ?look.key, why, "autoscaler could not scale");
        }
        let status = look.status;
        if autoscaler.get(&["status"]) != Some(&status) {
            let mut changed = Object::clone(&autoscaler);
            changed.set(&["status"], status);
            let written = self.ctx.client.update_status(HORIZONTAL_POD_AUTOSCALERS, &changed).await;
            match written {
                Ok(written) => self.autoscalers.wait_for(&written).await,
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => {
                    let text = error.to_string();
                    let severity = Severity::Warning;
                    self.ctx.recorder.event(&autoscaler, severity, "FailedUpdateStatus", &text);
                }
            }
        }
        Ok(Some(self.ctx.config.autoscaler_period))
    }
}

impl Look<'_> {
    fn condition(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let now = rfc3339(self.now);
        set_condition(&mut self.status, &now, kind, holds, (reason, message));
    }

    fn warn(&self, reason: &str, message: &str) {
        self.of.ctx.recorder.event(self.autoscaler, Severity::Warning, reason, message);
    }

    /// Does something with the history of the autoscaler, unless it has gone meanwhile.
    fn history<T>(&self, work: impl FnOnce(&mut History) -> T) -> Option<T> {
        let mut memory = self.of.memory.lock();
        memory.0.get_mut(&self.key).map(|own| work(&mut own.history))
    }

    /// Notes what was counted.
    fn count(&mut self, current: i64, desired: i64, metrics: Vec<Value>, rescaled: bool) {
        let mut status = json!({ "desiredReplicas": desired });
        if current != 0 {
            status["currentReplicas"] = current.into();
        }
        status["currentMetrics"] = if metrics.is_empty() { Value::Null } else { metrics.into() };
        for field in ["conditions", "lastScaleTime"] {
            if !self.status[field].is_null() {
                status[field] = self.status[field].take();
            }
        }
        if rescaled {
            status["lastScaleTime"] = rfc3339(self.now).into();
        }
        self.status = status;
    }

    async fn run(&mut self) -> Result<(), String> {
        let scale = match self.find_scale().await {
            Ok(scale) => scale,
            Err(error) => {
                self.warn("FailedGetScale", &error);
                let text = format!(
                    "the HPA controller was unable to get the target's current scale: {error}"
                );
                self.condition("AbleToScale", false, "FailedGetScale", &text);
                return Err(error);
            }
        };
        let text = "the HPA controller was able to get the target's current scale";
        self.condition("AbleToScale", true, "SucceededGetScale", text);
        let current = scale.wanted();
        self.history(|history| history.begin(current, self.now));
        let spec = |field| self.autoscaler.int(&["spec", field]);
        let (min, max) = (spec("minReplicas").unwrap_or(1), spec("maxReplicas").unwrap_or(0));
        if current == 0 {
            let text = "scaling is disabled since the replica count of the target is zero";
            self.condition("ScalingActive", false, "ScalingDisabled", text);
            self.drop_condition("ScaledToZero");
            self.count(0, 0, Vec::new(), false);
            return Ok(());
        }
        if current > max {
            let why = "Current number of replicas above Spec.MaxReplicas";
            return self.rescale(scale, max, why, Vec::new()).await;
        }
        if current < min {
            let why = "Current number of replicas below Spec.MinReplicas";
            return self.rescale(scale, min, why, Vec::new()).await;
        }
        self.by_metrics(scale, Bounds { min, max, current }).await
    }

    async fn by_metrics(&mut self, scale: Scale, bounds: Bounds) -> Result<(), String> {
        let (proposal, metrics) = measure::all(self, &scale).await;
        let current = bounds.current;
        let (proposal, failed) = match proposal {
            Ok(proposal) => proposal,
            Err(error) => {
                let desired = self.status["desiredReplicas"].as_i64().unwrap_or(0);
                self.count(current, desired, metrics, false);
                self.warn("FailedComputeMetricsReplicas", &error);
                return Err(error);
            }
        };
        let (wanted, name) = if proposal.replicas > 0 {
            (proposal.replicas, proposal.metric.as_str())
        } else {
            (0, "")
        };
        let why = if wanted > current {
            format!("{name} above target")
        } else if wanted < current {
            "All metrics below target".to_owned()
        } else {
            String::new()
        };
        let behaviour = self.autoscaler.get(&["spec", "behavior"]).unwrap_or(&Value::Null);
        let decide = |history: &mut History| history.decide(behaviour, wanted, bounds, self.now);
        let Some(decision) = self.history(decide) else { return Ok(()) };
        self.condition("AbleToScale", true, decision.able.0, decision.able.1);
        let (is_limited, reason, message) = decision.limited;
        self.condition("ScalingLimited", is_limited, reason, message);
        if decision.replicas == current {
            self.count(current, current, metrics, false);
        } else {
            self.rescale(scale, decision.replicas, &why, metrics).await?;
        }
        failed.map_or(Ok(()), Err)
    }

    async fn rescale(
        &mut self,
        scale: Scale,
        replicas: i64,
        why: &str,
        metrics: Vec<Value>,
    ) -> Result<(), String> {
        let current = scale.wanted();
        if let Err(error) = scale.change(&self.of.ctx.client, replicas).await {
            let text = format!("New size: {replicas}; reason: {why}; error: {error}");
            self.warn("FailedRescale", &text);
            let text = format!("the HPA controller was unable to update the target scale: {error}");
            self.condition("AbleToScale", false, "FailedUpdateScale", &text);
            let desired = self.status["desiredReplicas"].as_i64().unwrap_or(0);
            self.count(current, desired, metrics, false);
            return Err(error);
        }
        let text = format!("the HPA controller was able to update the target scale to {replicas}");
        self.condition("AbleToScale", true, "SucceededRescale", &text);
        let text = format!("New size: {replicas}; reason: {why}");
        let recorder = &self.of.ctx.recorder;
        recorder.event(self.autoscaler, Severity::Normal, "SuccessfulRescale", &text);
        let behaviour = self.autoscaler.get(&["spec", "behavior"]).unwrap_or(&Value::Null);
        self.history(|history| history.changed(behaviour, current, replicas, self.now));
        self.drop_condition("ScaledToZero");
        self.count(current, replicas, metrics, true);
        Ok(())
    }

    async fn find_scale(&self) -> Result<Scale, String> {
        let target = |field| self.autoscaler.str(&["spec", "scaleTargetRef", field]);
        let api_version = target("apiVersion");
        let group = match api_version.split_once('/') {
            None => "",
            Some((group, version)) if !version.contains('/') => group,
            Some(_) => return Err(format!("unexpected GroupVersion string: {api_version}")),
        };
        let client = &self.of.ctx.client;
        let resources = scale::resources_of(client, group, target("kind")).await?;
        Scale::find(client, &resources, self.autoscaler.namespace(), target("name")).await
    }

    /// Without the feature of scaling to nothing nobody says that it happened.
    fn drop_condition(&mut self, kind: &str) {
        if let Some(list) = self.status["conditions"].as_array_mut() {
            list.retain(|condition| condition["type"] != kind);
        }
    }

    /// The pods of the target, unless another autoscaler looks after some of them.
    fn select(&mut self, selector: &str) -> Result<Vec<Arc<Object>>, String> {
        if selector.is_empty() {
            let error = "selector is required";
            self.warn("SelectorRequired", error);
            let text = "the HPA target's scale is missing a selector";
            self.condition("ScalingActive", false, "InvalidSelector", text);
            return Err(error.to_owned());
        }
        let parsed = LabelSelector::parse(selector).map_err(|error| {
            let error = format!(
                "couldn't convert selector into a corresponding internal selector object: {error}"
            );
            self.warn("InvalidSelector", &error);
            self.condition("ScalingActive", false, "InvalidSelector", &error);
            error
        })?;
        let mut pods = self.of.pods.list_namespace(&self.key.0);
        pods.retain(|pod| parsed.matches_map(pod.labels()));
        let names = self.of.memory.lock().select(&self.key, parsed, &pods);
        if names.len() > 1 {
            let names = names.join(" ");
            let error =
                format!("pods by selector {selector} are controlled by multiple HPAs: [{names}]");
            self.warn("AmbiguousSelector", &error);
            self.condition("ScalingActive", false, "AmbiguousSelector", &error);
            return Err(error);
        }
        Ok(pods)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_that_is_gone_claims_no_pods() {
        let key = |name: &str| ("n".to_owned(), name.to_owned());
        let pod = json!({"metadata": {"name": "p", "labels": {"app": "web"}}});
        let pods = [Arc::new(Object::from_value(pod).expect("an object"))];
        let mut memory = Memory::default();
        let select = |memory: &mut Memory, name: &str| {
            memory.select(&key(name), LabelSelector::parse("app=web").expect("good"), &pods)
        };
        memory.0.insert(key("a"), Remembered::default());
        memory.0.insert(key("b"), Remembered::default());
        assert_eq!(select(&mut memory, "a"), ["{a n}"]);
        assert_eq!(select(&mut memory, "b"), ["{a n}", "{b n}"]);
        memory.0.remove(&key("a"));
        // Its last look was still on.
        select(&mut memory, "a");
        assert_eq!(select(&mut memory, "b"), ["{b n}"]);
    }

    #[test]
    fn the_time_of_a_condition_is_that_of_its_status() {
        let mut status = json!({});
        set_condition(&mut status, "1", "AbleToScale", true, ("a", "b"));
        set_condition(&mut status, "2", "ScalingActive", false, ("c", "d"));
        set_condition(&mut status, "3", "AbleToScale", true, ("e", "f"));
        set_condition(&mut status, "4", "ScalingActive", true, ("g", "h"));
        let want = json!({"conditions": [
            {"type": "AbleToScale", "status": "True", "lastTransitionTime": "1",
                "reason": "e", "message": "f"},
            {"type": "ScalingActive", "status": "True", "lastTransitionTime": "4",
                "reason": "g", "message": "h"},
        ]});
        assert_eq!(status, want);
    }
}
