//! Defaults have to fit the schema that they stand in.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting/validation.go

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::structural::{Node, Reading};
use serde_json::{Map, Value, json};

use crate::rules::evaluate::{self, Checks};

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
    /// The rules of the present schema that are expressions.
    checks: Option<&'a Checks>,
}

/// Checks the defaults of a schema of whole objects. What is left out of their metadata is left out
/// of them. `pruned`: whether they may hold nothing that the schema does not know.
pub(super) fn check(path: &Path, root: &mut Node, pruned: bool) -> ErrorList {
    root.embedded_resource = true;
    let root = &*root;
    let checks = if has_default(root) { Checks::compile(root, true) } else { None };
    let around = Around { object: root, in_meta: false, checks: checks.as_ref() };
    let mut found = Found { errors: ErrorList::new(), budget: evaluate::BUDGET };
    walk(path, root, around, &mut Vec::new(), pruned, &mut found);
    found.errors
}

fn has_default(node: &Node) -> bool {
    node.default.is_some()
        || node.items.as_deref().is_some_and(has_default)
        || node.properties.values().any(has_default)
}

/// What is found, and what evaluating the rules that are expressions may cost yet.
struct Found {
    errors: ErrorList,
    budget: i64,
}

impl Found {
    /// Evaluates the rules of a schema for its default: as it is, and as if it came anew.
    fn evaluate(&mut self, path: &Path, node: &Node, default: &Value, around: &Around<'_>) {
        let Some(checks) = around.checks else { return };
        let mut budget = self.budget;
        let outcome = checks.evaluate(node, path, default, Some(default), false, &mut budget);
        if outcome.errors.is_empty() {
            let mut fresh = self.budget;
            let outcome = checks.evaluate(node, path, default, None, false, &mut fresh);
            self.errors.extend(outcome.errors);
            budget = budget.min(fresh);
        }
        self.errors.extend(outcome.errors);
        self.budget = budget;
    }
}

fn walk<'a>(
    path: &Path,
    node: &'a Node,
    mut around: Around<'a>,
    steps: &mut Vec<Step<'a>>,
    pruned: bool,
    found: &mut Found,
) {
    if found.budget < 0 {
        return;
    }
    let outside = if node.embedded_resource {
        around = Around { object: node, in_meta: false, ..around };
        std::mem::take(steps)
    } else {
        Vec::new()
    };
    if let Some(default) = &node.default {
        let at = path.child("default");
        if around.in_meta {
            inside_meta(&at, node, default, &around, steps, found);
        } else {
            plain(&at, node, default, pruned, &around, found);
        }
    }
    // There are no defaults in additional properties.
    if let Some(items) = &node.items {
        steps.push(Step::Item);
        let checks = around.checks.and_then(Checks::items);
        let below = Around { checks, ..around };
        walk(&path.child("items"), items, below, steps, pruned, found);
        steps.pop();
    }
    for (name, property) in &node.properties {
        let meta = matches!(name.as_str(), "metadata" | "apiVersion" | "kind");
        let in_meta = around.in_meta || (node.embedded_resource && meta);
        steps.push(Step::Field(name));
        let at = path.child("properties").key(name);
        let checks = around.checks.and_then(|checks| checks.property(name));
        let below = Around { in_meta, checks, ..around };
        walk(&at, property, below, steps, pruned, found);
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
fn plain(
    path: &Path,
    node: &Node,
    default: &Value,
    pruned: bool,
    around: &Around<'_>,
    found: &mut Found,
) {
    let errors = &mut found.errors;
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
    let mut broken = node.validate_embedded(path, &value, whole);
    if broken.is_empty() {
        broken = node.validate(path, &value, Reading::Defaults);
    }
    if broken.is_empty() {
        found.evaluate(path, node, &value, around);
    } else {
        errors.extend(broken);
    }
}

/// Checks a default that is a part of metadata, as that of an object which has nothing else.
fn inside_meta(
    path: &Path,
    node: &Node,
    default: &Value,
    around: &Around<'_>,
    steps: &[Step<'_>],
    found: &mut Found,
) {
    let (object, errors) = (around.object, &mut found.errors);
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
    let embedded = object.validate_embedded(&Path::default(), &whole, true);
    if embedded.is_empty() {
        let broken = node.validate(path, default, Reading::Defaults);
        if broken.is_empty() {
            found.evaluate(path, node, default, around);
        } else {
            errors.extend(broken);
        }
        return;
    }
    let mut texts: Vec<String> = Vec::new();
    for error in embedded {
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
