//! What admission plugins know about a request besides the objects.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use longshore_api::{Gvk, Object, StatusError, names};
use longshore_resources::Resource;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::audit::Level;
use crate::auth::UserInfo;
use crate::registry::Conversions;

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

impl Operation {
    /// As rules and reviews name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// Texts for the audit log, by key, each with the least level of a log that may hold it. The first
/// text of a key stands.
pub type Annotations = Mutex<BTreeMap<String, (Level, String)>>;

/// How admission sees an object that is written through another kind, such as a scale.
pub trait Facade: Send + Sync {
    /// The object as it is shown.
    ///
    /// # Errors
    /// When it cannot be shown in this way.
    fn show(&self, object: &Object) -> Result<Object, StatusError>;

    /// Takes over what admission has changed in what it was shown.
    ///
    /// # Errors
    /// When the change cannot be made.
    fn take(&self, object: &mut Object, shown: &Object) -> Result<(), StatusError>;
}

/// What a request says besides its object.
#[derive(Clone, Copy, Default)]
pub struct Extras<'a> {
    /// Its options, without their kind.
    pub options: Option<&'a Value>,
    /// Where texts for the audit log go.
    pub annotations: Option<&'a Annotations>,
    /// The object in other versions.
    pub conversions: Option<&'a Conversions>,
    /// None for an object that is shown as it is.
    pub facade: Option<&'a dyn Facade>,
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
    /// What else it says.
    pub extras: Extras<'a>,
    /// What mutating admission remembers of this request.
    pub round: Option<&'a Round>,
}

/// What mutating admission remembers of a request: plugins run a second time when one of them has
/// changed the object behind the backs of others.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/admission/reinvocation.go
#[derive(Default)]
pub struct Round {
    again: AtomicBool,
    second: AtomicBool,
    /// What the mutating webhooks remember.
    pub webhooks: Mutex<super::webhook::Called>,
    /// What the mutating policies remember.
    pub policies: Mutex<super::policies::mutating::Called>,
}

impl Round {
    /// All plugins shall run once more.
    pub fn ask_again(&self) {
        self.again.store(true, Ordering::Relaxed);
    }

    /// Whether this is the second time.
    pub fn is_second(&self) -> bool {
        self.second.load(Ordering::Relaxed)
    }

    /// Begins the second time, if somebody has asked for it.
    pub(super) fn begin_second(&self) -> bool {
        let again = self.again.load(Ordering::Relaxed);
        self.second.store(again, Ordering::Relaxed);
        again
    }
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

    /// The kind of the object that the request is about.
    pub fn kind(&self) -> Gvk {
        let sub = self.resource.subresource(self.subresource);
        sub.map_or_else(|| self.resource.gvk(), |sub| sub.kind.clone())
    }

    /// The options of the request as an object; null for those that have none.
    pub fn options(&self) -> Value {
        let kind = match self.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        for (key, value) in self.extras.options.and_then(Value::as_object).into_iter().flatten() {
            if !matches!(key.as_str(), "kind" | "apiVersion") {
                options[key] = value.clone();
            }
        }
        options
    }

    /// Adds a text for the audit log.
    pub fn annotate(&self, key: String, text: String) {
        self.annotate_from(Level::Metadata, key, text);
    }

    /// Adds a text for audit logs from a level on: those below may not hold what objects do.
    pub fn annotate_from(&self, level: Level, key: String, text: String) {
        let Some(annotations) = self.extras.annotations else { return };
        // upstream: staging/src/k8s.io/apiserver/pkg/admission/attributes.go checkKeyFormat
        if !key.contains('/') || !names::is_qualified_name(&key).is_empty() {
            tracing::warn!(key, "an audit annotation has an invalid key and is left out");
            return;
        }
        annotations.lock().entry(key).or_insert((level, text));
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
