//! Persistent volumes.
//!
//! upstream: pkg/registry/core/persistentvolume/strategy.go

pub(crate) mod validation;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::ErrorList;
use serde_json::{Value, json};

use super::pods::cells::{AGE, NAME, age, text_column, wide};
use super::pods::defaults::round_list;
use super::pods::resources::quantity;
use super::pods::tree::{fill, fill_text, or_null, part, part_mut, text, texts};
use crate::plain::keep;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// The old way to name a storage class.
pub(super) const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The rules of persistent volumes.
pub(super) struct PersistentVolumes;

impl Strategy for PersistentVolumes {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules { whole: 2, ..MetadataRules::OWN }
    }

    fn default(&self, object: &mut Object) {
        if object.str(&["status", "phase"]).is_empty() {
            object.set(&["status", "phase"], "Pending");
        }
        let root = object.root_mut();
        if let Some(spec) = root.get_mut("spec") {
            defaults(spec);
        }
    }

    fn prepare_create(&self, ctx: &Context<'_>, object: &mut Object) {
        let now = seconds(ctx.now);
        object.set(&["status"], json!({"phase": "Pending", "lastPhaseTransitionTime": now}));
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        const TIME: [&str; 2] = ["status", "lastPhaseTransitionTime"];
        if ctx.subresource != "status" {
            keep(new, old, "status");
            return;
        }
        keep(new, old, "spec");
        let same = new.str(&["status", "phase"]) == old.str(&["status", "phase"]);
        match (same, new.get(&TIME).filter(|t| !t.is_null())) {
            (true, None) => {
                if let Some(time) = old.get(&TIME) {
                    new.set(&TIME, time.clone());
                }
            }
            (false, time) if time.is_none() || time == old.get(&TIME) => {
                new.set(&TIME, seconds(ctx.now));
            }
            _ => {}
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        validation::volume(object)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        if ctx.subresource == "status" {
            return ErrorList::new();
        }
        validation::update(new, old)
    }

    fn warnings(&self, object: &Object, _old: Option<&Object>) -> Vec<String> {
        validation::warnings(object)
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Capacity", "How much it holds."),
            text_column("Access Modes", "How it can be mounted."),
            text_column("Reclaim Policy", "What becomes of it after its claim."),
            text_column("Status", "Its phase."),
            text_column("Claim", "The claim it is bound to."),
            text_column("StorageClass", "Its storage class."),
            text_column("VolumeAttributesClass", "Its class of attributes."),
            text_column("Reason", "Why it is in its phase."),
            AGE,
            wide("VolumeMode", "File system or block device."),
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let null = Value::Null;
        let spec = object.get(&["spec"]).unwrap_or(&null);
        let claim = part(spec, "claimRef").map_or(String::new(), |claim| {
            format!("{}/{}", text(claim, "namespace"), text(claim, "name"))
        });
        let capacity = spec.get("capacity").map_or(Value::Null, |c| or_null(c, "storage"));
        vec![
            object.name().into(),
            quantity(&capacity).to_string().into(),
            modes(&texts(spec, "accessModes")).into(),
            text(spec, "persistentVolumeReclaimPolicy").into(),
            phase(object),
            claim.into(),
            class(object),
            or_unset(spec, "volumeAttributesClassName"),
            object.str(&["status", "reason"]).into(),
            age(object, now),
            or_unset(spec, "volumeMode"),
        ]
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn defaults(spec: &mut Value) {
    fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    fill(spec, "volumeMode", "Filesystem");
    round_list(spec.get_mut("capacity"));
    if part(spec, "hostPath").is_some() {
        fill(part_mut(spec, "hostPath"), "type", "");
    }
    let texts = [
        ("rbd", "pool", "rbd"),
        ("rbd", "user", "admin"),
        ("rbd", "keyring", "/etc/ceph/keyring"),
        ("iscsi", "iscsiInterface", "default"),
        ("scaleIO", "storageMode", "ThinProvisioned"),
        ("scaleIO", "fsType", "xfs"),
    ];
    for (source, key, default) in texts {
        if part(spec, source).is_some() {
            fill_text(part_mut(spec, source), key, default);
        }
    }
    if part(spec, "azureDisk").is_some() {
        let disk = part_mut(spec, "azureDisk");
        fill(disk, "cachingMode", "ReadWrite");
        fill(disk, "fsType", "ext4");
        fill(disk, "readOnly", false);
        fill(disk, "kind", "Shared");
    }
}

/// The phase as people see it.
pub(super) fn phase(object: &Object) -> Value {
    if object.is_deleting() {
        "Terminating".into()
    } else {
        object.str(&["status", "phase"]).into()
    }
}

/// The storage class, also when named in the old way.
pub(super) fn class(object: &Object) -> Value {
    let old = object.annotation(CLASS);
    old.unwrap_or_else(|| object.str(&["spec", "storageClassName"])).into()
}

/// A text field, or that it is not set.
pub(super) fn or_unset(spec: &Value, key: &str) -> Value {
    part(spec, key).cloned().unwrap_or_else(|| "<unset>".into())
}

/// Access modes in short, always in the same order.
pub(super) fn modes(modes: &[&str]) -> String {
    let names = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let found: Vec<&str> =
        names.iter().filter(|(mode, _)| modes.contains(mode)).map(|(_, short)| *short).collect();
    found.join(",")
}
