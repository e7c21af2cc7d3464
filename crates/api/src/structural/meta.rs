//! Metadata of objects of custom resources, and of objects inside them.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta,
//! staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go
//! unstructuredSchemaCoercer

use serde_json::{Map, Value};

use super::prune::Unknown;
use super::{Additional, Node, Schema};
use crate::field::{Error, ErrorList, Path};
use crate::normalize::{self, normalize};
use crate::schema::{Type, type_named};
use crate::{Object, gvk, meta_validation, names};

/// Why an object cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CoerceError {
    /// The metadata of the object itself.
    #[error(transparent)]
    Metadata(#[from] normalize::Error),
    /// `apiVersion` or `kind` of the object itself is no text.
    #[error(".{0} accessor error: {1} is of the type {2}, expected string")]
    Text(&'static str, String, &'static str),
    /// Something of an object inside it.
    #[error("{0}")]
    Inner(Error),
}

impl Schema {
    /// Brings a decoded object into form: its metadata is read, unknown fields and nulls that may not
    /// stand there are dropped, and so for the metadata of objects inside it. `lenient` drops metadata
    /// that cannot be read instead of refusing it, for objects from storage and from webhooks.
    ///
    /// Gives the paths of the fields that were dropped because nobody knows them, in the order in which
    /// they are told.
    ///
    /// # Errors
    /// When metadata cannot be read.
    pub fn coerce(&self, object: &mut Value, lenient: bool) -> Result<Vec<String>, CoerceError> {
        let Value::Object(fields) = object else { return Ok(Vec::new()) };
        for name in ["kind", "apiVersion"] {
            if let Some(value) = fields.get(name)
                && !value.is_string()
            {
                let text = crate::patch::gotext::plain(value);
                return Err(CoerceError::Text(name, text, go_type(value)));
            }
        }
        let (metadata, mut unknown) = match fields.get("metadata") {
            None => (None, Vec::new()),
            Some(metadata) => {
                let (metadata, unknown) = read(metadata, lenient)?;
                (Some(metadata), unknown)
            }
        };
        unknown.iter_mut().for_each(|path| path.insert_str(0, "metadata."));
        unknown.extend(self.prune(object));
        self.prune_nulls(object);
        unknown.extend(self.root().coerce(object, false, lenient).map_err(CoerceError::Inner)?);
        if let (Value::Object(fields), Some(metadata)) = (object, metadata) {
            fields.insert("metadata".into(), metadata);
        }
        Ok(unknown)
    }

    /// The broken rules of the metadata of objects inside an object.
    pub fn validate_embedded(&self, object: &Value) -> ErrorList {
        self.root().validate_embedded(&Path::default(), object, false)
    }
}

/// The Go type of a decoded value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn object_meta() -> &'static Type {
    type_named("meta/v1.ObjectMeta").expect("the table has it")
}

/// Metadata in its form, and the paths of its unknown fields. `lenient` leaves out fields that cannot
/// be read.
fn read(metadata: &Value, lenient: bool) -> Result<(Value, Vec<String>), normalize::Error> {
    let mut whole = if metadata.is_null() { Value::Object(Map::new()) } else { metadata.clone() };
    let error = match normalize(object_meta(), &mut whole) {
        Ok(unknown) => return Ok((whole, unknown)),
        Err(error) => error,
    };
    let Value::Object(fields) = metadata else { return Err(error) };
    if !lenient {
        return Err(error);
    }
    let (mut good, mut unknown) = (Map::new(), Vec::new());
    for (name, value) in fields {
        let mut one = Value::Object([(name.clone(), value.clone())].into_iter().collect());
        if let Ok(paths) = normalize(object_meta(), &mut one)
            && let Value::Object(one) = one
        {
            good.extend(one);
            unknown.extend(paths);
        }
    }
    Ok((Value::Object(good), unknown))
}

impl Node {
    /// Reads the metadata of objects inside a value, and of the value itself when it is `whole`; gives
    /// the paths of unknown fields, sorted.
    ///
    /// # Errors
    /// When metadata cannot be read; never when `lenient`, which drops it.
    pub fn coerce(
        &self,
        value: &mut Value,
        whole: bool,
        lenient: bool,
    ) -> Result<Vec<String>, Error> {
        self.coerce_at(&Path::default(), value, whole, lenient)
    }

    /// As [`Node::coerce`], for a value at a path.
    ///
    /// # Errors
    /// As there.
    pub fn coerce_at(
        &self,
        path: &Path,
        value: &mut Value,
        whole: bool,
        lenient: bool,
    ) -> Result<Vec<String>, Error> {
        if !whole && !self.embeds {
            return Ok(Vec::new());
        }
        let mut unknown = Unknown::default();
        coerce(self, path, value, whole, lenient, &mut unknown)?;
        Ok(unknown.sorted())
    }

    /// The broken rules of the metadata of objects inside a value, and of the value itself when it is
    /// `whole`.
    pub fn validate_embedded(&self, path: &Path, value: &Value, whole: bool) -> ErrorList {
        let mut errors = ErrorList::new();
        if whole || self.embeds {
            validate(self, path, value, whole, &mut errors);
        }
        errors
    }

    /// Whether there may be objects with metadata somewhere in it; as it is compiled.
    pub(super) fn finds_embedded(&self) -> bool {
        self.embedded_resource
            || self.items.as_ref().is_some_and(|node| node.embeds)
            || self.additional_schema().is_some_and(|node| node.embeds)
            || self.properties.values().any(|node| node.embeds)
    }
}

/// The schema and path of a field.
fn below<'a>(node: &'a Node, path: &Path, name: &str) -> Option<(&'a Node, Path)> {
    if let Some(node) = node.properties.get(name) {
        return Some((node, path.child(name)));
    }
    match &node.additional {
        Additional::Schema(node) => Some((node, path.key(name))),
        _ => None,
    }
}

fn coerce(
    node: &Node,
    path: &Path,
    value: &mut Value,
    whole: bool,
    lenient: bool,
    unknown: &mut Unknown,
) -> Result<(), Error> {
    match value {
        Value::Object(fields) => {
            if whole || node.embedded_resource {
                coerce_object(path, fields, lenient, unknown)?;
            }
            for (name, value) in fields.iter_mut() {
                if let Some((node, path)) = below(node, path, name) {
                    coerce(node, &path, value, false, lenient, unknown)?;
                }
            }
        }
        Value::Array(items) => {
            let Some(node) = &node.items else { return Ok(()) };
            for (index, item) in items.iter_mut().enumerate() {
                coerce(node, &path.index(index), item, false, lenient, unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Reads what makes an object of a value.
fn coerce_object(
    path: &Path,
    fields: &mut Map<String, Value>,
    lenient: bool,
    unknown: &mut Unknown,
) -> Result<(), Error> {
    for name in ["apiVersion", "kind"] {
        let Some(value) = fields.get(name).filter(|value| !value.is_string()) else { continue };
        if !lenient {
            return Err(Error::invalid(&path.child(name), value.clone(), "must be a string"));
        }
        fields.remove(name);
    }
    let Some(metadata) = fields.get("metadata") else { return Ok(()) };
    let path = path.child("metadata");
    match read(metadata, lenient) {
        Ok((metadata, paths)) => {
            paths.into_iter().for_each(|unread| unknown.add(format!("{path}.{unread}")));
            fields.insert("metadata".into(), metadata);
        }
        Err(_) if lenient => {}
        Err(error) => return Err(Error::invalid(&path, metadata.clone(), &error.to_string())),
    }
    Ok(())
}

fn validate(node: &Node, path: &Path, value: &Value, whole: bool, errors: &mut ErrorList) {
    match value {
        Value::Object(fields) => {
            if whole || node.embedded_resource {
                validate_object(path, fields, errors);
            }
            for (name, value) in fields {
                if let Some((node, path)) = below(node, path, name) {
                    validate(node, &path, value, false, errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(node) = &node.items else { return };
            for (index, item) in items.iter().enumerate() {
                validate(node, &path.index(index), item, false, errors);
            }
        }
        _ => {}
    }
}

fn validate_object(path: &Path, fields: &Map<String, Value>, errors: &mut ErrorList) {
    for name in ["apiVersion", "kind"] {
        if !fields.contains_key(name) {
            errors.push(Error::required(&path.child(name), ""));
        }
    }
    for name in ["apiVersion", "kind"] {
        let Some(value) = fields.get(name) else { continue };
        let path = path.child(name);
        let why = match value.as_str() {
            None => "must be a string".to_owned(),
            Some("") => "must not be empty".to_owned(),
            Some(text) if name == "kind" => {
                let broken = names::is_dns1035_label(&text.to_lowercase());
                if broken.is_empty() {
                    continue;
                }
                let broken = broken.join(",");
                format!("may have mixed case, but should otherwise match: {broken}")
            }
            Some(text) if gvk::split_api_version(text).is_none() && text != "/" => {
                format!("unexpected GroupVersion string: {text}")
            }
            Some(_) => continue,
        };
        errors.push(Error::invalid(&path, value.clone(), &why));
    }
    let Some(metadata) = fields.get("metadata") else { return };
    let path = path.child("metadata");
    match read(metadata, false) {
        Err(error) => errors.push(Error::invalid(&path, metadata.clone(), &error.to_string())),
        Ok((metadata, _)) => {
            let mut object = Object::default();
            object.set(&["metadata"], metadata);
            if object.name().is_empty() {
                // A name is not required here.
                object.set(&["metadata", "name"], "fakename");
            }
            let namespaced = !object.namespace().is_empty();
            errors.extend(meta_validation::validate_object_meta(
                &object,
                namespaced,
                &path_segment,
                &path,
            ));
        }
    }
}

/// The broken rules of a name that is one step of a path.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/api/validate/content/path.go
fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if !prefix && (name == "." || name == "..") {
        return vec![format!("may not be '{name}'")];
    }
    let parts = ["/", "%"].into_iter().filter(|part| name.contains(part));
    parts.map(|part| format!("may not contain '{part}'")).collect()
}
