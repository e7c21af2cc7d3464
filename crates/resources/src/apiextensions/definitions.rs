//! Custom resource definitions. Schemas are not checked here.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition,
//! pkg/apis/apiextensions/validation/validation.go

use std::collections::BTreeSet;

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{Object, names};
use serde_json::{Value, json};

use crate::core::pods::tree::{fill, fill_text, flag, list, part, part_mut, text, texts};
use crate::core::pods::validation::common::{IMMUTABLE, required};
use crate::plain::{keep, separate};
use crate::strategy::{Context, Strategy};
use crate::table::default_name_rule;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "name", "password"];

/// The rules of definitions.
pub(super) struct Definitions;

impl Strategy for Definitions {
    fn default(&self, object: &mut Object) {
        let spec = object.root_mut().entry("spec").or_insert_with(|| json!({}));
        let kind = part(spec, "names").map_or("", |n| text(n, "kind")).to_owned();
        if !kind.is_empty() {
            let names = part_mut(spec, "names");
            fill_text(names, "singular", &kind.to_lowercase());
            fill_text(names, "listKind", &format!("{kind}List"));
        }
        fill(spec, "conversion", json!({"strategy": "None"}));
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        let versions = object.list(&["spec", "versions"]).iter();
        let stored: Vec<String> = versions
            .filter(|version| flag(version, "storage"))
            .map(|version| text(version, "name").to_owned())
            .collect();
        object.set(
            &["status"],
            json!({
                "conditions": null,
                "acceptedNames": {"plural": "", "kind": ""},
                "storedVersions": stored,
            }),
        );
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        separate(ctx, new, old);
        if ctx.subresource == "status" {
            return;
        }
        keep(new, old, "status");
        let mut stored = new.list(&["status", "storedVersions"]).to_vec();
        let versions = new.list(&["spec", "versions"]).iter();
        let missing: Vec<Value> = versions
            .filter(|version| flag(version, "storage"))
            .filter_map(|version| version.get("name").cloned())
            .filter(|name| !stored.contains(name))
            .collect();
        if !missing.is_empty() {
            stored.extend(missing);
            new.set(&["status", "storedVersions"], stored);
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = rules(object);
        let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
        let names = part(spec, "names").unwrap_or(&Value::Null);
        if object.name() != format!("{}.{}", text(names, "plural"), text(spec, "group")) {
            let at = Path::new("metadata").child("name");
            let why = "must be spec.names.plural+\".\"+spec.group";
            errors.push(Error::invalid(&at, object.name(), why));
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        if ctx.subresource == "status" {
            return ErrorList::new();
        }
        let mut errors = rules(new);
        // What objects are stored under stays once the names are accepted.
        let conditions = old.list(&["status", "conditions"]).iter();
        let established = conditions
            .filter(|c| text(c, "type") == "Established")
            .any(|c| text(c, "status") == "True");
        let fixed: [&[&str]; 4] =
            [&["group"], &["scope"], &["names", "kind"], &["names", "plural"]];
        for steps in fixed {
            let always = steps == ["group"] || steps == ["names", "plural"];
            let full: Vec<&str> = std::iter::once("spec").chain(steps.iter().copied()).collect();
            let (now, before) = (new.str(&full), old.str(&full));
            if now != before && (established || always) {
                let path = steps.iter().fold(Path::new("spec"), |path, step| path.child(step));
                errors.push(Error::invalid(&path, now, IMMUTABLE));
            }
        }
        errors
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        default_name_rule(name, prefix)
    }
}

/// The rules of new and changed definitions.
fn rules(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = object.get(&["spec"]).unwrap_or(&Value::Null);
    let path = Path::new("spec");
    let names = part(spec, "names").unwrap_or(&Value::Null);
    group(text(spec, "group"), &path.child("group"), &mut errors);
    let (scope, at) = (text(spec, "scope"), path.child("scope"));
    if scope.is_empty() {
        errors.push(Error::required(&at, ""));
    } else if !matches!(scope, "Cluster" | "Namespaced") {
        errors.push(Error::not_supported(&at, scope, &["Cluster", "Namespaced"]));
    }
    versions(spec, &path, &mut errors);
    defined_names(names, &path.child("names"), &mut errors);
    errors
}

fn group(group: &str, path: &Path, errors: &mut ErrorList) {
    let broken = names::is_dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(Error::required(path, ""));
    } else if !broken.is_empty() {
        errors.push(Error::invalid(path, group, &broken.join(",")));
    } else if !group.contains('.') {
        errors.push(Error::invalid(path, group, "should be a domain with at least one dot"));
    }
}

fn versions(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let versions = list(spec, "versions");
    let path = path.child("versions");
    let mut seen = BTreeSet::new();
    for (i, version) in versions.iter().enumerate() {
        let at = path.index(i);
        if part(version, "schema").and_then(|s| part(s, "openAPIV3Schema")).is_none() {
            errors.push(Error::required(&at.child("schema").child("openAPIV3Schema"), ""));
        }
        let name = text(version, "name");
        seen.insert(name);
        let broken = names::is_dns1035_label(name);
        if !broken.is_empty() {
            errors.push(Error::invalid(&at.child("name"), name, &broken.join(",")));
        }
        for (i, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
            printer_column(column, &at.child("additionalPrinterColumns").index(i), errors);
        }
    }
    let value = || spec.get("versions").cloned().unwrap_or(Value::Null);
    if seen.len() != versions.len() {
        errors.push(Error::invalid(&path, value(), "must contain unique version names"));
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(Error::invalid(&path, value(), why));
    }
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
    required(text(column, "jsonPath"), &path.child("JSONPath"), errors);
}

fn defined_names(defined: &Value, path: &Path, errors: &mut ErrorList) {
    for key in ["plural", "singular", "kind", "listKind"] {
        let (name, at) = (text(defined, key), path.child(key));
        if name.is_empty() {
            errors.push(Error::required(&at, ""));
            continue;
        }
        let mixed = key.ends_with("ind");
        let checked = if mixed { name.to_lowercase() } else { name.to_owned() };
        let broken = names::is_dns1035_label(&checked).join(",");
        if broken.is_empty() {
            continue;
        }
        let hint = if mixed { "may have mixed case, but should otherwise match: " } else { "" };
        errors.push(Error::invalid(&at, name, &format!("{hint}{broken}")));
    }
    let kind = text(defined, "kind");
    if !kind.is_empty() && kind == text(defined, "listKind") {
        let why = "kind and listKind may not be the same";
        errors.push(Error::invalid(&path.child("listKind"), kind, why));
    }
    for key in ["shortNames", "categories"] {
        for (i, name) in texts(defined, key).into_iter().enumerate() {
            let broken = names::is_dns1035_label(name);
            if !broken.is_empty() {
                let at = path.child(key).index(i);
                errors.push(Error::invalid(&at, name, &broken.join(",")));
            }
        }
    }
}
