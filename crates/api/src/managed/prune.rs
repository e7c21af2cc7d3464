//! Removes what an applier no longer names and nobody else manages.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/merge/update.go prune

use std::collections::BTreeMap;

use serde_json::Value;

use super::fieldset::field_set;
use super::managers::{Entry, Managers};
use super::remove::remove;
use super::schema::{Ref, Typing};
use super::set::Set;
use super::updater::Versions;
use crate::Object;

/// What pruning knows besides the objects.
pub(super) struct Pruning<'a> {
    /// The type in the version of the request.
    pub ty: Typing<'a>,
    /// The version of the request.
    pub api_version: &'a str,
    /// The other versions.
    pub versions: &'a dyn Versions,
}

/// A tree in one version.
#[derive(Clone)]
struct State<'a> {
    ty: Typing<'a>,
    api_version: String,
    value: Value,
}

impl State<'_> {
    fn at(&self) -> Ref<'_> {
        Ref::object(self.ty)
    }

    fn named(&self, set: &Set) -> Set {
        set.with_named_fields(self.at())
    }

    /// All that the tree names, with the structs on the way.
    fn fields(&self) -> Set {
        self.named(&field_set(self.at(), &self.value))
    }

    fn without(&self, set: &Set) -> Self {
        Self { value: remove(self.at(), &self.value, set), ..self.clone() }
    }
}

impl<'a> Pruning<'a> {
    /// The tree in another version; none when there is no such version.
    fn convert(&self, state: &State<'a>, api_version: &str) -> Option<State<'a>> {
        if state.api_version == api_version {
            return Some(state.clone());
        }
        let object = Object::from_value(state.value.clone())?;
        let ty = self.versions.ty(api_version)?;
        let value = self.versions.convert(&object, &state.api_version, api_version)?.into_value();
        Some(State { ty, api_version: api_version.to_owned(), value })
    }
}

/// The merged tree without what only `last`, the applier's entry before this apply, holds.
pub(super) fn prune(
    pruning: &Pruning<'_>,
    merged: Value,
    managers: &Managers,
    last: Option<&Entry>,
) -> Value {
    let Some(last) = last.filter(|last| !last.set.is_empty()) else { return merged };
    let start =
        State { ty: pruning.ty, api_version: pruning.api_version.to_owned(), value: merged };
    let Some(merged) = pruning.convert(&start, &last.api_version) else { return start.value };
    let pruned = merged.without(&merged.named(&last.set));
    let pruned = add_back_owned(pruning, &merged, pruned, managers);
    let pruned = add_back_dangling(pruning, &merged, &pruned, last);
    pruning.convert(&pruned, pruning.api_version).map_or(start.value, |state| state.value)
}

/// Brings back what a manager, also the applier itself, holds now.
fn add_back_owned<'a>(
    pruning: &Pruning<'a>,
    merged: &State<'a>,
    mut pruned: State<'a>,
    managers: &Managers,
) -> State<'a> {
    let mut by_version: BTreeMap<&str, Set> = BTreeMap::new();
    for entry in managers.values() {
        let held = by_version.entry(&entry.api_version).or_default();
        *held = held.union(&entry.set);
    }
    // The version that was pruned comes first: others may need its fields to be converted.
    let first = by_version.remove_entry(&*merged.api_version.clone());
    let mut merged = merged.clone();
    for (version, held) in first.into_iter().chain(by_version) {
        let Some(now) = pruning.convert(&merged, version) else { continue };
        merged = now;
        let Some(now) = pruning.convert(&pruned, version) else { continue };
        let keep = now.fields().union(&merged.named(&held));
        pruned = merged.without(&merged.fields().difference(&keep));
    }
    pruned
}

/// Brings back what was removed only because something above it was.
fn add_back_dangling<'a>(
    pruning: &Pruning<'a>,
    merged: &State<'a>,
    pruned: &State<'a>,
    last: &Entry,
) -> State<'a> {
    let Some(pruned) = pruning.convert(pruned, &last.api_version) else { return merged.clone() };
    let gone = merged.fields().difference(&pruned.fields());
    merged.without(&gone.intersection(&merged.named(&last.set)))
}
