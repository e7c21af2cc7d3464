//! Volumes that only one pod may use.
//!
//! upstream: pkg/scheduler/framework/plugins/volumerestrictions

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::Object;
use serde_json::Value;

use super::{Ask, Check, Plugin, Refusal, Start};
use crate::events::Event;
use crate::model::{Node, Pod};

pub(super) struct VolumeRestrictions;

#[derive(Clone)]
struct Alone {
    pod: Arc<Pod>,
    /// Claims that only one pod may use, and how many use each.
    claims: BTreeMap<String, i64>,
}

/// Whether two pods' volumes are the same disk in a way that cannot be shared.
fn collide(a: &Value, b: &Value) -> bool {
    let same = |kind: &str, key: &str| a[kind].is_object() && a[kind][key] == b[kind][key];
    let both_read = |kind: &str| a[kind]["readOnly"] == true && b[kind]["readOnly"] == true;
    let monitors = |v: &Value| v["rbd"]["monitors"].as_array().cloned().unwrap_or_default();
    (same("gcePersistentDisk", "pdName") && !both_read("gcePersistentDisk"))
        || same("awsElasticBlockStore", "volumeID")
        || (same("iscsi", "iqn") && !both_read("iscsi"))
        || (same("rbd", "image")
            && a["rbd"]["pool"] == b["rbd"]["pool"]
            && monitors(a).iter().any(|m| monitors(b).contains(m))
            && !both_read("rbd"))
}

fn volumes(pod: &Object) -> &[Value] {
    pod.list(&["spec", "volumes"])
}

fn uses(pod: &Pod, namespace: &str, claim: &str) -> bool {
    pod.object.namespace() == namespace && pod.claims.iter().any(|(name, _)| name == claim)
}

impl Plugin for VolumeRestrictions {
    fn start(&self, ask: &Ask<'_>) -> Start {
        let pod = ask.pod;
        let namespace = pod.object.namespace();
        let mut claims = BTreeMap::new();
        for (name, own) in &pod.claims {
            let Some(claim) = ask.listers.claims.get(namespace, name) else {
                if *own {
                    continue;
                }
                let text = format!("persistentvolumeclaim {name:?} not found");
                return Start::Refuse(Refusal::always(text));
            };
            if claim.list(&["spec", "accessModes"]).iter().any(|m| m == "ReadWriteOncePod") {
                let pods = ask.nodes.iter().flat_map(|node| &node.pods);
                let users = pods.filter(|other| uses(other, namespace, name)).count();
                claims.insert(name.clone(), i64::try_from(users).unwrap_or(i64::MAX));
            }
        }
        let disks = ["gcePersistentDisk", "awsElasticBlockStore", "iscsi", "rbd"];
        let has_disk =
            volumes(&pod.object).iter().any(|v| disks.iter().any(|kind| v[kind].is_object()));
        if claims.is_empty() && !has_disk {
            return Start::Skip;
        }
        Start::Check(Box::new(Alone { pod: pod.clone(), claims }))
    }

    fn helps(&self, pod: &Pod, event: &Event) -> bool {
        match event {
            Event::PodGone(gone) => {
                let namespace = pod.object.namespace();
                let gone = Pod::new(gone);
                pod.claims.iter().any(|(claim, _)| uses(&gone, namespace, claim))
                    || volumes(&pod.object)
                        .iter()
                        .any(|a| volumes(&gone.object).iter().any(|b| collide(a, b)))
            }
            Event::Storage => true,
            _ => false,
        }
    }
}

impl Alone {
    fn note(&mut self, other: &Pod, by: i64) {
        for (claim, users) in &mut self.claims {
            if uses(other, self.pod.object.namespace(), claim) {
                *users += by;
            }
        }
    }
}

impl Check for Alone {
    fn filter(&self, node: &Node) -> Result<(), Refusal> {
        let own = volumes(&self.pod.object);
        let taken = node.pods.iter().any(|other| {
            let others = volumes(&other.object);
            own.iter().any(|a| others.iter().any(|b| collide(a, b)))
        });
        if taken {
            return Err(Refusal::now("node(s) had no available disk"));
        }
        if self.claims.values().any(|users| *users > 0) {
            return Err(Refusal::now(
                "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode \
                 already in-use by another pod",
            ));
        }
        Ok(())
    }

    fn add(&mut self, other: &Pod, _node: &Node) {
        self.note(other, 1);
    }

    fn remove(&mut self, other: &Pod, _node: &Node) {
        self.note(other, -1);
    }

    fn copy(&self) -> Box<dyn Check> {
        Box::new(self.clone())
    }
}
