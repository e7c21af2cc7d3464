//! Structural schemas: what a version of a custom resource may hold.
//!
//! A [`Schema`] is made once for each version of a definition and shared. Pruning, defaults, metadata
//! and validation walk an object along it. Orders that upstream leaves to chance (of map entries) are
//! those of the keys.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema

mod compile;
mod default;
pub mod formats;
mod lists;
mod meta;
mod prune;
pub mod publish;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::pattern::Pattern;

pub use compile::CompileError;
pub use default::TooLarge;
pub use meta::CoerceError;
pub use validate::{Before, Reading};

/// Deepest nesting of a schema.
pub const DEPTH_MAX: usize = 128;
/// Most nodes of a schema. A definition of the largest size has fewer that mean something.
pub const NODES_MAX: usize = 200_000;

/// The type of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Not told.
    #[default]
    Any,
    /// A list.
    Array,
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A struct or map.
    Object,
    /// A text.
    String,
    /// A type that there is not.
    Other(Box<str>),
}

impl Kind {
    /// Its name in a schema; empty when it is not told.
    pub fn name(&self) -> &str {
        match self {
            Self::Any => "",
            Self::Array => "array",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Object => "object",
            Self::String => "string",
            Self::Other(name) => name,
        }
    }

    fn named(name: &str) -> Self {
        const ALL: [Kind; 7] = [
            Kind::Any,
            Kind::Array,
            Kind::Boolean,
            Kind::Integer,
            Kind::Number,
            Kind::Object,
            Kind::String,
        ];
        ALL.into_iter().find(|kind| kind.name() == name).unwrap_or_else(|| Self::Other(name.into()))
    }
}

/// What may stand under names that the schema does not list.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Additional {
    /// Nothing is told: such fields are unknown.
    #[default]
    Untold,
    /// Anything, or nothing.
    Allowed(bool),
    /// Values of a schema.
    Schema(Box<Node>),
}

/// One place of a schema, also one below `allOf`, `anyOf`, `oneOf` and `not`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// `type`.
    pub kind: Kind,
    /// `nullable`.
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown_fields: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded_resource: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// Whether it has a title.
    pub titled: bool,
    /// Whether it has a description.
    pub described: bool,
    /// Whether it has an example or refers to documents.
    pub illustrated: bool,
    /// `default`; null is none.
    pub default: Option<Value>,
    /// `items`.
    pub items: Option<Box<Node>>,
    /// `properties`.
    pub properties: BTreeMap<String, Node>,
    /// `additionalProperties`.
    pub additional: Additional,
    /// How lists and maps are merged, when something is told.
    pub merge: Option<Box<Merge>>,
    /// `x-kubernetes-validations`, as they stand there.
    pub rules: Vec<Value>,
    /// What values have to fulfil, when something is told.
    pub values: Option<Box<Values>>,
    /// Whether there may be objects with metadata somewhere in it.
    embeds: bool,
}

/// How lists and maps are merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// `x-kubernetes-list-type`.
    pub list_type: Option<String>,
    /// `x-kubernetes-list-map-keys`.
    pub map_keys: Vec<String>,
    /// `x-kubernetes-map-type`.
    pub map_type: Option<String>,
}

/// What values have to fulfil.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the names are those of JSON schema")]
pub struct Values {
    pub format: String,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub pattern: Pattern,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub unique_items: bool,
    pub multiple_of: Option<f64>,
    pub allowed: Vec<Value>,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Vec<String>,
    pub all_of: Vec<Node>,
    pub any_of: Vec<Node>,
    pub one_of: Vec<Node>,
    pub not: Option<Box<Node>>,
}

impl Node {
    /// The schema of a field or entry; `None` when the schema knows nothing of it, `Some(None)` when
    /// anything may stand there.
    pub fn field(&self, name: &str) -> Option<Option<&Node>> {
        if let Some(node) = self.properties.get(name) {
            return Some(Some(node));
        }
        match &self.additional {
            Additional::Untold => None,
            Additional::Allowed(_) => Some(None),
            Additional::Schema(node) => Some(Some(node)),
        }
    }

    /// The schema of entries that are not listed.
    pub fn additional_schema(&self) -> Option<&Node> {
        match &self.additional {
            Additional::Schema(node) => Some(node),
            _ => None,
        }
    }

    /// `x-kubernetes-list-type`.
    pub fn list_type(&self) -> Option<&str> {
        self.merge.as_ref()?.list_type.as_deref()
    }

    /// `x-kubernetes-list-map-keys`.
    pub fn map_keys(&self) -> &[String] {
        self.merge.as_ref().map_or(&[], |merge| &merge.map_keys)
    }

    /// `x-kubernetes-map-type`.
    pub fn map_type(&self) -> Option<&str> {
        self.merge.as_ref()?.map_type.as_deref()
    }
}

/// The compiled schema of one version of a custom resource. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Schema {
    root: Arc<Node>,
    preserve_unknown_fields: bool,
}

impl Schema {
    /// Compiles the `openAPIV3Schema` of a stored definition; `null` stands for none.
    /// `preserve_unknown_fields` is the definition's own field of old: then nothing is pruned and
    /// no default filled.
    ///
    /// # Errors
    /// When it is no structural schema, which the rules of definitions refuse, or too deep or large.
    pub fn compile(schema: &Value, preserve_unknown_fields: bool) -> Result<Self, CompileError> {
        let mut root = Node::compile(schema)?;
        if !preserve_unknown_fields {
            default::prune_defaults(&mut root);
        }
        Ok(Self { root: Arc::new(root), preserve_unknown_fields })
    }

    /// The schema of whole objects.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Whether the definition keeps all unknown fields.
    pub fn preserves_unknown_fields(&self) -> bool {
        self.preserve_unknown_fields
    }

    /// Removes the fields that the schema does not know from a whole object; gives their paths, such
    /// as `spec.list[0].foo`, sorted. Paths that are more than a megabyte together are
    /// dropped without telling.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        if self.preserve_unknown_fields {
            return Vec::new();
        }
        self.root.prune(object, true)
    }

    /// Removes nulls where null may not stand and no default takes their place.
    pub fn prune_nulls(&self, object: &mut Value) {
        if !self.preserve_unknown_fields {
            self.root.prune_nulls(object);
        }
    }

    /// Fills the defaults of absent fields. It may be repeated.
    ///
    /// # Errors
    /// When the defaults are larger than any object may be; some are filled then.
    pub fn default(&self, object: &mut Value) -> Result<(), TooLarge> {
        if self.preserve_unknown_fields { Ok(()) } else { self.root.fill_defaults(object) }
    }
}
