//! The two strategies of kinds without rules of their own.

use longshore_api::Object;
use longshore_api::managed::Filter;

use crate::strategy::{Context, Strategy};

/// A kind without status: whatever is written is stored.
pub struct Plain;

impl Strategy for Plain {}

/// A kind with spec and status: each is written through its own path, and the generation counts
/// the changes of the rest.
pub struct Specced;

impl Strategy for Specced {
    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        begin(object);
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
    }
}

/// What creation does to a kind with spec and status: no status, first generation.
pub fn begin(object: &mut Object) {
    object.remove(&["status"]);
    object.set(&["metadata", "generation"], 1);
}

/// What an update does to a kind with spec and status: `status` changes only the status, anything
/// else everything but the status.
pub fn separate(ctx: &Context<'_>, new: &mut Object, old: &Object) {
    if ctx.subresource == "status" {
        keep(new, old, "spec");
        return;
    }
    keep(new, old, "status");
    count(new, old);
}

/// The fields that writes change when the status has the metadata reset, too.
pub fn status_alone(subresource: &str) -> Filter {
    match subresource {
        "status" => Filter::Except(&[&["metadata"], &["spec"]]),
        _ => Filter::Except(&[&["status"]]),
    }
}

/// Restores the metadata that a write of the status does not change.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/meta.go ResetObjectMetaForStatus
pub fn keep_metadata(new: &mut Object, old: &Object) {
    for field in ["annotations", "finalizers", "generation", "labels", "ownerReferences"] {
        match old.get(&["metadata", field]) {
            Some(value) => new.set(&["metadata", field], value.clone()),
            None => {
                new.remove(&["metadata", field]);
            }
        }
    }
}

/// Counts a change of the spec.
pub fn count(new: &mut Object, old: &Object) {
    if new.get(&["spec"]) != old.get(&["spec"]) {
        new.set(&["metadata", "generation"], old.generation() + 1);
    }
}

/// Counts a change of a root field where upstream keeps nil apart from what was given empty.
///
/// upstream: reflect.DeepEqual, not apimachinery's equality.Semantic
pub fn count_as_given(new: &mut Object, old: &Object, field: &str) {
    let given = new.as_given();
    if given.as_ref().unwrap_or(new).get(&[field]) != old.get(&[field]) {
        new.set(&["metadata", "generation"], old.generation() + 1);
    }
}

/// Restores a root field.
pub fn keep(new: &mut Object, old: &Object, field: &str) {
    match old.get(&[field]) {
        Some(value) => new.set(&[field], value.clone()),
        None => {
            new.remove(&[field]);
        }
    }
}
