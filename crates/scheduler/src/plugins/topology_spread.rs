//! Pods of a kind spread over zones, nodes and the like.
//!
//! upstream: pkg/scheduler/framework/plugins/podtopologyspread

use std::collections::HashMap;
use std::sync::Arc;

use longshore_api::Object;
use longshore_api::selector::LabelSelector;
use serde_json::Value;

use super::taint_toleration::{is_hard, tolerates};
use super::{Ask, Check, Plugin, Rate, Refusal, SCORE_MAX, Start, default_spread, node_affinity};
use crate::events::Event;
use crate::model::{Node, Pod};

pub(super) struct PodTopologySpread;

const HOSTNAME: &str = "kubernetes.io/hostname";
const DIFFERENT: &str = "node(s) didn't match pod topology spread constraints";

#[derive(Clone)]
struct Constraint {
    topology: String,
    skew: i64,
    /// Fewer places than this count as if one were empty.
    least_places: usize,
    selector: LabelSelector,
    honor_affinity: bool,
    honor_taints: bool,
}

/// The constraints of a pod that are hard or soft.
fn constraints(pod: &Object, when: &str) -> Vec<Constraint> {
    let all = pod.list(&["spec", "topologySpreadConstraints"]).iter();
    all.filter(|c| c["whenUnsatisfiable"] == when)
        .map(|c| Constraint {
            topology: c["topologyKey"].as_str().unwrap_or("").to_owned(),
            skew: c["maxSkew"].as_i64().unwrap_or(1),
            least_places: c["minDomains"].as_u64().and_then(|d| d.try_into().ok()).unwrap_or(1),
            selector: selector(pod, c),
            honor_affinity: c["nodeAffinityPolicy"] != "Ignore",
            honor_taints: c["nodeTaintsPolicy"] == "Honor",
        })
        .collect()
}

/// The selector of a constraint, narrowed to the pod's own values of the label keys it names.
fn selector(pod: &Object, constraint: &Value) -> LabelSelector {
    let mut selector = constraint["labelSelector"].clone();
    for key in constraint["matchLabelKeys"].as_array().into_iter().flatten() {
        if let Some(value) = key.as_str().and_then(|key| pod.label(key).map(|v| (key, v))) {
            let expression =
                serde_json::json!({ "key": value.0, "operator": "In", "values": [value.1] });
            match selector["matchExpressions"].as_array_mut() {
                Some(list) => list.push(expression),
                None => selector["matchExpressions"] = serde_json::json!([expression]),
            }
        }
    }
    LabelSelector::from_value(&selector).unwrap_or_default()
}

impl Constraint {
    /// Whether a pod counts.
    fn counts(&self, pod: &Object, namespace: &str) -> bool {
        pod.namespace() == namespace
            && !self.selector.is_empty()
            && !pod.is_deleting()
            && self.selector.matches_map(pod.labels())
    }

    fn count(&self, node: &Node, namespace: &str) -> i64 {
        let counted = node.pods.iter().filter(|p| self.counts(&p.object, namespace)).count();
        i64::try_from(counted).unwrap_or(i64::MAX)
    }

    /// Whether the pods of a node count at all.
    fn includes(&self, pod: &Object, node: &Node) -> bool {
        if self.honor_affinity && !node_affinity::allows(pod, &node.object) {
            return false;
        }
        let taints = node.object.list(&["spec", "taints"]).iter();
        !self.honor_taints || taints.filter(|t| is_hard(t)).all(|taint| tolerates(pod, taint))
    }
}

fn has_all_labels(constraints: &[Constraint], node: &Node) -> bool {
    constraints.iter().all(|c| node.label(&c.topology).is_some())
}

#[derive(Clone)]
struct Spread {
    pod: Arc<Pod>,
    constraints: Vec<Constraint>,
    /// For each constraint, how many pods are in each place.
    places: Vec<HashMap<String, i64>>,
}

impl Spread {
    fn note(&mut self, other: &Pod, node: &Node, by: i64) {
        if !has_all_labels(&self.constraints, node) {
            return;
        }
        for (constraint, places) in self.constraints.iter().zip(&mut self.places) {
            if constraint.includes(&self.pod.object, node)
                && constraint.counts(&other.object, self.pod.object.namespace())
                && let Some(value) = node.label(&constraint.topology)
            {
                *places.entry(value.to_owned()).or_default() += by;
            }
        }
    }
}

impl Plugin for PodTopologySpread {
    fn start(&self, ask: &Ask<'_>) -> Start {
        let pod = &ask.pod.object;
        let constraints = constraints(pod, "DoNotSchedule");
        if constraints.is_empty() {
            return Start::Skip;
        }
        let mut places = vec![HashMap::new(); constraints.len()];
        for node in ask.nodes.iter().filter(|n| has_all_labels(&constraints, n)) {
            for (constraint, places) in constraints.iter().zip(&mut places) {
                if constraint.includes(pod, node)
                    && let Some(value) = node.label(&constraint.topology)
                {
                    *places.entry(value.to_owned()).or_default() +=
                        constraint.count(node, pod.namespace());
                }
            }
        }
        Start::Check(Box::new(Spread { pod: ask.pod.clone(), constraints, places }))
    }

    fn rate(&self, ask: &Ask<'_>, feasible: &[Arc<Node>]) -> Option<Box<dyn Rate>> {
        let pod = &ask.pod.object;
        let mut soft = constraints(pod, "ScheduleAnyway");
        let own = !pod.list(&["spec", "topologySpreadConstraints"]).is_empty();
        if !own {
            let selector = default_spread::selector(ask)?;
            soft.extend(default_spread::CONSTRAINTS.map(|(topology, skew)| Constraint {
                topology: topology.to_owned(),
                skew,
                least_places: 1,
                selector: selector.clone(),
                honor_affinity: true,
                honor_taints: false,
            }));
        }
        if soft.is_empty() {
            return None;
        }
        // A node without the labels does not take part, unless the constraints are the default.
        let takes_part = |node: &Node| !own || has_all_labels(&soft, node);
        let candidates = || feasible.iter().filter(|node| takes_part(node));
        let mut places: Vec<HashMap<String, i64>> = vec![HashMap::new(); soft.len()];
        for node in candidates() {
            for (constraint, places) in soft.iter().zip(&mut places) {
                if constraint.topology != HOSTNAME
                    && let Some(value) = node.label(&constraint.topology)
                {
                    places.insert(value.to_owned(), 0);
                }
            }
        }
        let weights = soft.iter().zip(&places).map(|(constraint, places)| {
            let hosts = constraint.topology == HOSTNAME;
            let size = if hosts { candidates().count() } else { places.len() };
            (size as f64 + 2.0).ln()
        });
        let weights: Vec<f64> = weights.collect();
        for node in ask.nodes.iter().filter(|node| takes_part(node)) {
            for (constraint, places) in soft.iter().zip(&mut places) {
                if constraint.topology != HOSTNAME
                    && constraint.includes(pod, node)
                    && let Some(value) = node.label(&constraint.topology)
                    && let Some(number) = places.get_mut(value)
                {
                    *number += constraint.count(node, pod.namespace());
                }
            }
        }
        let namespace = pod.namespace().to_owned();
        Some(Box::new(Crowding { own, namespace, soft, places, weights }))
    }

    fn helps(&self, pod: &Pod, event: &Event) -> bool {
        let hard = || constraints(&pod.object, "DoNotSchedule");
        let counts = |other: &Object| {
            let namespace = pod.object.namespace();
            hard().iter().any(|c| c.selector.matches_map(other.labels()))
                && other.namespace() == namespace
        };
        match event {
            Event::PodPlaced(other) | Event::PodGone(other) => counts(other),
            Event::PodChanged(old, new) => {
                old.labels() != new.labels() && (counts(old) || counts(new))
            }
            Event::NodeAdded(_) | Event::Own => true,
            _ => event.node(&[&["metadata", "labels"], &["spec", "taints"]]).is_some(),
        }
    }
}

impl Check for Spread {
    fn filter(&self, node: &Node) -> Result<(), Refusal> {
        for (constraint, places) in self.constraints.iter().zip(&self.places) {
            let Some(value) = node.label(&constraint.topology) else {
                return Err(Refusal::always(format!("{DIFFERENT} (missing required label)")));
            };
            let least = if places.len() < constraint.least_places {
                0
            } else {
                places.values().copied().min().unwrap_or(0)
            };
            let own = i64::from(constraint.selector.matches_map(self.pod.object.labels()));
            let here = places.get(value).copied().unwrap_or(0);
            if here + own - least > constraint.skew {
                return Err(Refusal::now(DIFFERENT));
            }
        }
        Ok(())
    }

    fn add(&mut self, other: &Pod, node: &Node) {
        self.note(other, node, 1);
    }

    fn remove(&mut self, other: &Pod, node: &Node) {
        self.note(other, node, -1);
    }

    fn copy(&self) -> Box<dyn Check> {
        Box::new(self.clone())
    }
}

struct Crowding {
    own: bool,
    namespace: String,
    soft: Vec<Constraint>,
    places: Vec<HashMap<String, i64>>,
    weights: Vec<f64>,
}

/// Marks a node that does not take part.
const APART: i64 = -1;

impl Rate for Crowding {
    fn score(&self, node: &Node) -> i64 {
        if self.own && !has_all_labels(&self.soft, node) {
            return APART;
        }
        let mut score = 0.0;
        for (at, constraint) in self.soft.iter().enumerate() {
            let Some(value) = node.label(&constraint.topology) else { continue };
            let here = if constraint.topology == HOSTNAME {
                constraint.count(node, &self.namespace)
            } else {
                self.places[at].get(value).copied().unwrap_or(0)
            };
            score += here as f64 * self.weights[at] + (constraint.skew - 1) as f64;
        }
        score.round() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        let taking_part = || scores.iter().copied().filter(|score| *score != APART);
        let least = taking_part().min().unwrap_or(0);
        let most = taking_part().max().unwrap_or(0);
        for score in scores {
            *score = if *score == APART {
                0
            } else if most == 0 {
                SCORE_MAX
            } else {
                SCORE_MAX * (most + least - *score) / most
            };
        }
    }
}
