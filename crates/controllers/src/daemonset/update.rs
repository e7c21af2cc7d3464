//! Rolling updates of daemon sets: old pods make room for new ones, a few nodes at a time.
//!
//! upstream: pkg/controller/daemon/update.go

use std::sync::Arc;

use longshore_api::Object;
use longshore_client::Error;

use super::{ByNode, Controller, is_new, should_run};
use crate::common::is_available;

/// A count, or a percentage of `total` rounded up.
fn scaled(set: &Object, field: &str, total: usize, default: i64) -> i64 {
    let value = set.get(&["spec", "updateStrategy", "rollingUpdate", field]);
    let Some(value) = value else { return default };
    if let Some(count) = value.as_i64() {
        return count;
    }
    let percent = value.as_str().and_then(|t| t.strip_suffix('%')).and_then(|t| t.parse().ok());
    let percent: i64 = percent.unwrap_or(0);
    let total = i64::try_from(total).unwrap_or(i64::MAX);
    total.saturating_mul(percent).saturating_add(99) / 100
}

/// Nodes that may have an old and a new pod at the same time.
pub(super) fn surge(set: &Object, total: usize) -> i64 {
    scaled(set, "maxSurge", total, 0)
}

/// What a rolling update does next.
#[derive(Default)]
struct Step {
    delete: Vec<Arc<Object>>,
    create: Vec<String>,
}

impl Controller {
    pub(super) async fn roll(&self, set: &Object, hash: &str) -> Result<(), Error> {
        let by_node = self.by_node(set).await?;
        let wanted: Vec<String> = self
            .nodes
            .list()
            .iter()
            .filter(|node| should_run(set, node).0)
            .map(|node| node.name().to_owned())
            .collect();
        let surge = surge(set, wanted.len());
        let step = if surge > 0 {
            self.surge_step(set, hash, &by_node, &wanted, surge)
        } else {
            let unavailable = scaled(set, "maxUnavailable", wanted.len(), 1).max(1);
            self.replace_step(set, hash, &by_node, &wanted, unavailable)
        };
        self.change(set, step.create, step.delete, hash).await
    }

    fn available(&self, set: &Object, pod: &Object) -> bool {
        let min_ready = set.int(&["spec", "minReadySeconds"]).unwrap_or(0);
        !pod.is_deleting() && is_available(pod, min_ready, self.ctx.clock.now()).is_ok()
    }

    /// Deletes old pods as long as not too many nodes are without an available one.
    fn replace_step(
        &self,
        set: &Object,
        hash: &str,
        by_node: &ByNode,
        wanted: &[String],
        limit: i64,
    ) -> Step {
        let (mut step, mut candidates, mut unavailable) = (Step::default(), Vec::new(), 0);
        for node in wanted {
            let pods = by_node.get(node).map_or(&[][..], Vec::as_slice);
            let [pod] = pods else {
                unavailable += 1;
                continue;
            };
            let available = self.available(set, pod);
            unavailable += i64::from(!available);
            if is_new(set, pod, hash) || pod.is_deleting() {
                continue;
            }
            if available {
                candidates.push(pod.clone());
            } else {
                step.delete.push(pod.clone()); // replacing it makes nothing worse
            }
        }
        let room = usize::try_from(limit - unavailable).unwrap_or(0);
        step.delete.extend(candidates.into_iter().take(room));
        step
    }

    /// Creates new pods beside old ones; an old one goes when the new one is available.
    fn surge_step(
        &self,
        set: &Object,
        hash: &str,
        by_node: &ByNode,
        wanted: &[String],
        limit: i64,
    ) -> Step {
        let (mut step, mut candidates, mut surging) = (Step::default(), Vec::new(), 0);
        for node in wanted {
            let pods = by_node.get(node).map_or(&[][..], Vec::as_slice);
            let (new, old): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| is_new(set, pod, hash));
            match (new.first(), old.first()) {
                (Some(new), Some(old)) if self.available(set, new) => {
                    step.delete.extend((!old.is_deleting()).then(|| (*old).clone()));
                }
                (Some(_), Some(_)) => surging += 1,
                (None, Some(old)) if self.available(set, old) => candidates.push(node.clone()),
                (None, Some(_)) => {
                    step.create.push(node.clone()); // the old one serves nobody
                    surging += 1;
                }
                _ => {}
            }
        }
        let room = usize::try_from(limit - surging).unwrap_or(0);
        step.create.extend(candidates.into_iter().take(room));
        step
    }
}
