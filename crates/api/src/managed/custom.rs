//! What apply knows about the form of custom resources: their structural schemas as it needs them.
//!
//! upstream: k8s.io/kube-openapi/pkg/schemaconv/openapi.go,
//! staging/src/k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder/builder.go

use serde_json::Value;

use super::schema::{Atom, Declared, Keys, List, Map, Ref, ScalarKind};
use crate::schema::type_named;
use crate::structural::{Additional, Kind, Node, Schema};

/// A place in a structural schema.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    node: &'a Node,
    /// Whether fields that nobody lists may stand here: something around says so.
    open: bool,
    /// Whether it is an object of its own, with metadata.
    object: bool,
}

impl<'a> Place<'a> {
    /// A whole object.
    pub fn root(schema: &'a Schema) -> Self {
        // An object of which nothing is known has no metadata either.
        let object = *schema.root() != Node::default();
        Self { node: schema.root(), open: schema.preserves_unknown_fields(), object }.enter()
    }

    fn enter(self) -> Self {
        Self { open: self.open || self.node.preserve_unknown_fields, ..self }
    }

    fn below(self, node: &'a Node) -> Ref<'a> {
        let place = Self { node, open: self.open, object: node.embedded_resource };
        Ref::Structural(place.enter())
    }

    pub fn atom(self) -> Atom<'a> {
        let scalar = match &self.node.kind {
            Kind::Array => return Atom { list: Some(self.list()), ..Atom::default() },
            Kind::Object => return Atom { map: Some(self.map()), ..Atom::default() },
            // Nothing is known of the top of an object without a schema.
            Kind::Any if !self.object && self.is_bare() => return Ref::Deduced.atom(),
            Kind::Any => {
                let (list, map) = (Some(self.list()), Some(self.map()));
                return Atom { scalar: Some(ScalarKind::Any), list, map };
            }
            Kind::Integer | Kind::Number => ScalarKind::Numeric,
            Kind::Boolean => ScalarKind::Boolean,
            Kind::String => {
                let format = self.node.values.as_ref().map_or("", |values| &values.format);
                if matches!(format, "" | "byte") { ScalarKind::String } else { ScalarKind::Any }
            }
            Kind::Other(_) => ScalarKind::Any,
        };
        Atom { scalar: Some(scalar), ..Atom::default() }
    }

    /// Whether the schema says nothing of what is below.
    fn is_bare(self) -> bool {
        self.node.properties.is_empty()
            && self.node.items.is_none()
            && self.node.additional == Additional::Untold
            && self.node.merge.is_none()
    }

    fn list(self) -> List<'a> {
        let (associative, keys) = match self.node.list_type() {
            Some("set") => (true, &[][..]),
            Some("map") => (true, self.node.map_keys()),
            _ => (false, &[][..]),
        };
        let item = self.node.items.as_deref().map_or(Ref::Untyped, |node| self.below(node));
        List { associative, keys: Keys::Custom(keys), item }
    }

    fn map(self) -> Map<'a> {
        let element = match &self.node.additional {
            Additional::Schema(node) => Some(self.below(node)),
            Additional::Allowed(allowed) => allowed.then_some(Ref::Deduced),
            Additional::Untold => {
                let free = self.open || (self.node.properties.is_empty() && !self.object);
                free.then_some(Ref::Deduced)
            }
        };
        let atomic = self.node.map_type() == Some("atomic");
        Map { fields: Declared::Custom(self), atomic, element }
    }

    /// The form of a listed field, also of those that every object has.
    pub fn field(self, name: &str) -> Option<Ref<'a>> {
        if self.object {
            let meta = type_named("meta/v1.ObjectMeta");
            match name {
                "metadata" => return meta.map(Ref::Object),
                "apiVersion" | "kind" => {
                    let types = type_named("meta/v1.TypeMeta")?;
                    return types.field(name).map(|field| Ref::Known(field.shape, Some(field)));
                }
                _ => {}
            }
        }
        self.node.properties.get(name).map(|node| self.below(node))
    }

    /// The default of a listed field.
    pub fn default_of(self, name: &str) -> Option<Value> {
        self.node.properties.get(name)?.default.clone()
    }
}

#[cfg(test)]
mod tests;
