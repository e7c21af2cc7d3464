//! Finds what stood where before an update: rules that were broken already do not count as long as
//! nobody touches the value.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/cel/common/equality.go, maplist.go,
//! staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/validation/ratcheting.go

use std::cell::OnceCell;

use serde_json::Value;

use super::ByKey;
use crate::patch::gotext;
use crate::structural::{Kind, Node};

/// The value that stood in a place, and the place's schema.
pub struct Before<'a> {
    value: &'a Value,
    node: &'a Node,
    by_key: OnceCell<ByKey<'a>>,
}

impl<'a> Before<'a> {
    /// What stood in a place that a schema is of.
    pub fn new(value: &'a Value, node: &'a Node) -> Self {
        Self { value, node, by_key: OnceCell::new() }
    }

    /// The value.
    pub fn value(&self) -> &'a Value {
        self.value
    }

    /// What a field was before, when both are maps and the schema tells of it.
    pub fn field(&self, name: &str) -> Option<Before<'a>> {
        let old = self.value.as_object()?.get(name)?;
        let node = self.node.field(name).flatten()?;
        Some(Before::new(old, node))
    }

    /// What the item with the same keys was before.
    pub fn item(&self, new: &Value) -> Option<Before<'a>> {
        let old = self.keyed()?.get(&key(self.node, new)?).copied()?;
        Some(Before::new(old, self.node.items.as_deref()?))
    }

    /// The old items by their keys; none when the list is no map.
    fn keyed(&self) -> Option<&ByKey<'a>> {
        let items = self.value.as_array()?;
        let map = self.node.kind == Kind::Array
            && self.node.list_type() == Some("map")
            && !self.node.map_keys().is_empty();
        map.then(|| {
            self.by_key.get_or_init(|| {
                let mut by_key = ByKey::new();
                for item in items {
                    if let Some(key) = key(self.node, item) {
                        by_key.entry(key).or_insert(item);
                    }
                }
                by_key
            })
        })
    }

    /// Whether the value did not change. What the schema does not tell of counts as changed.
    pub fn equals(&self, new: &Value) -> bool {
        match (self.value, new) {
            (Value::Array(old), Value::Array(items)) => {
                if old.len() != items.len() {
                    return false;
                }
                if self.node.list_type() != Some("map") {
                    return old == items;
                }
                items.iter().all(|new| self.item(new).is_some_and(|before| before.equals(new)))
            }
            (Value::Object(old), Value::Object(fields)) => {
                old.len() == fields.len()
                    && fields.iter().all(|(name, new)| {
                        self.field(name).is_some_and(|before| before.equals(new))
                    })
            }
            (old, new) => old == new,
        }
    }
}

/// The keys of an item as one text; none when one is missing or no scalar.
fn key(node: &Node, item: &Value) -> Option<String> {
    let fields = item.as_object()?;
    let mut out = String::new();
    for name in node.map_keys() {
        let value = fields.get(name)?;
        if !matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_)) {
            return None;
        }
        out.push('\0');
        match value {
            Value::String(text) => out.push_str(&gotext::quote(text)),
            other => out.push_str(&other.to_string()),
        }
    }
    Some(out)
}
