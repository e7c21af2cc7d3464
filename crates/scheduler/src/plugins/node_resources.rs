//! Enough resources, and an even use of them.

use super::{Cycle, Plugin, SCORE_MAX};
use crate::model::Node;

/// A node has what a pod asks for; those with more left are better.
pub(super) struct Fit;

/// CPU and memory are used to a similar degree.
pub(super) struct Balanced;

/// The resources that scores look at.
const SCORED: [&str; 2] = ["cpu", "memory"];

impl Plugin for Fit {
    fn filter(&self, cycle: &Cycle<'_>, node: &Node) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        let most = node.allocatable.get("pods").copied().unwrap_or(0);
        if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) + 1 > most {
            reasons.push("Too many pods".to_owned());
        }
        for (name, wanted) in &cycle.pod.requests {
            let free = node.allocatable.get(name).copied().unwrap_or(0)
                - node.requested.get(name).copied().unwrap_or(0);
            if *wanted > 0 && *wanted > free {
                reasons.push(format!("Insufficient {name}"));
            }
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// upstream: noderesources/least_allocated.go
    fn score(&self, cycle: &Cycle<'_>, node: &Node) -> Option<i64> {
        let shares = SCORED.iter().filter_map(|name| {
            let whole = node.allocatable.get(*name).copied().filter(|w| *w > 0)?;
            let used = amount(&node.guessed, name) + amount(&cycle.pod.guessed, name);
            Some(if used > whole { 0 } else { (whole - used) * SCORE_MAX / whole })
        });
        let shares: Vec<i64> = shares.collect();
        let count = i64::try_from(shares.len()).unwrap_or(0);
        Some(if count == 0 { 0 } else { shares.iter().sum::<i64>() / count })
    }
}

fn amount(amounts: &crate::model::Amounts, name: &str) -> i64 {
    amounts.get(name).copied().unwrap_or(0)
}

impl Plugin for Balanced {
    /// upstream: noderesources/balanced_allocation.go
    fn score(&self, cycle: &Cycle<'_>, node: &Node) -> Option<i64> {
        let share = |name: &str| {
            let whole = amount(&node.allocatable, name) as f64;
            let used = (amount(&node.requested, name) + amount(&cycle.pod.requests, name)) as f64;
            if whole > 0.0 { (used / whole).min(1.0) } else { 1.0 }
        };
        let deviation = (share("cpu") - share("memory")).abs() / 2.0;
        Some(((1.0 - deviation) * SCORE_MAX as f64) as i64)
    }
}
