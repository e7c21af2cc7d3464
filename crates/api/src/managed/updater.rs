//! What a write does to the managers of an object's fields.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/merge/update.go

use std::collections::BTreeMap;

use super::Error;
use super::compare::{Comparison, Reading, compare};
use super::filter::Filter;
use super::managers::{ManagerId, Managers};
use super::reconcile::reconcile;
use super::schema::{Ref, Typing};
use super::set::Set;
use crate::Object;

/// The versions of a kind besides that of the request.
pub trait Versions {
    /// The type in another version; none when the kind has no such version.
    fn ty(&self, api_version: &str) -> Option<Typing<'_>>;

    /// Converts an object between two versions, of which one may be that of the request.
    fn convert(&self, object: &Object, from: &str, to: &str) -> Option<Object>;
}

/// The versions of a kind that has only one.
pub struct OneVersion;

impl Versions for OneVersion {
    fn ty(&self, _: &str) -> Option<Typing<'_>> {
        None
    }

    fn convert(&self, _: &Object, _: &str, _: &str) -> Option<Object> {
        None
    }
}

/// Everything that two states of an object are compared by.
pub(super) struct Updater<'a> {
    /// The type in the version of the request.
    pub ty: Typing<'a>,
    /// The version of the request.
    pub api_version: &'a str,
    /// What the request can change.
    pub filter: Filter,
    /// The other versions.
    pub versions: &'a dyn Versions,
    /// How the objects are read.
    pub reading: Reading,
}

/// Managers and what they would lose.
pub(super) type Losses = BTreeMap<ManagerId, Set>;

impl Updater<'_> {
    /// Leaves out managers of versions that are gone, and brings sets in line with the schema.
    pub fn reconcile(&self, managers: &mut Managers) {
        managers.retain(|_, entry| {
            let ty = if entry.api_version == self.api_version {
                Some(self.ty)
            } else {
                self.versions.ty(&entry.api_version)
            };
            let Some(ty) = ty else { return false };
            if let Some(set) = reconcile(&entry.set, Ref::object(ty)) {
                entry.set = set;
            }
            true
        });
    }

    /// The difference of two states in a version; none when there is no such version.
    fn comparison(
        &self,
        live: &Object,
        new: &Object,
        api_version: &str,
    ) -> Result<Option<Comparison>, Error> {
        let found = if api_version == self.api_version {
            compare(self.ty, live.root(), new.root(), self.reading)?
        } else {
            let convert = |state| self.versions.convert(state, self.api_version, api_version);
            let (Some(ty), Some(live), Some(new)) =
                (self.versions.ty(api_version), convert(live), convert(new))
            else {
                return Ok(None);
            };
            compare(ty, live.root(), new.root(), self.reading)?
        };
        Ok(Some(self.filter.apply_to(found)))
    }

    /// Takes the changed fields from all managers but `own`, and tells what changed in the
    /// version of the request.
    ///
    /// # Errors
    /// Unless forced, what others would lose.
    pub fn update(
        &self,
        live: &Object,
        new: &Object,
        managers: &mut Managers,
        own: Option<&ManagerId>,
        force: bool,
    ) -> Result<Result<Comparison, Losses>, Error> {
        let mut by_version: BTreeMap<String, Option<(Comparison, Set)>> = BTreeMap::new();
        let first = self.comparison(live, new, self.api_version)?.unwrap_or_default();
        if managers.is_empty() {
            return Ok(Ok(first));
        }
        let changed = first.modified.union(&first.added);
        by_version.insert(self.api_version.to_owned(), Some((first.clone(), changed)));
        let mut lost = Losses::new();
        let mut gone = Vec::new();
        for (id, entry) in managers.iter() {
            if own == Some(id) {
                continue;
            }
            if !by_version.contains_key(&entry.api_version) {
                let found = self.comparison(live, new, &entry.api_version)?.map(|comparison| {
                    let changed = comparison.modified.union(&comparison.added);
                    (comparison, changed)
                });
                by_version.insert(entry.api_version.clone(), found);
            }
            let Some(Some((_, changed))) = by_version.get(&entry.api_version) else {
                gone.push(id.clone());
                continue;
            };
            let conflict = entry.set.intersection(changed);
            if !conflict.is_empty() {
                lost.insert(id.clone(), conflict);
            }
        }
        if !force && !lost.is_empty() {
            return Ok(Err(lost));
        }
        managers.retain(|id, entry| {
            if gone.contains(id) {
                return false;
            }
            if own != Some(id) {
                if let Some(lost) = lost.get(id) {
                    entry.set = entry.set.difference(lost);
                }
                if let Some(Some((comparison, _))) = by_version.get(&entry.api_version)
                    && !comparison.removed.is_empty()
                {
                    entry.set = entry.set.difference(&comparison.removed);
                }
            }
            !entry.set.is_empty()
        });
        Ok(Ok(first))
    }
}
