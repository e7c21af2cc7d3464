//! The way from client-side apply to server-side apply: what the annotation of client-side apply
//! says is the client's, no other manager's entry keeps it from.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/util/managedfields/internal/
//! {lastappliedmanager,lastappliedupdater,lastapplied}.go

use serde_json::{Map, Value};

use super::apply::completed;
use super::compare::{Reading, compare};
use super::conflict::Conflict;
use super::fieldset::field_set;
use super::schema::Ref;
use super::set::Set;
use super::track::Write;
use super::validate::validate;
use super::value::write_json;
use crate::Object;
use crate::meta_validation::ANNOTATIONS_BYTES_MAX;

/// The only manager that this holds for.
pub(super) const MANAGER: &str = "kubectl";
/// Where client-side apply keeps what was applied last.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The conflicts that remain when the fields of the annotation are the applier's; none when the
/// apply may be forced.
pub(super) fn remaining(
    write: &Write<'_>,
    live: &Object,
    conflicts: Vec<Conflict>,
) -> Result<(), Vec<Conflict>> {
    let Some(allowed) = allowed(write, live) else { return Err(conflicts) };
    let left: Vec<Conflict> =
        conflicts.into_iter().filter(|conflict| !allowed.has(&conflict.path)).collect();
    if left.is_empty() { Ok(()) } else { Err(left) }
}

/// The fields of the annotation that still are as it says.
fn allowed(write: &Write<'_>, live: &Object) -> Option<Set> {
    let text = live.annotation(ANNOTATION).filter(|text| !text.is_empty())?;
    let at = Ref::object(write.ty);
    let mut live = live.clone().into_value();
    validate(at, &live).ok()?;
    completed(write.ty, &mut live);
    let applied: Value = serde_json::from_str(text).ok()?;
    if applied.get("apiVersion").and_then(Value::as_str) != Some(write.api_version) {
        return None;
    }
    validate(at, &applied).ok()?;
    let (before, after) = (applied.as_object()?, live.as_object()?);
    let changed = compare(write.ty, before, after, Reading::Literal).ok()?;
    let set = field_set(at, &applied).difference(&changed.modified);
    Some(set.difference(&changed.added).difference(&changed.removed))
}

/// Brings the annotation up to date when there is one.
pub(super) fn renew(object: &mut Object, config: &Value) {
    if object.annotation(ANNOTATION).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    let annotations = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    annotations.map(|annotations| annotations.remove(ANNOTATION));
    let mut text = String::new();
    write_json(&config, &mut text);
    text.push('\n');
    object.set(&["metadata", "annotations", ANNOTATION], text);
    let size = |annotations: &Map<String, Value>| -> usize {
        annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum()
    };
    let annotations = object.get(&["metadata", "annotations"]).and_then(Value::as_object);
    if annotations.is_some_and(|annotations| size(annotations) > ANNOTATIONS_BYTES_MAX) {
        object.remove(&["metadata", "annotations", ANNOTATION]);
    }
}
