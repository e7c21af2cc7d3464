//! Fields that hold one of two forms, which no Go type of its own tells: JSON schemas inside custom
//! resource definitions.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1/marshal.go

use super::{Field, Shape, Type};

/// What may stand in the place of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Union {
    /// A list of schemas.
    Schemas,
    /// A boolean.
    Bool,
    /// Lists of names, by name.
    Names,
}

/// The type of a schema.
const SCHEMA: &str = "apiextensions.k8s.io/v1.JSONSchemaProps";

impl Union {
    /// The union that a field is.
    pub fn of(ty: &Type, field: &Field) -> Option<Self> {
        if ty.name != SCHEMA {
            return None;
        }
        match field.json_name {
            "items" => Some(Self::Schemas),
            "additionalItems" | "additionalProperties" => Some(Self::Bool),
            "dependencies" => Some(Self::Names),
            _ => None,
        }
    }
}

impl Field {
    /// Whether a list is a message of its own in protobuf, with the items in field 1, although it
    /// stands right in a field.
    ///
    /// upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/types.go Verbs
    pub fn is_boxed(&self) -> bool {
        matches!(self.shape, Shape::List(_)) && self.go_type == Some("v1.Verbs")
    }
}
