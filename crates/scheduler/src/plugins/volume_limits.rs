//! A storage driver attaches only so many volumes to a node.
//!
//! upstream: pkg/scheduler/framework/plugins/nodevolumelimits/csi.go

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Ask, Check, Plugin, Refusal, Start};
use crate::events::Event;
use crate::listers::Listers;
use crate::model::{Node, Pod};

pub(super) struct NodeVolumeLimits;

/// Driver and handle of a volume.
type Volume = (String, String);

#[derive(Clone)]
struct Limits {
    listers: Arc<Listers>,
    wanted: BTreeSet<Volume>,
}

/// The volumes of a pod's claims that a driver attaches; a claim that gets its volume later counts
/// under its own name.
fn volumes(listers: &Listers, pod: &Pod) -> BTreeSet<Volume> {
    let namespace = pod.object.namespace();
    let claims = pod.claims.iter().filter_map(|(name, _)| {
        let claim = listers.claims.get(namespace, name)?;
        let bound = claim.str(&["spec", "volumeName"]);
        if let Some(volume) = listers.volumes.get("", bound) {
            let csi = |key: &str| volume.str(&["spec", "csi", key]).to_owned();
            return Some((csi("driver"), csi("volumeHandle"))).filter(|v| !v.0.is_empty());
        }
        let class = listers.classes.get("", claim.str(&["spec", "storageClassName"]))?;
        Some((class.str(&["provisioner"]).to_owned(), format!("{namespace}/{name}")))
    });
    claims.collect()
}

impl Plugin for NodeVolumeLimits {
    fn start(&self, ask: &Ask<'_>) -> Start {
        let wanted = volumes(ask.listers, ask.pod);
        if wanted.is_empty() {
            return Start::Skip;
        }
        Start::Check(Box::new(Limits { listers: Arc::new(ask.listers.clone()), wanted }))
    }

    fn helps(&self, _pod: &Pod, event: &Event) -> bool {
        matches!(event, Event::Storage | Event::PodGone(_))
    }
}

impl Check for Limits {
    fn filter(&self, node: &Node) -> Result<(), Refusal> {
        let Some(csi_node) = self.listers.csi_nodes.get("", node.name()) else { return Ok(()) };
        let mut present: Option<BTreeSet<Volume>> = None;
        for driver in csi_node.list(&["spec", "drivers"]) {
            let Some(most) = driver["allocatable"]["count"].as_u64() else { continue };
            let of = |v: &&Volume| driver["name"] == *v.0;
            if !self.wanted.iter().any(|v| of(&v)) {
                continue;
            }
            let present = present.get_or_insert_with(|| {
                node.pods.iter().flat_map(|pod| volumes(&self.listers, pod)).collect()
            });
            let together = present.union(&self.wanted).filter(of).count();
            let more = self.wanted.difference(present).filter(of).count();
            if more > 0 && u64::try_from(together).unwrap_or(u64::MAX) > most {
                return Err(Refusal::now("node(s) exceed max volume count"));
            }
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Check> {
        Box::new(self.clone())
    }
}
