//! Nodes that have a pod's images start it sooner; images that many nodes have count more, so that
//! not all pods go to one node.
//!
//! upstream: pkg/scheduler/framework/plugins/imagelocality

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Ask, Plugin, Rate, SCORE_MAX};
use crate::model::{Node, image_name};

const MB: i64 = 1024 * 1024;
/// Less than this together counts nothing.
const LEAST: i64 = 23 * MB;
/// More than this for each container counts no more.
const MOST: i64 = 1000 * MB;

pub(super) struct ImageLocality;

struct Images {
    /// Each image of the pod, as often as it is used, with the share of nodes that have it.
    wanted: Vec<(String, f64)>,
    containers: i64,
}

impl Plugin for ImageLocality {
    fn rate(&self, ask: &Ask<'_>, _feasible: &[Arc<Node>]) -> Option<Box<dyn Rate>> {
        let pod = &ask.pod.object;
        let containers = ["initContainers", "containers"]
            .iter()
            .flat_map(|list| pod.list(&["spec", list]))
            .map(|c| &c["image"]);
        let volumes = pod.list(&["spec", "volumes"]).iter().map(|v| &v["image"]["reference"]);
        let names: Vec<String> =
            containers.chain(volumes).filter_map(Value::as_str).map(image_name).collect();
        let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
        for name in &names {
            shares.entry(name).or_insert_with(|| {
                let having = ask.nodes.iter().filter(|n| n.images.contains_key(name)).count();
                having as f64 / ask.nodes.len().max(1) as f64
            });
        }
        if shares.values().all(|share| *share == 0.0) {
            return None;
        }
        let containers = i64::try_from(names.len()).unwrap_or(1);
        let wanted = names.iter().map(|name| (name.clone(), shares[name.as_str()])).collect();
        Some(Box::new(Images { wanted, containers }))
    }
}

impl Rate for Images {
    fn score(&self, node: &Node) -> i64 {
        let sizes = self.wanted.iter().filter_map(|(name, share)| {
            node.images.get(name).map(|size| (*size as f64 * share) as i64)
        });
        let most = MOST * self.containers;
        let sum = sizes.sum::<i64>().clamp(LEAST, most);
        SCORE_MAX * (sum - LEAST) / (most - LEAST)
    }
}
