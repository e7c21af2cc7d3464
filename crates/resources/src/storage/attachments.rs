//! Attachments of volumes to nodes.
//!
//! upstream: pkg/registry/storage/volumeattachment/strategy.go,
//! pkg/apis/storage/validation/validation.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::managed::Filter;
use serde_json::{Value, json};

use crate::core::persistentvolumes::validation::{driver_name, volume_spec};
use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::core::pods::tree::{entries, int, opt_text, part, text};
use crate::core::pods::validation::common::{dns_subdomain, immutable};
use crate::plain::{keep, keep_metadata, status_alone};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_MAX: usize = 1024;

/// The rules of attachments.
pub(super) struct VolumeAttachments;

impl Strategy for VolumeAttachments {
    fn written_fields(&self, subresource: &str) -> Filter {
        status_alone(subresource)
    }

    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::WHOLE
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["status"], json!({"attached": false}));
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        if ctx.subresource == "status" {
            keep(new, old, "spec");
            keep_metadata(new, old);
        } else {
            keep(new, old, "status");
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        rules(object)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = rules(new);
        immutable(new.get(&["spec"]), old.get(&["spec"]), &Path::new("spec"), &mut errors);
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let attacher = text_column("Attacher", "The driver that attaches.");
        let attached = text_column("Attached", "Whether the volume is attached.");
        vec![
            NAME,
            Column { format: "name", ..attacher },
            text_column("PV", "The persistent volume."),
            text_column("Node", "The node it is attached to."),
            Column { kind: "boolean", ..attached },
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            object.str(&["spec", "attacher"]).into(),
            object.str(&["spec", "source", "persistentVolumeName"]).into(),
            object.str(&["spec", "nodeName"]).into(),
            object.bool(&["status", "attached"]).into(),
            age(object, now),
        ]
    }
}

fn rules(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    driver_name(object.str(&["spec", "attacher"]), &path.child("attacher"), &mut errors);
    source(object, &path.child("source"), &mut errors);
    dns_subdomain(object.str(&["spec", "nodeName"]), &path.child("nodeName"), &mut errors);
    let null = Value::Null;
    let status = object.get(&["status"]).unwrap_or(&null);
    let path = Path::new("status");
    let size: usize = entries(status, "attachmentMetadata")
        .map(|(key, value)| key.len() + value.as_str().unwrap_or("").len())
        .sum();
    if size > METADATA_BYTES_MAX {
        errors.push(Error::too_long(&path.child("attachmentMetadata"), METADATA_BYTES_MAX));
    }
    for key in ["attachError", "detachError"] {
        let Some(error) = part(status, key) else { continue };
        let at = path.child(key);
        if text(error, "message").len() > MESSAGE_MAX {
            errors.push(Error::too_long(&at.child("message"), METADATA_BYTES_MAX));
        }
        if let Some(code) = int(error, "errorCode").filter(|code| *code < 0) {
            let why = "must be between 0 and 2147483647, inclusive";
            errors.push(Error::invalid(&at.child("errorCode"), code, why));
        }
    }
    let name = object.get(&["spec", "source"]).and_then(|s| opt_text(s, "persistentVolumeName"));
    if let Some(name) = name {
        dns_subdomain(name, &Path::new("spec.source.persistentVolumeName"), &mut errors);
    }
    errors
}

fn source(object: &Object, path: &Path, errors: &mut ErrorList) {
    let null = Value::Null;
    let source = object.get(&["spec", "source"]).unwrap_or(&null);
    let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (part(source, "inlineVolumeSpec"), opt_text(source, "persistentVolumeName")) {
        (None, None) => errors.push(Error::required(path, why)),
        (Some(_), Some(_)) => errors.push(Error::forbidden(path, why)),
        (None, Some("")) => {
            let why = "must specify non empty persistentVolumeName";
            errors.push(Error::required(&path.child("persistentVolumeName"), why));
        }
        (None, Some(_)) => {}
        (Some(spec), None) => volume_spec(spec, "", true, &path.child("inlineVolumeSpec"), errors),
    }
}
