//! Update: one compare-and-swap loop under PUT, PATCH and the subresources.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/registry/rest/update.go BeforeUpdate

use std::num::IntErrorKind;
use std::sync::Arc;

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::patch::gotext::quote;
use longshore_api::{Object, Reason, StatusError, meta_validation};
use longshore_store::Op;

use super::fields::{keep_times, shrink};
use super::{
    CONFLICT_RETRIES_MAX, Registry, Stored, WriteContext, dedup_owners, finish, with_version,
};
use crate::admission::{Attributes, Operation};
use crate::cache::{Entry, hub};

/// What the caller of an update decides.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpdateOptions {
    /// The object is made when it does not exist (if the resource allows it).
    pub allow_create: bool,
    /// The new object is a patched one: its uid is no precondition.
    pub patch: bool,
    /// The new object is an applied one: it is made when it does not exist, whatever the resource
    /// says.
    pub apply: bool,
}

const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl Registry {
    /// Changes an object: `change` makes the wanted state from the present one (`None` when the
    /// object does not exist and may be created). It runs again after each lost race.
    pub async fn update(
        &self,
        ctx: &WriteContext<'_>,
        name: &str,
        options: UpdateOptions,
        change: &(dyn Fn(Option<&Object>) -> Result<Object, StatusError> + Send + Sync),
    ) -> Result<Stored, StatusError> {
        self.hub().fresh().await.map_err(StatusError::internal)?;
        let mut present = ctx.served.cache.get(ctx.namespace, name);
        for _ in 0..CONFLICT_RETRIES_MAX {
            let Some(entry) = &present else {
                let may_create = ctx.resource().strategy.allow_create_on_update();
                if !options.allow_create || !(options.apply || may_create) {
                    return Err(ctx.not_found(name));
                }
                let mut new = change(None)?;
                if !options.patch {
                    let key = ctx.served.cache.key(ctx.namespace, name);
                    check_uid(ctx, name, &key, &new, None)?;
                }
                self.check_may_create(ctx, name)?;
                // Whoever changes what is not there may name a version.
                new.remove(&["metadata", "resourceVersion"]);
                return self.create(ctx, new).await;
            };
            match self.update_once(ctx, name, entry, options, change).await? {
                Ok(stored) => return Ok(stored),
                Err(fresh) => present = fresh.map(Arc::new),
            }
        }
        Err(ctx.conflict(name, MODIFIED))
    }

    /// Changes an object without the resource's rules: for subresources that write one fact of
    /// their own, such as the node of a pod. Admission does not run either; the caller has run it.
    pub async fn modify(
        &self,
        ctx: &WriteContext<'_>,
        name: &str,
        change: &(dyn Fn(&mut Object) -> Result<(), StatusError> + Send + Sync),
    ) -> Result<Object, StatusError> {
        self.hub().fresh().await.map_err(StatusError::internal)?;
        let mut present = ctx.served.cache.get(ctx.namespace, name);
        for _ in 0..CONFLICT_RETRIES_MAX {
            let Some(entry) = &present else { return Err(ctx.not_found(name)) };
            let mut object = ctx.native(entry.object()).await?;
            change(&mut object)?;
            if ctx.dry_run {
                return Ok(object);
            }
            let stored = ctx.storage(&object).await?;
            let written = self.swap(ctx.served, &entry.key, entry.revision, &stored).await?;
            match written {
                Ok(entry) => return Ok(with_version(object, entry.revision)),
                Err(fresh) => present = fresh.map(Arc::new),
            }
        }
        Err(ctx.conflict(name, MODIFIED))
    }

    async fn update_once(
        &self,
        ctx: &WriteContext<'_>,
        name: &str,
        entry: &Entry,
        options: UpdateOptions,
        change: &(dyn Fn(Option<&Object>) -> Result<Object, StatusError> + Send + Sync),
    ) -> Result<Result<Stored, Option<Entry>>, StatusError> {
        let mut old = ctx.native(entry.object()).await?;
        self.renew(ctx.resource(), &mut old)?;
        let mut new = ctx.with_conversions(|| change(Some(&old))).await?;
        if !options.patch {
            check_uid(ctx, name, &entry.key, &new, Some(&old))?;
        }
        self.fill_and_track(ctx, &mut new, Some(&old)).await?;
        let attributes = ctx.admission(Operation::Update, name);
        self.mutate(&attributes, &mut new, &old).await?;
        dedup_owners(&mut new, true, ctx.warnings);
        self.check_rights(ctx, name, &new, Some(&old))?;
        check_version(ctx, name, &new, &old)?;
        let reserved = self.take_service_parts(ctx, &mut new, Some(&old)).await?;
        prepare(ctx, &mut new, &old)?;
        let verb = if options.patch { "patch" } else { "update" };
        self.check_update(ctx, &new, &old, verb)?;
        // Also a write that is refused next is warned about.
        let strategy = &ctx.resource().strategy;
        ctx.warnings.lock().extend(match ctx.subresource {
            "" | "scale" => strategy.warnings(&new, Some(&old)),
            "status" => strategy.status_warnings(&new),
            _ => Vec::new(),
        });
        match ctx.extras.facade {
            None => self.admission.validate(&attributes, Some(&new), Some(&old)).await?,
            Some(facade) => {
                let (shown, before) = (facade.show(&new)?, facade.show(&old)?);
                self.admission.validate(&attributes, Some(&shown), Some(&before)).await?;
            }
        }
        self.charge(&attributes, &new, Some(&old)).await?;
        finish(ctx.resource(), &mut new);
        if !ctx.dry_run {
            // Links are not stored.
            new.remove(&["metadata", "selfLink"]);
        }
        keep_times(&mut new, &old);
        new.set(&["metadata", "resourceVersion"], entry.revision.to_string());
        if !ctx.dry_run {
            // What is stored has none, and so has what is read back.
            new.remove(&["metadata", "selfLink"]);
        }
        let encoded = ctx.served.cache.encode(&*ctx.storage(&new).await?);
        if ctx.dry_run || entry.is_stored_as(&encoded.0) {
            let object = ctx.answered(new, None).await?;
            return Ok(Ok(Stored { object, created: false, entry: None }));
        }
        let (key, expect) = (&entry.key, entry.revision);
        let mut written = if is_finished(&new) {
            let deleted = self.transact(ctx.served, key, expect, Op::Delete).await;
            deleted.map(|deleted| deleted.map(|revision| entry.at_revision(revision)))
        } else {
            self.swap_encoded(ctx.served, key, expect, encoded, new.is_deleting()).await
        };
        if let Err(error) = written {
            shrink(error, &mut new)?;
            written = self.swap(ctx.served, key, expect, &*ctx.storage(&new).await?).await;
        }
        let entry = match written? {
            Ok(entry) => entry,
            Err(fresh) => return Ok(Err(fresh)),
        };
        reserved.keep();
        let finished = is_finished(&new);
        if finished {
            self.services.release(ctx, &new);
        } else {
            self.services.release_changed(ctx, &new, &old);
        }
        self.release_addresses(ctx, &old, Some(&new).filter(|_| !finished)).await;
        let object = with_version(new, entry.revision);
        let object = ctx.answered(object, Some(&entry).filter(|_| !finished)).await?;
        Ok(Ok(Stored { object, created: false, entry: (!finished).then_some(entry) }))
    }

    /// Lets admission change the object, or what it is shown of it.
    async fn mutate(
        &self,
        attributes: &Attributes<'_>,
        new: &mut Object,
        old: &Object,
    ) -> Result<(), StatusError> {
        let Some(facade) = attributes.extras.facade else {
            return self.admission.mutate(attributes, Some(new), Some(old)).await;
        };
        let (mut shown, before) = (facade.show(new)?, facade.show(old)?);
        let unchanged = shown.clone();
        self.admission.mutate(attributes, Some(&mut shown), Some(&before)).await?;
        if shown != unchanged {
            facade.take(new, &shown)?;
        }
        Ok(())
    }

    /// Fails with 422 when the change breaks rules of metadata or of the resource.
    fn check_update(
        &self,
        ctx: &WriteContext<'_>,
        new: &Object,
        old: &Object,
        verb: &str,
    ) -> Result<(), StatusError> {
        ctx.judge(new, |new| self.update_errors(ctx, new, old, verb))
    }

    fn update_errors(
        &self,
        ctx: &WriteContext<'_>,
        new: &Object,
        old: &Object,
        verb: &str,
    ) -> ErrorList {
        let meta = Path::new("metadata");
        let namespaced = ctx.resource().namespaced();
        let mut errors =
            meta_validation::validate_object_meta(new, namespaced, &segment_rule, &meta);
        errors.extend(meta_validation::validate_object_meta_update(new, old, &meta));
        repeat_metadata(ctx, new, old, &mut errors);
        let context = ctx.strategy_context();
        errors.extend(self.claim_rights(ctx, new, Some(old), verb));
        errors.extend(ctx.resource().strategy.validate_update(&context, new, old));
        errors
    }
}

/// What the kind's rules tell of metadata besides.
fn repeat_metadata(ctx: &WriteContext<'_>, new: &Object, old: &Object, errors: &mut ErrorList) {
    let strategy = &ctx.resource().strategy;
    let mut rules = strategy.metadata_rules();
    if !ctx.subresource.is_empty() {
        // Subresources look at the changes only.
        rules.changes = u8::from(rules.whole + rules.changes > 0);
        rules.whole = 0;
    }
    let (path, namespaced) = (Path::new("metadata"), ctx.resource().namespaced());
    let name_rule = |name: &str, prefix: bool| strategy.validate_name(name, prefix);
    for run in 0..rules.whole + rules.changes {
        errors.extend(if run < rules.whole {
            meta_validation::validate_object_meta(new, namespaced, &name_rule, &path)
        } else {
            meta_validation::validate_object_meta_update(new, old, &path)
        });
        if rules.known_finalizers {
            errors.extend(meta_validation::validate_kube_finalizers(new, &path));
        }
    }
}

/// Whether nothing keeps a deleted object any longer.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/registry/generic/registry/store.go deleteWithoutFinalizers
fn is_finished(object: &Object) -> bool {
    object.is_deleting()
        && object.finalizers().is_empty()
        && object.int(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0) == 0
        && object.list(&["spec", "finalizers"]).is_empty()
}

/// The rule of names on update: what may stand in a path.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/api/validation/path/name.go
pub fn segment_rule(name: &str, _prefix: bool) -> Vec<String> {
    if matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"]
        .into_iter()
        .filter(|part| name.contains(part))
        .map(|part| format!("may not contain '{part}'"))
        .collect()
}

fn check_version(
    ctx: &WriteContext<'_>,
    name: &str,
    new: &Object,
    old: &Object,
) -> Result<(), StatusError> {
    let version = new.resource_version();
    if version.is_empty() || version == "0" {
        if ctx.resource().strategy.allow_unconditional_update() {
            return Ok(());
        }
        let path = Path::new("metadata").child("resourceVersion");
        let error = Error::invalid_text(&path, "0", "must be specified for an update");
        // upstream: registry/generic/registry/store.go Update has no kind at hand
        let (group, plural) = (&ctx.resource().group, &ctx.resource().plural);
        return Err(StatusError::invalid(group, plural, name, &[error]));
    }
    if let Err(error) = version.parse::<u64>() {
        let why = match error.kind() {
            IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let message = format!("strconv.ParseUint: parsing {}: {why}", quote(version));
        return Err(StatusError::new(Reason::Unknown, message));
    }
    if version != old.resource_version() {
        return Err(ctx.conflict(name, MODIFIED));
    }
    Ok(())
}

/// A uid in the new object is a precondition, also for an object that does not exist.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/storage/interfaces.go Preconditions.Check
fn check_uid(
    ctx: &WriteContext<'_>,
    name: &str,
    key: &[u8],
    new: &Object,
    old: Option<&Object>,
) -> Result<(), StatusError> {
    let actual = old.map_or("", Object::uid);
    if new.uid().is_empty() || new.uid() == actual {
        return Ok(());
    }
    // A dry run does not reach the storage, which puts the root before the key.
    let root = hub::ROOT.trim_end_matches('/').as_bytes();
    let key = if ctx.dry_run { key.strip_prefix(root).unwrap_or(key) } else { key };
    let conflict = StorageConflict { key, what: "UID", wanted: new.uid(), has: actual };
    Err(conflict.of(&ctx.resource().group, &ctx.resource().plural, name))
}

/// A write that is about another object or version than the stored one.
pub struct StorageConflict<'a> {
    /// Where the object is stored.
    pub key: &'a [u8],
    /// What differs: `UID` or `ResourceVersion`.
    pub what: &'a str,
    /// What the write wants it to be.
    pub wanted: &'a str,
    /// What it is.
    pub has: &'a str,
}

impl StorageConflict<'_> {
    /// As the answer to a write of an object.
    pub fn of(&self, group: &str, plural: &str, name: &str) -> StatusError {
        let Self { key, what, wanted, has } = self;
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {has}",
            String::from_utf8_lossy(key),
        );
        StatusError::conflict(group, plural, name, &why)
    }
}

/// Restores what no client may change.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/registry/rest/update.go BeforeUpdate
fn prepare(ctx: &WriteContext<'_>, new: &mut Object, old: &Object) -> Result<(), StatusError> {
    ctx.check_namespace(new)?;
    restore(new, old, "generation");
    ctx.resource().strategy.prepare_update(&ctx.strategy_context(), new, old);
    if new.uid().is_empty() {
        restore(new, old, "uid");
    }
    restore(new, old, "creationTimestamp");
    if old.is_deleting() {
        restore(new, old, "deletionTimestamp");
    }
    if new.get(&["metadata", "deletionGracePeriodSeconds"]).is_none() {
        restore(new, old, "deletionGracePeriodSeconds");
    }
    Ok(())
}

fn restore(new: &mut Object, old: &Object, field: &str) {
    match old.get(&["metadata", field]) {
        Some(value) => new.set(&["metadata", field], value.clone()),
        None => {
            new.remove(&["metadata", field]);
        }
    }
}
