//! The dynamic object: a JSON tree whose metadata has typed accessors.
//!
//! Strategies, patches and the registry all work on this one type; typed structs appear only in
//! components.

use serde_json::{Map, Value};

use crate::emptied::Emptied;

/// A Kubernetes object as a JSON tree. The root is always a JSON object.
#[derive(Clone, Debug, Default)]
pub struct Object {
    root: Map<String, Value>,
    emptied: Emptied,
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.root == other.root
    }
}

impl Object {
    /// Wraps a tree; `None` when the root is not a JSON object.
    pub fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(root) => Some(Self { root, emptied: Emptied::default() }),
            _ => None,
        }
    }

    /// Remembers which lists and maps were given empty.
    #[must_use]
    pub fn given(self, emptied: Emptied) -> Self {
        Self { emptied, ..self }
    }

    /// Whether a list or map was given empty at a path such as `spec.overhead`: where upstream
    /// looks for nil, that is something.
    pub fn is_given_empty(&self, path: &str) -> bool {
        self.emptied.has(path)
    }

    /// The object with the lists and maps that were given empty; none when there are none.
    pub fn as_given(&self) -> Option<Self> {
        if self.emptied.is_empty() {
            return None;
        }
        let mut root = self.root.clone();
        self.emptied.put_back(&mut root);
        Some(Self { root, emptied: Emptied::default() })
    }

    /// Changes the tree as a whole. What is no object any more afterwards becomes an empty one.
    pub fn change<T>(&mut self, change: impl FnOnce(&mut Value) -> T) -> T {
        let mut value = Value::Object(std::mem::take(&mut self.root));
        let outcome = change(&mut value);
        if let Value::Object(root) = value {
            self.root = root;
        }
        outcome
    }

    /// The whole tree.
    pub fn into_value(self) -> Value {
        Value::Object(self.root)
    }

    /// The root fields.
    pub fn root(&self) -> &Map<String, Value> {
        &self.root
    }

    /// The root fields, to change them.
    pub fn root_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.root
    }

    /// The value at a path of field names (no list indexes); `None` when a step is missing.
    pub fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.root.get(*first)?, |at, step| at.get(*step))
    }

    /// As [`Object::get`], to change the value.
    pub fn get_mut(&mut self, path: &[&str]) -> Option<&mut Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.root.get_mut(*first)?, |at, step| at.get_mut(*step))
    }

    /// The string at a path; empty when missing or of another type.
    pub fn str(&self, path: &[&str]) -> &str {
        self.get(path).and_then(Value::as_str).unwrap_or("")
    }

    /// The integer at a path.
    pub fn int(&self, path: &[&str]) -> Option<i64> {
        self.get(path).and_then(Value::as_i64)
    }

    /// The boolean at a path; false when missing.
    pub fn bool(&self, path: &[&str]) -> bool {
        self.get(path).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The items of the list at a path; empty when missing or of another type.
    pub fn list(&self, path: &[&str]) -> &[Value] {
        self.get(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Sets the value at a path, creating objects on the way. A step that is not an object is
    /// replaced by one.
    pub fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((last, parents)) = path.split_last() else { return };
        let mut at = &mut self.root;
        for step in parents {
            let next = at.entry((*step).to_owned()).or_insert_with(|| Value::Object(Map::new()));
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            at = next.as_object_mut().expect("made an object just above");
        }
        at.insert((*last).to_owned(), value.into());
    }

    /// Removes and returns the value at a path.
    pub fn remove(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        if parents.is_empty() {
            return self.root.remove(*last);
        }
        self.get_mut(parents)?.as_object_mut()?.remove(*last)
    }

    /// `apiVersion`; empty when missing.
    pub fn api_version(&self) -> &str {
        self.str(&["apiVersion"])
    }

    /// `kind`; empty when missing.
    pub fn kind(&self) -> &str {
        self.str(&["kind"])
    }

    /// `metadata.name`; empty when missing.
    pub fn name(&self) -> &str {
        self.str(&["metadata", "name"])
    }

    /// `metadata.namespace`; empty when missing.
    pub fn namespace(&self) -> &str {
        self.str(&["metadata", "namespace"])
    }

    /// `metadata.uid`; empty when missing.
    pub fn uid(&self) -> &str {
        self.str(&["metadata", "uid"])
    }

    /// `metadata.resourceVersion`; empty when missing.
    pub fn resource_version(&self) -> &str {
        self.str(&["metadata", "resourceVersion"])
    }

    /// `metadata.generation`; 0 when missing.
    pub fn generation(&self) -> i64 {
        self.int(&["metadata", "generation"]).unwrap_or(0)
    }

    /// Whether `metadata.deletionTimestamp` is set.
    pub fn is_deleting(&self) -> bool {
        self.get(&["metadata", "deletionTimestamp"]).is_some_and(|v| !v.is_null())
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> Vec<&str> {
        self.list(&["metadata", "finalizers"]).iter().filter_map(Value::as_str).collect()
    }

    /// `metadata.labels`, when present.
    pub fn labels(&self) -> Option<&Map<String, Value>> {
        self.get(&["metadata", "labels"]).and_then(Value::as_object)
    }

    /// One label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels()?.get(key)?.as_str()
    }

    /// One annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.get(&["metadata", "annotations"])?.as_object()?.get(key)?.as_str()
    }

    /// The metadata object, created when missing.
    pub fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        let meta = self.root.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if !meta.is_object() {
            *meta = Value::Object(Map::new());
        }
        meta.as_object_mut().expect("made an object just above")
    }
}
