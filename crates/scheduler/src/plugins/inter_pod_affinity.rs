//! Pods that want to be near others, or away from them.
//!
//! upstream: pkg/scheduler/framework/plugins/interpodaffinity

use std::collections::HashMap;
use std::sync::Arc;

use longshore_api::Object;

use super::{Ask, Check, Plugin, Rate, Refusal, SCORE_MAX, Start};
use crate::events::Event;
use crate::listers::{Listers, labels};
use crate::model::{Node, Pod, Term};

pub(super) struct InterPodAffinity;

/// A place: a label of nodes and its value.
type Place = (String, String);
/// How many pods are in a place.
type Counts = HashMap<Place, i64>;

/// How much a required wish of a pod that is there counts for others.
const REQUIRED_WEIGHT: i64 = 1;

#[derive(Clone)]
struct Wishes {
    pod: Arc<Pod>,
    listers: Arc<Listers>,
    namespace: Option<Arc<Object>>,
    /// Pods that all near terms are about, those that one away term is about, and those that shun
    /// this pod.
    near: Counts,
    away: Counts,
    shunned: Counts,
}

fn count(counts: &mut Counts, node: &Node, topology: &str, by: i64) {
    let Some(value) = node.label(topology) else { return };
    let place = (topology.to_owned(), value.to_owned());
    let present = counts.entry(place).or_default();
    *present += by;
}

fn there(counts: &Counts, node: &Node, topology: &str) -> Option<i64> {
    let place = (topology.to_owned(), node.label(topology)?.to_owned());
    Some(counts.get(&place).copied().unwrap_or(0))
}

fn all_select(terms: &[Term], pod: &Object, namespace: Option<&Arc<Object>>) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.selects(pod, labels(namespace)))
}

impl Wishes {
    fn note(&mut self, other: &Pod, node: &Node, by: i64) {
        for term in &other.away {
            if term.selects(&self.pod.object, labels(self.namespace.as_ref())) {
                count(&mut self.shunned, node, &term.topology, by);
            }
        }
        let pod = self.pod.clone();
        if pod.near.is_empty() && pod.away.is_empty() {
            return;
        }
        let namespace = self.listers.namespace(other.object.namespace());
        if all_select(&pod.near, &other.object, namespace.as_ref()) {
            for term in &pod.near {
                count(&mut self.near, node, &term.topology, by);
            }
        }
        for term in &pod.away {
            if term.selects(&other.object, labels(namespace.as_ref())) {
                count(&mut self.away, node, &term.topology, by);
            }
        }
    }

    fn is_near(&self, node: &Node) -> bool {
        let mut found = true;
        for term in &self.pod.near {
            match there(&self.near, node, &term.topology) {
                None => return false,
                Some(number) => found &= number > 0,
            }
        }
        // The first pod of a group that wants to be together may start anywhere.
        let nobody = self.near.values().all(|number| *number <= 0);
        found || (nobody && all_select(&self.pod.near, &self.pod.object, self.namespace.as_ref()))
    }
}

impl Plugin for InterPodAffinity {
    fn start(&self, ask: &Ask<'_>) -> Start {
        let pod = ask.pod;
        let mut wishes = Wishes {
            pod: pod.clone(),
            listers: Arc::new(ask.listers.clone()),
            namespace: ask.listers.namespace(pod.object.namespace()),
            near: Counts::new(),
            away: Counts::new(),
            shunned: Counts::new(),
        };
        let asks = !(pod.near.is_empty() && pod.away.is_empty());
        for node in ask.nodes {
            if asks || node.shunning > 0 {
                node.pods.iter().for_each(|other| wishes.note(other, node, 1));
            }
        }
        if !asks && wishes.shunned.is_empty() {
            return Start::Skip;
        }
        Start::Check(Box::new(wishes))
    }

    fn rate(&self, ask: &Ask<'_>, _feasible: &[Arc<Node>]) -> Option<Box<dyn Rate>> {
        let pod = ask.pod;
        let own = ask.listers.namespace(pod.object.namespace());
        let mut scores = Counts::new();
        for node in ask.nodes {
            if pod.likes.is_empty() && node.wishing == 0 {
                continue;
            }
            for other in &node.pods {
                if !pod.likes.is_empty() {
                    let namespace = ask.listers.namespace(other.object.namespace());
                    for (weight, term) in &pod.likes {
                        if term.selects(&other.object, labels(namespace.as_ref())) {
                            count(&mut scores, node, &term.topology, *weight);
                        }
                    }
                }
                let required = other.near.iter().map(|term| (REQUIRED_WEIGHT, term));
                let likes = other.likes.iter().map(|(weight, term)| (*weight, term));
                for (weight, term) in required.chain(likes) {
                    if term.selects(&pod.object, labels(own.as_ref())) {
                        count(&mut scores, node, &term.topology, weight);
                    }
                }
            }
        }
        (!scores.is_empty()).then(|| Box::new(Liked(scores)) as Box<dyn Rate>)
    }

    fn helps(&self, pod: &Pod, event: &Event) -> bool {
        match event {
            Event::PodPlaced(other) | Event::PodChanged(_, other) => {
                // Which namespaces a selector means is not looked up here: rather once too often.
                let may = |term: &Term| term.selects(other, other.labels());
                pod.near.iter().any(may) || pod.near.iter().any(|t| t.selects(other, None))
            }
            Event::PodGone(gone) => {
                pod.away.iter().any(|term| term.selects(gone, None))
                    || !Pod::new(gone).away.is_empty()
            }
            Event::Own => true,
            _ => event.node(&[&["metadata", "labels"]]).is_some(),
        }
    }
}

impl Check for Wishes {
    fn filter(&self, node: &Node) -> Result<(), Refusal> {
        if !self.pod.near.is_empty() && !self.is_near(node) {
            return Err(Refusal::always("node(s) didn't match pod affinity rules"));
        }
        let close = |counts: &Counts, term: &Term| {
            there(counts, node, &term.topology).is_some_and(|number| number > 0)
        };
        if self.pod.away.iter().any(|term| close(&self.away, term)) {
            return Err(Refusal::now("node(s) didn't match pod anti-affinity rules"));
        }
        let shunned = self
            .shunned
            .iter()
            .any(|((topology, value), number)| *number > 0 && node.label(topology) == Some(value));
        if shunned {
            let text = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Err(Refusal::now(text));
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

struct Liked(Counts);

impl Rate for Liked {
    fn score(&self, node: &Node) -> i64 {
        let here =
            self.0.iter().filter(|((topology, value), _)| node.label(topology) == Some(value));
        here.map(|(_, score)| score).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let least = scores.iter().copied().min().unwrap_or(0);
        let span = scores.iter().copied().max().unwrap_or(0) - least;
        for score in scores {
            let share = if span == 0 { 0.0 } else { (*score - least) as f64 / span as f64 };
            *score = (SCORE_MAX as f64 * share) as i64;
        }
    }
}
