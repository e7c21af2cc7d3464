//! What a resource may say about itself: the hooks that the generic registry calls.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/registry/rest/{create,update,delete}.go

use std::collections::BTreeMap;

use jiff::Timestamp;
use longshore_api::managed::Filter;
use longshore_api::{Object, field::ErrorList};
use serde_json::Value;

use crate::table::Heading;

/// Takes texts for `Warning` headers while rules are checked.
pub trait Warnings: Sync {
    /// Adds a text.
    fn add(&self, text: String);
}

/// Nobody listens.
#[derive(Clone, Copy, Debug)]
pub struct Unheard;

impl Warnings for Unheard {
    fn add(&self, _text: String) {}
}

/// What a hook may know besides the objects.
#[derive(Clone)]
pub struct Context<'a> {
    /// The time of the request.
    pub now: Timestamp,
    /// Who asks; for fields that record the requester.
    pub user: &'a str,
    /// The requester's unique name.
    pub uid: &'a str,
    /// The groups of the requester.
    pub groups: &'a [String],
    /// What else is known of the requester.
    pub extra: &'a BTreeMap<String, Vec<String>>,
    /// The subresource written to; empty for the resource itself.
    pub subresource: &'a str,
    /// Who is told of broken rules that nobody has to mend.
    pub warnings: &'a dyn Warnings,
}

/// What a delete hook may know.
#[derive(Clone, Debug)]
pub struct DeleteContext {
    /// The time of the request.
    pub now: Timestamp,
    /// `gracePeriodSeconds` of the request.
    pub grace_period_seconds: Option<i64>,
}

/// What upstream's rules of a kind say about metadata besides the registry. On update they repeat
/// what the registry has told already, and clients see every error as often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataRules {
    /// How often the rules of a whole object run for a changed one.
    pub whole: u8,
    /// How often the rules of changes do.
    pub changes: u8,
    /// Whether finalizers have to have a domain or a known name.
    pub known_finalizers: bool,
    /// Whether the kind's own rules look at the metadata of a new object. If not, it is told only of an object that
    /// breaks no other rule.
    pub on_create: bool,
}

impl MetadataRules {
    /// The kind's own rules look at metadata.
    pub const OWN: Self = Self { whole: 0, changes: 0, known_finalizers: true, on_create: true };
    /// The rules of changes run once more.
    pub const CHANGES: Self = Self { changes: 1, ..Self::OWN };
    /// The rules of a whole object run once more.
    pub const WHOLE: Self = Self { whole: 1, ..Self::OWN };
    /// Both run once more.
    pub const BOTH: Self = Self { whole: 1, changes: 1, ..Self::OWN };
    /// As [`MetadataRules::WHOLE`], with any finalizers.
    pub const GENERIC: Self = Self { known_finalizers: false, ..Self::WHOLE };
}

/// The rules of one resource. Every method has a default that suits a plain object without status.
///
/// Order on create: schema defaults, `default`, `prepare_create`, mutating admission,
/// metadata validation, `validate_create`, `canonicalize`. On update: the same with
/// `prepare_update` and `validate_update`. Only `default`, `prepare_*` and `canonicalize` may change
/// the object.
pub trait Strategy: Send + Sync + 'static {
    /// Whether the version differs from the one that is stored, so that the two methods below do
    /// something.
    fn converts(&self) -> bool {
        false
    }

    /// Makes an object of this resource's version the one that is stored. Versions of a resource
    /// share their storage; only those whose fields differ say something here.
    fn to_storage(&self, _object: &mut Object) {}

    /// The reverse of [`Strategy::to_storage`].
    #[expect(clippy::wrong_self_convention, reason = "the reverse of to_storage")]
    fn from_storage(&self, _object: &mut Object) {}

    /// Fills defaults that depend on other fields; fixed defaults are in the schema table.
    /// Also called on objects read from storage, so it must be idempotent.
    fn default(&self, _object: &mut Object) {}

    /// Clears what a client may not set on create (status) and sets what the server sets.
    fn prepare_create(&self, _ctx: &Context<'_>, _object: &mut Object) {}

    /// The broken rules of a new object (metadata is checked by the registry).
    fn validate_create(&self, _object: &Object) -> ErrorList {
        ErrorList::new()
    }

    /// Restores what a client may not change through this (sub)resource.
    fn prepare_update(&self, _ctx: &Context<'_>, _new: &mut Object, _old: &Object) {}

    /// The fields that a write through the resource or a subresource can change; the hooks reset
    /// the others, so nobody gets to manage them by it. The default suits kinds whose status
    /// only `status` changes.
    ///
    /// upstream: staging/src/k8s.io/apiserver/pkg/registry/rest/rest.go ResetFieldsStrategy
    fn written_fields(&self, subresource: &str) -> Filter {
        match subresource {
            "status" => Filter::Except(&[&["spec"]]),
            _ => Filter::Except(&[&["status"]]),
        }
    }

    /// The broken rules of a changed object. `ctx.subresource` says through what it was changed.
    fn validate_update(&self, _ctx: &Context<'_>, _new: &Object, _old: &Object) -> ErrorList {
        ErrorList::new()
    }

    /// Brings a valid object into the form that is stored and shown.
    fn canonicalize(&self, _object: &mut Object) {}

    /// What the kind's rules say about metadata.
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::OWN
    }

    /// The group that messages about broken rules name, when it is another one than the kind's.
    fn error_group(&self) -> Option<&'static str> {
        None
    }

    /// Warnings about what a client wrote that `prepare_create` changes.
    fn early_warnings(&self, _object: &Object) -> Vec<String> {
        Vec::new()
    }

    /// Texts for `Warning` headers on create and update.
    fn warnings(&self, _object: &Object, _old: Option<&Object>) -> Vec<String> {
        Vec::new()
    }

    /// Texts for `Warning` headers on a change of the status.
    fn status_warnings(&self, _object: &Object) -> Vec<String> {
        Vec::new()
    }

    /// The broken rules of a name; the default is a DNS subdomain name.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        crate::table::default_name_rule(name, prefix)
    }

    /// Field selectors besides `metadata.name` and `metadata.namespace`: name and value.
    fn selectable_fields(&self, _object: &Object) -> Vec<(&str, String)> {
        Vec::new()
    }

    /// The names that [`Strategy::selectable_fields`] gives, for rejecting others. A kind that has
    /// some and is not in namespaces does not select by `metadata.namespace`.
    fn selectable_field_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// The one of these fields by which many readers divide the objects among them, so that an index
    /// pays: each node reads its own.
    ///
    /// upstream: staging/src/k8s.io/apiserver/pkg/registry/generic/options.go StoreOptions TriggerFunc
    fn indexed_field(&self) -> Option<&'static str> {
        None
    }

    /// As [`Strategy::selectable_field_names`]; custom resources have names of their own.
    fn selectable_names(&self) -> Vec<&str> {
        self.selectable_field_names().to_vec()
    }

    /// The name that stands for another name of a field.
    fn canonical_field<'a>(&self, name: &'a str) -> &'a str {
        name
    }

    /// What is said about a field that cannot be selected by.
    ///
    /// upstream: staging/src/k8s.io/apimachinery/pkg/runtime/conversion.go
    /// DefaultMetaV1FieldSelectorConversion, pkg/apis/*/v1/conversion.go
    fn unsupported_field(&self, name: &str) -> String {
        if self.selectable_field_names().is_empty() {
            return format!(
                "{name:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            );
        }
        format!("field label not supported: {name}")
    }

    /// Table columns besides those every table has; `Name` is the first of them.
    fn columns(&self) -> Vec<Heading<'_>> {
        crate::table::default_columns()
    }

    /// The cells of one table row, one for each column.
    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        crate::table::default_row(object, now)
    }

    /// The condition of a table row, when the object is in a state of which clients are told.
    fn row_condition(&self, _object: &Object) -> Option<Value> {
        None
    }

    /// What the first deletion makes of an object instead of deleting it; false when it is
    /// deleted as usual.
    fn begin_deletion(&self, _object: &mut Object, _now: Timestamp) -> bool {
        false
    }

    /// For resources that end gracefully (pods): the grace period to use, or `None` to delete at
    /// once. Called with the stored object.
    fn grace_period(&self, _object: &Object, _ctx: &DeleteContext) -> Option<i64> {
        None
    }

    /// Whether a finished deletion answers with the object instead of a `Status`.
    fn returns_deleted(&self) -> bool {
        false
    }

    /// Why an object of this name is never deleted by a request for it alone.
    fn keeps(&self, _name: &str) -> Option<&'static str> {
        None
    }

    /// A text for a `Warning` header of a deletion that does not say what happens to dependents.
    fn orphan_warning(&self) -> Option<&'static str> {
        None
    }

    /// Whether dependents stay when a deletion does not say what happens to them.
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// Whether PUT to a missing name creates the object.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether PUT without a resourceVersion is allowed.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// How long an object lives after its last write, in seconds (events).
    fn ttl_seconds(&self) -> Option<u64> {
        None
    }
}
