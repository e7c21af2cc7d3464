//! The generic registry: create, read, update and delete for every resource, written once.
//!
//! Invariant: every write is a compare-and-swap whose preconditions, patch, defaulting, admission
//! and validation ran on the state that it replaces.
//!
//! upstream counterpart: staging/src/k8s.io/apiserver/pkg/registry/generic/registry/store.go

mod addresses;
mod claims;
mod create;
mod delete;
mod fields;
mod own;
mod quota;
mod services;
mod table;
mod update;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{Gvk, Object, StatusError, defaults, gostruct, gvk, meta_validation, schema};
use longshore_base::Clock;
use longshore_base::rng::Rng;
use longshore_resources::{Context, Resource, Warnings};
use longshore_store::{Op, Revision, Txn, TxnOutcome};
use serde_json::Value;

pub use delete::{DeleteOptions, Deleted, Preconditions};
pub use fields::track_unstored;
pub use own::Own;
pub use services::ServiceRanges;
pub use table::{Served, ServedTable};
pub use update::{StorageConflict, UpdateOptions, segment_rule};
pub use versions::{Conversions, convert, show, show_all, show_change, shown};

use crate::admission::{Admission, Attributes, Extras, Operation};
use crate::auth::{Authorization, UserInfo};
use crate::cache::entry::name_in;
use crate::cache::{Entry, Hub, Parts};

/// Writes are retried this often when others write the same object at the same time.
const CONFLICT_RETRIES_MAX: usize = 32;
/// The largest object the store takes, in bytes; etcd's default request limit.
pub const OBJECT_BYTES_MAX: usize = 1_572_864;
/// What is told about a larger one.
const TOO_LARGE: &str = "etcdserver: request is too large";

/// Who writes what, and when.
pub struct WriteContext<'a> {
    /// The resource.
    pub served: &'a Served,
    /// The requester.
    pub user: &'a UserInfo,
    /// The time of the request.
    pub now: Timestamp,
    /// Namespace of the request; empty for cluster scope.
    pub namespace: &'a str,
    /// The subresource written through; empty for none.
    pub subresource: &'a str,
    /// The name of the field manager; none when the managed fields of the objects that are
    /// written are right already.
    pub manager: Option<&'a str>,
    /// Do everything except storing.
    pub dry_run: bool,
    /// Collects texts for `Warning` headers.
    pub warnings: &'a parking_lot::Mutex<Vec<String>>,
    /// What else admission is told.
    pub extras: Extras<'a>,
}

impl WriteContext<'_> {
    fn resource(&self) -> &Resource {
        &self.served.resource
    }

    fn strategy_context(&self) -> Context<'_> {
        Context {
            now: self.now,
            user: &self.user.name,
            uid: &self.user.uid,
            groups: &self.user.groups,
            extra: &self.user.extra,
            subresource: self.subresource,
            warnings: self,
        }
    }

    /// What admission is told.
    pub fn admission<'a>(&'a self, operation: Operation, name: &'a str) -> Attributes<'a> {
        Attributes {
            resource: self.resource(),
            subresource: self.subresource,
            operation,
            namespace: self.namespace,
            name,
            user: self.user,
            dry_run: self.dry_run,
            now: self.now,
            warnings: self.warnings,
            extras: self.extras,
            round: None,
        }
    }

    /// Gives a new object the namespace of the request, or refuses another one.
    ///
    /// upstream: staging/src/k8s.io/apiserver/pkg/registry/rest/meta.go
    pub(crate) fn check_namespace(&self, object: &mut Object) -> Result<(), StatusError> {
        if !self.resource().namespaced() {
            object.remove(&["metadata", "namespace"]);
            return Ok(());
        }
        let wanted = self.namespace;
        if object.namespace().is_empty() && !wanted.is_empty() {
            object.set(&["metadata", "namespace"], wanted);
        }
        if object.namespace() != wanted {
            return Err(StatusError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        Ok(())
    }

    pub(crate) fn not_found(&self, name: &str) -> StatusError {
        StatusError::not_found(&self.resource().group, &self.resource().plural, name)
    }

    pub(crate) fn conflict(&self, name: &str, why: &str) -> StatusError {
        StatusError::conflict(&self.resource().group, &self.resource().plural, name, why)
    }

    /// 422 of an object that breaks rules. What is empty is absent for the rules; only their words
    /// tell it as it was given.
    fn judge(
        &self,
        object: &Object,
        rules: impl Fn(&Object) -> ErrorList,
    ) -> Result<(), StatusError> {
        let mut errors = rules(object);
        if !errors.is_empty()
            && let Some(given) = object.as_given()
        {
            let told = rules(&given);
            let same = |(a, b): (&Error, &Error)| a.kind == b.kind && a.field == b.field;
            if told.len() == errors.len() && told.iter().zip(&errors).all(same) {
                errors = told;
            }
        }
        self.invalid(object, errors)
    }

    /// 422 of an object when there are errors. Custom objects may say that they are of another
    /// kind, which then is told.
    fn invalid(&self, object: &Object, mut errors: ErrorList) -> Result<(), StatusError> {
        if errors.is_empty() {
            return Ok(());
        }
        let mut gvk = self.resource().gvk();
        if self.resource().custom.is_some() {
            let told = gvk::split_api_version(object.api_version()).unwrap_or_default();
            gvk = Gvk::new(told.0, told.1, object.kind());
        } else {
            gostruct::render(&gvk.group, &gvk.version, &gvk.kind, &mut errors);
        }
        let name = object.name();
        let group = self.resource().strategy.error_group().unwrap_or(&gvk.group);
        Err(StatusError::invalid(group, &gvk.kind, name, &errors))
    }
}

impl Warnings for WriteContext<'_> {
    fn add(&self, text: String) {
        self.warnings.lock().push(text);
    }
}

/// An object together with the revision it was read or written at.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The object, with its resource version unless the write was a dry run.
    pub object: Object,
    /// Whether a write made the object.
    pub created: bool,
    /// The object as it was stored; none unless it was.
    pub entry: Option<Entry>,
}

/// The registry of all resources.
pub struct Registry {
    hub: Arc<Hub>,
    table: Arc<ArcSwap<ServedTable>>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    admission: Admission,
    authorization: Arc<Authorization>,
    services: ServiceRanges,
}

impl Registry {
    /// A registry over loaded caches.
    pub fn new(
        hub: Arc<Hub>,
        table: Arc<ArcSwap<ServedTable>>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        admission: Admission,
        authorization: Arc<Authorization>,
        services: ServiceRanges,
    ) -> Self {
        Self { hub, table, clock, rng, admission, authorization, services }
    }

    /// The caches' hub.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Nobody gives away rights that they do not have.
    fn check_rights(
        &self,
        ctx: &WriteContext<'_>,
        name: &str,
        new: &Object,
        old: Option<&Object>,
    ) -> Result<(), StatusError> {
        if ctx.resource().group != "rbac.authorization.k8s.io" {
            return Ok(());
        }
        let plural = &ctx.resource().plural;
        self.authorization.check_rbac_write(ctx.user, plural, ctx.namespace, name, new, old)
    }

    /// The admission plugins, for subresources that write on their own.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// All served resources as of now.
    pub fn table(&self) -> arc_swap::Guard<Arc<ServedTable>> {
        self.table.load()
    }

    /// Serves another table from now on.
    pub fn set_table(&self, table: ServedTable) {
        self.table.store(Arc::new(table));
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// One object as of now.
    pub async fn get(
        &self,
        served: &Served,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<Entry>, StatusError> {
        self.hub.fresh().await.map_err(StatusError::internal)?;
        served.cache.get(namespace, name).ok_or_else(|| {
            StatusError::not_found(&served.resource.group, &served.resource.plural, name)
        })
    }

    /// Writes one object if its key is still at `expect`. `Err(Some(entry))` holds the present
    /// state after a lost race, `Err(None)` says that the object is gone.
    async fn swap(
        &self,
        served: &Served,
        key: &Bytes,
        expect: u64,
        object: &Object,
    ) -> Result<Result<Entry, Option<Entry>>, StatusError> {
        let encoded = served.cache.encode(object);
        self.swap_encoded(served, key, expect, encoded, object.is_deleting()).await
    }

    async fn swap_encoded(
        &self,
        served: &Served,
        key: &Bytes,
        expect: u64,
        (value, parts): (Bytes, Parts),
        ends: bool,
    ) -> Result<Result<Entry, Option<Entry>>, StatusError> {
        if value.len() > OBJECT_BYTES_MAX {
            return Err(StatusError::new(longshore_api::Reason::Unknown, TOO_LARGE));
        }
        let ttl = served.resource.strategy.ttl_seconds().map(Duration::from_secs);
        let announcement = self.hub.announce(&value, parts.clone());
        let op = Op::Put { value: value.clone(), ttl, ends };
        let written = self.transact(served, key, expect, op).await?;
        Ok(written.map(|revision| {
            announcement.committed();
            Entry::new(key, &value, revision, parts)
        }))
    }

    async fn transact(
        &self,
        served: &Served,
        key: &Bytes,
        expect: u64,
        op: Op,
    ) -> Result<Result<u64, Option<Entry>>, StatusError> {
        // When a definition has let go of its last object, no new one may come.
        let _creating = match served.resource.custom {
            Some(_) if expect == 0 => {
                let guard = served.cache.begin_create().await;
                Some(guard.ok_or_else(|| terminating(&served.resource, name_in(key)))?)
            }
            _ => None,
        };
        let txn = Txn { key: key.clone(), expect: Revision(expect), op };
        match self.hub.store().txn(txn).await.map_err(refused)? {
            TxnOutcome::Committed(revision) => Ok(Ok(revision.0)),
            TxnOutcome::Conflict(None) => Ok(Err(None)),
            TxnOutcome::Conflict(Some(kv)) => {
                let entry = served
                    .cache
                    .decode(&kv.key, &kv.value, kv.mod_revision.0)
                    .map_err(StatusError::internal)?;
                Ok(Err(Some(entry)))
            }
        }
    }

    /// Fills the fixed defaults of a kind.
    pub fn apply_defaults(&self, gvk: &Gvk, object: &mut Object) {
        by_type(gvk, object, defaults::apply);
    }

    /// Fills what a present object lacks that was stored by an older server. Custom objects were
    /// filled when they were read.
    fn renew(&self, resource: &Resource, object: &mut Object) -> Result<(), StatusError> {
        if resource.custom.is_none() {
            self.fill(resource, object)?;
            complete(resource, object);
        }
        Ok(())
    }

    /// Fills fixed and computed defaults.
    fn fill(&self, resource: &Resource, object: &mut Object) -> Result<(), StatusError> {
        if let Some(model) = &resource.model {
            model.fill(object).map_err(|why| {
                StatusError::new(longshore_api::Reason::RequestEntityTooLarge, why.to_string())
            })?;
        }
        resource.strategy.default(object);
        Ok(())
    }

    /// Fills a new state and records who wrote it. What answers always show comes last: until
    /// then an empty list is not an absent one.
    async fn fill_and_track(
        &self,
        ctx: &WriteContext<'_>,
        new: &mut Object,
        live: Option<&Object>,
    ) -> Result<(), StatusError> {
        self.fill(ctx.resource(), new)?;
        let untracked = &*new;
        let track = || {
            let mut tracked = untracked.clone();
            self.track(ctx, &mut tracked, live);
            tracked
        };
        *new = if ctx.served.converter.is_some() {
            ctx.with_conversions(track).await
        } else {
            let mut tracked = std::mem::take(new);
            self.track(ctx, &mut tracked, live);
            tracked
        };
        complete(ctx.resource(), new);
        Ok(())
    }

    /// Fails with 422 when metadata or the resource's own rules are broken.
    fn check_create(&self, ctx: &WriteContext<'_>, object: &Object) -> Result<(), StatusError> {
        ctx.judge(object, |object| self.create_errors(ctx, object))
    }

    fn create_errors(&self, ctx: &WriteContext<'_>, object: &Object) -> ErrorList {
        let resource = ctx.resource();
        let (strategy, path) = (&resource.strategy, Path::new("metadata"));
        let rules = strategy.metadata_rules();
        let metadata = |name_rule: &dyn Fn(&str, bool) -> Vec<String>| {
            meta_validation::validate_object_meta(object, resource.namespaced(), name_rule, &path)
        };
        let mut errors = ErrorList::new();
        if rules.on_create {
            errors.extend(metadata(&|name, prefix| strategy.validate_name(name, prefix)));
            if rules.known_finalizers {
                errors.extend(meta_validation::validate_kube_finalizers(object, &path));
            }
        }
        errors.extend(self.claim_rights(ctx, object, None, "create"));
        errors.extend(strategy.validate_create(object));
        // All but the rule of names has been looked at already.
        let generate_name = object.str(&["metadata", "generateName"]);
        let known = rules.on_create
            && segment_rule(object.name(), false).is_empty()
            && segment_rule(generate_name, true).is_empty();
        if known || !errors.is_empty() { errors } else { metadata(&segment_rule) }
    }
}

/// What a client is told of a write that the store did not make. No room is told as upstream tells
/// what etcd says of it: as an error that nothing is known of but its message.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/status.go
fn refused(error: longshore_store::Error) -> StatusError {
    match error {
        longshore_store::Error::NoSpace(_) => {
            StatusError::new(longshore_api::Reason::Unknown, error.to_string())
        }
        _ => StatusError::internal(error),
    }
}

/// Fills what answers always show, after the last hook that may drop fields.
fn finish(resource: &Resource, object: &mut Object) {
    resource.strategy.canonicalize(object);
    complete(resource, object);
}

/// Fills what answers always show.
fn complete(resource: &Resource, object: &mut Object) {
    if let Some(model) = &resource.model {
        model.complete(object);
    }
}

/// Changes an object by what is known of its type.
fn by_type(gvk: &Gvk, object: &mut Object, change: fn(&'static schema::Type, &mut Value)) {
    if let Some(ty) = schema::kind(&gvk.group, &gvk.version, &gvk.kind) {
        object.change(|value| change(ty, value));
    }
}

/// Drops repeated owner references, with a warning.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/rest.go dedupOwnerReferences
pub(crate) fn dedup_owners(
    object: &mut Object,
    after_admission: bool,
    warnings: &parking_lot::Mutex<Vec<String>>,
) {
    let path = ["metadata", "ownerReferences"];
    let owners = object.list(&path);
    if owners.iter().enumerate().all(|(at, owner)| !owners[..at].contains(owner)) {
        return;
    }
    let mut kept: Vec<Value> = Vec::new();
    let mut repeated = Vec::new();
    for owner in owners {
        if kept.contains(owner) {
            repeated.push(owner["uid"].as_str().unwrap_or("").to_owned());
        } else {
            kept.push(owner.clone());
        }
    }
    object.set(&path, kept);
    let when = if after_admission { " after mutating admission happens" } else { "" };
    warnings.lock().push(format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        repeated.join(", ")
    ));
}

/// 403 for a new object of a definition that is being deleted.
fn terminating(resource: &Resource, name: &str) -> StatusError {
    let why = "create not allowed while custom resource definition is terminating";
    StatusError::forbidden(&resource.group, &resource.plural, name, why)
}

/// Sets the resource version that a write got.
fn with_version(mut object: Object, revision: u64) -> Object {
    object.set(&["metadata", "resourceVersion"], revision.to_string());
    object
}

/// A time as metadata shows it: whole seconds.
pub fn rfc3339(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}
