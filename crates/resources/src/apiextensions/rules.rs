//! The rules of a definition's spec, schemas aside.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go

use std::collections::BTreeSet;

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::structural::Node;
use longshore_api::{Object, names as forms};
use serde_json::Value;

use super::internal::{Spec, Version, visit};
use super::{conversion, paths, printed, schema};
use crate::core::pods::tree::{entries, flag, list, opt_text, part, text, texts};
use crate::core::pods::validation::common::required;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// The types of schemas.
pub(super) const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// Most fields that objects can be selected by.
const SELECTABLE_MAX: usize = 8;
const WARNING_BYTES_MAX: usize = 256;
/// Who has read the API of a group that belongs to the community.
const APPROVAL: &str = "api-approved.kubernetes.io";

/// What is asked of a definition. Of a changed one no more than the one before fulfilled.
pub(super) struct Rules<'a> {
    pub recognized_review: bool,
    pub schemas: bool,
    pub types: bool,
    pub structural: bool,
    pub pruned_defaults: bool,
    pub atomic_sets: bool,
    pub map_keys: bool,
    pub good_bundle: bool,
    /// The versions that may have more selectable fields than others; the empty name is the top.
    many_selectable: BTreeSet<&'a str>,
    /// The versions whose schemas are as they were.
    unchanged: BTreeSet<&'a str>,
}

impl<'a> Rules<'a> {
    /// What is asked of a new definition.
    pub fn of_new() -> Self {
        Self {
            recognized_review: true,
            schemas: true,
            types: true,
            structural: true,
            pruned_defaults: true,
            atomic_sets: true,
            map_keys: true,
            good_bundle: false,
            many_selectable: BTreeSet::new(),
            unchanged: BTreeSet::new(),
        }
    }

    /// What is asked of a changed definition.
    pub fn of_changed(new: &Spec<'a>, old: &Spec<'_>, established: bool) -> Self {
        let conversion = part(old.value, "conversion");
        let mut many_selectable = BTreeSet::new();
        if old.common.selectable.len() > SELECTABLE_MAX
            && old.common.selectable == new.common.selectable
        {
            many_selectable.insert("");
        }
        for version in &new.versions {
            let same = old.versions.iter().rfind(|before| before.name == version.name);
            if same.is_some_and(|before| {
                before.own.selectable.len() > SELECTABLE_MAX
                    && before.own.selectable == version.own.selectable
            }) {
                many_selectable.insert(version.name);
            }
        }
        let names = new.versions.iter().map(|version| version.name);
        Self {
            recognized_review: conversion.is_none_or(conversion::has_recognized_review),
            schemas: old.common.schema().is_some()
                || old.versions.iter().all(|version| version.own.schema().is_some()),
            types: !old.has_schema_with(&mut |schema| !has_good_type(schema)),
            structural: old.schemas().all(schema::is_structural),
            pruned_defaults: !old.schemas().any(schema::has_unpruned_defaults),
            atomic_sets: !old
                .has_schema_with(&mut |schema| schema::non_atomic_set_item(schema).is_some()),
            map_keys: !old.has_schema_with(&mut |schema| {
                let mut errors = ErrorList::new();
                schema::map_keys(schema, &Path::default(), &mut errors);
                !errors.is_empty()
            }),
            good_bundle: established && conversion.is_some_and(conversion::has_good_bundle),
            many_selectable,
            unchanged: names.filter(|name| new.validation(name) == old.validation(name)).collect(),
        }
    }
}

/// Whether a schema's type is none or one that there is.
pub(super) fn has_good_type(schema: &Value) -> bool {
    let kind = text(schema, "type");
    kind.is_empty() || TYPES.contains(&kind)
}

/// Whether a schema uses extensions that only structural schemas have.
fn is_extended(schema: &Value) -> bool {
    flag(schema, "x-kubernetes-embedded-resource")
        || part(schema, "x-kubernetes-preserve-unknown-fields").is_some()
        || flag(schema, "x-kubernetes-int-or-string")
        || !list(schema, "x-kubernetes-list-map-keys").is_empty()
        || part(schema, "x-kubernetes-list-type").is_some()
        || !list(schema, "x-kubernetes-validations").is_empty()
}

/// The rules of a spec.
pub(super) fn spec(spec: &Spec<'_>, rules: &Rules<'_>, errors: &mut ErrorList) {
    let path = Path::new("spec");
    group(text(spec.value, "group"), &path.child("group"), errors);
    one_of(text(spec.value, "scope"), &["Cluster", "Namespaced"], &path.child("scope"), errors);
    let mut structural = rules.structural || !spec.preserves;
    let whole = spec.common.schema().is_some();
    for (index, version) in spec.versions.iter().enumerate() {
        let without = !whole && version.own.schema().is_none();
        let at = || path.child("versions").index(index).child("schema").child("openAPIV3Schema");
        if without && rules.schemas {
            errors.push(Error::required(&at(), ""));
        } else if without && !spec.preserves && version.served {
            errors.push(Error::required(&at(), "because otherwise all fields are pruned"));
        }
    }
    if spec.has_schema_with(&mut |schema| part(schema, "default").is_some()) {
        structural = true;
        if spec.preserves {
            let at = path.child("preserveUnknownFields");
            let why = "must be false in order to use defaults in the schema";
            errors.push(Error::invalid(&at, true, why));
        }
    }
    structural |= spec.has_schema_with(&mut is_extended);
    let rules = schema::Rules { rules, structural };
    versions(spec, &rules, &path.child("versions"), errors);

    let (defined, at) = (part(spec.value, "names").unwrap_or(&Value::Null), path.child("names"));
    for key in ["plural", "singular", "kind", "listKind"] {
        required(text(defined, key), &at.child(key), errors);
    }
    names(defined, &at, errors);
    let at = path.child("validation");
    let first = spec.versions.first().map_or("", |version| version.name);
    let any_cost = rules.rules.unchanged.contains(first);
    let has_status = spec.has_any_status();
    schema::validation(spec.common.validation, has_status, any_cost, &rules, &at, errors);
    subresources(spec.common.subresources, &path.child("subresources"), errors);
    for (index, column) in spec.common.columns.iter().enumerate() {
        printer_column(column, &path.child("additionalPrinterColumns").index(index), errors);
    }
    if !spec.common.selectable.is_empty() {
        let at = path.child("selectableFields");
        match spec.common.validation {
            None => {
                let why = "may only be set when validations.schema is included";
                errors.push(Error::invalid(&at, "", why));
            }
            Some(_) => {
                let broken = path.child("schema.openAPIV3Schema");
                let selectable = Selectable {
                    fields: spec.common.selectable,
                    schema: spec.common.schema(),
                    many: rules.rules.many_selectable.contains(""),
                };
                selectable.check(&at, &broken, errors);
            }
        }
    }
    let conversion = part(spec.value, "conversion");
    let strategy = conversion.map_or("None", |conversion| text(conversion, "strategy"));
    if strategy != "None" && spec.preserves {
        let at = path.child("conversion").child("strategy");
        let why = "must be None if spec.preserveUnknownFields is true";
        errors.push(Error::invalid(&at, strategy, why));
    }
    if let Some(conversion) = conversion {
        conversion::check(conversion, rules.rules, &path.child("conversion"), errors);
    }
}

/// A text that has to be one of some.
pub(super) fn one_of(value: &str, accepted: &[&str], path: &Path, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !accepted.contains(&value) {
        errors.push(Error::not_supported(path, value, accepted));
    }
}

fn group(group: &str, path: &Path, errors: &mut ErrorList) {
    let broken = forms::is_dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !broken.is_empty() {
        errors.push(Error::invalid(path, group, &broken.join(",")));
    } else if !group.contains('.') {
        errors.push(Error::invalid(path, group, "should be a domain with at least one dot"));
    }
}

fn versions(spec: &Spec<'_>, rules: &schema::Rules<'_>, path: &Path, errors: &mut ErrorList) {
    let versions = &spec.versions;
    let mut seen = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        seen.insert(version.name);
        let at = path.index(index);
        let broken = forms::is_dns1035_label(version.name);
        if !broken.is_empty() {
            errors.push(Error::invalid(&at.child("name"), version.name, &broken.join(",")));
        }
        one_version(version, spec.has_status(version), rules, &at, errors);
    }
    let mut whole = |why: &str| {
        let empty = versions.is_empty() && spec.value.get("versions").is_some_and(Value::is_array);
        let text = if empty { "[]".to_owned() } else { printed::versions(versions) };
        errors.push(Error::invalid_text(path, &text, why));
    };
    // What all versions have stands at the top; so it cannot be the same in all of them.
    if seen.len() != versions.len() {
        whole("must contain unique version names");
    }
    if versions.iter().filter(|version| version.storage).count() != 1 {
        whole("must have exactly one version marked as storage version");
    }
    if let Some(first) = versions.first() {
        let broken = forms::is_dns1035_label(first.name);
        if !first.name.is_empty() && !broken.is_empty() {
            let at = Path::new("spec").child("version");
            errors.push(Error::invalid(&at, first.name, &broken.join(",")));
        }
    }
}

fn one_version(
    version: &Version<'_>,
    has_status: bool,
    rules: &schema::Rules<'_>,
    path: &Path,
    errors: &mut ErrorList,
) {
    if let Some(warning) = opt_text(version.value, "deprecationWarning") {
        let at = path.child("deprecationWarning");
        for why in deprecation(flag(version.value, "deprecated"), warning) {
            errors.push(Error::invalid(&at, warning, &why));
        }
    }
    let at = path.child("schema");
    let any_cost = rules.rules.unchanged.contains(version.name);
    schema::validation(version.own.validation, has_status, any_cost, rules, &at, errors);
    subresources(version.own.subresources, &path.child("subresources"), errors);
    for (index, column) in version.own.columns.iter().enumerate() {
        printer_column(column, &path.child("additionalPrinterColumns").index(index), errors);
    }
    if version.own.selectable.is_empty() {
        return;
    }
    let at = path.child("selectableFields");
    if version.own.schema().is_none() {
        let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
        errors.push(Error::invalid(&at, "", why));
        return;
    }
    let selectable = Selectable {
        fields: version.own.selectable,
        schema: version.own.schema(),
        many: rules.rules.many_selectable.contains(version.name),
    };
    selectable.check(&at, &path.child("schema.openAPIV3Schema"), errors);
}

fn deprecation(deprecated: bool, warning: &str) -> Vec<String> {
    if !deprecated {
        return vec!["can only be set for deprecated versions".into()];
    }
    let mut errors = Vec::new();
    if warning.len() > WARNING_BYTES_MAX {
        errors.push(format!("must be <= {WARNING_BYTES_MAX} characters long"));
    }
    if warning.is_empty() {
        errors.push("must not be an empty string".into());
    }
    let odd = warning.char_indices().find(|(_, c)| !longshore_api::patch::gotext::prints(*c));
    if let Some((index, _)) = odd {
        errors.push(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {index}"
        ));
    }
    errors
}

/// The rules of names, wanted or accepted.
pub(super) fn names(defined: &Value, path: &Path, errors: &mut ErrorList) {
    for key in ["plural", "singular", "kind", "listKind"] {
        let name = text(defined, key);
        if name.is_empty() {
            continue;
        }
        let mixed = key.ends_with("ind");
        let checked = if mixed { name.to_lowercase() } else { name.to_owned() };
        let broken = forms::is_dns1035_label(&checked).join(",");
        if !broken.is_empty() {
            let hint = if mixed { "may have mixed case, but should otherwise match: " } else { "" };
            errors.push(Error::invalid(&path.child(key), name, &format!("{hint}{broken}")));
        }
    }
    let labels = |key: &str, errors: &mut ErrorList| {
        for (index, name) in texts(defined, key).into_iter().enumerate() {
            let broken = forms::is_dns1035_label(name);
            if !broken.is_empty() {
                let at = path.child(key).index(index);
                errors.push(Error::invalid(&at, name, &broken.join(",")));
            }
        }
    };
    labels("shortNames", errors);
    let kind = text(defined, "kind");
    if !kind.is_empty() && kind == text(defined, "listKind") {
        let why = "kind and listKind may not be the same";
        errors.push(Error::invalid(&path.child("listKind"), kind, why));
    }
    labels("categories", errors);
}

fn printer_column(column: &Value, path: &Path, errors: &mut ErrorList) {
    required(text(column, "name"), &path.child("name"), errors);
    let (kind, format) = (text(column, "type"), text(column, "format"));
    let why = format!("must be one of {}", COLUMN_TYPES.join(","));
    if kind.is_empty() {
        errors.push(Error::required(&path.child("type"), &why));
    } else if !COLUMN_TYPES.contains(&kind) {
        errors.push(Error::invalid(&path.child("type"), kind, &why));
    }
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(Error::invalid(&path.child("format"), format, &why));
    }
    let json_path = text(column, "jsonPath");
    let at = path.child("JSONPath");
    if json_path.is_empty() {
        errors.push(Error::required(&at, ""));
    } else {
        simple_path(json_path, &at, errors);
    }
}

/// A path of fields; whether it is good.
fn simple_path(json_path: &str, path: &Path, errors: &mut ErrorList) -> bool {
    let good = json_path.starts_with('.');
    if !good {
        errors.push(Error::invalid(path, json_path, "must be a simple json path starting with ."));
    }
    good
}

fn subresources(subresources: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    let Some(scale) = subresources.and_then(|subresources| part(subresources, "scale")) else {
        return;
    };
    for (key, roots, wanted) in [
        ("specReplicasPath", &[".spec."][..], "under .spec"),
        ("statusReplicasPath", &[".status."], "under .status"),
        ("labelSelectorPath", &[".spec.", ".status."], "under either .spec or .status"),
    ] {
        let (value, at) = (text(scale, key), path.child(&format!("scale.{key}")));
        if value.is_empty() {
            if key != "labelSelectorPath" {
                errors.push(Error::required(&at, ""));
            }
        } else if simple_path(value, &at, errors)
            && !roots.iter().any(|root| value.starts_with(root))
        {
            errors.push(Error::invalid(&at, value, &format!("should be a json path {wanted}")));
        }
    }
}

/// The fields that objects can be selected by.
struct Selectable<'a> {
    fields: &'a [Value],
    schema: Option<&'a Value>,
    /// Whether there may be more of them than usual.
    many: bool,
}

impl Selectable<'_> {
    /// Checks them; `broken` is where a schema that is not structural is told.
    fn check(&self, path: &Path, broken: &Path, errors: &mut ErrorList) {
        let schema = match self.schema.map_or_else(|| Ok(Node::default()), Node::compile) {
            Ok(schema) => schema,
            Err(error) => {
                errors.push(Error::invalid(broken, "", &error.to_string()));
                return;
            }
        };
        let mut seen = BTreeSet::new();
        for (index, field) in self.fields.iter().enumerate() {
            let at = path.index(index).child("jsonPath");
            let json_path = text(field, "jsonPath");
            if json_path.is_empty() {
                errors.push(Error::required(&at, ""));
                continue;
            }
            let (found, steps) = match paths::follow(json_path, &schema, false) {
                Ok(found) => found,
                Err(why) => {
                    let why = format!("is an invalid path: {why}");
                    errors.push(Error::invalid(&at, json_path, &why));
                    continue;
                }
            };
            if steps.first().is_some_and(|step| step == "metadata") {
                let why = "must not point to fields in metadata";
                errors.push(Error::invalid(&at, json_path, why));
            }
            if !found
                .is_some_and(|node| matches!(node.kind.name(), "string" | "boolean" | "integer"))
            {
                let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                errors.push(Error::invalid(&at, json_path, why));
            }
            if !seen.insert(steps) {
                errors.push(Error::duplicate(&at, json_path));
            }
        }
        if seen.len() > SELECTABLE_MAX && !self.many {
            errors.push(Error::too_many(path, seen.len(), SELECTABLE_MAX));
        }
    }
}

/// How a definition says that somebody has read its API.
#[derive(PartialEq)]
enum Approval {
    Missing,
    Given,
    Bypassed,
    Invalid,
}

fn approval_of(object: &Object) -> Approval {
    let annotation = object.annotation(APPROVAL).unwrap_or("");
    if annotation.is_empty() {
        return Approval::Missing;
    }
    if annotation.starts_with("unapproved") {
        return Approval::Bypassed;
    }
    let host = annotation.split_once("://").map(|(scheme, rest)| (scheme, rest.split('/').next()));
    let full = host.is_some_and(|(scheme, host)| {
        !scheme.is_empty() && host.is_some_and(|host| !host.is_empty())
    });
    let is_uri = full && longshore_api::structural::formats::fits("uri", annotation);
    if is_uri { Approval::Given } else { Approval::Invalid }
}

/// Groups of the community need an approval.
///
/// upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apihelpers/helpers.go
pub(super) fn approval(new: &Object, old: Option<&Object>, errors: &mut ErrorList) {
    let group = new.str(&["spec", "group"]);
    let protected = ["k8s.io", "kubernetes.io"].into_iter().any(|domain| {
        group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    });
    let state = approval_of(new);
    if !protected || old.is_some_and(|old| approval_of(old) == state) {
        return;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVAL);
    let at = "see https://github.com/kubernetes/enhancements/pull/1111";
    match state {
        Approval::Missing => {
            let why = format!("protected groups must have approval annotation {APPROVAL:?}, {at}");
            errors.push(Error::required(&path, &why));
        }
        Approval::Invalid => {
            let why = format!(
                "protected groups must have approval annotation {APPROVAL:?} with either a URL or a reason starting with \"unapproved\", {at}"
            );
            let annotation = new.annotation(APPROVAL).unwrap_or("");
            errors.push(Error::invalid(&path, annotation, &why));
        }
        Approval::Given | Approval::Bypassed => {}
    }
}

/// Whether a schema has defaults somewhere.
pub(super) fn has_defaults(schema: &Value) -> bool {
    visit(schema, &mut |schema| part(schema, "default").is_some())
}

/// Whether a map of schemas has entries.
pub(super) fn any_entries(schema: &Value, key: &str) -> bool {
    entries(schema, key).next().is_some()
}
