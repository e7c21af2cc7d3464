//! How long a node may keep secrets and config maps: longer in larger clusters.
//!
//! upstream: pkg/controller/ttl/ttl_controller.go

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use longshore_client::informer::Change;
use longshore_client::resource::NODES;
use longshore_client::workers;
use longshore_client::{Patch, Queue};
use serde_json::json;

use crate::Context;
use crate::common::{Key, follow, gone_is_fine};

const TTL: &str = "node.alpha.kubernetes.io/ttl";
/// Least and most nodes of each step, and its seconds. Steps overlap so that a cluster at the edge
/// does not go back and forth.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// The step of a cluster with `count` nodes that was in `step` before.
fn next_step(mut step: usize, count: usize) -> usize {
    while count > STEPS[step].1 {
        step += 1;
    }
    while count < STEPS[step].0 {
        step -= 1;
    }
    step
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let nodes = ctx.caches.get(NODES);
    follow(&nodes, &queue);
    let (count, step) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let current = step.clone();
    nodes.on_change(move |change| {
        let count = match change {
            Change::Applied { old: Some(_), .. } => return,
            Change::Applied { old: None, .. } => count.fetch_add(1, Ordering::Relaxed) + 1,
            Change::Deleted(_) => count.fetch_sub(1, Ordering::Relaxed).saturating_sub(1),
        };
        step.store(next_step(step.load(Ordering::Relaxed), count), Ordering::Relaxed);
    });
    let shutdown = ctx.shutdown.clone();
    workers::run("ttl-controller", queue, 1, &shutdown, move |(_, name): Key| {
        let (ctx, nodes) = (ctx.clone(), nodes.clone());
        let seconds = STEPS[current.load(Ordering::Relaxed)].2.to_string();
        async move {
            let Some(node) = nodes.get("", &name) else { return Ok(None) };
            if node.annotation(TTL) != Some(&seconds) {
                let patch =
                    Patch::Strategic(json!({ "metadata": { "annotations": { TTL: seconds } } }));
                gone_is_fine(ctx.client.patch(NODES, "", &name, "", &patch).await)?;
            }
            Ok(None)
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_overlap() {
        for (step, count, next) in [(0, 100, 0), (0, 101, 1), (1, 95, 1), (1, 89, 0), (0, 5000, 4)]
        {
            assert_eq!(next_step(step, count), next, "{count} from {step}");
        }
    }
}
