//! Table and PartialObjectMetadata: the shapes that printing clients and metadata caches ask for.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/response.go

use jiff::Timestamp;
use longshore_api::Object;
use longshore_resources::{Column, Resource};
use serde_json::{Map, Value, json};

use super::negotiate::Negotiated;

/// The metadata of an object as a `PartialObjectMetadata`.
pub fn metadata_of(object: &Object, version: &str) -> Value {
    let metadata = object.get(&["metadata"]).cloned().unwrap_or_else(|| json!({}));
    json!({
        "apiVersion": format!("meta.k8s.io/{version}"),
        "kind": "PartialObjectMetadata",
        "metadata": metadata,
    })
}

fn column(column: &Column) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format,
        "description": column.description, "priority": column.priority,
    })
}

/// A `Table` of objects. `headings` is false in later events of a watch.
pub fn of(
    resource: &Resource,
    objects: impl Iterator<Item = Object>,
    meta: Value,
    negotiated: &Negotiated,
    include: &str,
    now: Timestamp,
    headings: bool,
) -> Value {
    let mut meta = meta;
    let rows: Vec<Value> = objects
        .map(|object| {
            if meta.get("resourceVersion").is_none() {
                meta["resourceVersion"] = object.resource_version().into();
            }
            row(resource, object, &negotiated.shape_version, include, now)
        })
        .collect();
    let columns: Vec<Value> = if headings {
        resource.strategy.columns().iter().map(column).collect()
    } else {
        Vec::new()
    };
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{}", negotiated.shape_version),
        "metadata": meta, "columnDefinitions": columns, "rows": rows,
    })
}

fn row(resource: &Resource, object: Object, version: &str, include: &str, now: Timestamp) -> Value {
    let mut row = Map::new();
    row.insert("cells".into(), resource.strategy.row(&object, now).into());
    match include {
        "None" => {}
        "Object" => {
            row.insert("object".into(), object.into_value());
        }
        _ => {
            row.insert("object".into(), metadata_of(&object, version));
        }
    }
    Value::Object(row)
}
