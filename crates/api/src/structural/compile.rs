//! Reads a schema as definitions hold it.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema/convert.go

use serde_json::{Map, Value};

use super::{Additional, DEPTH_MAX, Kind, Merge, NODES_MAX, Node, Values};
use crate::pattern::Pattern;

/// Why a schema is not structural.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A field that structural schemas do not have.
    #[error("OpenAPIV3Schema '{0}' is not supported")]
    Unsupported(&'static str),
    /// A list of schemas for the items.
    #[error("OpenAPIV3Schema 'items' must be a schema, but is an array")]
    ItemsArray,
    /// Unknown fields may only be preserved or not mentioned.
    #[error("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined")]
    PreserveFalse,
    /// Nested too deeply.
    #[error("OpenAPIV3Schema is nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
    /// Too large.
    #[error("OpenAPIV3Schema has more than {NODES_MAX} parts")]
    TooLarge,
}

/// Fields that structural schemas do not have, in upstream's order.
const UNSUPPORTED: [&str; 7] = [
    "id",
    "$schema",
    "$ref",
    "patternProperties",
    "dependencies",
    "additionalItems",
    "definitions",
];

/// How messages name them.
fn shown(field: &'static str) -> &'static str {
    if field == "$schema" { "schema" } else { field }
}

impl Node {
    /// Compiles a schema; `null` is one without any rule.
    ///
    /// # Errors
    /// When it cannot be structural, or is too deep or large.
    pub fn compile(schema: &Value) -> Result<Self, CompileError> {
        let mut nodes = 0;
        node(schema, 0, &mut nodes)
    }
}

fn node(schema: &Value, depth: usize, nodes: &mut usize) -> Result<Node, CompileError> {
    *nodes += 1;
    if depth > DEPTH_MAX {
        return Err(CompileError::TooDeep);
    }
    if *nodes > NODES_MAX {
        return Err(CompileError::TooLarge);
    }
    let Value::Object(fields) = schema else { return Ok(Node::default()) };
    for name in UNSUPPORTED {
        let set = fields.get(name).is_some_and(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Object(entries) => name == "additionalItems" || !entries.is_empty(),
            _ => true,
        });
        if set {
            return Err(CompileError::Unsupported(shown(name)));
        }
    }
    let values = values(fields, depth, nodes)?.map(Box::new);
    let mut out = Node { values, ..generic(fields)? };
    match fields.get("items") {
        Some(Value::Array(items)) if !items.is_empty() => return Err(CompileError::ItemsArray),
        Some(items @ Value::Object(_)) => {
            out.items = Some(Box::new(node(items, depth + 1, nodes)?));
        }
        _ => {}
    }
    for (name, schema) in entries(fields, "properties") {
        out.properties.insert(name.clone(), node(schema, depth + 1, nodes)?);
    }
    out.additional = match fields.get("additionalProperties") {
        Some(Value::Bool(allowed)) => Additional::Allowed(*allowed),
        Some(schema @ Value::Object(_)) => {
            Additional::Schema(Box::new(node(schema, depth + 1, nodes)?))
        }
        _ => Additional::Untold,
    };
    out.embeds = out.finds_embedded();
    Ok(out)
}

/// What makes no use of other nodes.
fn generic(fields: &Map<String, Value>) -> Result<Node, CompileError> {
    if fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        return Err(CompileError::PreserveFalse);
    }
    let given = |name: &str| fields.get(name).is_some_and(|value| !value.is_null());
    let merge = Merge {
        list_type: fields.get("x-kubernetes-list-type").and_then(Value::as_str).map(Into::into),
        map_keys: texts(fields, "x-kubernetes-list-map-keys"),
        map_type: fields.get("x-kubernetes-map-type").and_then(Value::as_str).map(Into::into),
    };
    Ok(Node {
        kind: Kind::named(text(fields, "type")),
        nullable: flag(fields, "nullable"),
        preserve_unknown_fields: flag(fields, "x-kubernetes-preserve-unknown-fields"),
        embedded_resource: flag(fields, "x-kubernetes-embedded-resource"),
        int_or_string: flag(fields, "x-kubernetes-int-or-string"),
        titled: !text(fields, "title").is_empty(),
        described: !text(fields, "description").is_empty(),
        illustrated: given("example") || given("externalDocs"),
        default: fields.get("default").filter(|value| !value.is_null()).cloned(),
        merge: (merge != Merge::default()).then(|| Box::new(merge)),
        rules: items(fields, "x-kubernetes-validations").to_vec(),
        ..Node::default()
    })
}

fn values(
    fields: &Map<String, Value>,
    depth: usize,
    nodes: &mut usize,
) -> Result<Option<Values>, CompileError> {
    let number = |name: &str| fields.get(name).and_then(Value::as_f64);
    let whole = |name: &str| fields.get(name).and_then(Value::as_i64);
    let mut some_of = |name: &str| -> Result<Vec<Node>, CompileError> {
        items(fields, name).iter().map(|schema| node(schema, depth + 1, nodes)).collect()
    };
    let mut values = Values {
        format: text(fields, "format").to_owned(),
        maximum: number("maximum"),
        exclusive_maximum: flag(fields, "exclusiveMaximum"),
        minimum: number("minimum"),
        exclusive_minimum: flag(fields, "exclusiveMinimum"),
        max_length: whole("maxLength"),
        min_length: whole("minLength"),
        pattern: Pattern::new(text(fields, "pattern")),
        max_items: whole("maxItems"),
        min_items: whole("minItems"),
        unique_items: flag(fields, "uniqueItems"),
        multiple_of: number("multipleOf"),
        allowed: items(fields, "enum").to_vec(),
        max_properties: whole("maxProperties"),
        min_properties: whole("minProperties"),
        required: texts(fields, "required"),
        all_of: some_of("allOf")?,
        any_of: some_of("anyOf")?,
        one_of: some_of("oneOf")?,
        not: None,
    };
    if let Some(schema @ Value::Object(_)) = fields.get("not") {
        values.not = Some(Box::new(node(schema, depth + 1, nodes)?));
    }
    Ok((values != Values::default()).then_some(values))
}

fn flag(fields: &Map<String, Value>, name: &str) -> bool {
    fields.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or("")
}

fn items<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    fields.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn texts(fields: &Map<String, Value>, name: &str) -> Vec<String> {
    items(fields, name).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn entries<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    fields.get(name).and_then(Value::as_object).into_iter().flatten()
}
