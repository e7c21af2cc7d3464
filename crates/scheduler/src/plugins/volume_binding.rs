//! Claims have volumes that a node can reach, or can get them there.
//!
//! upstream: pkg/scheduler/framework/plugins/volumebinding

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use longshore_api::selector::LabelSelector;
use serde_json::Value;

use super::node_affinity::term_matches;
use super::{Ask, Check, Plugin, Refusal, Start};
use crate::events::Event;
use crate::listers::Listers;
use crate::model::{Node, Pod};

pub(super) struct VolumeBinding;

const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
const CONFLICT: &str = "node(s) didn't find available persistent volumes to bind";

/// What has to be done before a pod is bound to a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Claims and the volumes they get.
    pub(crate) bind: Vec<(Arc<Object>, Arc<Object>)>,
    /// Claims for which a volume is made.
    pub(crate) provision: Vec<Arc<Object>>,
}

impl Plan {
    /// Whether nothing has to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.bind.is_empty() && self.provision.is_empty()
    }
}

#[derive(Clone)]
struct Reach {
    listers: Arc<Listers>,
    /// Volumes of bound claims; `None` for one that does not exist.
    bound: Vec<Option<Arc<Object>>>,
    /// Claims that get their volumes with the node.
    late: Vec<Arc<Object>>,
}

fn is_bound(claim: &Object) -> bool {
    !claim.str(&["spec", "volumeName"]).is_empty()
        && claim.annotation("pv.kubernetes.io/bind-completed").is_some()
}

fn waits_for_pod(listers: &Listers, claim: &Object) -> bool {
    let class = listers.classes.get("", claim.str(&["spec", "storageClassName"]));
    class.is_some_and(|class| class.str(&["volumeBindingMode"]) == "WaitForFirstConsumer")
}

/// The claims of a pod sorted into bound and late ones.
fn sort(listers: &Listers, pod: &Pod) -> Result<Reach, Refusal> {
    let namespace = pod.object.namespace();
    let mut reach =
        Reach { listers: Arc::new(listers.clone()), bound: Vec::new(), late: Vec::new() };
    let mut unbound = false;
    for (name, own) in &pod.claims {
        let Some(claim) = listers.claims.get(namespace, name) else {
            let text = if *own {
                format!(
                    "waiting for ephemeral volume controller to create the \
                     persistentvolumeclaim {name:?}"
                )
            } else {
                format!("persistentvolumeclaim {name:?} not found")
            };
            return Err(Refusal::always(text));
        };
        if claim.str(&["status", "phase"]) == "Lost" {
            let volume = claim.str(&["spec", "volumeName"]);
            let text = format!(
                "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
            );
            return Err(Refusal::always(text));
        }
        if claim.is_deleting() {
            let text = format!("persistentvolumeclaim {name:?} is being deleted");
            return Err(Refusal::always(text));
        }
        let owner = longshore_client::informer::controller_uid(&claim);
        if *own && owner != Some(pod.uid()) {
            let text = format!(
                "PVC {namespace}/{name} was not created for pod {namespace}/{} (pod is not owner)",
                pod.object.name()
            );
            return Err(Refusal::always(text));
        }
        if is_bound(&claim) {
            reach.bound.push(listers.volumes.get("", claim.str(&["spec", "volumeName"])));
        } else if claim.str(&["spec", "volumeName"]).is_empty() && waits_for_pod(listers, &claim) {
            reach.late.push(claim);
        } else {
            unbound = true;
        }
    }
    if unbound {
        let text = "pod has unbound immediate PersistentVolumeClaims";
        return Err(Refusal::always(text));
    }
    Ok(reach)
}

/// Whether a volume can be used on a node.
fn reaches(volume: &Object, node: &Object) -> bool {
    let required = volume.get(&["spec", "nodeAffinity", "required", "nodeSelectorTerms"]);
    let terms = required.and_then(Value::as_array);
    terms.is_none_or(|terms| terms.iter().any(|term| term_matches(term, node)))
}

fn size(object: &Object, path: &[&str]) -> i64 {
    Quantity::parse(object.str(path)).map_or(0, |quantity| quantity.value())
}

/// Whether a free volume is what a claim asks for.
fn suits(volume: &Object, claim: &Object) -> bool {
    let mode = |o: &Object| match o.str(&["spec", "volumeMode"]) {
        "" => "Filesystem".to_owned(),
        mode => mode.to_owned(),
    };
    let modes = volume.list(&["spec", "accessModes"]);
    let selector = claim.get(&["spec", "selector"]).filter(|s| s.is_object());
    let selected = selector.is_none_or(|selector| {
        LabelSelector::from_value(selector).is_ok_and(|s| s.matches_map(volume.labels()))
    });
    let reference = |key| volume.str(&["spec", "claimRef", key]);
    let kept = volume.get(&["spec", "claimRef"]).is_some();
    let kept_for_it = reference("name") == claim.name()
        && reference("namespace") == claim.namespace()
        && ["", claim.uid()].contains(&reference("uid"));
    volume.str(&["spec", "storageClassName"]) == claim.str(&["spec", "storageClassName"])
        && (kept_for_it || (!kept && selected && volume.str(&["status", "phase"]) == "Available"))
        && mode(volume) == mode(claim)
        && claim.list(&["spec", "accessModes"]).iter().all(|m| modes.contains(m))
        && !volume.is_deleting()
        && size(volume, &["spec", "capacity", "storage"])
            >= size(claim, &["spec", "resources", "requests", "storage"])
}

impl Reach {
    fn plan(&self, node: &Object) -> Result<Plan, Refusal> {
        for volume in &self.bound {
            match volume {
                None => {
                    return Err(Refusal::always(
                        "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
                    ));
                }
                Some(volume) if !reaches(volume, node) => {
                    let text = "node(s) didn't match PersistentVolume's node affinity";
                    return Err(Refusal::always(text));
                }
                Some(_) => {}
            }
        }
        let mut plan = Plan::default();
        if self.late.is_empty() {
            return Ok(plan);
        }
        let volumes = self.listers.volumes.list();
        let mut taken = BTreeSet::new();
        for claim in &self.late {
            let chosen = claim.annotation(SELECTED_NODE);
            if chosen.is_some_and(|chosen| chosen != node.name()) {
                return Err(Refusal::always(CONFLICT));
            }
            let found = volumes
                .iter()
                .filter(|volume| !taken.contains(volume.name()))
                .filter(|volume| suits(volume, claim) && reaches(volume, node))
                .min_by_key(|volume| {
                    let kept = volume.get(&["spec", "claimRef"]).is_some();
                    (!kept, size(volume, &["spec", "capacity", "storage"]))
                });
            match found {
                Some(volume) if chosen.is_none() => {
                    taken.insert(volume.name());
                    plan.bind.push((claim.clone(), volume.clone()));
                }
                _ if self.can_be_made(claim, node) => plan.provision.push(claim.clone()),
                _ => return Err(Refusal::always(CONFLICT)),
            }
        }
        Ok(plan)
    }

    fn can_be_made(&self, claim: &Object, node: &Object) -> bool {
        let name = claim.str(&["spec", "storageClassName"]);
        let Some(class) = self.listers.classes.get("", name) else { return false };
        let provisioner = class.str(&["provisioner"]);
        if provisioner.is_empty() || provisioner == NO_PROVISIONER {
            return false;
        }
        let places = class.list(&["allowedTopologies"]);
        places.is_empty()
            || places.iter().any(|place| {
                let wanted = place["matchLabelExpressions"].as_array().into_iter().flatten();
                wanted.into_iter().all(|e| {
                    let here = node.label(e["key"].as_str().unwrap_or(""));
                    let values = e["values"].as_array().into_iter().flatten();
                    here.is_some_and(|here| values.into_iter().any(|value| value == here))
                })
            })
    }
}

/// What has to be done with a pod's volumes to run it on a node.
pub(crate) fn plan(listers: &Listers, pod: &Pod, node: &Object) -> Result<Plan, Refusal> {
    sort(listers, pod)?.plan(node)
}

impl Plugin for VolumeBinding {
    fn start(&self, ask: &Ask<'_>) -> Start {
        if ask.pod.claims.is_empty() {
            return Start::Skip;
        }
        match sort(ask.listers, ask.pod) {
            Ok(reach) => Start::Check(Box::new(reach)),
            Err(refusal) => Start::Refuse(refusal),
        }
    }

    fn helps(&self, _pod: &Pod, event: &Event) -> bool {
        matches!(event, Event::Storage) || event.node(&[&["metadata", "labels"]]).is_some()
    }
}

impl Check for Reach {
    fn filter(&self, node: &Node) -> Result<(), Refusal> {
        self.plan(&node.object).map(drop)
    }

    fn copy(&self) -> Box<dyn Check> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Arc<Object> {
        Arc::new(Object::from_value(value).expect("an object"))
    }

    /// A volume that is only there where a label of the node has one of some values.
    fn volume(values: Value) -> Arc<Object> {
        object(json!({
            "metadata": {"name": "v"},
            "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": values}]},
                {"matchFields": [
                    {"key": "metadata.name", "operator": "In", "values": ["special"]},
                ]},
            ]}}},
        }))
    }

    #[test]
    fn bound_volumes_have_to_reach_the_node() {
        let node = |name: &str, zone: &str| {
            object(json!({"metadata": {"name": name, "labels": {"zone": zone}}}))
        };
        let plan = |volume: Option<Arc<Object>>, node: &Object| {
            let listers = Arc::new(Listers::empty());
            let reach = Reach { listers, bound: vec![volume], late: Vec::new() };
            reach.plan(node).map(|plan| plan.is_empty())
        };
        let far = Refusal::always("node(s) didn't match PersistentVolume's node affinity");
        for (name, zone, outcome) in
            [("n", "a", Ok(true)), ("n", "c", Err(far)), ("special", "c", Ok(true))]
        {
            let volume = volume(json!(["a", "b"]));
            assert_eq!(plan(Some(volume), &node(name, zone)), outcome, "{name} in {zone}");
        }
        // One that states nothing is everywhere.
        let anywhere = object(json!({"metadata": {"name": "v"}, "spec": {}}));
        assert_eq!(plan(Some(anywhere), &node("n", "c")), Ok(true));
        let text = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
        assert_eq!(plan(None, &node("n", "a")), Err(Refusal::always(text)));
    }
}
