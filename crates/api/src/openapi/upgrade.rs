//! A document of version 3 from one of version 2, for servers that have only the older one.
//!
//! upstream: k8s.io/kube-openapi/pkg/openapiconv/convert.go

use serde_json::{Map, Value, json};

/// The methods that a path can have.
const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// The document of version 3 that says the same.
pub fn document_v3(old: &Value) -> Value {
    let mut new = json!({"openapi": "3.0.0", "info": old["info"], "paths": {}});
    copy(old, &mut new, &["externalDocs"]);
    for (path, item) in entries(&old["paths"]) {
        new["paths"][path] = path_item(item);
    }
    let mut components = Map::new();
    let mut add = |key: &str, of: &Value, convert: &dyn Fn(&Value) -> Value| {
        let all: Map<String, Value> =
            entries(of).map(|(name, value)| (name.clone(), convert(value))).collect();
        if !all.is_empty() {
            components.insert(key.to_owned(), all.into());
        }
    };
    add("schemas", &old["definitions"], &schema);
    add("parameters", &old["parameters"], &parameter);
    add("responses", &old["responses"], &|value| response(value, &old["produces"]));
    add("securitySchemes", &old["securityDefinitions"], &security);
    new["components"] = components.into();
    new
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[][..], Vec::as_slice)
}

fn copy(from: &Value, to: &mut Value, keys: &[&str]) {
    for key in keys {
        if let Some(value) = from.get(key) {
            to[*key] = value.clone();
        }
    }
}

/// Copies what is an extension of the format.
fn extensions(from: &Value, to: &mut Value) {
    for (key, value) in entries(from).filter(|(key, _)| key.starts_with("x-")) {
        to[key] = value.clone();
    }
}

/// Where a reference points in the newer form.
fn reference(old: &str) -> String {
    let moved = [
        ("#/definitions/", "#/components/schemas/"),
        ("#/parameters/", "#/components/parameters/"),
        ("#/responses/", "#/components/responses/"),
    ];
    let found = moved.iter().find_map(|(from, to)| Some((to, old.strip_prefix(from)?)));
    found.map_or_else(|| old.to_owned(), |(to, name)| format!("{to}{name}"))
}

/// A schema. A reference beside other keys would hide them, and is wrapped.
fn schema(old: &Value) -> Value {
    match old {
        Value::Object(map) => {
            let mut new = Map::new();
            for (key, value) in map {
                let value = match value {
                    Value::String(to) if key == "$ref" => reference(to).into(),
                    Value::Array(list) if key == "items" => {
                        list.iter().map(schema).collect::<Vec<_>>().into()
                    }
                    Value::Object(_) if key == "properties" => {
                        let all = entries(value).map(|(name, value)| (name.clone(), schema(value)));
                        Value::Object(all.collect())
                    }
                    Value::Object(_)
                        if matches!(
                            &**key,
                            "items" | "additionalProperties" | "additionalItems"
                        ) =>
                    {
                        schema(value)
                    }
                    other => other.clone(),
                };
                new.insert(key.clone(), value);
            }
            if new.len() > 1
                && let Some(target) = new.remove("$ref")
            {
                new.insert("allOf".to_owned(), json!([{ "$ref": target }]));
            }
            new.into()
        }
        other => other.clone(),
    }
}

fn security(old: &Value) -> Value {
    let mut new = json!({});
    copy(old, &mut new, &["type", "description", "name", "in"]);
    extensions(old, &mut new);
    if let Some(flow) = old["flow"].as_str() {
        let mut told = json!({});
        copy(old, &mut told, &["authorizationUrl", "tokenUrl", "scopes"]);
        new["flows"] = json!({ flow: told });
    }
    new
}

fn path_item(old: &Value) -> Value {
    let mut new = json!({});
    extensions(old, &mut new);
    for method in METHODS {
        if let Some(old) = old.get(method) {
            new[method] = operation(old);
        }
    }
    let parameters: Vec<Value> = items(&old["parameters"]).iter().map(parameter).collect();
    if !parameters.is_empty() {
        new["parameters"] = parameters.into();
    }
    new
}

fn operation(old: &Value) -> Value {
    let mut new = json!({});
    let kept = ["description", "externalDocs", "tags", "summary", "deprecated", "operationId"];
    copy(old, &mut new, &kept);
    extensions(old, &mut new);
    let mut parameters = Vec::new();
    for given in items(&old["parameters"]) {
        if given["name"] == "body" && given.get("schema").is_some() {
            new["requestBody"] = json!({ "content": content(&old["consumes"], &given["schema"]) });
        } else {
            parameters.push(parameter(given));
        }
    }
    if !parameters.is_empty() {
        new["parameters"] = parameters.into();
    }
    new["responses"] = json!({});
    for (code, given) in entries(&old["responses"]) {
        new["responses"][code] = response(given, &old["produces"]);
    }
    new
}

fn content(media_types: &Value, of: &Value) -> Value {
    let types = items(media_types).iter().filter_map(Value::as_str);
    let one = |name: &str| (name.to_owned(), json!({ "schema": schema(of) }));
    Value::Object(types.map(one).collect())
}

fn response(old: &Value, produces: &Value) -> Value {
    if let Some(target) = old["$ref"].as_str() {
        return json!({ "$ref": reference(target) });
    }
    let mut new = json!({ "description": old["description"].as_str().unwrap_or("") });
    extensions(old, &mut new);
    if let Some(given) = old.get("schema") {
        new["content"] = content(produces, given);
    }
    new
}

fn parameter(old: &Value) -> Value {
    if let Some(target) = old["$ref"].as_str() {
        return json!({ "$ref": reference(target) });
    }
    let mut new = json!({});
    copy(old, &mut new, &["name", "description", "in", "required", "allowEmptyValue"]);
    extensions(old, &mut new);
    new["schema"] = match old.get("schema") {
        Some(given) => schema(given),
        None => {
            let mut plain = json!({});
            copy(old, &mut plain, &["type", "format", "uniqueItems"]);
            plain
        }
    };
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_form_says_the_same() {
        let thing = json!({"$ref": "#/definitions/Thing"});
        let old = json!({
            "swagger": "2.0", "info": {"title": "Things"},
            "paths": {"/apis/g/v1/things": {
                "parameters": [{"$ref": "#/parameters/pretty"}],
                "post": {
                    "operationId": "create", "consumes": ["*/*"], "produces": ["application/json"],
                    "x-kubernetes-action": "post",
                    "parameters": [
                        {"name": "body", "in": "body", "required": true, "schema": thing},
                        {"name": "dryRun", "in": "query", "type": "string", "uniqueItems": true},
                    ],
                    "responses": {
                        "201": {"description": "Created", "schema": thing},
                        "401": {"description": "Unauthorized"},
                    },
                },
            }},
            "parameters": {"pretty": {"name": "pretty", "in": "query", "type": "string"}},
            "definitions": {"Thing": {"type": "object", "properties": {
                "$ref": {"type": "string"},
                "metadata": {"description": "about it", "$ref": "#/definitions/Meta"},
                "parts": {"type": "array", "items": {"$ref": "#/definitions/Part"}},
            }}},
        });
        let new_thing = json!({"$ref": "#/components/schemas/Thing"});
        let text = json!({"type": "string"});
        assert_eq!(
            document_v3(&old),
            json!({
                "openapi": "3.0.0", "info": {"title": "Things"},
                "paths": {"/apis/g/v1/things": {
                    "parameters": [{"$ref": "#/components/parameters/pretty"}],
                    "post": {
                        "operationId": "create", "x-kubernetes-action": "post",
                        "requestBody": {"content": {"*/*": {"schema": new_thing}}},
                        "parameters": [{"name": "dryRun", "in": "query",
                            "schema": {"type": "string", "uniqueItems": true}}],
                        "responses": {
                            "201": {"description": "Created",
                                "content": {"application/json": {"schema": new_thing}}},
                            "401": {"description": "Unauthorized"},
                        },
                    },
                }},
                "components": {
                    "parameters": {"pretty": {"name": "pretty", "in": "query", "schema": text}},
                    "schemas": {"Thing": {"type": "object", "properties": {
                        "$ref": text,
                        "metadata": {"description": "about it",
                            "allOf": [{"$ref": "#/components/schemas/Meta"}]},
                        "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Part"}},
                    }}},
                },
            })
        );
    }
}
