//! What is published of a schema in OpenAPI documents.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder/builder.go,
//! pkg/controller/openapi/v2/conversion.go, pkg/apiserver/schema/unfold.go

use serde_json::{Map, Value, json};

use super::{Kind, Node};
use crate::openapi::texts;

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// The published schema of a kind whose objects have this one; `null` stands for none. `metadata` is
/// the schema of a field that holds an object's metadata.
pub fn definition(schema: &Value, metadata: &Value) -> Value {
    let good = Node::compile(schema).is_ok_and(|node| node != Node::default() && is_known(&node));
    let Value::Object(fields) = part(schema, metadata) else { return json!({"type": "object"}) };
    if !good {
        return json!({"type": "object"});
    }
    let mut fields = fields;
    add_meta(&mut fields, metadata);
    Value::Object(fields)
}

/// Whether all types are ones that there are.
fn is_known(node: &Node) -> bool {
    let nested = node.values.iter().flat_map(|values| {
        let all = values.all_of.iter().chain(&values.any_of).chain(&values.one_of);
        all.chain(values.not.as_deref())
    });
    !matches!(node.kind, Kind::Other(_))
        && node.items.as_deref().is_none_or(is_known)
        && node.additional_schema().is_none_or(is_known)
        && node.properties.values().all(is_known)
        && nested.into_iter().all(is_known)
}

/// Gives the schema of an object the fields that every object has.
fn add_meta(fields: &mut Map<String, Value>, metadata: &Value) {
    let properties = fields.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert("metadata".into(), metadata.clone());
        for (name, text) in [("apiVersion", texts::API_VERSION), ("kind", texts::KIND)] {
            properties.insert(name.into(), json!({"type": "string", "description": text}));
        }
    }
}

/// A schema inside: integers or texts are told as alternatives, objects have their metadata.
fn part(schema: &Value, metadata: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut out = Map::new();
    for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let value = match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => Value::Object(
                properties.iter().map(|(name, at)| (name.clone(), part(at, metadata))).collect(),
            ),
            ("items" | "additionalProperties", below) => part(below, metadata),
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    let is = |key: &str| fields.get(key) == Some(&Value::Bool(true));
    if is("x-kubernetes-int-or-string") {
        unfold(&mut out);
    }
    if is("x-kubernetes-embedded-resource") {
        add_meta(&mut out, metadata);
        let required = out.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut() {
            for name in ["kind", "apiVersion"] {
                if !required.iter().any(|known| known == name) {
                    required.push(name.into());
                }
            }
        }
    }
    Value::Object(out)
}

/// Spells out what an integer or text is, when nothing in the schema does.
fn unfold(fields: &mut Map<String, Value>) {
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let first = fields.get("allOf").and_then(|all| all.get(0)).and_then(|first| first.get("anyOf"));
    match fields.get("anyOf") {
        Some(any) if *any == either => {}
        _ if first == Some(&either) => {}
        None => {
            fields.insert("anyOf".into(), either);
        }
        Some(_) => {
            let all = fields.entry("allOf").or_insert_with(|| json!([]));
            if let Some(all) = all.as_array_mut() {
                all.insert(0, json!({"anyOf": either}));
            }
        }
    }
}

/// Takes from a published schema what clients of the old documents cannot cope with.
pub fn simplify(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for key in ["allOf", "anyOf", "oneOf", "not"] {
        // A reference may have this around it.
        let reference = fields.get(key).and_then(|all| all.get(0)).and_then(|one| one.get("$ref"));
        if reference.is_none() {
            fields.remove(key);
        }
    }
    let is = |fields: &Map<String, Value>, key: &str| fields.get(key) == Some(&Value::Bool(true));
    let (nullable, open) = (is(fields, "nullable"), is(fields, PRESERVE));
    if nullable {
        fields.remove("type");
        fields.remove("nullable");
    }
    if nullable || open {
        fields.remove("items");
        fields.remove("properties");
    }
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or("");
    if (kind == "array" && !fields.contains_key("items")) || (kind == "object" && open) {
        fields.remove("type");
    }
    let all_nullable = fields.get("additionalProperties").is_some_and(|at| at["nullable"] == true);
    let properties = fields.get("properties").and_then(Value::as_object);
    let may_be_null = |name: &Value| {
        let at = name.as_str().and_then(|name| properties?.get(name));
        all_nullable || at.is_some_and(|at| at["nullable"] == true)
    };
    if let Some(Value::Array(required)) = fields.get("required") {
        let left: Vec<Value> = required.iter().filter(|name| !may_be_null(name)).cloned().collect();
        if left.is_empty() {
            fields.remove("required");
        } else {
            fields.insert("required".into(), left.into());
        }
    }
    for key in ["items", "additionalProperties"] {
        fields.get_mut(key).map(simplify);
    }
    let properties = fields.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flatten().for_each(|(_, at)| simplify(at));
}

/// Whether objects of a published schema may hold anything: old documents tell nothing of them.
pub fn is_open(schema: &Value) -> bool {
    schema[PRESERVE] == true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Value {
        json!({"$ref": "#/meta"})
    }

    #[test]
    fn schemas_are_published_with_metadata() {
        let schema = json!({"type": "object", "properties": {
            "a": {"x-kubernetes-int-or-string": true},
            "b": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "c": {"x-kubernetes-int-or-string": true, "anyOf": [{"minimum": 1}]},
            "d": {"type": "array", "items": {
                "type": "object", "x-kubernetes-embedded-resource": true, "required": ["kind"],
                "properties": {"x": {"type": "string"}},
            }},
            "metadata": {"type": "object", "properties": {"name": {"maxLength": 5}}},
        }});
        let either = json!([{"type": "integer"}, {"type": "string"}]);
        let text = json!({"type": "string"});
        let version = json!({"type": "string", "description": texts::API_VERSION});
        let kind = json!({"type": "string", "description": texts::KIND});
        let want = json!({"type": "object", "properties": {
            "a": {"x-kubernetes-int-or-string": true, "anyOf": either},
            "b": {"x-kubernetes-int-or-string": true, "anyOf": either},
            "c": {
                "x-kubernetes-int-or-string": true, "anyOf": [{"minimum": 1}],
                "allOf": [{"anyOf": either}],
            },
            "d": {"type": "array", "items": {
                "type": "object", "x-kubernetes-embedded-resource": true,
                "required": ["kind", "apiVersion"],
                "properties": {"x": text, "apiVersion": version, "kind": kind, "metadata": meta()},
            }},
            "apiVersion": version, "kind": kind, "metadata": meta(),
        }});
        assert_eq!(definition(&schema, &meta()), want);
    }

    #[test]
    fn of_what_is_no_schema_nothing_is_told() {
        for schema in [
            Value::Null,
            json!({"$ref": "#/a"}),
            json!({"type": "object", "properties": {"a": {"anyOf": [{"type": "x"}]}}}),
        ] {
            assert_eq!(definition(&schema, &meta()), json!({"type": "object"}), "{schema}");
        }
    }

    #[test]
    fn old_documents_tell_less() {
        let cases = [
            (
                json!({"type": "integer", "anyOf": [{"minimum": 1}], "not": {}, "maximum": 3}),
                json!({"type": "integer", "maximum": 3}),
            ),
            (
                json!({"type": "object", "nullable": true, "properties": {"a": {}}, "title": "x"}),
                json!({"title": "x"}),
            ),
            (json!({"type": "array", "nullable": true, "items": {}}), json!({})),
            (
                json!({"type": "object", PRESERVE: true, "properties": {"a": {}}}),
                json!({PRESERVE: true}),
            ),
            (json!({"type": "array"}), json!({})),
            (
                json!({"type": "object", "required": ["a", "b"], "properties": {
                    "a": {"type": "string", "nullable": true}, "b": {"type": "string"},
                }}),
                json!({"type": "object", "required": ["b"], "properties": {
                    "a": {}, "b": {"type": "string"},
                }}),
            ),
            (
                json!({"type": "object", "required": ["a"], "additionalProperties": {"nullable": true}}),
                json!({"type": "object", "additionalProperties": {}}),
            ),
            (json!({"allOf": [{"$ref": "#/a"}]}), json!({"allOf": [{"$ref": "#/a"}]})),
        ];
        for (mut schema, want) in cases {
            simplify(&mut schema);
            assert_eq!(schema, want);
        }
    }
}
