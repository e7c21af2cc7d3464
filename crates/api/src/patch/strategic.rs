//! Strategic merge patch: a merge patch that knows which lists are merged by key.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/util/strategicpatch/patch.go

#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::schema::{Field, Shape, Type};

/// What is done with the object or list item that holds it.
const DIRECTIVE: &str = "$patch";
/// Drops the keys that it does not name.
const RETAIN_KEYS: &str = "$retainKeys";
/// `$deleteFromPrimitiveList/FIELD`: items to remove from a list of scalars.
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
/// `$setElementOrder/FIELD`: the wanted order of a merged list.
const SET_ORDER: &str = "$setElementOrder/";

/// A patch that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A directive that is not known.
    #[error("Invalid value for special key \"$patch\": {0}")]
    Directive(String),
    /// A value of another type than the patched one.
    #[error("invalid type for patch: {field} is a {found} and cannot be merged")]
    Type {
        /// The field.
        field: String,
        /// JSON type of the patch.
        found: &'static str,
    },
    /// A list item without its merge key.
    #[error("map: {item} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The item as JSON.
        item: String,
        /// The key.
        key: String,
    },
    /// The order of a list names something else than the list has.
    #[error(
        "the order in patch list:\n{patch}\n doesn't match {SET_ORDER}{field} list:\n{order}\n"
    )]
    Order {
        /// The list's field.
        field: String,
        /// The items of the patch as JSON.
        patch: String,
        /// The wanted order as JSON.
        order: String,
    },
}

/// What is known of a patched value.
#[derive(Clone, Copy)]
enum Known {
    /// A struct of this type.
    Type(&'static Type),
    /// A map with values of this shape.
    Map(Shape),
    /// Nothing: any object.
    Nothing,
}

impl Known {
    fn of(shape: Shape) -> Self {
        match shape {
            Shape::Struct(_) => shape.as_struct().map_or(Self::Nothing, Self::Type),
            Shape::Map(_) => shape.item().map_or(Self::Nothing, Self::Map),
            _ => Self::Nothing,
        }
    }

    fn field(self, name: &str) -> Option<&'static Field> {
        match self {
            Self::Type(ty) => ty.field(name),
            _ => None,
        }
    }

    /// What is known of the value of a field or key.
    fn child(self, name: &str) -> Self {
        match self {
            Self::Type(ty) => ty.field(name).map_or(Self::Nothing, |f| Self::of(f.shape)),
            Self::Map(item) => Self::of(item),
            Self::Nothing => Self::Nothing,
        }
    }
}

/// Applies a patch to an object of a type.
pub fn apply(ty: &'static Type, original: &Value, patch: &Value) -> Result<Value, Error> {
    let mut result = original.as_object().cloned().unwrap_or_default();
    let Value::Object(patch) = patch else {
        return Err(wrong_type("", patch));
    };
    merge_map(Known::Type(ty), &mut result, patch)?;
    Ok(Value::Object(result))
}

fn wrong_type(field: &str, value: &Value) -> Error {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    };
    Error::Type { field: field.to_owned(), found }
}

fn merge_map(
    known: Known,
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), Error> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        match directive.as_str() {
            Some("replace") => {
                *original = patch.clone();
                original.remove(DIRECTIVE);
                return Ok(());
            }
            Some("delete") => {
                original.clear();
                return Ok(());
            }
            Some("merge") => {}
            _ => return Err(Error::Directive(directive.to_string())),
        }
    }
    if let Some(Value::Array(keys)) = patch.get(RETAIN_KEYS) {
        original.retain(|key, _| keys.iter().any(|k| k == key.as_str()));
    }
    for (key, value) in patch {
        if key == DIRECTIVE || key == RETAIN_KEYS {
            continue;
        }
        if let Some(field) = key.strip_prefix(DELETE_PRIMITIVES) {
            delete_primitives(original, field, value);
            continue;
        }
        if let Some(field) = key.strip_prefix(SET_ORDER) {
            // A list that the patch also names is ordered when it is merged.
            if !patch.contains_key(field)
                && let (Some(Value::Array(list)), Value::Array(order)) =
                    (original.get_mut(field), value)
            {
                let key = known.field(field).map_or("", |f| f.patch.merge_key);
                set_order(list, order, key);
            }
            continue;
        }
        merge_key(known, original, patch, key, value)?;
    }
    Ok(())
}

fn merge_key(
    known: Known,
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    key: &str,
    value: &Value,
) -> Result<(), Error> {
    match (original.get_mut(key), value) {
        (_, Value::Null) => {
            original.remove(key);
        }
        (Some(Value::Object(old)), Value::Object(new)) => {
            let replaced = known.field(key).is_some_and(|f| f.patch.retain_keys && !f.patch.merge)
                && new.get(DIRECTIVE).is_some_and(|d| d == "replace");
            if replaced {
                old.clear();
            }
            merge_map(known.child(key), old, new)?;
            if new.get(DIRECTIVE).is_some_and(|d| d == "delete") {
                original.remove(key);
            }
        }
        (Some(Value::Array(old)), Value::Array(new)) => match known.field(key) {
            Some(field) if field.patch.merge => {
                let order = patch.get(&format!("{SET_ORDER}{key}"));
                merge_list(field, old, new)?;
                if let Some(Value::Array(order)) = order {
                    set_order(old, order, field.patch.merge_key);
                }
            }
            _ => *old = new.clone(),
        },
        (Some(Value::Object(_)), other) if known.child(key).is_container() => {
            return Err(wrong_type(key, other));
        }
        (_, value) => {
            let clean = without_directives(known.child(key), known.field(key), value)?;
            match clean {
                Some(value) => original.insert(key.to_owned(), value),
                None => original.remove(key),
            };
        }
    }
    Ok(())
}

impl Known {
    fn is_container(self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

/// A patch value where there was nothing before: what its directives leave of it.
fn without_directives(
    known: Known,
    field: Option<&'static Field>,
    value: &Value,
) -> Result<Option<Value>, Error> {
    match value {
        Value::Object(patch) => {
            if patch.get(DIRECTIVE).is_some_and(|d| d == "delete") {
                return Ok(None);
            }
            let mut made = Map::new();
            merge_map(known, &mut made, patch)?;
            Ok(Some(Value::Object(made)))
        }
        Value::Array(items) => match field {
            Some(field) if field.patch.merge => {
                let mut made = Vec::new();
                merge_list(field, &mut made, items)?;
                Ok(Some(Value::Array(made)))
            }
            _ => Ok(Some(value.clone())),
        },
        other => Ok(Some(other.clone())),
    }
}

fn merge_list(field: &'static Field, old: &mut Vec<Value>, new: &[Value]) -> Result<(), Error> {
    let merge_key = field.patch.merge_key;
    if merge_key.is_empty() {
        for item in new {
            if !old.contains(item) {
                old.push(item.clone());
            }
        }
        return Ok(());
    }
    let replaces = |item: &Value| {
        item.get(DIRECTIVE).is_some_and(|d| d == "replace") && item.get(merge_key).is_none()
    };
    if new.iter().any(replaces) {
        *old = new.iter().filter(|item| !replaces(item)).cloned().collect();
        return Ok(());
    }
    let known = field.shape.item().map_or(Known::Nothing, Known::of);
    for item in new {
        merge_item(known, merge_key, old, item)?;
    }
    Ok(())
}

fn merge_item(
    known: Known,
    merge_key: &str,
    old: &mut Vec<Value>,
    item: &Value,
) -> Result<(), Error> {
    let Value::Object(patch) = item else { return Err(wrong_type(merge_key, item)) };
    let Some(id) = patch.get(merge_key) else {
        return Err(Error::NoMergeKey { item: item.to_string(), key: merge_key.to_owned() });
    };
    let directive = patch.get(DIRECTIVE).and_then(Value::as_str);
    if directive == Some("delete") {
        old.retain(|present| present.get(merge_key) != Some(id));
        return Ok(());
    }
    let present = old.iter_mut().find(|present| present.get(merge_key) == Some(id));
    match present {
        Some(Value::Object(present)) => merge_map(known, present, patch),
        _ => {
            let mut made = Map::new();
            merge_map(known, &mut made, patch)?;
            old.push(Value::Object(made));
            Ok(())
        }
    }
}

fn delete_primitives(original: &mut Map<String, Value>, field: &str, gone: &Value) {
    if let (Some(Value::Array(list)), Value::Array(gone)) = (original.get_mut(field), gone) {
        list.retain(|item| !gone.contains(item));
    }
}

/// Brings the items that the order names into its order; the others keep their place among their
/// neighbours: each stays behind the item that it followed.
fn set_order(list: &mut Vec<Value>, order: &[Value], merge_key: &str) {
    let same = |item: &Value, wanted: &Value| {
        if merge_key.is_empty() {
            item == wanted
        } else {
            item.get(merge_key) == wanted.get(merge_key)
        }
    };
    let place = |item: &Value| order.iter().position(|wanted| same(item, wanted));
    let (mut named, others): (Vec<_>, Vec<_>) =
        std::mem::take(list).into_iter().enumerate().partition(|(_, item)| place(item).is_some());
    named.sort_by_key(|(_, item)| place(item));
    // upstream: mergeSortedSlice; an item that the order does not name goes in front of the first
    // named item that stood behind it.
    let mut others = others.into_iter().peekable();
    for (at, item) in named {
        while others.peek().is_some_and(|(other, _)| *other < at) {
            list.extend(others.next().map(|(_, item)| item));
        }
        list.push(item);
    }
    list.extend(others.map(|(_, item)| item));
}
