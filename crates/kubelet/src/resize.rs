//! Containers that get more or less while they run: what they have been given, and what of it has
//! reached the runtime.
//!
//! upstream: pkg/kubelet/allocation/allocation_manager.go,
//! pkg/kubelet/kuberuntime/kuberuntime_manager.go computePodResizeAction

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use longshore_client::recorder::Severity;
use longshore_cri::v1::UpdateContainerResourcesRequest;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::needs::{Lack, Needs};
use crate::observe::{Container, Observed, State};
use crate::{Shared, container};

/// The containers that have resources of their own.
const FIELDS: [(&str, &str); 2] =
    [("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")];

/// Resources by the name of the container.
type Given = BTreeMap<String, Value>;

/// The resources of one pod's containers.
#[derive(Default)]
pub(crate) struct Resizes {
    /// What the node gave them; nothing before the pod was looked at.
    given: Option<Given>,
    /// What the runtime knows of, by container id.
    applied: HashMap<String, Value>,
    /// What the node lacks for what the spec asks.
    lack: Option<Lack>,
    /// Why the runtime did not take what was given.
    failure: Option<String>,
    /// Something given has not reached the runtime when it was looked at last.
    going_on: bool,
}

/// Which resources differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Difference {
    cpu: bool,
    memory: bool,
}

fn difference(a: &Value, b: &Value) -> Option<Difference> {
    let differs = |name: &str| {
        ["requests", "limits"].iter().any(|kind| {
            let read = |of: &Value| Quantity::parse(of[*kind][name].as_str()?).ok();
            read(a) != read(b)
        })
    };
    let difference = Difference { cpu: differs("cpu"), memory: differs("memory") };
    (difference.cpu || difference.memory).then_some(difference)
}

/// Whether a container has to be started anew to get a change.
fn needs_restart(spec: &Value, difference: Difference) -> bool {
    let policies = spec["resizePolicy"].as_array().into_iter().flatten();
    policies.filter(|policy| policy["restartPolicy"] == "RestartContainer").any(|policy| {
        match policy["resourceName"].as_str() {
            Some("cpu") => difference.cpu,
            Some("memory") => difference.memory,
            _ => false,
        }
    })
}

/// What the spec asks for.
fn asked(pod: &Object) -> Given {
    let specs = FIELDS.iter().flat_map(|(field, _)| pod.list(&["spec", field]));
    specs.filter_map(|s| Some((s["name"].as_str()?.to_owned(), s["resources"].clone()))).collect()
}

/// What the status says that a container has.
fn told<'a>(pod: &'a Object, name: &str) -> Option<&'a Value> {
    let statuses = FIELDS.iter().flat_map(|(_, field)| pod.list(&["status", field]));
    let mut statuses = statuses.filter(|s| s["name"] == name && s["containerID"].is_string());
    statuses.find_map(|s| s.get("resources"))
}

impl Resizes {
    /// Decides what the containers have. A new pod is refused when the node lacks something for it;
    /// others go on with what they have.
    pub(crate) fn allocate(
        &mut self,
        shared: &Shared,
        pod: &Object,
        fresh: bool,
        poke: &Arc<Notify>,
    ) -> Result<(), Lack> {
        let asked = asked(pod);
        let node = shared.nodes.get("", &shared.config.node_name);
        let claim = |given: &Given| {
            let needs = Needs::of(pod, &|spec| of(given, spec));
            shared.ledger.claim(pod.uid(), needs, node.as_deref(), poke)
        };
        let Some(given) = &mut self.given else {
            if fresh {
                claim(&asked)?;
                self.given = Some(asked);
                return Ok(());
            }
            // It was looked at before this process began: what it was told to have it has.
            let known = asked.into_iter();
            let known = known.map(|(name, asked)| {
                let has = told(pod, &name).cloned().unwrap_or(asked);
                (name, has)
            });
            let given: Given = known.collect();
            shared.ledger.note(pod.uid(), Needs::of(pod, &|spec| of(&given, spec)));
            self.given = Some(given);
            return Ok(());
        };
        let same = asked.iter().all(|(name, asked)| {
            given.get(name).is_some_and(|has| difference(has, asked).is_none())
        });
        if same {
            // Other words for the same amounts are shown as they were written.
            *given = asked;
            self.lack = None;
            return Ok(());
        }
        match claim(&asked) {
            Ok(()) => {
                *given = asked;
                (self.lack, self.failure) = (None, None);
                tell(shared, pod, Severity::Normal, "ResizeStarted", "Pod resize started");
            }
            Err(lack) => {
                if self.lack.as_ref() != Some(&lack) {
                    let text = format!("Pod resize Deferred: {lack}");
                    tell(shared, pod, Severity::Warning, "ResizeDeferred", &text);
                }
                self.lack = Some(lack);
            }
        }
        Ok(())
    }

    /// The specs of a pod's containers by name, with what they were given.
    pub(crate) fn specs(&self, pod: &Object) -> HashMap<String, Value> {
        let mut specs = crate::plan::specs(pod);
        for (name, resources) in self.given.iter().flatten() {
            if let Some(spec) = specs.get_mut(name).filter(|_| !resources.is_null()) {
                spec["resources"] = resources.clone();
            }
        }
        specs
    }

    /// What a container has, and what it was given.
    pub(crate) fn shown(&self, spec: &Value, container: Option<&Container>) -> (Value, Value) {
        let given = self.given.as_ref().map_or_else(|| spec["resources"].clone(), |g| of(g, spec));
        let running = container.filter(|c| c.state == State::Running);
        let applied = running.and_then(|c| self.applied.get(&c.id));
        (applied.unwrap_or(&given).clone(), given)
    }

    /// A container was started with these resources.
    pub(crate) fn started(&mut self, id: &str, spec: &Value) {
        self.applied.insert(id.to_owned(), spec["resources"].clone());
    }

    /// Looks at what has not reached the runtime yet: the containers that have to be started anew
    /// for it, by id.
    pub(crate) fn look(
        &mut self,
        shared: &Shared,
        pod: &Object,
        observed: &Observed,
        specs: &HashMap<String, Value>,
    ) -> Vec<String> {
        self.applied.retain(|id, _| observed.containers.iter().any(|c| c.id == *id));
        let mut restarts = Vec::new();
        let mut going_on = false;
        for (container, spec) in running(observed, specs) {
            let name = &container.name;
            let applied = self
                .applied
                .entry(container.id.clone())
                .or_insert_with(|| told(pod, name).unwrap_or(&spec["resources"]).clone());
            match difference(applied, &spec["resources"]) {
                Some(difference) => {
                    going_on = true;
                    if needs_restart(spec, difference) {
                        restarts.push(container.id.clone());
                    }
                }
                None => applied.clone_from(&spec["resources"]),
            }
        }
        if self.going_on && !going_on && self.failure.is_none() {
            tell(shared, pod, Severity::Normal, "ResizeCompleted", "Pod resize completed");
        }
        self.going_on = going_on;
        restarts
    }

    /// Gives the runtime what it does not know of yet; less before more. True when something was
    /// done.
    pub(crate) async fn apply(
        &mut self,
        shared: &Shared,
        pod: &Object,
        observed: &Observed,
        specs: &HashMap<String, Value>,
    ) -> bool {
        let mut updates = Vec::new();
        for (container, spec) in running(observed, specs) {
            let Some(applied) = self.applied.get(&container.id) else { continue };
            match difference(applied, &spec["resources"]) {
                Some(difference) if !needs_restart(spec, difference) => {
                    let grows = |kind: &str, name: &str| {
                        let read = |of: &Value| Quantity::parse(of[kind][name].as_str()?).ok();
                        read(&spec["resources"]).map(Quantity::milli_value)
                            > read(applied).map(Quantity::milli_value)
                    };
                    let more = grows("limits", "memory") || grows("limits", "cpu");
                    updates.push((more, container, spec));
                }
                _ => {}
            }
        }
        updates.sort_by_key(|(more, ..)| *more);
        let mut done = false;
        for (_, container, spec) in updates {
            let request = UpdateContainerResourcesRequest {
                container_id: container.id.clone(),
                linux: Some(container::resources(shared, pod, spec)),
                ..Default::default()
            };
            match shared.runtime.update_container_resources(request).await {
                Ok(_) => {
                    self.applied.insert(container.id.clone(), spec["resources"].clone());
                    self.failure = None;
                    done = true;
                }
                Err(error) => {
                    let text = error.to_string();
                    if self.failure.as_ref() != Some(&text) {
                        let text = format!("Pod resize error: {text}");
                        tell(shared, pod, Severity::Warning, "ResizeError", &text);
                    }
                    self.failure = Some(text);
                }
            }
        }
        done
    }

    /// Whether the runtime refused something, so that it has to be asked again.
    pub(crate) fn has_failed(&self) -> bool {
        self.going_on && self.failure.is_some()
    }

    /// The conditions of a pod that is being resized: type, reason and message.
    pub(crate) fn conditions(&self) -> Vec<(&'static str, &'static str, String)> {
        let pending = self.lack.as_ref().map(|lack| (PENDING, "Deferred", lack.to_string()));
        let going_on = self.going_on.then(|| match &self.failure {
            Some(failure) => (IN_PROGRESS, "Error", failure.clone()),
            None => (IN_PROGRESS, "", String::new()),
        });
        pending.into_iter().chain(going_on).collect()
    }
}

/// The type of the condition that the node lacks something for what is asked.
pub(crate) const PENDING: &str = "PodResizePending";
/// The type of the condition that something given is on its way.
pub(crate) const IN_PROGRESS: &str = "PodResizeInProgress";

fn of(given: &Given, spec: &Value) -> Value {
    let name = spec["name"].as_str().unwrap_or("");
    given.get(name).cloned().unwrap_or_else(|| json!({}))
}

fn running<'a>(
    observed: &'a Observed,
    specs: &'a HashMap<String, Value>,
) -> impl Iterator<Item = (&'a Container, &'a Value)> {
    let running = observed.containers.iter().filter(|c| c.state == State::Running);
    running.filter_map(|c| Some((c, specs.get(&c.name)?)))
}

fn tell(shared: &Shared, pod: &Object, severity: Severity, reason: &str, message: &str) {
    shared.recorder.event(pod, severity, reason, message);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(cpu: &str, memory: &str) -> Value {
        json!({ "requests": { "cpu": cpu }, "limits": { "memory": memory } })
    }

    #[test]
    fn amounts_are_compared_and_not_their_words() {
        let before = amounts("1", "1Gi");
        assert_eq!(difference(&before, &amounts("1000m", "1024Mi")), None);
        let both = difference(&before, &amounts("2", "2Gi"));
        assert_eq!(both, Some(Difference { cpu: true, memory: true }));
        let one = difference(&before, &json!({ "requests": { "cpu": "1" } }));
        assert_eq!(one, Some(Difference { cpu: false, memory: true }));
    }

    #[test]
    fn a_container_is_started_anew_only_for_what_it_says() {
        let spec = json!({ "resizePolicy": [
            { "resourceName": "cpu", "restartPolicy": "NotRequired" },
            { "resourceName": "memory", "restartPolicy": "RestartContainer" },
        ]});
        assert!(!needs_restart(&spec, Difference { cpu: true, memory: false }));
        assert!(needs_restart(&spec, Difference { cpu: true, memory: true }));
        assert!(!needs_restart(&json!({}), Difference { cpu: true, memory: true }));
    }

    #[test]
    fn what_runs_shows_what_has_reached_it() {
        let mut resizes = Resizes::default();
        let (old, new) = (amounts("1", "1Gi"), amounts("2", "1Gi"));
        let spec = json!({ "name": "a", "resources": old });
        resizes.started("id-a", &spec);
        resizes.given = Some(Given::from([("a".to_owned(), new.clone())]));
        let mut container = crate::plan::tests::container("a", State::Running, 0);
        assert_eq!(resizes.shown(&spec, Some(&container)), (old, new.clone()));
        container.state = State::Exited;
        assert_eq!(resizes.shown(&spec, Some(&container)), (new.clone(), new));
    }

    #[test]
    fn a_lack_and_a_failure_are_told() {
        let mut resizes = Resizes { going_on: true, ..Resizes::default() };
        assert_eq!(resizes.conditions(), [(IN_PROGRESS, "", String::new())]);
        resizes.failure = Some("no".to_owned());
        assert_eq!(resizes.conditions(), [(IN_PROGRESS, "Error", "no".to_owned())]);
    }
}
