//! Custom resource definitions: how they are prepared, and when which rules hold.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition,
//! pkg/apis/apiextensions/v1/defaults.go, pkg/apis/apiextensions/validation/validation.go

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::structural::formats;
use serde_json::{Value, json};

use super::defaults;
use super::internal::{Spec, visit};
use super::rules::{self, Rules};
use crate::core::pods::tree::{fill, fill_text, list, part, part_mut, text};
use crate::core::pods::validation::common::IMMUTABLE;
use crate::plain::{keep, separate};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::default_name_rule;

/// The rules of definitions.
pub(super) struct Definitions;

impl Strategy for Definitions {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules { known_finalizers: false, ..MetadataRules::CHANGES }
    }

    fn default(&self, object: &mut Object) {
        let spec = object.root_mut().entry("spec").or_insert_with(|| json!({}));
        let kind = part(spec, "names").map_or("", |n| text(n, "kind")).to_owned();
        if !kind.is_empty() {
            let names = part_mut(spec, "names");
            fill_text(names, "singular", &kind.to_lowercase());
            fill_text(names, "listKind", &format!("{kind}List"));
        }
        fill(spec, "conversion", json!({"strategy": "None"}));
        let service = ["conversion", "webhook", "clientConfig", "service"];
        let at = service.iter().try_fold(spec, |at, step| at.get_mut(*step));
        if let Some(service) = at.filter(|service| service.is_object()) {
            fill(service, "port", 443);
        }
        if object.list(&["status", "storedVersions"]).is_empty()
            && let Some(stored) = stored_version(object)
        {
            object.set(&["status", "storedVersions"], json!([stored]));
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        let stored: Vec<String> = stored_version(object).into_iter().collect();
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
        if let Some(name) = stored_version(new) {
            let mut stored = new.list(&["status", "storedVersions"]).to_vec();
            if !stored.contains(&Value::from(name.as_str())) {
                stored.push(name.into());
                new.set(&["status", "storedVersions"], stored);
            }
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let value = object.get(&["spec"]).unwrap_or(&Value::Null);
        let spec = Spec::new(value);
        let mut errors = ErrorList::new();
        let plural = part(value, "names").map_or("", |names| text(names, "plural"));
        let wanted = format!("{plural}.{}", text(value, "group"));
        for key in ["generateName", "name"] {
            let name = object.str(&["metadata", key]);
            if !name.is_empty() && name != wanted {
                let at = Path::new("metadata").child(key);
                let why = "must be spec.names.plural+\".\"+spec.group";
                errors.push(Error::invalid(&at, name, why));
            }
        }
        rules::spec(&spec, &Rules::of_new(), &mut errors);
        status(object, &mut errors);
        stored_versions(object, &spec, &mut errors);
        rules::approval(object, None, &mut errors);
        if spec.preserves {
            preserves(&mut errors);
        }
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        if ctx.subresource == "status" {
            status(new, &mut errors);
            return errors;
        }
        let (value, before) = (
            new.get(&["spec"]).unwrap_or(&Value::Null),
            old.get(&["spec"]).unwrap_or(&Value::Null),
        );
        let (spec, old_spec) = (Spec::new(value), Spec::new(before));
        let established = is_established(old);
        rules::spec(&spec, &Rules::of_changed(&spec, &old_spec, established), &mut errors);
        // What objects are stored under stays once the names are accepted.
        let fixed: [&[&str]; 4] =
            [&["scope"], &["names", "kind"], &["group"], &["names", "plural"]];
        for steps in fixed {
            let always = steps == ["group"] || steps == ["names", "plural"];
            let full: Vec<&str> = std::iter::once("spec").chain(steps.iter().copied()).collect();
            let (now, before) = (new.str(&full), old.str(&full));
            if now != before && (established || always) {
                let path = steps.iter().fold(Path::new("spec"), |path, step| path.child(step));
                errors.push(Error::invalid(&path, now, IMMUTABLE));
            }
        }
        status(new, &mut errors);
        stored_versions(new, &spec, &mut errors);
        rules::approval(new, Some(old), &mut errors);
        if spec.preserves && !old_spec.preserves {
            preserves(&mut errors);
        }
        errors
    }

    fn canonicalize(&self, object: &mut Object) {
        let versions = object.get_mut(&["spec", "versions"]).and_then(Value::as_array_mut);
        for version in versions.into_iter().flatten() {
            let schema = version.get_mut("schema").and_then(|s| s.get_mut("openAPIV3Schema"));
            schema.into_iter().for_each(defaults::settle);
        }
    }

    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        let unknown = |object: &Object| {
            let mut found = Vec::new();
            let spec = Spec::new(object.get(&["spec"]).unwrap_or(&Value::Null));
            for schema in spec.schemas() {
                visit(schema, &mut |schema| {
                    let format = text(schema, "format");
                    if !format.is_empty() && !formats::belongs(format, text(schema, "type")) {
                        found.push(format.to_owned());
                    }
                    false
                });
            }
            found
        };
        let before: BTreeSet<String> = old.map(unknown).unwrap_or_default().into_iter().collect();
        let new = unknown(object).into_iter().filter(|format| !before.contains(format));
        new.map(|format| format!("unrecognized format {format:?}")).collect()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        default_name_rule(name, prefix)
    }

    fn begin_deletion(&self, object: &mut Object, now: Timestamp) -> bool {
        super::conditions::begin_deletion(object, now);
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

/// The name of the first version that objects are stored in.
fn stored_version(object: &Object) -> Option<String> {
    let spec = Spec::new(object.get(&["spec"])?);
    spec.versions.iter().find(|version| version.storage).map(|version| version.name.to_owned())
}

fn is_established(object: &Object) -> bool {
    let mut conditions = object.list(&["status", "conditions"]).iter();
    let found = conditions.find(|condition| text(condition, "type") == "Established");
    found.is_some_and(|condition| text(condition, "status") == "True")
}

fn status(object: &Object, errors: &mut ErrorList) {
    let path = Path::new("status").child("acceptedNames");
    if let Some(names) = object.get(&["status", "acceptedNames"]) {
        rules::names(names, &path, errors);
    }
}

fn stored_versions(object: &Object, spec: &Spec<'_>, errors: &mut ErrorList) {
    let path = Path::new("status").child("storedVersions");
    let value = object.get(&["status", "storedVersions"]).cloned().unwrap_or(Value::Null);
    let stored = list(object.get(&["status"]).unwrap_or(&Value::Null), "storedVersions");
    if stored.is_empty() {
        errors.push(Error::invalid(&path, Value::Null, "must have at least one stored version"));
        return;
    }
    // Of a name that stands there twice the last is told.
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, name) in stored.iter().enumerate() {
        left.insert(name.as_str().unwrap_or(""), index);
    }
    for version in &spec.versions {
        // So a second version of the same name is not stored.
        if left.remove(version.name).is_none() && version.storage {
            let why = format!("must have the storage version {}", version.name);
            errors.push(Error::invalid(&path, value.clone(), &why));
        }
    }
    for (name, index) in left {
        let why = format!(
            "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
        );
        errors.push(Error::invalid(&path.index(index), name, &why));
    }
}

fn preserves(errors: &mut ErrorList) {
    let path = Path::new("spec").child("preserveUnknownFields");
    let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
    errors.push(Error::invalid(&path, true, why));
}
