//! What tables show of the kinds of the group.
//!
//! upstream: pkg/registry/resource/*/strategy.go, pkg/printers/internalversion/printers.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::managed::Filter;
use serde_json::{Value, json};

use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::plain::{count, keep, status_alone};
use crate::strategy::{Context, Strategy};
use crate::table::Column;

/// Kinds of which name and age are all there is to show.
pub(super) struct Named {
    /// Whether changes of the spec are counted.
    pub(super) counted: bool,
}

impl Strategy for Named {
    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        if self.counted {
            object.set(&["metadata", "generation"], 1);
        }
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, old: &Object) {
        if self.counted {
            count(new, old);
        }
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), age(object, now)]
    }
}

/// Claims of devices.
pub(super) struct ResourceClaims;

impl Strategy for ResourceClaims {
    fn written_fields(&self, subresource: &str) -> Filter {
        status_alone(subresource)
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["status"], json!({}));
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        keep(new, old, if ctx.subresource == "status" { "spec" } else { "status" });
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, text_column("State", "What is done with it."), AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let allocated = object.get(&["status", "allocation"]).is_some_and(|a| !a.is_null());
        let mut states = Vec::new();
        if object.is_deleting() {
            states.push("deleted");
        } else if !allocated {
            states.push("pending");
        }
        if allocated {
            states.push("allocated");
            if !object.list(&["status", "reservedFor"]).is_empty() {
                states.push("reserved");
            }
        }
        vec![object.name().into(), states.join(",").into(), age(object, now)]
    }
}

/// Devices that a driver offers.
pub(super) struct ResourceSlices;

const SLICE_FIELDS: [&str; 2] = ["spec.nodeName", "spec.driver"];

impl Strategy for ResourceSlices {
    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, old: &Object) {
        count(new, old);
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&'static str, String)> {
        vec![
            (SLICE_FIELDS[0], object.str(&["spec", "nodeName"]).to_owned()),
            (SLICE_FIELDS[1], object.str(&["spec", "driver"]).to_owned()),
        ]
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        &SLICE_FIELDS
    }

    fn unsupported_field(&self, name: &str) -> String {
        format!("field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {name}")
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Node", "The node that has the devices."),
            text_column("Driver", "The driver of the devices."),
            text_column("Pool", "The pool they belong to."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            object.str(&["spec", "nodeName"]).into(),
            object.str(&["spec", "driver"]).into(),
            object.str(&["spec", "pool", "name"]).into(),
            age(object, now),
        ]
    }
}
