//! The form in which upstream checks definitions: what all versions have in common stands at the top,
//! and paths of errors tell so.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1/conversion.go

use serde_json::Value;

use crate::core::pods::tree::{entries, flag, list, part, text};

/// The spec of a definition.
pub(super) struct Spec<'a> {
    pub value: &'a Value,
    pub versions: Vec<Version<'a>>,
    /// What every version has, or else is told by each of them.
    pub common: Parts<'a>,
    /// The definition keeps unknown fields of all objects, as those of old did.
    pub preserves: bool,
}

/// A version.
pub(super) struct Version<'a> {
    pub value: &'a Value,
    pub name: &'a str,
    pub served: bool,
    pub storage: bool,
    pub own: Parts<'a>,
}

/// What stands in a version or at the top.
#[derive(Clone, Copy, Default)]
pub(super) struct Parts<'a> {
    /// The struct around the schema.
    pub validation: Option<&'a Value>,
    pub subresources: Option<&'a Value>,
    pub columns: &'a [Value],
    pub selectable: &'a [Value],
}

impl<'a> Parts<'a> {
    fn of(version: &'a Value) -> Self {
        Self {
            validation: part(version, "schema"),
            subresources: part(version, "subresources"),
            columns: list(version, "additionalPrinterColumns"),
            selectable: list(version, "selectableFields"),
        }
    }

    pub fn schema(&self) -> Option<&'a Value> {
        self.validation.and_then(|validation| part(validation, "openAPIV3Schema"))
    }

    pub fn has_status(&self) -> bool {
        self.subresources.is_some_and(|subresources| part(subresources, "status").is_some())
    }
}

impl<'a> Spec<'a> {
    pub fn new(value: &'a Value) -> Self {
        let versions = list(value, "versions").iter().map(|version| Version {
            value: version,
            name: text(version, "name"),
            served: flag(version, "served"),
            storage: flag(version, "storage"),
            own: Parts::of(version),
        });
        let mut versions: Vec<Version<'a>> = versions.collect();
        let mut common = Parts::default();
        if let Some(first) = versions.first().map(|version| version.own) {
            let all = |same: &dyn Fn(&Parts<'a>) -> bool| versions.iter().all(|v| same(&v.own));
            let validation = all(&|parts| parts.validation == first.validation);
            let subresources = all(&|parts| parts.subresources == first.subresources);
            let columns = all(&|parts| parts.columns == first.columns);
            let selectable = all(&|parts| parts.selectable == first.selectable);
            for version in &mut versions {
                if validation {
                    version.own.validation = None;
                    common.validation = first.validation;
                }
                if subresources {
                    version.own.subresources = None;
                    common.subresources = first.subresources;
                }
                if columns {
                    version.own.columns = &[];
                    common.columns = first.columns;
                }
                if selectable {
                    version.own.selectable = &[];
                    common.selectable = first.selectable;
                }
            }
        }
        let preserves = flag(value, "preserveUnknownFields");
        Self { value, versions, common, preserves }
    }

    /// All schemas, also the one that all versions have.
    pub fn schemas(&self) -> impl Iterator<Item = &'a Value> {
        let own = self.versions.iter().filter_map(|version| version.own.schema());
        self.common.schema().into_iter().chain(own)
    }

    /// The schema of a version, with what stands around it.
    pub fn validation(&self, name: &str) -> Option<&'a Value> {
        let own = |version: &&Version<'a>| version.own.validation.is_some();
        if !self.versions.iter().any(|version| own(&version)) {
            return self.common.validation;
        }
        self.versions.iter().find(|version| version.name == name)?.own.validation
    }

    /// Whether a version serves status.
    pub fn has_status(&self, version: &Version<'a>) -> bool {
        let per_version = self.versions.iter().any(|version| version.own.subresources.is_some());
        if per_version { version.own.has_status() } else { self.common.has_status() }
    }

    /// Whether some version serves status.
    pub fn has_any_status(&self) -> bool {
        self.common.has_status() || self.versions.iter().any(|version| version.own.has_status())
    }

    /// Whether something holds for a part of some schema.
    pub fn has_schema_with(&self, holds: &mut dyn FnMut(&'a Value) -> bool) -> bool {
        self.schemas().any(|schema| visit(schema, holds))
    }
}

/// Goes through a schema and all in it until something holds.
///
/// upstream: pkg/apis/apiextensions/validation/validation.go SchemaHas
pub(super) fn visit<'a>(schema: &'a Value, holds: &mut dyn FnMut(&'a Value) -> bool) -> bool {
    if !schema.is_object() {
        return false;
    }
    if holds(schema) {
        return true;
    }
    let one = |key: &str| part(schema, key).filter(|below| below.is_object());
    one("items").is_some_and(|items| visit(items, holds))
        || ["items", "allOf", "anyOf", "oneOf"]
            .into_iter()
            .any(|key| list(schema, key).iter().any(|below| visit(below, holds)))
        || one("not").is_some_and(|below| visit(below, holds))
        || entries(schema, "properties").any(|(_, below)| visit(below, holds))
        || one("additionalProperties").is_some_and(|below| visit(below, holds))
        || entries(schema, "patternProperties").any(|(_, below)| visit(below, holds))
        || one("additionalItems").is_some_and(|below| visit(below, holds))
        || entries(schema, "definitions").any(|(_, below)| visit(below, holds))
        || entries(schema, "dependencies").any(|(_, below)| visit(below, holds))
}
