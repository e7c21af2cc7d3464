//! Enough resources, and an even use of them.

use std::sync::Arc;

use super::{Ask, Check, Plugin, Rate, Refusal, SCORE_MAX, Start};
use crate::events::Event;
use crate::model::{Amounts, Node, Pod};

/// A node has what a pod asks for; those with more left are better.
pub(super) struct Fit;

/// CPU and memory are used to a similar degree.
pub(super) struct Balanced;

/// The resources that scores look at.
const SCORED: [&str; 2] = ["cpu", "memory"];

#[derive(Clone)]
struct Enough(Arc<Pod>);

struct LeastUsed(Arc<Pod>);

struct Even(Arc<Pod>);

fn amount(amounts: &Amounts, name: &str) -> i64 {
    amounts.get(name).copied().unwrap_or(0)
}

fn fits(pod: &Pod, node: &Node) -> Result<(), Refusal> {
    let mut refusal = Refusal { resolvable: true, reasons: Vec::new() };
    let most = amount(&node.allocatable, "pods");
    if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) + 1 > most {
        refusal.reasons.push("Too many pods".to_owned());
    }
    for (name, wanted) in pod.requests.iter().filter(|(name, _)| *name != "pods") {
        let whole = amount(&node.allocatable, name);
        if *wanted > 0 && *wanted > whole - amount(&node.requested, name) {
            refusal.reasons.push(format!("Insufficient {name}"));
            refusal.resolvable &= *wanted <= whole;
        }
    }
    if refusal.reasons.is_empty() { Ok(()) } else { Err(refusal) }
}

impl Plugin for Fit {
    fn start(&self, ask: &Ask<'_>) -> Start {
        Start::Check(Box::new(Enough(ask.pod.clone())))
    }

    fn rate(&self, ask: &Ask<'_>, _feasible: &[Arc<Node>]) -> Option<Box<dyn Rate>> {
        Some(Box::new(LeastUsed(ask.pod.clone())))
    }

    fn helps(&self, pod: &Pod, event: &Event) -> bool {
        match event {
            Event::PodGone(_) | Event::Own => true,
            Event::PodChanged(old, new) => {
                let (before, after) = (Pod::new(old), Pod::new(new));
                pod.requests.iter().any(|(name, wanted)| {
                    *wanted > 0 && amount(&before.requests, name) > amount(&after.requests, name)
                })
            }
            _ => event
                .node(&[&["status", "allocatable"]])
                .is_some_and(|node| fits(pod, &Node::new(node)).is_ok()),
        }
    }
}

impl Check for Enough {
    fn filter(&self, node: &Node) -> Result<(), Refusal> {
        fits(&self.0, node)
    }

    fn copy(&self) -> Box<dyn Check> {
        Box::new(self.clone())
    }
}

impl Rate for LeastUsed {
    /// upstream: noderesources/least_allocated.go
    fn score(&self, node: &Node) -> i64 {
        let shares = SCORED.iter().filter_map(|name| {
            let whole = Some(amount(&node.allocatable, name)).filter(|whole| *whole > 0)?;
            let used = amount(&node.guessed, name) + amount(&self.0.guessed, name);
            Some(if used > whole { 0 } else { (whole - used) * SCORE_MAX / whole })
        });
        let shares: Vec<i64> = shares.collect();
        let count = i64::try_from(shares.len()).unwrap_or(0);
        if count == 0 { 0 } else { shares.iter().sum::<i64>() / count }
    }
}

impl Plugin for Balanced {
    fn rate(&self, ask: &Ask<'_>, _feasible: &[Arc<Node>]) -> Option<Box<dyn Rate>> {
        // A pod that asks for nothing changes no balance.
        let asks = SCORED.iter().any(|name| amount(&ask.pod.requests, name) > 0);
        asks.then(|| Box::new(Even(ask.pod.clone())) as Box<dyn Rate>)
    }
}

/// How even the use is, from 0 to [`SCORE_MAX`].
fn evenness(node: &Node, more: &Amounts) -> i64 {
    let shares: Vec<f64> = SCORED
        .iter()
        .filter_map(|name| {
            let whole = amount(&node.allocatable, name);
            let used = amount(&node.requested, name) + amount(more, name);
            (whole != 0).then(|| (used as f64 / whole as f64).min(1.0))
        })
        .collect();
    let deviation = match shares[..] {
        [a, b] => ((a - b) / 2.0).abs(),
        _ => 0.0,
    };
    ((1.0 - deviation) * SCORE_MAX as f64) as i64
}

impl Rate for Even {
    /// upstream: noderesources/balanced_allocation.go balancedResourceScorer
    fn score(&self, node: &Node) -> i64 {
        let with = evenness(node, &self.0.requests);
        let without = evenness(node, &Amounts::new());
        SCORE_MAX / 2 + (SCORE_MAX / 2 + with - without) / 2
    }
}
