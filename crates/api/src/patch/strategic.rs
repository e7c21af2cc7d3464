//! Strategic merge patch: a merge patch that knows which lists are merged, and by which key.
//!
//! Directives: `$patch` (`replace` or `delete`), `$retainKeys`, `$deleteFromPrimitiveList/FIELD`
//! and `$setElementOrder/FIELD`.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/util/strategicpatch/patch.go

mod order;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use super::gotext;
use crate::schema::{PatchStrategy, Scalar, Shape, Type};
use crate::status::{Reason, StatusError};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

type Object = Map<String, Value>;

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A malformed directive.
    #[error("{0}")]
    Format(&'static str),
    /// A list of lists, which cannot be merged.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// An item of a merged list has no key.
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The item in Go's words.
        map: String,
        /// The key.
        key: String,
    },
    /// What upstream answers with an internal error.
    #[error("{0}")]
    Other(String),
}

impl Error {
    fn no_key(item: &Value, key: &str) -> Self {
        Self::NoMergeKey { map: gotext::plain(item), key: key.to_owned() }
    }
}

impl From<Error> for StatusError {
    /// upstream: interpretStrategicMergePatchError of
    /// staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go
    fn from(error: Error) -> Self {
        match error {
            Error::Format(text) => Self::bad_request(text),
            Error::ListOfLists => super::rejected(),
            // Upstream has no reason for these and answers 500 with the bare text.
            other => Self::new(Reason::Unknown, other.to_string()),
        }
    }
}

/// Applies a strategic merge patch to an object of a type; both are in the type's version.
///
/// # Errors
/// 400 for a malformed patch, 422 for lists of lists, 500 for what upstream tells so: a missing
/// merge key, an unknown directive, list items of several types.
pub fn apply(ty: &'static Type, original: &Value, patch: &Value) -> Result<Value, StatusError> {
    let patch = match patch {
        Value::Object(fields) => fields.clone(),
        Value::Null => Object::new(),
        other => {
            return Err(StatusError::bad_request(format!(
                "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                super::json_type(other)
            )));
        }
    };
    let original = original.as_object().cloned().unwrap_or_default();
    Ok(Value::Object(merge_maps(original, patch, Scope::Struct(ty))?))
}

/// What the schema knows about the map that is being merged.
#[derive(Clone, Copy)]
enum Scope {
    /// A struct with known fields.
    Struct(&'static Type),
    /// A Go struct without fields in JSON, by its name.
    Opaque(&'static str),
    /// No struct: the Go kind.
    Kind(&'static str),
}

/// The form of a field and how it is merged.
type Found = (Shape, PatchStrategy);

impl Scope {
    fn of(shape: Shape) -> Self {
        if let Some(ty) = shape.as_struct() {
            return Self::Struct(ty);
        }
        match shape {
            Shape::List(_) => Self::Kind("slice"),
            Shape::Map(_) | Shape::Struct(_) => Self::Kind("map"),
            Shape::Scalar(scalar) => match scalar {
                Scalar::String => Self::Kind("string"),
                Scalar::Bool => Self::Kind("bool"),
                Scalar::Int32 => Self::Kind("int32"),
                Scalar::Int64 => Self::Kind("int64"),
                Scalar::Float64 => Self::Kind("float64"),
                Scalar::Bytes => Self::Kind("slice"),
                Scalar::Time => Self::Opaque("Time"),
                Scalar::MicroTime => Self::Opaque("MicroTime"),
                Scalar::Duration => Self::Opaque("Duration"),
                Scalar::Quantity => Self::Opaque("Quantity"),
                Scalar::IntOrString => Self::Opaque("IntOrString"),
                Scalar::RawExtension => Self::Opaque("RawExtension"),
                Scalar::FieldsV1 => Self::Opaque("FieldsV1"),
                Scalar::Json => Self::Opaque("JSON"),
            },
        }
    }

    /// The Go kind, which messages name.
    fn kind(self) -> &'static str {
        match self {
            Self::Struct(_) | Self::Opaque(_) => "struct",
            Self::Kind(kind) => kind,
        }
    }

    /// The field with a JSON name; letter case does not count when no name is equal.
    ///
    /// upstream: staging/src/k8s.io/apimachinery/third_party/forked/golang/json/fields.go
    fn field(self, name: &str) -> Result<Found, Error> {
        let owner = match self {
            Self::Struct(ty) => {
                let fold = || ty.fields.iter().find(|f| f.json_name.eq_ignore_ascii_case(name));
                if let Some(field) = ty.field(name).or_else(fold) {
                    return Ok((field.shape, field.patch));
                }
                ty.name.rsplit('.').next().unwrap_or(ty.name)
            }
            Self::Opaque(owner) => owner,
            Self::Kind(kind) => {
                return Err(Error::Other(format!(
                    "merging an object in json but data type is not struct, instead is: {kind}"
                )));
            }
        };
        Err(Error::Other(format!(
            "unable to find api field in struct {owner} for the json field {name:?}"
        )))
    }

    /// As [`Scope::field`] for a field that the documents hold a list in: the items' shape.
    fn list(self, name: &str) -> Result<(Scope, PatchStrategy), Error> {
        let (shape, patch) = self.field(name)?;
        match shape {
            Shape::List(_) => {
                let item = shape.item().expect("a list has items");
                if matches!(item, Shape::List(_)) {
                    return Err(Error::Other("unexpected slice of slice".into()));
                }
                Ok((Scope::of(item), patch))
            }
            Shape::Scalar(Scalar::Bytes) => Ok((Scope::Kind("uint8"), patch)),
            _ => {
                Err(Error::Other(format!("expected slice or array type, but got: {}", self.kind())))
            }
        }
    }
}

/// Merges a patch into a map; the patch's directives are obeyed and do not stay.
fn merge_maps(mut original: Object, mut patch: Object, scope: Scope) -> Result<Object, Error> {
    if let Some(directive) = patch.get(PATCH) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(PATCH);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(unknown_directive(directive, &Value::Object(patch.clone()))),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    set_orders(&mut original, &mut patch, scope)?;
    for (key, change) in patch {
        let (key, deletes) = match directive_field(&key, DELETE_FROM, LIST_FORMAT)? {
            Some(field) => (field.to_owned(), true),
            None => (key, false),
        };
        if change.is_null() {
            original.remove(&key);
            continue;
        }
        let merged = match original.remove(&key) {
            None if deletes => None,
            None => adopt(change),
            Some(old) => merge_values(scope, &key, old, change, deletes)?,
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
    }
    Ok(original)
}

/// Merges one field that both documents have; `None` removes it.
fn merge_values(
    scope: Scope,
    key: &str,
    old: Value,
    change: Value,
    deletes: bool,
) -> Result<Option<Value>, Error> {
    match (old, change) {
        (Value::Object(old), Value::Object(change)) => {
            let (shape, strategy) = scope.field(key)?;
            let replaced = strategy.replace;
            let merged = if replaced { change } else { merge_maps(old, change, Scope::of(shape))? };
            Ok(Some(Value::Object(merged)))
        }
        (Value::Array(old), Value::Array(change)) => {
            let (items, strategy) = scope.list(key)?;
            let merged = if strategy.merge || deletes {
                merge_lists(old, change, items, strategy.merge_key, deletes)?
            } else {
                change
            };
            Ok(Some(Value::Array(merged)))
        }
        // Another type takes the place of the old value; a deletion finds nothing to delete.
        (old, change) if deletes && go_kind(&old) != go_kind(&change) => Ok(Some(old)),
        (_, change) => Ok(adopt(change)),
    }
}

fn unknown_directive(directive: &Value, map: &Value) -> Error {
    Error::Other(format!(
        "unknown patch type: {} in map: {}",
        gotext::text(directive),
        gotext::plain(map)
    ))
}

const LIST_FORMAT: &str = "invalid patch format of primitive list";
const ORDER_FORMAT: &str = "invalid patch format of setElementOrder list";
const RETAIN_FORMAT: &str = "invalid patch format of retainKeys";

/// The field that a directive such as `$setElementOrder/FIELD` is about; `None` when the key is no
/// such directive.
fn directive_field<'k>(
    key: &'k str,
    prefix: &str,
    malformed: &'static str,
) -> Result<Option<&'k str>, Error> {
    let Some(rest) = key.strip_prefix(prefix) else { return Ok(None) };
    rest.strip_prefix('/').map(Some).ok_or(Error::Format(malformed))
}

/// A patch value that has no counterpart: without nulls in its maps and without directives.
fn adopt(mut value: Value) -> Option<Value> {
    drop_nulls(&mut value);
    without_directives(value)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The value without the maps that carry a `$patch`; `None` when it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(PATCH) => None,
        Value::Object(fields) => {
            let kept = fields.into_iter();
            let kept = kept.filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(items.into_iter().filter_map(without_directives).collect()),
        scalar => Some(scalar),
    }
}

/// Obeys `$retainKeys`: drops the keys of the original that the directive does not name.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(kept) = directive else { return Err(Error::Format(RETAIN_FORMAT)) };
    let kept: std::collections::HashSet<&str> = kept.iter().filter_map(Value::as_str).collect();
    let told = patch.iter().all(|(key, value)| {
        let directive = key.starts_with(DELETE_FROM) || key.starts_with(SET_ORDER);
        value.is_null() || directive || kept.contains(key.as_str())
    });
    if !told {
        return Err(Error::Format(RETAIN_FORMAT));
    }
    original.retain(|key, _| kept.contains(key.as_str()));
    Ok(())
}

/// Obeys the `$setElementOrder/FIELD` directives together with the lists of the same fields; both
/// are taken out of the patch.
fn set_orders(original: &mut Object, patch: &mut Object, scope: Scope) -> Result<(), Error> {
    let directives: Vec<String> =
        patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let order = patch.remove(&directive).expect("one of the patch's keys");
        let Value::Array(order) = order else {
            return Err(bad_type("[]interface {}", &order));
        };
        let key = directive_field(&directive, SET_ORDER, ORDER_FORMAT)?.expect("has the prefix");
        let list = |value: Option<&Value>| match value {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items.clone())),
            Some(other) => Err(bad_type("[]interface {}", other)),
        };
        let old = list(original.get(key))?;
        let change = list(patch.get(key))?;
        let (items, strategy) = scope.list(key)?;
        order::check(change.as_deref().unwrap_or(&[]), &order, strategy.merge_key)?;
        let merged = match (old.clone(), change.clone()) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(change)) => change.into_iter().filter_map(without_directives).collect(),
            (Some(old), Some(change)) if strategy.merge => {
                merge_lists(old, change, items, strategy.merge_key, false)?
            }
            (Some(_), Some(change)) => change,
        };
        let old = old.unwrap_or_default();
        let maps = items_are_maps(&[&old, change.as_deref().unwrap_or(&[])])?;
        let sorted = order::arrange(merged, &order, &order, &old, strategy.merge_key, maps)?;
        original.insert(key.to_owned(), Value::Array(sorted));
        patch.remove(key);
    }
    Ok(())
}

fn merge_lists(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    items: Scope,
    merge_key: &str,
    deletes: bool,
) -> Result<Vec<Value>, Error> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !items_are_maps(&[&original, &patch])? {
        let named: std::collections::HashSet<String> = patch.iter().map(order::identity).collect();
        if deletes {
            original.retain(|item| !named.contains(&order::identity(item)));
            return Ok(original);
        }
        let mut seen = std::collections::HashSet::new();
        let both = original.iter().chain(&patch).cloned();
        let merged = both.filter(|item| seen.insert(order::identity(item))).collect();
        return order::arrange(merged, &patch, &patch, &original, merge_key, false);
    }
    if merge_key.is_empty() {
        let kind = items.kind();
        return Err(Error::Other(format!("cannot merge lists without merge key for {kind}")));
    }
    let (original, patch) = special_items(original, patch, merge_key)?;
    let server_order = original.clone();
    let merged = merge_items(original, &patch, items, merge_key)?;
    order::arrange(merged, &patch, &patch, &server_order, merge_key, true)
}

/// Obeys the items of a patched list that carry a `$patch`; gives the lists without them.
fn special_items(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(PATCH) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let key = item.get(merge_key).ok_or_else(|| Error::no_key(&item, merge_key))?;
                original.retain(|old| old.get(merge_key) != Some(key));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                let why = "merging lists cannot yet be specified in the patch";
                return Err(Error::Other(why.into()));
            }
            _ => return Err(unknown_directive(directive, &item)),
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
}

/// Merges the items with the same key; the others are appended.
fn merge_items(
    mut original: Vec<Value>,
    patch: &[Value],
    items: Scope,
    merge_key: &str,
) -> Result<Vec<Value>, Error> {
    let mut places = order::places(&original, merge_key, true);
    for item in patch {
        let key = item.get(merge_key).ok_or_else(|| Error::no_key(item, merge_key))?;
        let identity = order::identity(key);
        let Some(&place) = places.get(&identity) else {
            places.insert(identity, original.len());
            original.push(item.clone());
            continue;
        };
        let (Value::Object(old), Value::Object(change)) = (original[place].take(), item.clone())
        else {
            return Err(Error::Other(format!("value for key {place} is not a map")));
        };
        let merged = merge_maps(old, change, items)?;
        original[place] = Value::Object(merged);
    }
    Ok(original)
}

/// Whether the items of the lists are maps; they must all be of one type.
fn items_are_maps(lists: &[&[Value]]) -> Result<bool, Error> {
    let mut items = lists.iter().flat_map(|list| list.iter());
    let Some(first) = items.next() else {
        return Err(Error::Other("no elements in any of the given slices".into()));
    };
    if first.is_array() {
        return Err(Error::ListOfLists);
    }
    if first.is_null() || items.any(|item| go_kind(item) != go_kind(first)) {
        let lists: Vec<String> =
            lists.iter().map(|list| gotext::plain(&Value::Array(list.to_vec()))).collect();
        let lists = lists.join(" ");
        return Err(Error::Other(format!("list element types are not identical: [{lists}]")));
    }
    Ok(first.is_object())
}

/// The Go type that a JSON value is held in.
fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn bad_type(wanted: &str, value: &Value) -> Error {
    Error::Other(format!("expected a {wanted}, but received a {}", go_kind(value)))
}
