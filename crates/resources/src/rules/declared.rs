//! The types that expressions see, as schemas declare them, and how large values of them can be.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/common/schemas.go, pkg/cel/limits.go

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use longshore_api::structural::{Additional, Kind, Node, Values};
use longshore_cel::{Declared, ListKind, Object, REQUEST_MAX, Shape};

/// The name of the type of values; those inside are named after it.
const SELF: &str = "selfType";
/// `{}` or `[]`.
const EMPTY_SIZE: i64 = 2;

/// The type of a schema; none when expressions cannot see its values. `whole`: the schema is of a whole
/// object, whose kind and name are always seen.
pub fn of(node: &Node, whole: bool) -> Option<Arc<Declared>> {
    named(node, whole, SELF).map(Arc::new)
}

fn named(node: &Node, whole: bool, name: &str) -> Option<Declared> {
    static NONE: LazyLock<Values> = LazyLock::new(Values::default);
    let values = node.values.as_deref().unwrap_or(&NONE);
    let mut declared = if node.int_or_string {
        let declared = Declared::new(Shape::IntOrString);
        match values.max_length {
            Some(max) => declared.with_max(max.saturating_mul(4)),
            None => declared,
        }
    } else {
        match node.kind {
            Kind::Array => {
                let items = node.items.as_deref()?;
                let item = named(items, items.embedded_resource, &format!("{name}.@idx"))?;
                let kind = match node.list_type() {
                    Some("set") => ListKind::Set,
                    Some("map") => ListKind::Map(node.map_keys().into()),
                    _ => ListKind::Atomic,
                };
                bound(Declared::new(Shape::List(Arc::new(item), kind)), values.max_items)
            }
            Kind::Object => of_object(node, values, whole, name)?,
            Kind::String => of_text(values),
            Kind::Boolean => Declared::new(Shape::Bool),
            Kind::Number => Declared::new(Shape::Double),
            Kind::Integer => Declared::new(Shape::Int),
            Kind::Any | Kind::Other(_) => return None,
        }
    };
    declared.nullable = node.nullable;
    Some(declared)
}

fn bound(declared: Declared, max: Option<i64>) -> Declared {
    match max {
        Some(max) => declared.with_max(max),
        None => declared,
    }
}

fn of_object(node: &Node, values: &Values, whole: bool, name: &str) -> Option<Declared> {
    if let Additional::Schema(entries) = &node.additional {
        let entry = named(entries, entries.embedded_resource, &format!("{name}.@elem"))?;
        return Some(bound(Declared::map(entry), values.max_properties));
    }
    let mut fields: BTreeMap<String, Arc<Declared>> = BTreeMap::new();
    for (field, property) in &node.properties {
        let inner = named(property, property.embedded_resource, &format!("{name}.{field}"));
        let inner = inner.unwrap_or_else(|| Declared::new(Shape::Hidden));
        fields.insert(field.clone(), Arc::new(inner));
    }
    if whole && !names_whole(node) {
        let text = || Declared::new(Shape::String);
        let metadata = ["name", "generateName"].map(|name| (name.to_owned(), text()));
        let metadata = Declared::object(&format!("{name}.metadata"), metadata);
        fields.insert("metadata".to_owned(), Arc::new(metadata));
        for name in ["kind", "apiVersion"] {
            fields.insert(name.to_owned(), Arc::new(text()));
        }
    }
    // What has to be there and is not filled in.
    let mut size = EMPTY_SIZE;
    for (field, inner) in &fields {
        let filled = node.properties.get(field).is_some_and(|property| property.default.is_some());
        let seen = !matches!(inner.shape, Shape::Hidden);
        if seen && !filled && values.required.contains(field) {
            let length = i64::try_from(field.len()).unwrap_or(i64::MAX);
            size = size.saturating_add(length).saturating_add(inner.min_size + 4);
        }
    }
    let mut declared = Declared::new(Shape::Object(Arc::new(Object { name: name.into(), fields })));
    declared.min_size = size;
    Some(declared)
}

fn of_text(values: &Values) -> Declared {
    match values.format.as_str() {
        "byte" => bound(Declared::new(Shape::Bytes), values.max_length),
        "duration" => Declared::new(Shape::Duration),
        "date" => Declared::new(Shape::Date),
        "date-time" => Declared::new(Shape::Timestamp),
        _ => {
            let declared = Declared::new(Shape::String);
            match values.max_length {
                Some(max) => declared.with_max(max.saturating_mul(4)),
                None if values.allowed.is_empty() => declared,
                None => {
                    let texts = values.allowed.iter().filter_map(serde_json::Value::as_str);
                    let longest = texts.map(str::len).max().unwrap_or(0);
                    declared.with_max(i64::try_from(longest).unwrap_or(REQUEST_MAX))
                }
            }
        }
    }
}

/// The type of a field by its name in the data; none when expressions cannot see it.
pub fn field<'a>(declared: &'a Declared, name: &str) -> Option<&'a Arc<Declared>> {
    let Shape::Object(object) = &declared.shape else { return None };
    object.fields.get(name).filter(|field| !matches!(field.shape, Shape::Hidden))
}

/// The type of the items of a list or of the entries of a map.
pub fn element(declared: &Declared) -> Option<&Arc<Declared>> {
    match &declared.shape {
        Shape::List(element, _) | Shape::Map(element) => Some(element),
        _ => None,
    }
}

/// Whether a schema tells itself of the kind and name of its objects.
///
/// upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model/schemas.go
/// WithTypeAndObjectMeta
fn names_whole(node: &Node) -> bool {
    let is = |node: &Node, name: &str, kind: &Kind| {
        node.properties.get(name).is_some_and(|property| property.kind == *kind)
    };
    is(node, "kind", &Kind::String)
        && is(node, "apiVersion", &Kind::String)
        && is(node, "metadata", &Kind::Object)
        && node.properties.get("metadata").is_some_and(|metadata| {
            is(metadata, "name", &Kind::String) && is(metadata, "generateName", &Kind::String)
        })
}
