//! The rules of the schemas in a definition.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go
//! validateCustomResourceDefinitionValidation, ValidateCustomResourceDefinitionOpenAPISchema

use std::collections::BTreeSet;

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::structural::{Node, Schema};
use serde_json::Value;

use super::expressions::{self, Limits, Scope, Total};
use super::{defaults, printed, rules, structural};
use crate::core::pods::tree::{entries, flag, has, list, opt_text, part, text, texts};

/// What is asked of schemas.
pub(super) struct Rules<'a> {
    pub rules: &'a rules::Rules<'a>,
    /// Whether they have to be structural.
    pub structural: bool,
}

/// What may stand at the top of a schema when the status is served on its own: JSON names and Go
/// names.
const ROOT_FIELDS: [(&str, &str); 22] = [
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

/// Fields that are told before the type is looked at.
const BEFORE_TYPE: [&str; 3] = ["id", "$schema", "$ref"];

/// Whether a schema is structural.
pub(super) fn is_structural(schema: &Value) -> bool {
    Node::compile(schema).is_ok_and(|node| structural::check(&Path::default(), &node).is_empty())
}

/// Whether defaults of a structural schema hold fields that it does not know.
pub(super) fn has_unpruned_defaults(schema: &Value) -> bool {
    let Ok(node) = Node::compile(schema) else { return false };
    rules::has_defaults(schema)
        && structural::check(&Path::default(), &node).is_empty()
        && Schema::compile(schema, false).is_ok_and(|pruned| *pruned.root() != node)
}

/// The rules of a schema with what stands around it.
pub(super) fn validation(
    validation: Option<&Value>,
    has_status: bool,
    any_cost: bool,
    rules: &Rules<'_>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let Some(schema) = validation.and_then(|validation| part(validation, "openAPIV3Schema")) else {
        return;
    };
    let start = errors.len();
    let at = path.child("openAPIV3Schema");
    if has_status {
        root_fields(schema, path, errors);
    }
    if flag(schema, "nullable") {
        let at = path.child("openAPIV3Schema.nullable");
        errors.push(Error::forbidden(&at, "nullable cannot be true at the root"));
    }
    let (mut not_structural, mut node) = (None, None);
    if rules.structural {
        match Node::compile(schema) {
            Err(error) => not_structural = Some(error.to_string()),
            Ok(compiled) => {
                let mut found = structural::check(&at, &compiled);
                if found.is_empty() {
                    let pruned = rules.rules.pruned_defaults;
                    found = defaults::check(&at, &mut compiled.clone(), pruned);
                }
                // Expressions are looked at when all else is good.
                node = found.is_empty().then_some(compiled);
                errors.extend(found);
            }
        }
    }
    let walk = Walk {
        rules: rules.rules,
        no_default: None,
        in_meta: false,
        scope: node.as_ref().map(Scope::root),
        limits: Limits { any_cost, uncorrelated: None },
    };
    let mut found =
        Found { schema: ErrorList::new(), rules: ErrorList::new(), total: Total::default() };
    walk.check(schema, &at, true, &mut found);
    errors.append(&mut found.schema);
    errors.append(&mut found.rules);
    if let Some(why) = not_structural.filter(|_| errors.len() == start) {
        errors.push(Error::invalid(&at, "", &why));
    }
    found.total.check(&at, errors);
}

fn root_fields(schema: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(fields) = schema.as_object() else { return };
    let allowed = |name: &str| ROOT_FIELDS.iter().any(|(known, _)| *known == name);
    let set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value != "";
    // Pointers to nothing special count as set as well.
    let pointer = |name: &str| matches!(name, "$ref" | "additionalProperties" | "additionalItems");
    let other = |names: &dyn Fn(&str) -> bool| {
        fields.iter().any(|(name, value)| {
            names(name) && !allowed(name) && (set(value) || (pointer(name) && !value.is_null()))
        })
    };
    let kind = text(schema, "type");
    if !other(&|name| BEFORE_TYPE.contains(&name)) && !kind.is_empty() && kind != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(Error::invalid(&path.child("openAPIV3Schema.type"), kind, why));
    } else if other(&|_| true) {
        let names: Vec<&str> = ROOT_FIELDS.iter().map(|(_, name)| *name).collect();
        let why = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        let text = printed::schema(schema);
        errors.push(Error::invalid_text(&path.child("openAPIV3Schema"), &text, &why));
    }
}

/// What a walk through a schema finds.
struct Found {
    schema: ErrorList,
    /// What is wrong with expressions; told after all else.
    rules: ErrorList,
    total: Total,
}

/// A walk through a schema: what holds where it is.
#[derive(Clone)]
struct Walk<'a> {
    rules: &'a rules::Rules<'a>,
    /// Why there may be no defaults.
    no_default: Option<&'a str>,
    /// Inside of the metadata of an object, or its kind and version.
    in_meta: bool,
    /// What expressions would see here; none where they are not looked at.
    scope: Option<Scope<'a>>,
    limits: Limits<'a>,
}

impl Walk<'_> {
    fn check(&self, schema: &Value, path: &Path, root: bool, found: &mut Found) {
        if !schema.is_object() {
            return;
        }
        let start = found.schema.len();
        let errors = &mut found.schema;
        self.standard(schema, path, errors);
        if flag(schema, "uniqueItems") {
            let why =
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            errors.push(Error::forbidden(&path.child("uniqueItems"), why));
        }
        self.below(schema, path, root, found);
        let errors = &mut found.schema;
        extensions(schema, path, self.rules.atomic_sets, errors);
        list_map(schema, path, errors);
        if self.rules.map_keys {
            map_keys(schema, path, errors);
        }
        expressions::check(schema, &path.child("x-kubernetes-validations"), errors);
        // Broken schemas have no types that expressions could be checked against.
        if errors.len() == start
            && expressions::any(schema)
            && let Some(scope) = &self.scope
        {
            let Found { rules, total, .. } = found;
            expressions::compile(schema, scope, self.limits, path, total, rules);
        }
    }

    /// Checks the schemas inside.
    fn below(&self, schema: &Value, path: &Path, root: bool, found: &mut Found) {
        if let Some(additional) = part(schema, "additionalProperties") {
            let at = path.child("additionalProperties");
            if rules::any_entries(schema, "properties") && *additional != Value::Bool(true) {
                let why = "additionalProperties and properties are mutual exclusive";
                found.schema.push(Error::forbidden(&at, why));
            }
            let mut walk = self.clone();
            walk.scope = self.scope.as_ref().and_then(Scope::additional);
            if self.in_meta {
                walk.no_default = Some(" inside additionalProperties applying to object metadata");
            }
            walk.check(additional, &at, false, found);
        }
        let object = root || flag(schema, "x-kubernetes-embedded-resource");
        for (name, property) in entries(schema, "properties") {
            let mut walk = self.clone();
            walk.scope = self.scope.as_ref().and_then(|scope| scope.property(name));
            let why = format!(" in top-level {name}");
            if object && matches!(name.as_str(), "metadata" | "kind" | "apiVersion") {
                walk.in_meta = true;
                if root {
                    walk.no_default = Some(&why);
                }
            }
            walk.check(property, &path.child("properties").key(name), false, found);
        }
        let plain = Self { scope: None, ..self.clone() };
        if let Some(not) = part(schema, "not") {
            plain.check(not, &path.child("not"), false, found);
        }
        for key in ["allOf", "oneOf", "anyOf"] {
            for (index, one) in list(schema, key).iter().enumerate() {
                plain.check(one, &path.child(key).index(index), false, found);
            }
        }
        for (name, one) in entries(schema, "definitions") {
            plain.check(one, &path.child("definitions").key(name), false, found);
        }
        if let Some(items) = part(schema, "items") {
            let mut walk = self.clone();
            walk.scope = self.scope.as_ref().and_then(Scope::items);
            // Old items are found again only in lists that are maps.
            if opt_text(schema, "x-kubernetes-list-type") != Some("map") {
                walk.limits.uncorrelated.get_or_insert(path);
            }
            walk.check(items, &path.child("items"), false, found);
        }
        for (index, one) in list(schema, "items").iter().enumerate() {
            plain.check(one, &path.child("items").index(index), false, found);
        }
        for (name, one) in entries(schema, "dependencies") {
            plain.check(one, &path.child("dependencies").key(name), false, found);
        }
    }

    /// upstream: specStandardValidatorV3
    fn standard(&self, schema: &Value, path: &Path, errors: &mut ErrorList) {
        let mut forbid = |key: &str, why: &str| {
            errors.push(Error::forbidden(&path.child(key), why));
        };
        if let Some(reason) = self.no_default.filter(|_| has(schema, "default")) {
            forbid("default", &format!("must not be set{reason}"));
        }
        if !text(schema, "id").is_empty() {
            forbid("id", "id is not supported");
        }
        for (key, set) in [
            ("additionalItems", has(schema, "additionalItems")),
            ("patternProperties", rules::any_entries(schema, "patternProperties")),
            ("definitions", rules::any_entries(schema, "definitions")),
            ("dependencies", has(schema, "dependencies")),
            ("$ref", has(schema, "$ref")),
        ] {
            if set {
                forbid(key, &format!("{key} is not supported"));
            }
        }
        let kind = text(schema, "type");
        if kind == "null" {
            forbid("type", "type cannot be set to null, use nullable as an alternative");
        }
        if !list(schema, "items").is_empty() {
            forbid("items", "items must be a schema object and not an array");
        }
        if self.in_meta && flag(schema, "x-kubernetes-embedded-resource") {
            forbid("x-kubernetes-embedded-resource", "must not be used inside of resource meta");
        }
        if self.rules.types && !rules::has_good_type(schema) {
            errors.push(Error::not_supported(&path.child("type"), kind, &rules::TYPES));
        }
    }
}

/// The rules of extensions that tell how lists and maps are merged.
fn extensions(schema: &Value, path: &Path, atomic_sets: bool, errors: &mut ErrorList) {
    const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
    if schema.get(PRESERVE) == Some(&Value::Bool(false)) {
        errors.push(Error::invalid(&path.child(PRESERVE), false, "must be true or undefined"));
    }
    let kind = text(schema, "type");
    let mut wants = |wanted: &str, extension: &str| {
        let why = format!("must be {wanted} if {extension} is specified");
        let at = path.child("type");
        errors.push(match kind {
            "" => Error::required(&at, &why),
            kind => Error::invalid(&at, kind, &why),
        });
    };
    let (map_type, list_type) =
        (opt_text(schema, "x-kubernetes-map-type"), opt_text(schema, "x-kubernetes-list-type"));
    if map_type.is_some() && kind != "object" {
        wants("object", "x-kubernetes-map-type");
    }
    let wrong_list = list_type.is_some() && kind != "array";
    if wrong_list {
        wants("array", "x-kubernetes-list-type");
    }
    let accepted = ["atomic", "granular"];
    if let Some(map_type) = map_type.filter(|value| !accepted.contains(value)) {
        let at = path.child("x-kubernetes-map-type");
        errors.push(Error::not_supported(&at, map_type, &accepted));
    }
    if atomic_sets
        && !wrong_list
        && let Some((extension, value)) = non_atomic_set_item(schema)
    {
        let at = path.child("items").child(extension);
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        // Upstream tells a pointer to the text, which prints as JSON does.
        errors.push(Error::invalid(&at, value, why));
    }
    let accepted = ["atomic", "set", "map"];
    if let Some(list_type) = list_type.filter(|value| !accepted.contains(value)) {
        let at = path.child("x-kubernetes-list-type");
        errors.push(Error::not_supported(&at, list_type, &accepted));
    }
}

/// Whether a schema is of a set whose items are merged; gives the extension that tells so, and the
/// item's list type, which upstream shows.
pub(super) fn non_atomic_set_item(schema: &Value) -> Option<(&'static str, Value)> {
    let item = part(schema, "items").filter(|items| items.is_object())?;
    if opt_text(schema, "x-kubernetes-list-type") != Some("set") {
        return None;
    }
    let list_type = opt_text(item, "x-kubernetes-list-type");
    let extension = match text(item, "type") {
        "array" if list_type.is_some_and(|value| value != "atomic") => "x-kubernetes-list-type",
        "object" if opt_text(item, "x-kubernetes-map-type") != Some("atomic") => {
            "x-kubernetes-map-type"
        }
        _ => return None,
    };
    Some((extension, list_type.into()))
}

/// The rules of lists that are maps.
fn list_map(schema: &Value, path: &Path, errors: &mut ErrorList) {
    const KEYS: &str = "x-kubernetes-list-map-keys";
    let keys = texts(schema, KEYS);
    let list_type = opt_text(schema, "x-kubernetes-list-type");
    if !keys.is_empty() {
        let at = path.child("x-kubernetes-list-type");
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            None => errors.push(Error::required(&at, why)),
            Some("map") => {}
            Some(other) => errors.push(Error::invalid(&at, other, why)),
        }
    }
    if list_type != Some("map") {
        return;
    }
    let at = path.child("items");
    if keys.is_empty() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.push(Error::required(&path.child(KEYS), why));
    }
    let items = match part(schema, "items") {
        None => {
            let why = "must have a schema if x-kubernetes-list-type is map";
            errors.push(Error::required(&at, why));
            return;
        }
        Some(items) if !items.is_object() => {
            let why = "must only have a single schema if x-kubernetes-list-type is map";
            errors.push(Error::invalid_text(&at, &printed::items(items), why));
            return;
        }
        Some(items) => items,
    };
    let kind = text(items, "type");
    if kind != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(Error::invalid(&at.child("type"), kind, why));
        return;
    }
    let mut seen = BTreeSet::new();
    let properties = part(items, "properties").unwrap_or(&Value::Null);
    for key in &keys {
        match part(properties, key) {
            Some(property) if matches!(text(property, "type"), "array" | "object") => {
                let at = at.child("properties").key(key).child("type");
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(Error::invalid(&at, kind, why));
            }
            Some(_) => {}
            None => {
                let why = "entries must all be names of item properties";
                errors.push(Error::invalid(&path.child(KEYS), keys.clone(), why));
            }
        }
        if !seen.insert(*key) {
            let why = "must not contain duplicate entries";
            errors.push(Error::invalid(&path.child(KEYS), keys.clone(), why));
        }
    }
}

/// The keys of a list have to be there, and items cannot be null.
pub(super) fn map_keys(schema: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(items) = part(schema, "items").filter(|items| items.is_object()) else { return };
    let list_type = match opt_text(schema, "x-kubernetes-list-type") {
        Some(list_type @ ("set" | "map")) => list_type,
        _ => return,
    };
    let at = path.child("items");
    if flag(items, "nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(Error::forbidden(&at.child("nullable"), &why));
    }
    if list_type != "map" {
        return;
    }
    let required = texts(items, "required");
    let properties = part(items, "properties").unwrap_or(&Value::Null);
    for key in texts(schema, "x-kubernetes-list-map-keys") {
        let Some(property) = part(properties, key) else { continue };
        let at = at.child("properties").key(key);
        if !required.contains(&key) && !has(property, "default") {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(Error::required(&at.child("default"), why));
        }
        if flag(property, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(&at.child("nullable"), why));
        }
    }
}
