//! What admission plugins know about a request besides the objects.

use jiff::Timestamp;
use longshore_api::{Object, StatusError};
use longshore_resources::Resource;
use parking_lot::Mutex;

use crate::auth::UserInfo;

/// What a request does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// POST, or PUT or PATCH that creates.
    Create,
    /// PUT or PATCH.
    Update,
    /// DELETE.
    Delete,
    /// exec, attach, port-forward, proxy.
    Connect,
}

/// A request that passed authorization.
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    /// The resource written to.
    pub resource: &'a Resource,
    /// The subresource; empty for the resource itself.
    pub subresource: &'a str,
    /// What is done.
    pub operation: Operation,
    /// Namespace; empty for cluster scope.
    pub namespace: &'a str,
    /// Name; empty for a create with `generateName`.
    pub name: &'a str,
    /// Who asks.
    pub user: &'a UserInfo,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The time of the request.
    pub now: Timestamp,
    /// Texts for `Warning` headers.
    pub warnings: &'a Mutex<Vec<String>>,
}

impl Attributes<'_> {
    /// Whether the request is about this resource itself (no subresource).
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.is_any(group, resource)
    }

    /// Whether the request is about this resource or one of its subresources.
    pub fn is_any(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.plural == resource
    }

    /// Whether an object is made.
    pub fn creates(&self) -> bool {
        self.operation == Operation::Create
    }

    /// Whether an object is changed.
    pub fn updates(&self) -> bool {
        self.operation == Operation::Update
    }

    /// Adds a text for a `Warning` header.
    pub fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().push(text.into());
    }

    /// The 403 that names the object.
    ///
    /// upstream: staging/src/k8s.io/apiserver/pkg/admission/errors.go
    pub fn forbidden(&self, object: Option<&Object>, why: &str) -> StatusError {
        let own = object.map_or("", Object::name);
        let generated = object.map_or("", |o| o.str(&["metadata", "generateName"]));
        let name = [self.name, own, generated, "Unknown"].into_iter().find(|n| !n.is_empty());
        let name = name.unwrap_or("Unknown");
        StatusError::forbidden(&self.resource.group, &self.resource.plural, name, why)
    }
}
