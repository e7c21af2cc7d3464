//! Server-side apply: what somebody wants to be true of an object becomes true, and theirs.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/util/managedfields/internal/
//! {fieldmanager,versioncheck,skipnonapplied,structuredmerge,stripmeta,managedfieldsupdater}.go,
//! sigs.k8s.io/structured-merge-diff/v6/merge/update.go

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::compare::Reading;
use super::conflict::{Conflict, conflict_error};
use super::fieldset::field_set;
use super::managers::{self, Entry, ManagerId, Managers, Operation};
use super::merge::merge;
use super::prune::{Pruning, prune};
use super::schema::{Ref, Typing};
use super::track::{STRIPPED, Write, claim, put};
use super::updater::Versions;
use super::validate::validate;
use super::{last_applied, value};
use crate::complete::complete;
use crate::emptied::Emptied;
use crate::status::{Reason, StatusError};
use crate::{Object, gvk, normalize};

/// Who manages what nobody was recorded for when the first apply comes.
const BEFORE_FIRST: &str = "before-first-apply";

/// Why an apply fails.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Others manage what would change.
    Conflicts(Vec<Conflict>),
    /// Anything else.
    Other(StatusError),
}

/// An error of the server's own, as upstream answers what it did not expect.
pub(super) fn unexpected(message: String) -> StatusError {
    StatusError::new(Reason::Unknown, message)
}

impl From<StatusError> for Refusal {
    fn from(error: StatusError) -> Self {
        Self::Other(error)
    }
}

/// Applies a configuration to the live object, which is empty when it does not exist yet. Gives the
/// new state with its managed fields; defaults are not filled yet.
///
/// # Errors
/// 400 for a configuration of another kind, 409 for conflicts unless forced, 500 for one that the
/// schema does not allow.
pub fn apply(
    write: &Write<'_>,
    kind: &str,
    live: &Object,
    config: &Value,
    force: bool,
) -> Result<Object, StatusError> {
    let config = &whole_numbers(config);
    let found = found_kind(config);
    let (group, version) = gvk::split_api_version(write.api_version).unwrap_or_default();
    if found != shown_kind(group, version, kind) {
        return Err(StatusError::bad_request(format!("invalid object type: {found}")));
    }
    let managers = managers::decode(live.list(&["metadata", "managedFields"]))
        .map_err(|why| unexpected(format!("failed to decode managed fields: {why}")))?;
    let applying = Applying { write, kind: &found, config };
    let outcome = match applying.attempt(live, &managers, force) {
        Err(Refusal::Conflicts(conflicts)) if write.manager == last_applied::MANAGER => {
            match last_applied::remaining(write, live, conflicts) {
                Ok(()) => applying.attempt(live, &managers, true),
                Err(conflicts) => Err(Refusal::Conflicts(conflicts)),
            }
        }
        outcome => outcome,
    };
    let (mut object, managers) = outcome.map_err(|refusal| match refusal {
        Refusal::Conflicts(conflicts) => conflict_error(&conflicts),
        Refusal::Other(error) => error,
    })?;
    if write.manager == last_applied::MANAGER {
        last_applied::renew(&mut object, config);
    }
    put(&mut object, managers::encode(&managers));
    Ok(object)
}

/// The configuration with whole floats as integers, as the fields that hold them read them.
fn whole_numbers(config: &Value) -> Value {
    match config {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                Value::from(float as i64)
            }
            _ => config.clone(),
        },
        Value::Array(items) => items.iter().map(whole_numbers).collect(),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(key, value)| (key.clone(), whole_numbers(value)));
            Value::Object(pairs.collect())
        }
        other => other.clone(),
    }
}

/// The kind that a configuration tells: `GROUP/VERSION, Kind=KIND`.
fn found_kind(config: &Value) -> String {
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or("");
    match gvk::split_api_version(text("apiVersion")) {
        Some((group, version)) => shown_kind(group, version, text("kind")),
        None => shown_kind("", "", ""),
    }
}

fn shown_kind(group: &str, version: &str, kind: &str) -> String {
    format!("{group}/{version}, Kind={kind}")
}

/// One configuration to apply.
struct Applying<'a> {
    write: &'a Write<'a>,
    /// Its kind as messages show it.
    kind: &'a str,
    config: &'a Value,
}

impl Applying<'_> {
    /// The configuration as messages name it.
    fn named(&self) -> String {
        let text = |key: &str| {
            let value = self.config.get("metadata").and_then(|meta| meta.get(key));
            value.and_then(Value::as_str).unwrap_or("")
        };
        format!("{}/{}; {}", text("namespace"), text("name"), self.kind)
    }

    fn attempt(
        &self,
        live: &Object,
        managers: &Managers,
        force: bool,
    ) -> Result<(Object, Managers), Refusal> {
        let write = self.write;
        let mut managers = managers.clone();
        let mut live = live.clone();
        if managers.is_empty() {
            let before = Write { manager: BEFORE_FIRST, ..*write };
            claim(&before, &Object::default(), &live, &mut managers).map_err(|error| {
                unexpected(format!("failed to create manager for existing fields: {error}"))
            })?;
        }
        live.remove(&["metadata", "managedFields"]);
        self.check()?;
        let id = write.id(Operation::Apply);
        let merged = self.merge(&live, &mut managers, &id, force)?;
        if let Some(entry) = managers.get_mut(&id) {
            entry.set = entry.set.difference(&STRIPPED);
            if entry.set.is_empty() {
                managers.remove(&id);
            }
        }
        let Some(merged) = merged else { return Ok((live, managers)) };
        if let Some(entry) = managers.get_mut(&id) {
            entry.time = Some(write.now.to_owned());
        }
        let object = restored(write.ty, merged).map_err(|why| {
            let kind = self.kind;
            unexpected(format!(
                "failed to convert new object ({}) to proper version: unable to convert unstructured object to {kind}: {why}",
                self.named()
            ))
        })?;
        Ok((object, managers))
    }

    fn check(&self) -> Result<(), StatusError> {
        let managed = self.config.get("metadata").and_then(|meta| meta.get("managedFields"));
        if managed.is_some_and(Value::is_array) {
            return Err(StatusError::bad_request("metadata.managedFields must be nil"));
        }
        validate(Ref::object(self.write.ty), self.config).map_err(|problems| {
            unexpected(format!(
                "failed to create typed patch object ({}): {problems}",
                self.named()
            ))
        })
    }

    /// The new state, and none when it is the live one.
    fn merge(
        &self,
        live: &Object,
        managers: &mut Managers,
        id: &ManagerId,
        force: bool,
    ) -> Result<Option<Value>, Refusal> {
        let write = self.write;
        let at = Ref::object(write.ty);
        write.updater(Reading::Native).reconcile(managers);
        let mut shown = live.clone().into_value();
        completed(write.ty, &mut shown);
        let merged = merge(at, Some(&shown), Some(self.config))
            .map_err(|error| unexpected(format!("failed to merge config: {error}")))?
            .unwrap_or_default();
        let set = write.filter.apply(field_set(at, self.config));
        let api_version = write.api_version.to_owned();
        let time = managers.get(id).and_then(|entry| entry.time.clone());
        let last = managers.insert(id.clone(), Entry { set, api_version, time });
        let states = Restored { write };
        let pruning = Pruning { ty: write.ty, api_version: write.api_version, versions: &states };
        let merged = prune(&pruning, merged, managers, last.as_ref());
        let shown = Object::from_value(shown).unwrap_or_default();
        let new = Object::from_value(merged).unwrap_or_default();
        let mut updater = write.updater(Reading::Literal);
        updater.versions = &states;
        let outcome = updater
            .update(&shown, &new, managers, Some(id), force)
            .map_err(|error| unexpected(format!("failed to compare objects: {error}")))?;
        if let Err(lost) = outcome {
            let conflicts = lost.into_iter().flat_map(|(manager, set)| {
                let with = move |path| Conflict { manager: manager.clone(), path };
                set.paths().into_iter().map(with)
            });
            return Err(Refusal::Conflicts(conflicts.collect()));
        }
        let (shown, new) = (shown.into_value(), new.into_value());
        Ok((!value::equal(&shown, &new)).then_some(new))
    }
}

/// Reads a merged tree as an object of a type.
///
/// # Errors
/// Upstream's words for the first field that does not fit.
pub(super) fn restored(ty: Typing<'_>, mut merged: Value) -> Result<Object, String> {
    let mut emptied = Emptied::default();
    if let Some(ty) = ty.known() {
        normalize::restore(ty, &mut merged)?;
        emptied = normalize::read(ty, &mut merged).map_err(|error| error.to_string())?.emptied;
    }
    let object = Object::from_value(merged).ok_or_else(|| "the object is no map".to_owned())?;
    Ok(object.given(emptied))
}

/// Gives an object the fields that upstream's struct of its kind always has.
pub(super) fn completed(ty: Typing<'_>, value: &mut Value) {
    if let Some(ty) = ty.known() {
        complete(ty, value);
    }
}

/// The other versions of an object whose tree was merged.
struct Restored<'a> {
    write: &'a Write<'a>,
}

impl Versions for Restored<'_> {
    fn ty(&self, api_version: &str) -> Option<Typing<'_>> {
        if api_version == self.write.api_version {
            return Some(self.write.ty);
        }
        self.write.versions.ty(api_version)
    }

    fn convert(&self, object: &Object, from: &str, to: &str) -> Option<Object> {
        let (from_ty, to_ty) = (self.ty(from)?, self.ty(to)?);
        let object = restored(from_ty, object.clone().into_value()).ok()?;
        let mut value = self.write.versions.convert(&object, from, to)?.into_value();
        completed(to_ty, &mut value);
        Object::from_value(value)
    }
}
