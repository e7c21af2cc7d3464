//! Namespaces.
//!
//! upstream: pkg/registry/core/namespace/strategy.go, pkg/apis/core/validation/validation.go

use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::mask_trailing_dash;
use longshore_api::{Object, names};
use serde_json::Value;

use super::pods::cells::{AGE, NAME, age, text_column};
use crate::plain::keep;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// The finalizer that holds a namespace until its content is gone.
const FINALIZER: &str = "kubernetes";
/// The label with which selectors name a namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The rules of namespaces.
pub(super) struct Namespaces;

impl Strategy for Namespaces {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn default(&self, object: &mut Object) {
        if !object.name().is_empty() {
            let name = object.name().to_owned();
            object.set(&["metadata", "labels", NAME_LABEL], name);
        }
        if object.str(&["status", "phase"]).is_empty() {
            object.set(&["status", "phase"], "Active");
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["status"], serde_json::json!({ "phase": "Active" }));
        let mut finalizers = object.list(&["spec", "finalizers"]).to_vec();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        object.set(&["spec", "finalizers"], finalizers);
        self.default(object);
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        match ctx.subresource {
            "status" => keep(new, old, "spec"),
            "finalize" => keep(new, old, "status"),
            _ => {
                keep(new, old, "spec");
                keep(new, old, "status");
            }
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        finalizers(object, false)
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, _old: &Object) -> ErrorList {
        match ctx.subresource {
            "status" => status(new),
            "finalize" => finalizers(new, true),
            _ => ErrorList::new(),
        }
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        let masked = if prefix { mask_trailing_dash(name) } else { name.to_owned() };
        names::is_dns1123_label(&masked)
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![("status.phase", object.str(&["status", "phase"]).to_owned())]
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        &["status.phase"]
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, text_column("Status", "Active, or Terminating while it is deleted."), AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), object.str(&["status", "phase"]).into(), age(object, now)]
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

fn status(object: &Object) -> ErrorList {
    let phase = object.str(&["status", "phase"]);
    let (wanted, when) = if object.is_deleting() {
        ("Terminating", "`deletionTimestamp` is not empty")
    } else {
        ("Active", "`deletionTimestamp` is empty")
    };
    if phase == wanted {
        return ErrorList::new();
    }
    let path = Path::new("status").child("Phase");
    vec![Error::invalid(&path, phase, &format!("may only be '{wanted}' if {when}"))]
}

/// upstream: validateFinalizerName, validateKubeFinalizerName
fn finalizers(object: &Object, indexed: bool) -> ErrorList {
    let path = Path::new("spec").child("finalizers");
    let mut errors = ErrorList::new();
    for (i, item) in object.list(&["spec", "finalizers"]).iter().enumerate() {
        let name = item.as_str().unwrap_or("");
        let path = if indexed { path.index(i) } else { path.clone() };
        for why in names::is_qualified_name(name) {
            errors.push(Error::invalid(&path, name, &why));
        }
        let standard = [FINALIZER, "orphan", "foregroundDeletion"].contains(&name);
        if !name.contains('/') && !standard {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(Error::invalid(&path, name, why));
        }
    }
    errors
}
