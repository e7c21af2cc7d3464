//! Custom resources: what a definition says, as resources that are served like built-in ones.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/registry/customresource

mod columns;
pub mod scale;

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, ErrorType, Path};
use longshore_api::gvk::{self, compare_versions};
use longshore_api::jsonpath::JsonPath;
use longshore_api::managed::Filter;
use longshore_api::patch::gotext;
use longshore_api::structural::Schema;
use longshore_api::{Gvk, Model, Object, names};
use serde_json::Value;

use super::conditions::is_true;
use crate::core::pods::tree::{flag, list, opt_text, part, text, texts};
use crate::plain::keep;
use crate::rules::evaluate::{self, Checks};
use crate::strategy::{Context, MetadataRules, Strategy, Unheard, Warnings};
use crate::table::{Custom, Heading, Resource, ScalePaths, Scope, Subresource, Text};
use columns::Columns;

const VERBS: [&str; 8] =
    ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];
/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];

/// What a definition makes: a resource for each served version, and how its objects are stored.
pub struct Kind {
    /// The served versions in the order of the definition.
    pub resources: Vec<Resource>,
    /// The version that is stored, served or not.
    pub storage: Resource,
    /// How stored objects are read.
    pub stored: Stored,
}

/// How the stored objects of a custom resource are read.
#[derive(Debug)]
pub struct Stored {
    /// The schema of each version by the `apiVersion` of its objects.
    schemas: Vec<(String, Schema)>,
    names: Vec<Text>,
    paths: Vec<JsonPath>,
}

impl Stored {
    /// The fields that objects are selected by in some version.
    pub fn field_names(&self) -> &[Text] {
        &self.names
    }

    /// Their values, in the order of the names.
    pub fn field_values(&self, object: &Object) -> Vec<String> {
        let value = whole(object);
        self.paths.iter().map(|path| field_value(path, &value)).collect()
    }

    /// Gives an object the form that its version says: without unknown fields, with defaults.
    pub fn restore(&self, object: &mut Object) {
        let found = self.schemas.iter().find(|(version, _)| version == object.api_version());
        let Some((_, schema)) = found else { return };
        let mut value = std::mem::take(object).into_value();
        // What is malformed is dropped; defaults that do not fit are left out.
        drop(schema.coerce(&mut value, true));
        let (Ok(()) | Err(_)) = schema.default(&mut value);
        *object = Object::from_value(value).unwrap_or_default();
        if object.generation() == 0 {
            object.set(&["metadata", "generation"], 1);
        }
    }
}

/// upstream: registry/customresource/strategy.go selectableFields
fn field_value(path: &JsonPath, object: &Value) -> String {
    match path.find(object).as_deref() {
        Ok([value]) if !value.is_null() => gotext::plain(value),
        _ => String::new(),
    }
}

/// Whether objects of a definition are served.
pub fn is_served(definition: &Object) -> bool {
    is_true(definition, "NamesAccepted") || is_true(definition, "Established")
}

/// The resources of a definition.
///
/// # Errors
/// When a schema or the accepted names cannot be used, which the rules of definitions refuse.
pub fn serve(definition: &Object) -> Result<Kind, String> {
    let none = Value::Null;
    let spec = definition.get(&["spec"]).unwrap_or(&none);
    let group = text(spec, "group");
    let versions = list(spec, "versions");
    let preserve = flag(spec, "preserveUnknownFields");
    let mut stored = Stored { schemas: Vec::new(), names: Vec::new(), paths: Vec::new() };
    for version in versions {
        let schema = Schema::compile(written_schema(version), preserve);
        let schema = schema.map_err(|why| why.to_string())?;
        stored.schemas.push((gvk::api_version(group, text(version, "name")), schema));
        for (name, path) in selectable(version) {
            if !stored.names.contains(&Text::Owned(name.clone())) {
                stored.names.push(name.into());
                stored.paths.push(path);
            }
        }
    }
    let storage = versions.iter().position(|version| flag(version, "storage"));
    let storage = storage.ok_or("no version is stored")?;
    let scaled = versions.iter().filter(|version| scale_paths(version).is_some());
    let scaled_versions: Vec<String> =
        scaled.map(|version| gvk::api_version(group, text(version, "name"))).collect();
    let own = definition.get(&["status", "acceptedNames"]).unwrap_or(&none);
    for name in ["plural", "singular", "kind", "listKind"] {
        if text(own, name).is_empty() {
            return Err(format!("status.acceptedNames.{name} is empty"));
        }
    }
    let owned = |list: &[&str]| -> Vec<Text> {
        list.iter().map(|text| Text::Owned((*text).to_owned())).collect()
    };
    let written = versions.iter().map(|version| written_schema(version).to_string().into());
    let written: Vec<Arc<str>> = written.collect();
    let resource = |at: usize| {
        let version = &versions[at];
        let name = text(version, "name");
        let kind = Gvk::new(group, name, text(own, "kind"));
        let schema = stored.schemas[at].1.clone();
        let status =
            part(version, "subresources").is_some_and(|subs| part(subs, "status").is_some());
        let scale = scale_paths(version);
        let verbs = || SUBRESOURCE_VERBS.map(Text::Borrowed).to_vec();
        let mut subresources = Vec::new();
        if status {
            let (name, kind) = ("status".into(), kind.clone());
            subresources.push(Subresource { name, kind, verbs: verbs() });
        }
        if scale.is_some() {
            let kind = Gvk::new("autoscaling", "v1", "Scale");
            subresources.push(Subresource { name: "scale".into(), kind, verbs: verbs() });
        }
        let strategy = Versioned {
            status,
            scale: scale.clone(),
            checks: Checks::compile(schema.root(), true),
            columns: Columns::of(list(version, "additionalPrinterColumns")),
            fields: selectable(version),
            namespaced: text(spec, "scope") == "Namespaced",
            schema: schema.clone(),
            storage: stored.schemas[storage].clone(),
            api_version: kind.api_version(),
            kind: kind.kind.clone(),
        };
        Resource {
            group: group.to_owned().into(),
            version: name.to_owned().into(),
            plural: text(own, "plural").to_owned().into(),
            singular: text(own, "singular").to_owned().into(),
            kind: kind.kind.into(),
            short_names: owned(&texts(own, "shortNames")),
            categories: owned(&texts(own, "categories")),
            scope: if strategy.namespaced { Scope::Namespaced } else { Scope::Cluster },
            verbs: VERBS.map(Text::Borrowed).to_vec(),
            deprecated: deprecation(spec, version).into(),
            subresources,
            storage: format!("{group}/{}", text(own, "plural")).into(),
            model: Some(Model::Custom(schema)),
            custom: Some(Custom {
                list_kind: text(own, "listKind").to_owned().into(),
                storage_version: text(&versions[storage], "name").to_owned().into(),
                schema: written[at].clone(),
                converted_by_webhook: definition.str(&["spec", "conversion", "strategy"])
                    == "Webhook",
                established: is_true(definition, "Established"),
                terminating: is_true(definition, "Terminating"),
                scale,
                scaled_versions: scaled_versions.clone(),
            }),
            strategy: Arc::new(strategy),
        }
    };
    let served = (0..versions.len()).filter(|at| flag(&versions[*at], "served"));
    let (resources, storage) = (served.map(&resource).collect(), resource(storage));
    Ok(Kind { resources, storage, stored })
}

fn written_schema(version: &Value) -> &Value {
    let schema = part(version, "schema").and_then(|schema| part(schema, "openAPIV3Schema"));
    schema.unwrap_or(&Value::Null)
}

/// The whole tree of an object.
fn whole(object: &Object) -> Value {
    Value::Object(object.root().clone())
}

fn selectable(version: &Value) -> Vec<(String, JsonPath)> {
    let fields = list(version, "selectableFields").iter();
    let fields = fields.map(|field| text(field, "jsonPath")).filter_map(|path| {
        let parsed = JsonPath::parse(path).ok()?;
        Some((path.strip_prefix('.').unwrap_or(path).to_owned(), parsed))
    });
    fields.collect()
}

fn scale_paths(version: &Value) -> Option<ScalePaths> {
    let scale = part(part(version, "subresources")?, "scale")?;
    Some(ScalePaths {
        spec_replicas: text(scale, "specReplicasPath").to_owned(),
        status_replicas: text(scale, "statusReplicasPath").to_owned(),
        selector: text(scale, "labelSelectorPath").to_owned(),
    })
}

/// What is told about a deprecated version; empty for others.
///
/// upstream: apiserver/customresource_handler.go defaultDeprecationWarning
fn deprecation(spec: &Value, version: &Value) -> String {
    if !flag(version, "deprecated") {
        return String::new();
    }
    if let Some(own) = opt_text(version, "deprecationWarning") {
        return own.to_owned();
    }
    let (group, name) = (text(spec, "group"), text(version, "name"));
    let kind = part(spec, "names").map_or("", |names| text(names, "kind"));
    let newer = list(spec, "versions").iter().filter(|other| {
        let ahead = compare_versions(name, text(other, "name")) == Ordering::Less;
        flag(other, "served") && !flag(other, "deprecated") && ahead
    });
    let best = newer.map(|other| text(other, "name")).max_by(|a, b| compare_versions(a, b));
    let instead = best.map_or_else(String::new, |best| format!("; use {group}/{best} {kind}"));
    format!("{group}/{name} {kind} is deprecated{instead}")
}

/// The rules of one version of a custom resource.
struct Versioned {
    /// Whether the status is written through a subresource.
    status: bool,
    scale: Option<ScalePaths>,
    /// The rules that are expressions.
    checks: Option<Checks>,
    columns: Columns,
    fields: Vec<(String, JsonPath)>,
    namespaced: bool,
    schema: Schema,
    /// The `apiVersion` and schema that objects are stored with.
    storage: (String, Schema),
    api_version: String,
    kind: String,
}

impl Versioned {
    /// The form of an object in a version.
    fn convert(object: &mut Object, api_version: &str, schema: &Schema) {
        object.set(&["apiVersion"], api_version);
        let mut value = std::mem::take(object).into_value();
        // Malformed metadata was refused when the object was written.
        drop(schema.coerce(&mut value, true));
        *object = Object::from_value(value).unwrap_or_default();
    }

    /// Evaluates the rules that are expressions, unless what is wrong already would mislead them.
    ///
    /// upstream: registry/customresource/strategy.go hasBlockingErr
    fn evaluate(
        &self,
        value: &Value,
        old: Option<&Value>,
        warnings: &dyn Warnings,
        errors: &mut ErrorList,
    ) {
        let Some(checks) = &self.checks else { return };
        let blocks = |error: &Error| {
            matches!(
                error.kind,
                ErrorType::NotSupported
                    | ErrorType::Required
                    | ErrorType::TooLong
                    | ErrorType::TooMany
                    | ErrorType::TypeInvalid
            )
        };
        let path = Path::default();
        if errors.iter().any(blocks) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(Error::invalid(&path, Value::Null, why));
            return;
        }
        let (root, mut budget) = (self.schema.root(), evaluate::BUDGET);
        let outcome = checks.evaluate(root, &path, value, old, old.is_some(), &mut budget);
        errors.extend(outcome.errors);
        outcome.warnings.into_iter().for_each(|text| warnings.add(text));
    }

    /// What the object says that it is has to be what it is.
    fn check_kind(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        for (field, found, wanted) in [
            ("kind", object.kind(), &self.kind),
            ("apiVersion", object.api_version(), &self.api_version),
        ] {
            if found != wanted {
                let why = format!("must be {wanted}");
                errors.push(Error::invalid(&Path::new(field), found, &why));
            }
        }
        errors
    }
}

impl Strategy for Versioned {
    fn converts(&self) -> bool {
        self.api_version != self.storage.0
    }

    fn to_storage(&self, object: &mut Object) {
        Self::convert(object, &self.storage.0, &self.storage.1);
    }

    fn from_storage(&self, object: &mut Object) {
        Self::convert(object, &self.api_version, &self.schema);
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        if self.status {
            object.remove(&["status"]);
        }
        object.set(&["metadata", "generation"], 1);
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        if ctx.subresource == "status" {
            let status = new.remove(&["status"]);
            let managers = new.remove(&["metadata", "managedFields"]);
            *new = old.clone();
            for (path, value) in
                [(&["status"][..], status), (&["metadata", "managedFields"][..], managers)]
            {
                match value {
                    Some(value) => new.set(path, value),
                    None => drop(new.remove(path)),
                }
            }
            return;
        }
        if self.status {
            keep(new, old, "status");
        }
        let changed = |a: &Object, b: &Object| {
            a.root()
                .iter()
                .any(|(key, value)| key != "metadata" && b.root().get(key) != Some(value))
        };
        if changed(new, old) || changed(old, new) {
            new.set(&["metadata", "generation"], old.generation() + 1);
        }
    }

    fn written_fields(&self, subresource: &str) -> Filter {
        match subresource {
            "status" => Filter::Except(&[&["metadata"], &["spec"]]),
            _ if self.status => Filter::Except(&[&["status"]]),
            _ => Filter::All,
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = self.check_kind(object);
        if !errors.is_empty() {
            return errors;
        }
        let value = whole(object);
        errors.extend(self.schema.validate_create(&value));
        if let Some(paths) = &self.scale {
            scale::check_spec(paths, object, &mut errors);
            scale::check_status(paths, object, &mut errors);
        }
        errors.extend(self.schema.validate_embedded(&value));
        errors.extend(self.schema.validate_lists(&value));
        self.evaluate(&value, None, &Unheard, &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = self.check_kind(new);
        if !errors.is_empty() {
            return errors;
        }
        let (value, before) = (whole(new), whole(old));
        let of_status = ctx.subresource == "status";
        if of_status {
            errors.extend(self.schema.validate_status(&value, &before));
        } else {
            errors.extend(self.schema.validate_update(&value, &before));
        }
        if let Some(paths) = &self.scale {
            if !of_status {
                scale::check_spec(paths, new, &mut errors);
            }
            scale::check_status(paths, new, &mut errors);
        }
        if !of_status {
            errors.extend(self.schema.validate_embedded(&value));
            let lists = self.schema.validate_lists(&value);
            // Who did not break a list need not mend it.
            if !lists.is_empty() && self.schema.validate_lists(&before).is_empty() {
                errors.extend(lists);
            }
        }
        self.evaluate(&value, Some(&before), ctx.warnings, &mut errors);
        errors
    }

    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules { known_finalizers: false, ..MetadataRules::CHANGES }
    }

    /// upstream: registry/customresource/validator.go validateKubeFinalizerName
    fn warnings(&self, object: &Object, old: Option<&Object>) -> Vec<String> {
        let known = old.map(Object::finalizers).unwrap_or_default();
        let mut fresh = object.finalizers();
        fresh.retain(|finalizer| !known.contains(finalizer));
        fresh.sort_unstable();
        fresh.dedup();
        let mut warnings = Vec::new();
        for finalizer in fresh {
            let mut warn = |why: &str| {
                warnings.push(format!("metadata.finalizers: {}: {why}", gotext::quote(finalizer)));
            };
            names::is_qualified_name(finalizer).iter().for_each(|why| warn(why));
            if finalizer.contains('/') || STANDARD_FINALIZERS.contains(&finalizer) {
                continue;
            }
            let path = if finalizer.contains('.') { " including a path (/)" } else { "" };
            warn(&format!(
                "prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
            ));
        }
        warnings
    }

    fn selectable_names(&self) -> Vec<&str> {
        self.fields.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn selectable_fields(&self, object: &Object) -> Vec<(&str, String)> {
        let value = whole(object);
        let of = |(_, path): &(String, JsonPath)| field_value(path, &value);
        self.fields.iter().map(|field| (field.0.as_str(), of(field))).collect()
    }

    fn unsupported_field(&self, name: &str) -> String {
        format!("field label not supported: {name}")
    }

    fn columns(&self) -> Vec<Heading<'_>> {
        self.columns.headings()
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        self.columns.cells(object, now)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}
