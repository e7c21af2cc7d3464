//! Volumes that carry zone labels are used in their zones.
//!
//! upstream: pkg/scheduler/framework/plugins/volumezone

use std::sync::Arc;

use longshore_api::Object;

use super::{Ask, Check, Plugin, Refusal, Start};
use crate::events::Event;
use crate::model::{Node, Pod};

pub(super) struct VolumeZone;

/// Labels that tell where a volume is: the present name and the one before it.
const LABELS: [[&str; 2]; 2] = [
    ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"],
    ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"],
];
/// Between several values of a label.
const SEPARATOR: &str = "__";

#[derive(Clone)]
struct Zones(Vec<Arc<Object>>);

impl Plugin for VolumeZone {
    fn start(&self, ask: &Ask<'_>) -> Start {
        let namespace = ask.pod.object.namespace();
        let claims = ask.pod.claims.iter();
        let volumes = claims.filter_map(|(name, _)| {
            let claim = ask.listers.claims.get(namespace, name)?;
            let volume = ask.listers.volumes.get("", claim.str(&["spec", "volumeName"]))?;
            let labelled = LABELS.iter().flatten().any(|label| volume.label(label).is_some());
            labelled.then_some(volume)
        });
        let volumes: Vec<Arc<Object>> = volumes.collect();
        if volumes.is_empty() { Start::Skip } else { Start::Check(Box::new(Zones(volumes))) }
    }

    fn helps(&self, _pod: &Pod, event: &Event) -> bool {
        matches!(event, Event::Storage) || event.node(&[&["metadata", "labels"]]).is_some()
    }
}

impl Check for Zones {
    fn filter(&self, node: &Node) -> Result<(), Refusal> {
        if !LABELS.iter().flatten().any(|label| node.label(label).is_some()) {
            return Ok(()); // a cluster without zones
        }
        let elsewhere = self.0.iter().any(|volume| {
            LABELS.iter().any(|names| {
                let here = names.iter().find_map(|name| node.label(name));
                names.iter().filter_map(|name| volume.label(name)).any(|zones| {
                    !here.is_some_and(|here| zones.split(SEPARATOR).any(|zone| zone == here))
                })
            })
        });
        if elsewhere {
            return Err(Refusal::always("node(s) had no available volume zone"));
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Check> {
        Box::new(self.clone())
    }
}
