//! Filtering and scoring: which node is best for a pod, or why there is none.
//!
//! upstream: pkg/scheduler/schedule_one.go

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cache::Snapshot;
use crate::model::{Node, Pod};
use crate::plugins::{Ask, Check, Refusal, Start, TABLE};

/// So many nodes that will do are always looked for.
///
/// upstream: pkg/scheduler/schedule_one.go minFeasibleNodesToFind
const ENOUGH_MIN: usize = 100;
/// The least share of nodes that is looked at, in percent.
const SHARE_MIN: usize = 5;

/// The checks that concern a pod.
#[derive(Default)]
pub(crate) struct Checks(Vec<(&'static str, Box<dyn Check>)>);

impl Clone for Checks {
    fn clone(&self) -> Self {
        Self(self.0.iter().map(|(name, check)| (*name, check.copy())).collect())
    }
}

impl Checks {
    /// As if another pod were on a node.
    pub(crate) fn add(&mut self, other: &Pod, node: &Node) {
        self.0.iter_mut().for_each(|(_, check)| check.add(other, node));
    }

    /// As if another pod were not on a node.
    pub(crate) fn remove(&mut self, other: &Pod, node: &Node) {
        self.0.iter_mut().for_each(|(_, check)| check.remove(other, node));
    }

    fn run(&self, node: &Node) -> Result<(), (&'static str, Refusal)> {
        for (name, check) in &self.0 {
            check.filter(node).map_err(|refusal| (*name, refusal))?;
        }
        Ok(())
    }

    /// Whether the pod may run on a node, also when those come that wait for room there and are at
    /// least as important.
    ///
    /// upstream: pkg/scheduler/framework/runtime/framework.go RunFilterPluginsWithNominatedPods
    pub(crate) fn fits(
        &self,
        pod: &Pod,
        node: &Node,
        snapshot: &Snapshot,
    ) -> Result<(), (&'static str, Refusal)> {
        let waiting = snapshot.nominated.get(node.name()).into_iter().flatten();
        let waiting: Vec<&Arc<Pod>> = waiting
            .filter(|other| other.priority >= pod.priority && other.uid() != pod.uid())
            .collect();
        if !waiting.is_empty() {
            let (mut checks, mut fuller) = (self.clone(), node.clone());
            for other in waiting {
                fuller.add(other.clone());
                checks.add(other, &fuller);
            }
            checks.run(&fuller)?;
        }
        self.run(node)
    }
}

/// Why no node will do.
pub(crate) struct Misfit {
    /// What is told of the nodes.
    pub(crate) message: String,
    /// The plugins that refused.
    pub(crate) plugins: BTreeSet<&'static str>,
    /// The nodes on which it may help when other pods leave, with the checks to find out;
    /// `None` when the pod was refused before any node was looked at.
    pub(crate) nodes: Option<(Checks, Vec<Arc<Node>>)>,
}

/// What a decision works with.
pub(crate) struct Choice<'a> {
    pub(crate) ask: Ask<'a>,
    pub(crate) snapshot: &'a Snapshot,
    /// The place in the list of nodes to start from.
    pub(crate) offset: &'a mut usize,
    /// Decides between equals.
    pub(crate) dice: u64,
}

/// How many nodes that will do are enough of `count` nodes.
fn enough(count: usize) -> usize {
    if count < ENOUGH_MIN {
        return count;
    }
    let share = 50_usize.saturating_sub(count / 125).max(SHARE_MIN);
    (count * share / 100).max(ENOUGH_MIN)
}

/// The text of a failure: how many nodes refuse for which reasons.
///
/// upstream: pkg/scheduler/framework/types.go FitError.Error
pub(crate) fn summary<'a>(count: usize, reasons: impl Iterator<Item = &'a str>) -> String {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *numbers.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<String> = numbers.iter().map(|(why, n)| format!("{n} {why}")).collect();
    parts.sort();
    let mut text = format!("0/{count} nodes are available:");
    if !parts.is_empty() {
        text.push_str(&format!(" {}.", parts.join(", ")));
    }
    text
}

impl Choice<'_> {
    /// The best node, or why there is none.
    pub(crate) fn make(&mut self) -> Result<String, Misfit> {
        let nodes = self.ask.nodes;
        if nodes.is_empty() {
            return Err(Misfit {
                message: "no nodes available to schedule pods".into(),
                plugins: BTreeSet::new(),
                nodes: None,
            });
        }
        let mut checks = Checks::default();
        let mut only: Option<BTreeSet<String>> = None;
        let mut narrowing = BTreeSet::new();
        for (name, _, plugin) in TABLE {
            match plugin.start(&self.ask) {
                Start::Skip => {}
                Start::Check(check) => checks.0.push((name, check)),
                Start::Only(names, check) => {
                    checks.0.push((name, check));
                    narrowing.insert(*name);
                    only = Some(match only {
                        None => names,
                        Some(before) => before.intersection(&names).cloned().collect(),
                    });
                }
                Start::Refuse(refusal) => {
                    let why = refusal.reasons.join(", ");
                    return Err(Misfit {
                        // What comes after the refusal is upstream's word for "preemption was
                        // not prepared".
                        message: format!("0/{} nodes are available: {why}. not found", nodes.len()),
                        plugins: BTreeSet::from([*name]),
                        nodes: None,
                    });
                }
            }
        }
        self.filter(checks, only, narrowing).map(|feasible| self.best(&feasible))
    }

    fn filter(
        &mut self,
        checks: Checks,
        only: Option<BTreeSet<String>>,
        narrowing: BTreeSet<&'static str>,
    ) -> Result<Vec<Arc<Node>>, Misfit> {
        let (pod, nodes) = (self.ask.pod, self.ask.nodes);
        let nominated = pod.object.str(&["status", "nominatedNodeName"]);
        if !nominated.is_empty()
            && let Some(node) = nodes.iter().find(|node| node.name() == nominated)
            && checks.fits(pod, node, self.snapshot).is_ok()
        {
            return Ok(vec![node.clone()]);
        }
        let candidates: Vec<&Arc<Node>> = match &only {
            None => nodes.iter().collect(),
            Some(names) => nodes.iter().filter(|node| names.contains(node.name())).collect(),
        };
        let (mut feasible, mut refused) = (Vec::new(), Vec::new());
        let most = enough(candidates.len());
        let mut seen = 0;
        for at in 0..candidates.len() {
            let node = candidates[(*self.offset + at) % candidates.len()];
            seen += 1;
            match checks.fits(pod, node, self.snapshot) {
                Ok(()) => feasible.push(node.clone()),
                Err((plugin, refusal)) => refused.push((node.clone(), plugin, refusal)),
            }
            if feasible.len() >= most {
                break;
            }
        }
        *self.offset = (*self.offset + seen) % nodes.len();
        if !feasible.is_empty() {
            return Ok(feasible);
        }
        let names: Vec<&str> = narrowing.iter().copied().collect();
        let outside = format!("node(s) didn't satisfy plugin(s) [{}]", names.join(" "));
        let apart = nodes.len() - candidates.len();
        let reasons = refused.iter().flat_map(|(_, _, r)| r.reasons.iter().map(String::as_str));
        let reasons = reasons.chain(std::iter::repeat_n(outside.as_str(), apart));
        let message = summary(nodes.len(), reasons);
        let mut plugins: BTreeSet<&'static str> =
            refused.iter().map(|(_, plugin, _)| *plugin).collect();
        if apart > 0 {
            plugins.extend(narrowing);
        }
        let helped = refused.into_iter().filter(|(_, _, r)| r.resolvable).map(|(node, _, _)| node);
        Err(Misfit { message, plugins, nodes: Some((checks, helped.collect())) })
    }

    /// The node with the best score; chance decides between equals.
    fn best(&self, feasible: &[Arc<Node>]) -> String {
        if let [only] = feasible {
            return only.name().to_owned();
        }
        let mut totals = vec![0_i64; feasible.len()];
        for (_, weight, plugin) in TABLE.iter().filter(|(_, weight, _)| *weight > 0) {
            let Some(rate) = plugin.rate(&self.ask, feasible) else { continue };
            let mut scores: Vec<i64> = feasible.iter().map(|node| rate.score(node)).collect();
            rate.normalize(&mut scores);
            for (total, score) in totals.iter_mut().zip(scores) {
                *total += weight * score;
            }
        }
        let best = totals.iter().copied().max().unwrap_or(0);
        let equals: Vec<&Arc<Node>> =
            feasible.iter().zip(&totals).filter(|(_, t)| **t == best).map(|(n, _)| n).collect();
        let pick = usize::try_from(self.dice % equals.len() as u64).unwrap_or(0);
        equals[pick].name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_clusters_are_sampled() {
        for (count, want) in [(5, 5), (99, 99), (100, 100), (1000, 420), (5000, 500), (6000, 300)] {
            assert_eq!(enough(count), want, "{count}");
        }
    }

    #[test]
    fn reasons_are_counted_and_sorted_as_text() {
        let reasons = ["b", "a", "b"].into_iter();
        assert_eq!(summary(3, reasons), "0/3 nodes are available: 1 a, 2 b.");
    }
}
