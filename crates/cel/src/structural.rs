//! Declarations from the schemas of custom resources.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/common/schemas.go

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::structural::{Kind, Node};

use crate::declared::{Declared, ListKind, Object, REQUEST_MAX, Shape};
use crate::escape::escape;

impl Declared {
    /// The declaration of data that a schema describes, if expressions may see it. The structs in it are named after
    /// `name`; `root` tells that it is a whole resource, which has a kind and a name.
    pub fn from_schema(schema: &Node, name: &str, root: bool) -> Option<Self> {
        let declared = declare(schema, name, root);
        (!matches!(declared.shape, Shape::Hidden)).then_some(declared)
    }
}

/// With fields that expressions cannot see, which are compared all the same.
fn declare(schema: &Node, name: &str, root: bool) -> Declared {
    let mut declared = shape_of(schema, name, root);
    declared.nullable = schema.nullable;
    declared
}

fn shape_of(schema: &Node, name: &str, root: bool) -> Declared {
    let values = schema.values.as_deref();
    let max_length = values.and_then(|values| values.max_length);
    let text = |shape: Shape| {
        let declared = Declared::new(shape);
        match max_length {
            // A character has four bytes at most.
            Some(max) => declared.with_max(max.saturating_mul(4)),
            None => declared,
        }
    };
    if schema.int_or_string {
        return text(Shape::IntOrString);
    }
    match schema.kind {
        Kind::Boolean => Declared::new(Shape::Bool),
        Kind::Integer => Declared::new(Shape::Int),
        Kind::Number => Declared::new(Shape::Double),
        Kind::String => match values.map_or("", |values| values.format.as_str()) {
            "byte" => match max_length {
                Some(max) => Declared::new(Shape::Bytes).with_max(max),
                None => Declared::new(Shape::Bytes),
            },
            "duration" => Declared::new(Shape::Duration),
            "date" => Declared::new(Shape::Date),
            "date-time" => Declared::new(Shape::Timestamp),
            _ => {
                let allowed = values.map_or(&[][..], |values| &values.allowed);
                if max_length.is_none() && !allowed.is_empty() {
                    let longest =
                        allowed.iter().filter_map(|value| value.as_str()).map(str::len).max();
                    return Declared::new(Shape::String).with_max(longest.unwrap_or(0) as i64);
                }
                text(Shape::String)
            }
        },
        Kind::Array => {
            let Some(items) = schema.items.as_deref() else { return Declared::new(Shape::Hidden) };
            let items = declare(items, &format!("{name}.@idx"), items.embedded_resource);
            if matches!(items.shape, Shape::Hidden) {
                return items;
            }
            let kind = match schema.list_type() {
                Some("set") => ListKind::Set,
                Some("map") => {
                    let keys = schema.map_keys().iter();
                    ListKind::Map(
                        keys.map(|key| escape(key).map_or_else(|| key.clone(), Into::into))
                            .collect(),
                    )
                }
                _ => ListKind::Atomic,
            };
            let declared = Declared::new(Shape::List(Arc::new(items), kind));
            match values.and_then(|values| values.max_items) {
                Some(max) => declared.with_max(max),
                None => declared,
            }
        }
        Kind::Object => object(schema, name, root),
        Kind::Any | Kind::Other(_) => Declared::new(Shape::Hidden),
    }
}

fn object(schema: &Node, name: &str, root: bool) -> Declared {
    let values = schema.values.as_deref();
    let root = root || schema.embedded_resource;
    if let Some(entries) = schema.additional_schema()
        && !root
        && schema.properties.is_empty()
    {
        let entries = declare(entries, &format!("{name}.@elem"), entries.embedded_resource);
        if matches!(entries.shape, Shape::Hidden) {
            return entries;
        }
        let declared = Declared::new(Shape::Map(Arc::new(entries)));
        return match values.and_then(|values| values.max_properties) {
            Some(max) => declared.with_max(max),
            None => declared,
        };
    }
    let required = values.map_or(&[][..], |values| &values.required);
    let mut min_size = 2i64;
    let mut fields = BTreeMap::new();
    for (field, schema) in &schema.properties {
        let inner = escape(field)
            .map_or_else(|| format!("{name}.{field}"), |field| format!("{name}.{field}"));
        let declared = declare(schema, &inner, schema.embedded_resource);
        let hidden = matches!(declared.shape, Shape::Hidden);
        if !hidden && required.contains(field) && schema.default.is_none() {
            min_size = min_size.saturating_add(field.len() as i64 + declared.min_size + 4);
        }
        fields.insert(field.clone(), Arc::new(declared));
    }
    if root {
        let text = || Arc::new(Declared::new(Shape::String));
        let is_text =
            |schema: Option<&Node>| schema.is_some_and(|schema| schema.kind == Kind::String);
        let metadata = schema.properties.get("metadata");
        let inner =
            |field: &str| is_text(metadata.and_then(|metadata| metadata.properties.get(field)));
        let complete = is_text(schema.properties.get("kind"))
            && is_text(schema.properties.get("apiVersion"))
            && metadata.is_some_and(|metadata| metadata.kind == Kind::Object)
            && inner("name")
            && inner("generateName");
        if !complete {
            fields.insert("kind".to_owned(), text());
            fields.insert("apiVersion".to_owned(), text());
            let names = [("name".to_owned(), text()), ("generateName".to_owned(), text())];
            let object = Object { name: format!("{name}.metadata").into(), fields: names.into() };
            fields.insert(
                "metadata".to_owned(),
                Arc::new(Declared::new(Shape::Object(Arc::new(object)))),
            );
        }
    }
    let mut declared = Declared::new(Shape::Object(Arc::new(Object { name: name.into(), fields })));
    declared.min_size = min_size.min(REQUEST_MAX);
    declared
}
