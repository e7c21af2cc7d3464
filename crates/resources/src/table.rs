//! The description of a resource: what the routes, discovery, OpenAPI and printers derive from.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use longshore_api::{Gvk, Gvr, Object};
use serde_json::Value;

use crate::strategy::Strategy;

/// Text that is static for built-in resources and owned for custom ones.
pub type Text = Cow<'static, str>;

/// Whether objects live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One set of names for the whole cluster.
    Cluster,
    /// One set of names for each namespace.
    Namespaced,
}

/// A subresource such as `status`, `scale` or `log`.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Its name in the path.
    pub name: Text,
    /// The kind it reads and writes; may differ from the resource's (`autoscaling/v1 Scale`).
    pub kind: Gvk,
    /// Verbs in discovery order.
    pub verbs: Vec<Text>,
}

/// One served resource.
#[derive(Clone)]
pub struct Resource {
    /// API group; empty for core.
    pub group: Text,
    /// Version.
    pub version: Text,
    /// Lower-case plural.
    pub plural: Text,
    /// Lower-case singular.
    pub singular: Text,
    /// Kind.
    pub kind: Text,
    /// Short names.
    pub short_names: Vec<Text>,
    /// Categories such as `all`.
    pub categories: Vec<Text>,
    /// Namespaced or not.
    pub scope: Scope,
    /// Verbs in discovery order.
    pub verbs: Vec<Text>,
    /// Subresources by name.
    pub subresources: Vec<Subresource>,
    /// The storage location under `/registry/`, such as `pods` or `services/specs`. Versions of
    /// one resource share it.
    pub storage: Text,
    /// The rules.
    pub strategy: Arc<dyn Strategy>,
}

impl Resource {
    /// The kind's full name.
    pub fn gvk(&self) -> Gvk {
        Gvk::new(&self.group, &self.version, &self.kind)
    }

    /// The resource's full name.
    pub fn gvr(&self) -> Gvr {
        Gvr::new(&self.group, &self.version, &self.plural)
    }

    /// Whether objects live in a namespace.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether the resource serves a verb.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// The subresource with this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

/// One table column.
///
/// upstream: metav1.TableColumnDefinition
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `date`...
    pub kind: &'static str,
    /// OpenAPI format; `name` for the name column.
    pub format: &'static str,
    /// What the column shows.
    pub description: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

/// The columns of resources that define none: name and age.
pub fn default_columns() -> Vec<Column> {
    vec![
        Column {
            name: "Name",
            kind: "string",
            format: "name",
            description: "Name of the object",
            priority: 0,
        },
        Column {
            name: "Created At",
            kind: "date",
            format: "",
            description: "Time of creation",
            priority: 0,
        },
    ]
}

/// The row that goes with [`default_columns`].
pub fn default_row(object: &Object, _now: Timestamp) -> Vec<Value> {
    vec![object.name().into(), object.str(&["metadata", "creationTimestamp"]).into()]
}

/// The default name rule: a DNS subdomain; with `prefix` a trailing dash is allowed.
pub fn default_name_rule(_name: &str, _prefix: bool) -> Vec<String> {
    Vec::new()
}
