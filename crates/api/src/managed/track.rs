//! Records who changed which fields by a write other than apply.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/util/managedfields/internal/
//! {fieldmanager,skipnonapplied,capmanagers,buildmanagerinfo,managedfieldsupdater,stripmeta}.go

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::Error;
use super::compare::Reading;
use super::filter::Filter;
use super::managers::{self, Entry, ManagerId, Managers, Operation};
use super::schema::Typing;
use super::set::Set;
use super::updater::{Updater, Versions};
use crate::Object;

/// Entries of updaters that are kept apart; the oldest of more become one.
///
/// upstream: managedfields/internal/fieldmanager.go DefaultMaxUpdateManagers
const UPDATERS_MAX: usize = 10;
/// Who manages what the oldest updaters managed.
const BUCKET: &str = "ancient-changes";

/// One write.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    /// The type of the object in the version of the request.
    pub ty: Typing<'a>,
    /// The version of the request.
    pub api_version: &'a str,
    /// The subresource written through; empty for none.
    pub subresource: &'a str,
    /// The name of the manager.
    pub manager: &'a str,
    /// The time of the write (RFC 3339).
    pub now: &'a str,
    /// What the write can change.
    pub filter: Filter,
    /// The other versions of the kind.
    pub versions: &'a dyn Versions,
}

impl Write<'_> {
    pub(super) fn updater(&self, reading: Reading) -> Updater<'_> {
        Updater {
            ty: self.ty,
            api_version: self.api_version,
            filter: self.filter,
            versions: self.versions,
            reading,
        }
    }

    pub(super) fn id(&self, operation: Operation) -> ManagerId {
        ManagerId {
            name: if self.manager.is_empty() { "unknown" } else { self.manager }.to_owned(),
            operation,
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => self.api_version.to_owned(),
            },
            subresource: self.subresource.to_owned(),
        }
    }
}

/// Sets the managed fields of the new state of an object, which `live` becomes; `live` is empty for
/// an object that does not exist yet. When the states cannot be compared, nobody manages anything.
pub fn track(write: &Write<'_>, live: &Object, new: &mut Object) {
    let mut managers = before(write, live, new);
    let tracked = update(write, live, new, &mut managers);
    let encoded = tracked.ok().and_then(|()| managers::encode(&managers));
    put(new, encoded);
}

/// Sets or removes `metadata.managedFields`.
pub(super) fn put(object: &mut Object, encoded: Option<Value>) {
    match encoded {
        Some(entries) => object.set(&["metadata", "managedFields"], entries),
        None => {
            object.remove(&["metadata", "managedFields"]);
        }
    }
}

/// The managers that the write starts from: those in the request, so that clients can change
/// them, else those of the live object. Takes them from the request.
fn before(write: &Write<'_>, live: &Object, new: &mut Object) -> Managers {
    let of_live =
        || managers::decode(live.list(&["metadata", "managedFields"])).unwrap_or_default();
    let asked = new.remove(&["metadata", "managedFields"]);
    if !write.subresource.is_empty() {
        return of_live();
    }
    let Some(Value::Array(entries)) = asked else { return of_live() };
    if managers::asks_to_forget(&entries) {
        return Managers::new();
    }
    match managers::decode(&entries) {
        Ok(managers) if !managers.is_empty() => managers,
        _ => of_live(),
    }
}

/// Gives the writer what it changed.
pub(super) fn update(
    write: &Write<'_>,
    live: &Object,
    new: &Object,
    managers: &mut Managers,
) -> Result<(), Error> {
    // An object whose managers were never tracked, or that asked to forget them, stays so.
    if managers.is_empty() && !live.uid().is_empty() {
        return Ok(());
    }
    claim(write, live, new, managers)?;
    cap(managers);
    Ok(())
}

/// As [`update`], also for objects without managers, and without a limit on their number.
pub(super) fn claim(
    write: &Write<'_>,
    live: &Object,
    new: &Object,
    managers: &mut Managers,
) -> Result<(), Error> {
    let updater = write.updater(Reading::Native);
    updater.reconcile(managers);
    let changed = match updater.update(live, new, managers, None, true)? {
        Ok(comparison) if comparison.modified.is_empty() => comparison.added,
        Ok(comparison) => comparison.modified.union(&comparison.added),
        Err(_) => Set::new(),
    };
    let changed = changed.difference(&STRIPPED);
    if changed.is_empty() {
        return Ok(());
    }
    let id = write.id(Operation::Update);
    let set = match managers.remove(&id) {
        Some(previous) => changed.union(&previous.set),
        None => changed,
    };
    let api_version = write.api_version.to_owned();
    managers.insert(id, Entry { set, api_version, time: Some(write.now.to_owned()) });
    Ok(())
}

/// Fields that nobody manages.
pub(super) static STRIPPED: LazyLock<Set> = LazyLock::new(|| {
    Set::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// Merges the oldest updaters of each version when there are too many.
fn cap(managers: &mut Managers) {
    let mut updaters: Vec<(String, ManagerId)> = managers
        .iter()
        .filter(|(id, _)| id.operation == Operation::Update)
        .map(|(id, entry)| (entry.time.clone().unwrap_or_default(), id.clone()))
        .collect();
    let mut count = updaters.len();
    if count <= UPDATERS_MAX {
        return;
    }
    updaters.sort();
    let mut first_of: BTreeMap<String, ManagerId> = BTreeMap::new();
    for (time, id) in updaters {
        if count <= UPDATERS_MAX {
            return;
        }
        let bucket = ManagerId {
            name: BUCKET.to_owned(),
            operation: Operation::Update,
            api_version: id.api_version.clone(),
            subresource: String::new(),
        };
        let Some(first) = first_of.get(&id.api_version) else {
            first_of.insert(id.api_version.clone(), id);
            continue;
        };
        if !managers.contains_key(&bucket)
            && let Some(entry) = managers.remove(first)
        {
            managers.insert(bucket.clone(), entry);
        }
        if id == bucket {
            continue;
        }
        let Some(merged) = managers.remove(&id) else { continue };
        if let Some(kept) = managers.get_mut(&bucket) {
            kept.set = merged.set.union(&kept.set);
            kept.time = (!time.is_empty()).then_some(time);
        }
        count -= 1;
    }
}
