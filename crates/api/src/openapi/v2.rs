//! The old OpenAPI document, made from the newer ones.

use serde_json::{Map, Value, json};

use super::shared;
use crate::structural::publish;

/// The document of `/openapi/v2`, from all documents of version 3.
pub fn document_v2(documents: impl IntoIterator<Item = Value>) -> Value {
    let mut definitions = Map::new();
    let (mut paths, mut parameters) = (Map::new(), Map::new());
    for document in documents {
        if let Some(schemas) = document["components"]["schemas"].as_object() {
            for (name, schema) in schemas {
                add_definition(&mut definitions, name, schema);
            }
        }
        let own = document["paths"].as_object().into_iter().flatten();
        let mut own = own.map(|(path, item)| (path.clone(), path_item(path, item))).collect();
        parameters.extend(shared::take_out(&mut own));
        paths.extend(own);
    }
    json!({
        "parameters": parameters,
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "1.36"},
        "paths": paths,
        "definitions": definitions,
        "security": [{"BearerToken": []}],
        "securityDefinitions": {"BearerToken": {
            "type": "apiKey", "in": "header", "name": "authorization",
            "description": "Bearer Token authentication",
        }},
    })
}

/// Where the types are that are several things at once, such as quantities.
const SPECIAL: &str = "io.k8s.apimachinery.pkg.";

/// The definition of a kind or a part of one. Of custom ones the old form tells less.
fn definition(schema: &Value) -> Value {
    const KINDS: &str = "x-kubernetes-group-version-kind";
    let mut schema = schema.clone();
    if publish::is_open(&schema) {
        schema = json!({"type": "object", KINDS: schema[KINDS]});
    }
    publish::simplify(&mut schema);
    convert(&schema)
}

/// The definition of what may be of several types: it has one.
fn special(schema: &Value) -> Value {
    if schema.get("oneOf").is_none() {
        return convert(schema);
    }
    let mut converted = json!({"type": "string"});
    if let Some(format) = schema.get("format") {
        converted["format"] = format.clone();
    }
    converted
}

/// Adds a definition. A type that several documents have is known as all its kinds.
fn add_definition(definitions: &mut Map<String, Value>, name: &str, schema: &Value) {
    const KINDS: &str = "x-kubernetes-group-version-kind";
    let mut schema = if name.starts_with(SPECIAL) { special(schema) } else { definition(schema) };
    if let Some(old) = definitions.get(name) {
        let mut kinds: Vec<Value> = old[KINDS].as_array().cloned().unwrap_or_default();
        for kind in schema[KINDS].as_array().into_iter().flatten() {
            if !kinds.contains(kind) {
                kinds.push(kind.clone());
            }
        }
        if !kinds.is_empty() {
            schema[KINDS] = Value::Array(kinds);
        }
    }
    definitions.insert(name.to_owned(), schema);
}

/// A schema in the old form: references have no `allOf` around them and no default beside them.
fn convert(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut converted = Map::new();
    for (key, value) in fields {
        match key.as_str() {
            "allOf" => {
                let target = value[0]["$ref"].as_str().unwrap_or("");
                converted.insert("$ref".into(), local(target).into());
            }
            "$ref" => {
                converted.insert(key.clone(), local(value.as_str().unwrap_or("")).into());
            }
            // The old form cannot say these.
            "default" | "oneOf" | "anyOf" | "not" | "nullable" => {}
            "properties" => {
                let properties = value.as_object().into_iter().flatten();
                let properties: Map<String, Value> =
                    properties.map(|(name, value)| (name.clone(), convert(value))).collect();
                converted.insert(key.clone(), Value::Object(properties));
            }
            "items" | "additionalProperties" => {
                converted.insert(key.clone(), convert(value));
            }
            _ => {
                converted.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(converted)
}

fn local(reference: &str) -> String {
    reference.replace("#/components/schemas/", "#/definitions/")
}

/// Media types in the order in which they are told.
const MEDIA_TYPES: [&str; 10] = [
    "text/plain",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

fn media_types(content: &Map<String, Value>) -> Vec<String> {
    let mut types: Vec<String> = content.keys().cloned().collect();
    types.sort_by_key(|name| MEDIA_TYPES.iter().position(|known| known == name));
    types
}

fn path_item(path: &str, item: &Value) -> Value {
    let mut out = Map::new();
    for (key, value) in item.as_object().into_iter().flatten() {
        let converted =
            if key == "parameters" { parameters(value) } else { operation(path, value) };
        out.insert(key.clone(), converted);
    }
    Value::Object(out)
}

fn parameters(list: &Value) -> Value {
    let list = list.as_array().into_iter().flatten();
    list.map(|parameter| {
        let mut out = parameter.clone();
        if let Some(fields) = out.as_object_mut()
            && let Some(Value::Object(schema)) = fields.remove("schema")
        {
            fields.extend(schema);
        }
        out
    })
    .collect()
}

fn operation(path: &str, operation: &Value) -> Value {
    let mut out = Map::new();
    let mut list = match parameters(&operation["parameters"]) {
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    let mut consumes = vec!["*/*".to_owned()];
    if let Some(body) = operation.get("requestBody") {
        let content = body["content"].as_object();
        consumes = content.map(media_types).unwrap_or_default();
        let schema = content.and_then(|c| c.values().next()).map(|c| convert(&c["schema"]));
        let mut parameter = json!({"in": "body", "name": "body", "schema": schema});
        if body["required"] == true {
            parameter["required"] = true.into();
        }
        list.insert(0, parameter);
    }
    let mut produces = Vec::new();
    let mut responses = Map::new();
    for (code, response) in operation["responses"].as_object().into_iter().flatten() {
        let mut answer = json!({"description": response["description"]});
        if let Some(content) = response["content"].as_object() {
            produces = media_types(content);
            answer["schema"] = content.values().next().map_or(json!({}), |c| convert(&c["schema"]));
        }
        responses.insert(code.clone(), answer);
    }
    if path.ends_with('/') {
        // Lists of what is served are said to take what they give.
        consumes.clone_from(&produces);
    }
    for (key, value) in operation.as_object().into_iter().flatten() {
        if !["parameters", "requestBody", "responses"].contains(&key.as_str()) {
            out.insert(key.clone(), value.clone());
        }
    }
    out.insert("consumes".into(), json!(consumes));
    out.insert("produces".into(), json!(produces));
    out.insert("schemes".into(), json!(["https"]));
    out.insert("responses".into(), Value::Object(responses));
    if !list.is_empty() {
        out.insert("parameters".into(), Value::Array(list));
    }
    Value::Object(out)
}
