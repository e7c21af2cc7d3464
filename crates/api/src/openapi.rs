//! OpenAPI v3 documents, derived from the schema table: one for each group version.
//!
//! Descriptions are left out: the types are facts, upstream's sentences about them are not ours.
//!
//! upstream: k8s.io/kube-openapi/pkg/builder3 and staging/src/k8s.io/api

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::Gvk;
use crate::schema::{self, Field, Scalar, Shape, Topology, Type};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

/// What a document needs to know of a served resource.
#[derive(Clone, Debug)]
pub struct Route {
    /// Lower-case plural, with the subresource after a slash if it is one.
    pub plural: String,
    /// What is read and written.
    pub kind: Gvk,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// API verbs.
    pub verbs: Vec<String>,
}

/// The document of a group version.
pub fn document(group: &str, version: &str, routes: &[Route]) -> Value {
    let base = match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let mut paths = Map::new();
    let mut schemas = BTreeMap::new();
    for name in ["DeleteOptions", "Status", "APIResourceList"] {
        collect(&mut schemas, &format!("meta/v1.{name}"));
    }
    schemas.insert(format!("{META}.Patch"), json!({ "type": "object" }));
    for route in routes {
        add_paths(&mut paths, &base, route);
        if let Some(ty) = schema::kind(&route.kind.group, &route.kind.version, &route.kind.kind) {
            collect(&mut schemas, ty.name);
            collect(&mut schemas, &format!("{}List", ty.name));
        }
    }
    mark_kinds(&mut schemas, routes);
    json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": "1.36" },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "BearerToken": {
                "description": "Bearer Token authentication", "in": "header",
                "name": "authorization", "type": "apiKey",
            }},
        },
    })
}

/// The published name of a type: upstream's Go package turned around.
fn published(name: &str) -> String {
    let (package, kind) = name.rsplit_once('.').unwrap_or(("", name));
    let (group, version) = package.split_once('/').unwrap_or((package, ""));
    match group {
        "meta" => format!("io.k8s.apimachinery.pkg.apis.meta.{version}.{kind}"),
        "apiextensions.k8s.io" => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{kind}")
        }
        "apiregistration.k8s.io" => {
            format!("io.k8s.kube-aggregator.pkg.apis.apiregistration.{version}.{kind}")
        }
        other => {
            let short = other.split('.').next().unwrap_or(other);
            format!("io.k8s.api.{short}.{version}.{kind}")
        }
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Adds a type and all types that it needs.
fn collect(schemas: &mut BTreeMap<String, Value>, name: &str) {
    let Some(ty) = schema::type_named(name) else { return };
    let key = published(name);
    if schemas.contains_key(&key) {
        return;
    }
    schemas.insert(key.clone(), Value::Null); // types may contain themselves
    let mut properties = Map::new();
    let mut required = Vec::new();
    add_fields(schemas, ty, &mut properties, &mut required);
    let mut made = json!({ "type": "object" });
    if !properties.is_empty() {
        made["properties"] = Value::Object(properties);
    }
    if !required.is_empty() {
        made["required"] = json!(required);
    }
    if ty.atomic {
        made["x-kubernetes-map-type"] = "atomic".into();
    }
    schemas.insert(key, made);
}

fn add_fields(
    schemas: &mut BTreeMap<String, Value>,
    ty: &'static Type,
    properties: &mut Map<String, Value>,
    required: &mut Vec<&'static str>,
) {
    for field in &ty.fields {
        if field.inline {
            let inner = field.shape.as_struct().expect("only structs are inlined");
            add_fields(schemas, inner, properties, required);
            continue;
        }
        properties.insert(field.json_name.to_owned(), property(schemas, field));
        let optional = field.pointer && matches!(field.shape, Shape::Scalar(_));
        if field.required || (is_always_written(field) && !optional) {
            required.push(field.json_name);
        }
    }
}

fn property(schemas: &mut BTreeMap<String, Value>, field: &'static Field) -> Value {
    let mut value = of_shape(schemas, field.shape);
    let default = match field.default {
        Some(_) => crate::defaults::declared(field),
        // A value that is no pointer is always there.
        None if field.pointer => None,
        None => zero(field),
    };
    let patch = match (field.patch.merge, field.patch.retain_keys) {
        (true, true) => "merge,retainKeys",
        (true, false) => "merge",
        (false, true) => "retainKeys",
        (false, false) => "",
    };
    let (kind_of_list, kind_of_map) = match (field.shape, field.topology) {
        (Shape::List(_), Some(Topology::Atomic)) => ("atomic", ""),
        (Shape::List(_), Some(Topology::Set)) => ("set", ""),
        (Shape::List(_), Some(Topology::Map)) => ("map", ""),
        (Shape::Struct(_) | Shape::Map(_), Some(Topology::Atomic)) => ("", "atomic"),
        (Shape::Struct(_) | Shape::Map(_), Some(Topology::Granular)) => ("", "granular"),
        _ => ("", ""),
    };
    let extras: Vec<(&str, Value)> = [
        ("x-kubernetes-patch-strategy", patch),
        ("x-kubernetes-patch-merge-key", field.patch.merge_key),
        ("x-kubernetes-list-type", kind_of_list),
        ("x-kubernetes-map-type", kind_of_map),
    ]
    .into_iter()
    .filter(|(_, text)| !text.is_empty())
    .map(|(key, text)| (key, text.into()))
    .chain(default.map(|value| ("default", value)))
    .chain((!field.keys.is_empty()).then(|| ("x-kubernetes-list-map-keys", json!(field.keys))))
    .collect();
    // Nothing may stand beside a reference.
    if value.get("$ref").is_some() {
        value = json!({ "allOf": [value] });
    }
    for (key, extra) in extras {
        value[key] = extra;
    }
    value
}

/// Whether Go writes the field in any case.
fn is_always_written(field: &Field) -> bool {
    !(field.omitempty || field.omitzero)
}

/// The default of a value that Go always has.
fn zero(field: &Field) -> Option<Value> {
    match field.shape {
        Shape::Struct(_) => Some(json!({})),
        _ if !is_always_written(field) => None,
        Shape::Scalar(Scalar::String) => Some(json!("")),
        Shape::Scalar(Scalar::Bool) => Some(json!(false)),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Float64) => Some(json!(0)),
        _ => None,
    }
}

fn of_shape(schemas: &mut BTreeMap<String, Value>, shape: Shape) -> Value {
    match shape {
        Shape::Struct(_) => {
            let ty = shape.as_struct().expect("a struct");
            collect(schemas, ty.name);
            reference(&published(ty.name))
        }
        Shape::List(_) => {
            let item = shape.item().expect("a list");
            json!({ "type": "array", "items": of_shape(schemas, item) })
        }
        Shape::Map(_) => {
            let item = shape.item().expect("a map");
            json!({ "type": "object", "additionalProperties": of_shape(schemas, item) })
        }
        Shape::Scalar(scalar) => of_scalar(schemas, scalar),
    }
}

fn of_scalar(schemas: &mut BTreeMap<String, Value>, scalar: Scalar) -> Value {
    let mut named = |name: String, value: Value| {
        schemas.entry(name.clone()).or_insert(value);
        reference(&name)
    };
    match scalar {
        Scalar::String | Scalar::Duration => json!({ "type": "string" }),
        Scalar::Bool => json!({ "type": "boolean" }),
        Scalar::Int32 => json!({ "type": "integer", "format": "int32" }),
        Scalar::Int64 => json!({ "type": "integer", "format": "int64" }),
        Scalar::Float64 => json!({ "type": "number", "format": "double" }),
        Scalar::Bytes => json!({ "type": "string", "format": "byte" }),
        Scalar::Time => {
            named(format!("{META}.Time"), json!({ "type": "string", "format": "date-time" }))
        }
        Scalar::MicroTime => {
            named(format!("{META}.MicroTime"), json!({ "type": "string", "format": "date-time" }))
        }
        Scalar::Quantity => {
            named(QUANTITY.into(), json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }))
        }
        Scalar::IntOrString => named(
            INT_OR_STRING.into(),
            json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] }),
        ),
        Scalar::RawExtension => named(RAW.into(), json!({ "type": "object" })),
        Scalar::FieldsV1 => named(format!("{META}.FieldsV1"), json!({ "type": "object" })),
        Scalar::Json => json!({}),
    }
}

/// Tells which kinds the schemas of served resources and their lists are.
fn mark_kinds(schemas: &mut BTreeMap<String, Value>, routes: &[Route]) {
    for route in routes {
        let gvk = &route.kind;
        let Some(ty) = schema::kind(&gvk.group, &gvk.version, &gvk.kind) else { continue };
        for suffix in ["", "List"] {
            let key = format!("{}{suffix}", published(ty.name));
            let Some(found) = schemas.get_mut(&key).filter(|v| v.is_object()) else { continue };
            found["x-kubernetes-group-version-kind"] = json!([{
                "group": gvk.group, "version": gvk.version, "kind": format!("{}{suffix}", gvk.kind),
            }]);
        }
    }
}

fn add_paths(paths: &mut Map<String, Value>, base: &str, route: &Route) {
    let (plural, sub) = route.plural.split_once('/').unwrap_or((&route.plural, ""));
    let scope = if route.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{base}{scope}/{plural}");
    let object = match sub {
        "" => format!("{collection}/{{name}}"),
        sub => format!("{collection}/{{name}}/{sub}"),
    };
    for verb in &route.verbs {
        let (path, method, action) = match (verb.as_str(), sub) {
            ("create", "") => (&collection, "post", "post"),
            ("create", _) => (&object, "post", "connect"),
            ("list", _) => (&collection, "get", "list"),
            ("deletecollection", _) => (&collection, "delete", "deletecollection"),
            ("get", _) => (&object, "get", "get"),
            ("update", _) => (&object, "put", "put"),
            ("patch", _) => (&object, "patch", "patch"),
            ("delete", _) => (&object, "delete", "delete"),
            _ => continue,
        };
        let item = paths.entry(path.clone()).or_insert_with(|| path_item(path));
        item[method] = operation(route, method, action);
        if verb == "list" && route.namespaced {
            let everywhere = format!("{base}/{plural}");
            let item = paths.entry(everywhere.clone()).or_insert_with(|| path_item(&everywhere));
            item["get"] = operation(route, "get", "list");
        }
    }
}

fn path_item(path: &str) -> Value {
    let named = |name: &str| {
        json!({ "name": name, "in": "path", "required": true,
            "schema": { "type": "string", "uniqueItems": true } })
    };
    let mut parameters = Vec::new();
    for name in ["name", "namespace"] {
        if path.contains(&format!("{{{name}}}")) {
            parameters.push(named(name));
        }
    }
    parameters.push(query("pretty", "string"));
    json!({ "parameters": parameters })
}

fn query(name: &str, kind: &str) -> Value {
    json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } })
}

fn operation(route: &Route, method: &str, action: &str) -> Value {
    let gvk = &route.kind;
    let ty = schema::kind(&gvk.group, &gvk.version, &gvk.kind);
    let name = ty.map_or_else(|| format!("{META}.Status"), |ty| published(ty.name));
    let name = if action == "list" { format!("{name}List") } else { name };
    let parameters: Vec<Value> = match method {
        "post" | "put" => vec![
            query("dryRun", "string"),
            query("fieldManager", "string"),
            query("fieldValidation", "string"),
        ],
        "patch" => vec![
            query("dryRun", "string"),
            query("fieldManager", "string"),
            query("fieldValidation", "string"),
            query("force", "boolean"),
        ],
        "delete" => vec![
            query("dryRun", "string"),
            query("gracePeriodSeconds", "integer"),
            query("orphanDependents", "boolean"),
            query("propagationPolicy", "string"),
        ],
        _ if action == "list" => vec![
            query("allowWatchBookmarks", "boolean"),
            query("continue", "string"),
            query("fieldSelector", "string"),
            query("labelSelector", "string"),
            query("limit", "integer"),
            query("resourceVersion", "string"),
            query("resourceVersionMatch", "string"),
            query("sendInitialEvents", "boolean"),
            query("timeoutSeconds", "integer"),
            query("watch", "boolean"),
        ],
        _ => Vec::new(),
    };
    let content = |media_types: &[&str], name: &str| -> Value {
        let entries =
            media_types.iter().map(|m| ((*m).to_owned(), json!({ "schema": reference(name) })));
        Value::Object(entries.collect())
    };
    let media_types =
        ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
    let mut value = json!({
        "responses": {
            "200": { "description": "OK", "content": content(&media_types, &name) },
            "401": { "description": "Unauthorized" },
        },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind":
            { "group": gvk.group, "version": gvk.version, "kind": gvk.kind },
    });
    if !parameters.is_empty() {
        value["parameters"] = parameters.into();
    }
    match method {
        "post" | "put" => value["requestBody"] = json!({ "content": content(&["*/*"], &name) }),
        "delete" => {
            let options = format!("{META}.DeleteOptions");
            value["requestBody"] = json!({ "content": content(&["*/*"], &options) });
        }
        "patch" => {
            let kinds = [
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
            ];
            let patch = format!("{META}.Patch");
            value["requestBody"] = json!({ "required": true, "content": content(&kinds, &patch) });
        }
        _ => {}
    }
    value
}
