//! Node selectors and node affinity.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_api::Object;
use serde_json::Value;

use super::{Ask, Check, Plugin, Rate, Refusal, Start, normalize};
use crate::events::Event;
use crate::model::{Node, Pod};

pub(super) struct NodeAffinity;

const PATH: [&str; 3] = ["spec", "affinity", "nodeAffinity"];

/// Whether a value satisfies one requirement.
fn satisfied(requirement: &Value, value: Option<&str>) -> bool {
    let values = requirement["values"].as_array().map_or(&[][..], Vec::as_slice);
    let listed = |value: &str| values.iter().any(|v| v == value);
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
    let bound = number(values.first().and_then(Value::as_str));
    match requirement["operator"].as_str().unwrap_or("") {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound).is_some_and(|(v, b)| v > b),
        "Lt" => number(value).zip(bound).is_some_and(|(v, b)| v < b),
        _ => false,
    }
}

/// Whether a node satisfies a term: all its requirements. An empty term selects nothing.
pub(super) fn term_matches(term: &Value, node: &Object) -> bool {
    let list = |key: &str| term[key].as_array().map_or(&[][..], Vec::as_slice);
    let (labels, fields) = (list("matchExpressions"), list("matchFields"));
    let key = |r: &Value| r["key"].as_str().unwrap_or("").to_owned();
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|r| satisfied(r, node.label(&key(r))))
        && fields.iter().all(|r| key(r) == "metadata.name" && satisfied(r, Some(node.name())))
}

fn required_terms(pod: &Object) -> Option<&Vec<Value>> {
    let required = &pod.get(&PATH)?["requiredDuringSchedulingIgnoredDuringExecution"];
    required["nodeSelectorTerms"].as_array()
}

/// Whether a pod may run on a node as far as its selector and required affinity go.
pub(super) fn allows(pod: &Object, node: &Object) -> bool {
    let selector = pod.get(&["spec", "nodeSelector"]).and_then(Value::as_object);
    let selected = selector.is_none_or(|s| s.iter().all(|(k, v)| node.label(k) == v.as_str()));
    selected && required_terms(pod).is_none_or(|all| all.iter().any(|t| term_matches(t, node)))
}

/// The nodes that the required affinity names, if it names any in each term.
fn named(pod: &Object) -> Option<BTreeSet<String>> {
    let mut nodes = BTreeSet::new();
    for term in required_terms(pod)? {
        let fields = term["matchFields"].as_array().into_iter().flatten();
        let mut of_term: Option<BTreeSet<&str>> = None;
        for field in fields {
            if field["key"] != "metadata.name" || field["operator"] != "In" {
                continue;
            }
            let names = field["values"].as_array().into_iter().flatten();
            let names: BTreeSet<&str> = names.filter_map(Value::as_str).collect();
            of_term = Some(match of_term {
                None => names,
                Some(before) => before.intersection(&names).copied().collect(),
            });
        }
        nodes.extend(of_term?.into_iter().map(str::to_owned));
    }
    Some(nodes)
}

#[derive(Clone)]
struct Required(Arc<Pod>);

struct Preferred(Vec<(i64, Value)>);

impl Plugin for NodeAffinity {
    fn start(&self, ask: &Ask<'_>) -> Start {
        let pod = &ask.pod.object;
        let selected = pod.get(&["spec", "nodeSelector"]).and_then(Value::as_object);
        if selected.is_none_or(serde_json::Map::is_empty) && required_terms(pod).is_none() {
            return Start::Skip;
        }
        let check = Box::new(Required(ask.pod.clone()));
        match named(pod) {
            Some(none) if none.is_empty() => {
                Start::Refuse(Refusal::always("pod affinity terms conflict"))
            }
            Some(nodes) => Start::Only(nodes, check),
            None => Start::Check(check),
        }
    }

    fn rate(&self, ask: &Ask<'_>, _feasible: &[Arc<Node>]) -> Option<Box<dyn Rate>> {
        let affinity = ask.pod.object.get(&PATH)?;
        let terms = affinity["preferredDuringSchedulingIgnoredDuringExecution"].as_array()?;
        let terms =
            terms.iter().map(|t| (t["weight"].as_i64().unwrap_or(0), t["preference"].clone()));
        Some(Box::new(Preferred(terms.collect())))
    }

    fn helps(&self, pod: &Pod, event: &Event) -> bool {
        let node = event.node(&[&["metadata", "labels"]]);
        node.is_some_and(|node| allows(&pod.object, node)) || matches!(event, Event::Own)
    }
}

impl Check for Required {
    fn filter(&self, node: &Node) -> Result<(), Refusal> {
        if allows(&self.0.object, &node.object) {
            return Ok(());
        }
        Err(Refusal::always("node(s) didn't match Pod's node affinity/selector"))
    }

    fn copy(&self) -> Box<dyn Check> {
        Box::new(self.clone())
    }
}

impl Rate for Preferred {
    fn score(&self, node: &Node) -> i64 {
        let fitting = self.0.iter().filter(|(_, term)| term_matches(term, &node.object));
        fitting.map(|(weight, _)| weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, false);
    }
}
