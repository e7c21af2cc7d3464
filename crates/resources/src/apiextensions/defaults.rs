//! Defaults have to fit the schema that they stand in.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting/validation.go

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::structural::{Node, Reading};
use serde_json::{Map, Value, json};

/// Where a default stands, seen from the object that its metadata belongs to.
#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Item,
}

/// An object in the schema: the whole one or one inside.
#[derive(Clone, Copy)]
struct Around<'a> {
    object: &'a Node,
    in_meta: bool,
}

/// Checks the defaults of a schema of whole objects. What is left out of their metadata is left out
/// of them. `pruned`: whether they may hold nothing that the schema does not know.
pub(super) fn check(path: &Path, root: &mut Node, pruned: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    root.embedded_resource = true;
    let root = &*root;
    let around = Around { object: root, in_meta: false };
    walk(path, root, around, &mut Vec::new(), pruned, &mut errors);
    errors
}

fn walk<'a>(
    path: &Path,
    node: &'a Node,
    mut around: Around<'a>,
    steps: &mut Vec<Step<'a>>,
    pruned: bool,
    errors: &mut ErrorList,
) {
    let outside = if node.embedded_resource {
        around = Around { object: node, in_meta: false };
        std::mem::take(steps)
    } else {
        Vec::new()
    };
    if let Some(default) = &node.default {
        let at = path.child("default");
        if around.in_meta {
            inside_meta(&at, node, default, around.object, steps, errors);
        } else {
            plain(&at, node, default, pruned, errors);
        }
    }
    // There are no defaults in additional properties.
    if let Some(items) = &node.items {
        steps.push(Step::Item);
        walk(&path.child("items"), items, around, steps, pruned, errors);
        steps.pop();
    }
    for (name, property) in &node.properties {
        let meta = matches!(name.as_str(), "metadata" | "apiVersion" | "kind");
        let in_meta = around.in_meta || (node.embedded_resource && meta);
        steps.push(Step::Field(name));
        let at = path.child("properties").key(name);
        walk(&at, property, Around { in_meta, ..around }, steps, pruned, errors);
        steps.pop();
    }
    if node.embedded_resource {
        *steps = outside;
    }
}

/// Takes from the defaults in a schema what metadata does not have; upstream's check of a definition
/// does so to the definition itself. What cannot be read stays: it is refused.
pub(super) fn settle(schema: &mut Value) {
    if schema.get("default").is_some_and(|default| default.is_object() || default.is_array())
        && let Ok(node) = Node::compile(schema)
        && let Some(default) = schema.get_mut("default")
    {
        let mut coerced = default.clone();
        if node.coerce(&mut coerced, node.embedded_resource, false).is_ok() {
            *default = coerced;
        }
    }
    if let Some(items) = schema.get_mut("items").filter(|items| items.is_object()) {
        settle(items);
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, property)| settle(property));
}

/// Checks a default that is no metadata.
fn plain(path: &Path, node: &Node, default: &Value, pruned: bool, errors: &mut ErrorList) {
    let mut value = default.clone();
    if pruned {
        node.prune(&mut value, node.embedded_resource);
        if value != *default {
            errors.push(Error::invalid(path, default.clone(), "must not have unknown fields"));
        }
        value.clone_from(default);
    }
    let whole = node.embedded_resource;
    if let Err(error) = node.coerce_at(path, &mut value, whole, false) {
        errors.push(error);
        return;
    }
    let found = node.validate_embedded(path, &value, whole);
    if found.is_empty() {
        errors.extend(node.validate(path, &value, Reading::Defaults));
    } else {
        errors.extend(found);
    }
}

/// Checks a default that is a part of metadata, as that of an object which has nothing else.
fn inside_meta(
    path: &Path,
    node: &Node,
    default: &Value,
    object: &Node,
    steps: &[Step<'_>],
    errors: &mut ErrorList,
) {
    let mut whole = steps.iter().rev().fold(default.clone(), |value, step| match step {
        Step::Field(name) => Value::Object(Map::from_iter([((*name).to_owned(), value)])),
        Step::Item => json!([value]),
    });
    if let Some(fields) = whole.as_object_mut() {
        fields.entry("kind").or_insert_with(|| "Validation".into());
        fields.entry("apiVersion").or_insert_with(|| "validation/v1".into());
    }
    let mut broken = |why: &str| {
        let why = format!("must result in valid metadata: {why}");
        errors.push(Error::invalid(path, default.clone(), &why));
    };
    if let Err(error) = object.coerce(&mut whole, true, false) {
        broken(&error.to_string());
        return;
    }
    let found = object.validate_embedded(&Path::default(), &whole, true);
    if found.is_empty() {
        errors.extend(node.validate(path, default, Reading::Defaults));
        return;
    }
    let mut texts: Vec<String> = Vec::new();
    for error in found {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => broken(one),
        many => broken(&format!("[{}]", many.join(", "))),
    }
}
