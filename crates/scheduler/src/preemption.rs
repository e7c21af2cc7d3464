//! Less important pods leave a node so that a more important one fits.
//!
//! upstream: pkg/scheduler/framework/preemption, plugins/defaultpreemption

use std::cmp::Reverse;
use std::sync::Arc;

use longshore_api::selector::LabelSelector;

use crate::cache::Snapshot;
use crate::framework::{Checks, Misfit, summary};
use crate::listers::Listers;
use crate::model::{Node, Pod};

/// So many nodes with victims are always looked for.
const CANDIDATES_MIN: usize = 100;
/// And this share of all nodes, in percent.
const CANDIDATES_SHARE: usize = 10;

/// Pods that leave a node, the most important first.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) node: String,
    pub(crate) victims: Vec<Arc<Pod>>,
    /// How many of them a disruption budget protects.
    violations: usize,
}

/// What came of it.
pub(crate) enum Outcome {
    /// These leave.
    Leave(Candidate),
    /// Nobody leaves, for this reason; whether the pod stops waiting for a node that it was
    /// promised.
    Nobody(String, bool),
}

/// Looks for pods that may leave for `pod`.
pub(crate) fn look(
    pod: &Arc<Pod>,
    misfit: &Misfit,
    snapshot: &Snapshot,
    listers: &Listers,
) -> Outcome {
    if pod.object.str(&["spec", "preemptionPolicy"]) == "Never" {
        return Outcome::Nobody("not eligible due to preemptionPolicy=Never.".into(), false);
    }
    let Some((checks, helped)) = &misfit.nodes else {
        return Outcome::Nobody(String::new(), false);
    };
    let nominated = pod.object.str(&["status", "nominatedNodeName"]);
    let promised = helped.iter().find(|node| node.name() == nominated);
    if promised.is_some_and(|node| node.pods.iter().any(|other| is_leaving(other, pod))) {
        let text = "not eligible due to a terminating pod on the nominated node.";
        return Outcome::Nobody(text.into(), false);
    }
    let count = snapshot.nodes.len();
    let most = (count * CANDIDATES_SHARE / 100).max(CANDIDATES_MIN);
    let (mut candidates, mut reasons) = (Vec::new(), Vec::new());
    for node in helped {
        match victims(pod, node, checks, snapshot, listers) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => reasons.extend(why),
        }
        if candidates.len() >= most {
            break;
        }
    }
    if let Some(best) = pick(candidates) {
        return Outcome::Leave(best);
    }
    let unhelpful = "Preemption is not helpful for scheduling".to_owned();
    reasons.extend(std::iter::repeat_n(unhelpful, count - helped.len()));
    Outcome::Nobody(summary(count, reasons.iter().map(String::as_str)), true)
}

/// Whether a pod is on its way out for one that is more important.
fn is_leaving(other: &Pod, pod: &Pod) -> bool {
    let told = other.object.list(&["status", "conditions"]).iter();
    other.priority < pod.priority
        && other.object.is_deleting()
        && told.into_iter().any(|c| {
            c["type"] == "DisruptionTarget"
                && c["status"] == "True"
                && c["reason"] == "PreemptionByScheduler"
        })
}

/// More important pods come first: by priority, then those that started earlier.
fn importance(pod: &Pod) -> (Reverse<i64>, String) {
    (Reverse(pod.priority), started(pod).to_owned())
}

/// When a pod started; one that has not yet counts as starting now.
fn started(pod: &Pod) -> &str {
    match pod.object.str(&["status", "startTime"]) {
        "" => "9999",
        time => time,
    }
}

/// The fewest pods that have to leave a node, or why that does not help.
fn victims(
    pod: &Arc<Pod>,
    node: &Arc<Node>,
    checks: &Checks,
    snapshot: &Snapshot,
    listers: &Listers,
) -> Result<Candidate, Vec<String>> {
    let (mut checks, mut node) = (checks.clone(), (**node).clone());
    let mut lesser: Vec<Arc<Pod>> =
        node.pods.iter().filter(|other| other.priority < pod.priority).cloned().collect();
    if lesser.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".into()]);
    }
    for other in &lesser {
        node.remove(other.uid());
        checks.remove(other, &node);
    }
    checks.fits(pod, &node, snapshot).map_err(|(_, refusal)| refusal.reasons)?;
    lesser.sort_by_key(|other| importance(other));
    let (protected, free) = split(lesser, listers);
    let mut victims = Vec::new();
    let mut violations = 0;
    for (other, is_protected) in
        protected.into_iter().map(|p| (p, true)).chain(free.into_iter().map(|p| (p, false)))
    {
        node.add(other.clone());
        checks.add(&other, &node);
        if checks.fits(pod, &node, snapshot).is_ok() {
            continue; // it may stay
        }
        node.remove(other.uid());
        checks.remove(&other, &node);
        violations += usize::from(is_protected);
        victims.push(other);
    }
    victims.sort_by_key(|other| importance(other));
    Ok(Candidate { node: node.name().to_owned(), victims, violations })
}

/// Tells pods apart that a disruption budget has no room for.
fn split(pods: Vec<Arc<Pod>>, listers: &Listers) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let budgets = listers.budgets.list();
    let mut left: Vec<i64> = budgets
        .iter()
        .map(|budget| budget.int(&["status", "disruptionsAllowed"]).unwrap_or(0))
        .collect();
    pods.into_iter().partition(|pod| {
        let mut violated = false;
        for (budget, left) in budgets.iter().zip(&mut left) {
            let selector = budget.get(&["spec", "selector"]).and_then(|selector| {
                LabelSelector::from_value(selector).ok().filter(|s| !s.is_empty())
            });
            let concerned = budget.namespace() == pod.object.namespace()
                && selector.is_some_and(|s| s.matches_map(pod.object.labels()))
                && budget.get(&["status", "disruptedPods", pod.object.name()]).is_none();
            if concerned {
                *left -= 1;
                violated |= *left < 0;
            }
        }
        violated
    })
}

/// The node where leaving hurts least: fewest violated budgets, least important victim, smallest
/// sum of priorities, fewest victims, and those that started last.
fn pick(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().min_by_key(|candidate| {
        let highest = candidate.victims.first().map_or(i64::MIN, |pod| pod.priority);
        // All priorities count as positive, so that more pods are never better than fewer.
        let sum: i64 = candidate.victims.iter().map(|p| p.priority + i64::from(i32::MAX) + 1).sum();
        let top = candidate.victims.iter().filter(|pod| pod.priority == highest);
        let earliest = top.map(|pod| started(pod)).min().unwrap_or("").to_owned();
        (candidate.violations, highest, sum, candidate.victims.len(), Reverse(earliest))
    })
}
