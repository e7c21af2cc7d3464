//! What makes a schema structural.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema/validation.go, complete.go

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::pattern;
use longshore_api::structural::{Additional, Kind, Node, Values};

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// The rules that a schema of whole objects breaks, sorted by their texts.
pub(super) fn check(path: &Path, root: &Node) -> ErrorList {
    let mut errors = ErrorList::new();
    invariants(root, Level::Root, path, &mut errors);
    if let Some(values) = &root.values {
        complete_values(values, root, path, path, &mut errors);
    }
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

fn invariants(node: &Node, level: Level, path: &Path, errors: &mut ErrorList) {
    if node.kind == Kind::Array && node.items.is_none() {
        errors.push(Error::required(&path.child("items"), "must be specified"));
    }
    if let Some(items) = &node.items {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in &node.properties {
        invariants(property, Level::Field, &path.child("properties").key(name), errors);
    }
    let additional = path.child("additionalProperties");
    if node.additional != Additional::Untold && level == Level::Root {
        errors.push(Error::forbidden(&additional, "must not be used at the root"));
    }
    if let Some(node) = node.additional_schema() {
        invariants(node, Level::Field, &additional, errors);
    }
    if node.int_or_string {
        for (set, name) in [
            (node.preserve_unknown_fields, "x-kubernetes-preserve-unknown-fields"),
            (node.embedded_resource, "x-kubernetes-embedded-resource"),
        ] {
            if set {
                let why = "must be false if x-kubernetes-int-or-string is true";
                errors.push(Error::invalid(&path.child(name), true, why));
            }
        }
    }
    if let Some(values) = &node.values {
        let skip = Skip::of(values);
        value_rules(values, skip, path, errors);
    }
    kind(node, level, path, errors);
    let whole = level == Level::Root || node.embedded_resource;
    let properties = path.child("properties");
    for name in ["kind", "apiVersion"] {
        let Some(field) = node.properties.get(name).filter(|_| whole) else { continue };
        if field.kind != Kind::String {
            let at = properties.key(name).child("type");
            errors.push(Error::invalid(&at, field.kind.name(), "must be string"));
        }
    }
    if let Some(metadata) = node.properties.get("metadata") {
        let at = properties.key("metadata");
        if whole && metadata.kind != Kind::Object {
            errors.push(Error::invalid(&at.child("type"), metadata.kind.name(), "must be object"));
        }
        if level == Level::Root && !only_names(metadata) {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(Error::forbidden(&at, why));
        }
    }
    if node.embedded_resource && !node.preserve_unknown_fields && node.properties.is_empty() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(Error::required(&properties, why));
    }
}

fn kind(node: &Node, level: Level, path: &Path, errors: &mut ErrorList) {
    let at = path.child("type");
    if node.embedded_resource && node.kind != Kind::Object {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match &node.kind {
            Kind::Any => Error::required(&at, why),
            kind => Error::invalid(&at, kind.name(), why),
        });
    } else if node.kind == Kind::Any && !node.int_or_string && !node.preserve_unknown_fields {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(Error::required(&at, why));
    }
    if node.embedded_resource && node.additional != Additional::Untold {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(Error::forbidden(&path.child("additionalProperties"), why));
    }
    if level == Level::Root && !matches!(node.kind, Kind::Any | Kind::Object) {
        errors.push(Error::invalid(&at, node.kind.name(), "must be object at the root"));
    }
}

/// Whether the schema of a whole object's metadata says nothing but how its names look.
fn only_names(metadata: &Node) -> bool {
    let names = ["name", "generateName"];
    let mut rest = metadata.clone();
    if rest.properties.keys().all(|name| names.contains(&name.as_str())) {
        rest.properties.clear();
    }
    (rest.kind, rest.default) = (Kind::Any, None);
    rest == Node::default()
}

/// The alternatives that only spell out what an integer or string is.
#[derive(Clone, Copy, Default)]
struct Skip {
    any_of: bool,
    first_all_of: bool,
}

impl Skip {
    fn of(values: &Values) -> Self {
        let first = values.all_of.first().and_then(|node| node.values.as_ref());
        Self {
            any_of: is_int_or_string(&values.any_of),
            first_all_of: first.is_some_and(|values| is_int_or_string(&values.any_of)),
        }
    }
}

fn is_int_or_string(nodes: &[Node]) -> bool {
    let only = |kind| {
        let mut node = Node::default();
        node.kind = kind;
        node
    };
    nodes == [only(Kind::Integer), only(Kind::String)]
}

fn value_rules(values: &Values, skip: Skip, path: &Path, errors: &mut ErrorList) {
    if !skip.any_of {
        for (index, node) in values.any_of.iter().enumerate() {
            nested(node, Skip::default(), &path.child("anyOf").index(index), errors);
        }
    }
    for (index, node) in values.all_of.iter().enumerate() {
        let skip = Skip { any_of: skip.first_all_of && index == 0, first_all_of: false };
        nested(node, skip, &path.child("allOf").index(index), errors);
    }
    for (index, node) in values.one_of.iter().enumerate() {
        nested(node, Skip::default(), &path.child("oneOf").index(index), errors);
    }
    if let Some(node) = &values.not {
        nested(node, Skip::default(), &path.child("not"), errors);
    }
    let pattern = values.pattern.as_str();
    if let Some(error) = pattern::check(pattern).err().filter(|_| !pattern.is_empty()) {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(Error::invalid(&path.child("pattern"), pattern, &why));
    }
}

/// The rules of a schema below `allOf` and the like, which says nothing of the structure.
fn nested(node: &Node, skip: Skip, path: &Path, errors: &mut ErrorList) {
    if let Some(values) = &node.values {
        value_rules(values, skip, path, errors);
    }
    if let Some(items) = &node.items {
        nested(items, Skip::default(), &path.child("items"), errors);
    }
    for (name, property) in &node.properties {
        nested(property, Skip::default(), &path.child("properties").key(name), errors);
    }
    let additional = matches!(node.additional, Additional::Allowed(true) | Additional::Schema(_));
    let (empty, undefined, not) = ("must be empty", "must be undefined", "must be false");
    for (set, name, why) in [
        (node.kind != Kind::Any, "type", empty),
        (additional, "additionalProperties", undefined),
        (node.default.is_some(), "default", undefined),
        (node.titled, "title", empty),
        (node.described, "description", empty),
        (node.nullable, "nullable", not),
        (node.preserve_unknown_fields, "x-kubernetes-preserve-unknown-fields", not),
        (node.embedded_resource, "x-kubernetes-embedded-resource", not),
        (node.int_or_string, "x-kubernetes-int-or-string", not),
        (!node.map_keys().is_empty(), "x-kubernetes-list-map-keys", empty),
        (node.list_type().is_some(), "x-kubernetes-list-type", undefined),
        (node.map_type().is_some(), "x-kubernetes-map-type", undefined),
        (!node.rules.is_empty(), "x-kubernetes-validations", empty),
    ] {
        if set {
            errors.push(Error::forbidden(&path.child(name), &format!("{why} to be structural")));
        }
    }
    if node.properties.contains_key("metadata") {
        let at = path.child("properties").key("metadata");
        errors.push(Error::forbidden(&at, "must not be specified in a nested context"));
    }
}

/// Everything that `allOf` and the like speak of has to be in the structure as well: `at` is the
/// path there, `path` the one where it is spoken of.
fn complete_values(values: &Values, node: &Node, at: &Path, path: &Path, errors: &mut ErrorList) {
    if let Some(not) = &values.not {
        complete(not, Some(node), at, &path.child("not"), errors);
    }
    for (key, nodes) in
        [("allOf", &values.all_of), ("anyOf", &values.any_of), ("oneOf", &values.one_of)]
    {
        for (index, nested) in nodes.iter().enumerate() {
            complete(nested, Some(node), at, &path.child(key).index(index), errors);
        }
    }
}

fn complete(nested: &Node, node: Option<&Node>, at: &Path, path: &Path, errors: &mut ErrorList) {
    let Some(node) = node else {
        errors.push(Error::required(at, &format!("because it is defined in {path}")));
        return;
    };
    if let Some(values) = &nested.values {
        complete_values(values, node, at, path, errors);
    }
    if let Some(items) = &nested.items {
        let below = node.items.as_deref();
        complete(items, below, &at.child("items"), &path.child("items"), errors);
    }
    for (name, property) in &nested.properties {
        let (at, path) = (at.child("properties").key(name), path.child("properties").key(name));
        complete(property, node.properties.get(name), &at, &path, errors);
    }
}
