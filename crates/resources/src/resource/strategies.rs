//! The strategies of the group: defaults, what is dropped, and what tables show.
//!
//! upstream: pkg/registry/resource/*/strategy.go, pkg/printers/internalversion/printers.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{ErrorList, Path};
use longshore_api::managed::Filter;
use serde_json::{Value, json};

use super::validation;
use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::core::pods::tree::{
    drop_field, entries, fill, fill_int, fill_text, has, list_mut, text,
};
use crate::core::pods::validation::claims::template_metadata;
use crate::core::pods::validation::common::immutable;
use crate::plain::{count, keep, keep_metadata, status_alone};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::{Column, declared_name_rule};

/// Classes of devices.
pub(super) struct DeviceClasses;

impl Strategy for DeviceClasses {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, _ctx: &Context<'_>, new: &mut Object, old: &Object) {
        count(new, old);
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        validation::class(spec_of(object), &Path::new("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, _old: &Object) -> ErrorList {
        self.validate_create(new)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        declared_name_rule(name, prefix)
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), age(object, now)]
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

/// Templates of claims.
pub(super) struct ResourceClaimTemplates;

impl Strategy for ResourceClaimTemplates {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn default(&self, object: &mut Object) {
        if let Some(spec) = object.get_mut(&["spec", "spec"]) {
            claim_defaults(spec);
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec");
        template_metadata(spec_of(object), &path.child("metadata"), &mut errors);
        let spec = object.get(&["spec", "spec"]).unwrap_or(&Value::Null);
        validation::claim(spec, &path.child("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = self.validate_create(new);
        immutable(new.get(&["spec"]), old.get(&["spec"]), &Path::new("spec"), &mut errors);
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), age(object, now)]
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

fn spec_of(object: &Object) -> &Value {
    object.get(&["spec"]).unwrap_or(&Value::Null)
}

fn status_of(object: &Object) -> &Value {
    object.get(&["status"]).unwrap_or(&Value::Null)
}

/// Drops the states of devices that are no longer allocated.
///
/// upstream: pkg/registry/resource/resourceclaim/strategy.go dropDeallocatedStatusDevices
fn drop_deallocated(new: &mut Object, old: &Object) {
    use validation::status::{allocated, device_id};
    let there = allocated(status_of(new));
    let gone = allocated(status_of(old));
    let is_gone = |device: &Value| {
        let id = device_id(device);
        gone.contains(&id) && !there.contains(&id)
    };
    let devices = new.list(&["status", "devices"]);
    let kept: Vec<Value> = devices.iter().filter(|device| !is_gone(device)).cloned().collect();
    if kept.is_empty() {
        new.remove(&["status", "devices"]);
    } else {
        new.set(&["status", "devices"], kept);
    }
}

/// One device is asked for when nothing is said.
///
/// upstream: pkg/apis/resource/v1/defaults.go
fn claim_defaults(spec: &mut Value) {
    let Some(devices) = spec.get_mut("devices") else { return };
    for request in list_mut(devices, "requests") {
        if let Some(exactly) = request.get_mut("exactly").filter(|e| e.is_object()) {
            asked_defaults(exactly);
        }
        list_mut(request, "firstAvailable").for_each(asked_defaults);
    }
}

fn asked_defaults(request: &mut Value) {
    fill_text(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        fill_int(request, "count", 1);
    }
}

/// Claims of devices.
pub(super) struct ResourceClaims;

impl Strategy for ResourceClaims {
    fn written_fields(&self, subresource: &str) -> Filter {
        status_alone(subresource)
    }

    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn default(&self, object: &mut Object) {
        if let Some(spec) = object.get_mut(&["spec"]) {
            claim_defaults(spec);
        }
        if let Some(allocation) = object.get_mut(&["status", "allocation"])
            && allocation.is_object()
        {
            fill(allocation, "devices", json!({}));
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["status"], json!({}));
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        validation::claim(spec_of(object), &Path::new("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        if ctx.subresource.is_empty() {
            immutable(new.get(&["spec"]), old.get(&["spec"]), &Path::new("spec"), &mut errors);
        } else {
            let (path, deleting) = (Path::new("status"), new.is_deleting());
            let [after, before] = [new, old].map(status_of);
            let errors = &mut errors;
            validation::status::status(after, before, spec_of(new), deleting, &path, errors);
        }
        errors
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        if ctx.subresource == "status" {
            keep(new, old, "spec");
            keep_metadata(new, old);
            drop_deallocated(new, old);
        } else {
            keep(new, old, "status");
        }
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

    fn returns_deleted(&self) -> bool {
        true
    }
}

/// Devices that a driver offers.
pub(super) struct ResourceSlices;

const SLICE_FIELDS: [&str; 2] = ["spec.nodeName", "spec.driver"];

/// Lists as values of attributes; not served.
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

/// Drops what is not served, and tells when taints were added.
fn settle_devices(ctx: &Context<'_>, object: &mut Object, old: Option<&Object>) {
    let in_use = |key: &str| {
        let devices = old.map_or(&[][..], |old| old.list(&["spec", "devices"]));
        devices.iter().any(|d| has(d, key) || entries(d, "attributes").any(|(_, a)| has(a, key)))
    };
    let unused = |key: &&str| !in_use(key);
    let lists: Vec<&str> = if LISTS.iter().all(unused) { LISTS.to_vec() } else { Vec::new() };
    let mappings = unused(&"nodeAllocatableResourceMappings");
    let Some(spec) = object.get_mut(&["spec"]) else { return };
    for device in list_mut(spec, "devices") {
        if mappings {
            drop_field(device, "nodeAllocatableResourceMappings");
        }
        for taint in list_mut(device, "taints") {
            fill(taint, "timeAdded", rfc3339(ctx.now));
        }
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
        for (_, attribute) in attributes.into_iter().flatten() {
            lists.iter().for_each(|key| drop_field(attribute, key));
        }
    }
}

fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Strategy for ResourceSlices {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::CHANGES
    }

    fn prepare_create(&self, ctx: &Context<'_>, object: &mut Object) {
        object.set(&["metadata", "generation"], 1);
        settle_devices(ctx, object, None);
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        count(new, old);
        settle_devices(ctx, new, Some(old));
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        validation::slices::slice(spec_of(object), None, &mut errors);
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        validation::slices::slice(spec_of(new), Some(spec_of(old)), &mut errors);
        errors
    }

    fn warnings(&self, object: &Object, _old: Option<&Object>) -> Vec<String> {
        let driver = object.str(&["spec", "driver"]);
        if driver == driver.to_lowercase() {
            return Vec::new();
        }
        vec![format!(
            "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
        )]
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

    fn indexed_field(&self) -> Option<&'static str> {
        Some("spec.nodeName")
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

    fn returns_deleted(&self) -> bool {
        true
    }
}
