//! Delete: at once, gracefully, or by way of finalizers.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/registry/rest/delete.go BeforeDelete and
//! pkg/registry/generic/registry/store.go Delete

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use longshore_api::{Object, StatusError};
use longshore_resources::DeleteContext;
use longshore_store::Op;
use serde_json::Value;

use super::{CONFLICT_RETRIES_MAX, Registry, WriteContext, rfc3339, with_version};
use crate::admission::Operation;
use crate::cache::Entry;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What must hold for a deletion to happen.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    /// The object's uid.
    pub uid: Option<String>,
    /// The object's resource version.
    pub resource_version: Option<String>,
}

/// The decoded `DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// `gracePeriodSeconds`.
    pub grace_period_seconds: Option<i64>,
    /// `preconditions`.
    pub preconditions: Preconditions,
    /// `propagationPolicy`, or what `orphanDependents` stands for.
    pub propagation: Option<String>,
    /// `orphanDependents: false` was asked for: a deletion under way is answered with 202.
    pub cascades: bool,
    /// The options as they were given.
    pub given: Value,
    /// The object is one of many that are deleted with one request, which names none.
    pub of_collection: bool,
    /// Admission is not asked: it has admitted what the deletion is a part of.
    pub admitted: bool,
}

/// How a deletion ended.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// The object is gone; its last state.
    Gone(Object),
    /// The object is marked and goes later; its present state.
    Pending(Object),
}

impl Registry {
    /// Deletes an object or marks it for deletion.
    pub async fn delete(
        &self,
        ctx: &WriteContext<'_>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, StatusError> {
        self.hub().fresh().await.map_err(StatusError::internal)?;
        let mut present = ctx.served.cache.get(ctx.namespace, name);
        let mut marked = None;
        for _ in 0..CONFLICT_RETRIES_MAX {
            let Some(entry) = &present else {
                // Who sees the mark may be faster to delete the object.
                return marked.map(Deleted::Gone).ok_or_else(|| ctx.not_found(name));
            };
            match self.delete_once(ctx, name, entry, options, &mut marked).await? {
                Ok(deleted) => return Ok(deleted),
                Err(fresh) => present = fresh.map(Arc::new),
            }
        }
        Err(ctx.conflict(name, "the object changes too quickly to be deleted"))
    }

    async fn delete_once(
        &self,
        ctx: &WriteContext<'_>,
        name: &str,
        entry: &Entry,
        options: &DeleteOptions,
        seen: &mut Option<Object>,
    ) -> Result<Result<Deleted, Option<Entry>>, StatusError> {
        let old = ctx.native(entry.object()).await?;
        let namespace = ctx.resource().group.is_empty() && ctx.resource().plural == "namespaces";
        if namespace {
            check_namespace_preconditions(name, &old, &options.preconditions)?;
        } else {
            check_preconditions(ctx, name, &old, &options.preconditions)?;
        }
        if !options.admitted {
            let asked = if options.of_collection { "" } else { name };
            let mut attributes = ctx.admission(Operation::Delete, asked);
            attributes.extras.options = Some(&options.given);
            self.admission.mutate(&attributes, None, Some(&old)).await?;
            self.admission.validate(&attributes, None, Some(&old)).await?;
        }
        let mut new = old.clone();
        let waits = if namespace && (!old.is_deleting() || holds_content(&old)) {
            end_namespace(ctx, &mut new, options);
            true
        } else if !old.is_deleting() && ctx.resource().strategy.begin_deletion(&mut new, ctx.now) {
            true
        } else {
            mark(ctx, &mut new, options)
        };
        if waits {
            if ctx.dry_run || new == old {
                return Ok(Ok(Deleted::Pending(new)));
            }
            let written = self
                .swap(ctx.served, &entry.key, entry.revision, &*ctx.storage(&new).await?)
                .await?;
            return Ok(written.map(|entry| Deleted::Pending(with_version(new, entry.revision))));
        }
        if ctx.dry_run {
            return Ok(Ok(Deleted::Gone(new)));
        }
        let mut revision = entry.revision;
        if new.is_deleting() && new != old {
            // Whoever watches sees an object that ends gracefully end before it is gone.
            let stored = ctx.storage(&new).await?;
            let marked = self.swap(ctx.served, &entry.key, revision, &stored).await?;
            match marked {
                Ok(entry) => {
                    revision = entry.revision;
                    new = with_version(new, revision);
                    *seen = Some(new.clone());
                }
                Err(fresh) => return Ok(Err(fresh)),
            }
        }
        let written = self.transact(ctx.served, &entry.key, revision, Op::Delete).await?;
        if let Err(fresh) = written {
            return Ok(Err(fresh));
        }
        self.services.release(ctx, &old);
        self.release_addresses(ctx, &old, None).await;
        Ok(Ok(Deleted::Gone(new)))
    }
}

/// upstream: staging/src/k8s.io/apiserver/pkg/registry/rest/delete.go BeforeDelete
fn check_preconditions(
    ctx: &WriteContext<'_>,
    name: &str,
    object: &Object,
    wanted: &Preconditions,
) -> Result<(), StatusError> {
    let resource = ctx.resource();
    let refused = |why: &str| StatusError::conflict(&resource.group, &resource.kind, name, why);
    if let Some(uid) = wanted.uid.as_deref().filter(|uid| *uid != object.uid()) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            object.uid()
        );
        return Err(refused(&why));
    }
    let version = wanted.resource_version.as_deref();
    if let Some(version) = version.filter(|version| *version != object.resource_version()) {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
            object.resource_version()
        );
        return Err(refused(&why));
    }
    Ok(())
}

/// upstream: pkg/registry/core/namespace/storage/storage.go Delete
fn check_namespace_preconditions(
    name: &str,
    object: &Object,
    wanted: &Preconditions,
) -> Result<(), StatusError> {
    let pairs = [
        ("UID", &wanted.uid, object.uid()),
        ("ResourceVersion", &wanted.resource_version, object.resource_version()),
    ];
    for (what, wanted, present) in pairs {
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != present) {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {present}"
            );
            return Err(StatusError::conflict("", "namespaces", name, &why));
        }
    }
    Ok(())
}

/// Whether a namespace still waits for its content to be deleted.
fn holds_content(namespace: &Object) -> bool {
    !namespace.list(&["spec", "finalizers"]).is_empty()
}

/// The first deletion of a namespace ends it; it goes when its content is gone.
///
/// upstream: pkg/registry/core/namespace/storage/storage.go Delete
fn end_namespace(ctx: &WriteContext<'_>, namespace: &mut Object, options: &DeleteOptions) {
    if namespace.is_deleting() {
        return;
    }
    namespace.set(&["metadata", "deletionTimestamp"], rfc3339(ctx.now));
    namespace.set(&["status", "phase"], "Terminating");
    set_propagation(namespace, options.propagation.as_deref(), false);
}

/// Sets deletion time, grace period and finalizers. True when the object has to wait for someone
/// before it can go.
fn mark(ctx: &WriteContext<'_>, object: &mut Object, options: &DeleteOptions) -> bool {
    let policy = options.propagation.as_deref();
    set_propagation(object, policy, ctx.resource().strategy.orphans_by_default());
    let delete = DeleteContext { now: ctx.now, grace_period_seconds: options.grace_period_seconds };
    let running = object.int(&["metadata", "deletionGracePeriodSeconds"]).filter(|s| *s > 0);
    let grace = match running.filter(|_| object.is_deleting()) {
        // A period that has begun only gets shorter, by who says so.
        Some(left) => {
            let asked = options.grace_period_seconds.map(|s| if s < 0 { 1 } else { s });
            Some(asked.unwrap_or(left))
        }
        None => ctx.resource().strategy.grace_period(object, &delete),
    };
    let waits = grace.is_some_and(|s| s > 0) || !object.finalizers().is_empty();
    // What ends gracefully is marked also when it goes at once.
    if waits || grace.is_some() {
        set_grace(object, ctx.now, grace.unwrap_or(0));
    }
    waits
}

fn set_grace(object: &mut Object, now: Timestamp, seconds: i64) {
    if !object.is_deleting() {
        set_deletion(object, now, seconds);
        if object.generation() > 0 {
            let next = object.generation() + 1;
            object.set(&["metadata", "generation"], next);
        }
        return;
    }
    // A shorter grace period takes effect, a longer one does not.
    let before = object.int(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
    if seconds >= before {
        return;
    }
    let time = object.str(&["metadata", "deletionTimestamp"]).parse::<Timestamp>();
    let started = time.map_or(now, |t| t - SignedDuration::from_secs(before));
    let ends = started.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(started);
    if ends < now {
        // The time is over, but who waits for the object still has to see it go.
        set_deletion(object, now, 0);
        object.set(&["metadata", "deletionGracePeriodSeconds"], seconds.min(1));
    } else {
        set_deletion(object, started, seconds);
    }
}

fn set_deletion(object: &mut Object, start: Timestamp, seconds: i64) {
    let at = start.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(start);
    object.set(&["metadata", "deletionTimestamp"], rfc3339(at));
    object.set(&["metadata", "deletionGracePeriodSeconds"], seconds);
}

/// Adds or removes the garbage collector's finalizers as the propagation policy, and else the
/// object's own finalizers, and else the resource's default say.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/registry/generic/registry/store.go
/// shouldOrphanDependents, shouldDeleteDependents
fn set_propagation(object: &mut Object, policy: Option<&str>, orphans_by_default: bool) {
    let before: Vec<String> = object.finalizers().into_iter().map(str::to_owned).collect();
    let has = |name: &str| before.iter().any(|f| f == name);
    let (orphan, foreground) = match policy {
        Some("Orphan") => (true, false),
        Some("Foreground") => (false, true),
        Some(_) => (false, false),
        None if has(ORPHAN) => (true, false),
        None if has(FOREGROUND) => (false, true),
        None => (orphans_by_default, false),
    };
    let mut after = before.clone();
    after.retain(|f| f != ORPHAN && f != FOREGROUND);
    if orphan {
        after.push(ORPHAN.into());
    }
    if foreground {
        after.push(FOREGROUND.into());
    }
    if after == before {
        return;
    }
    if after.is_empty() {
        object.remove(&["metadata", "finalizers"]);
    } else {
        let list: Vec<Value> = after.into_iter().map(Value::from).collect();
        object.set(&["metadata", "finalizers"], list);
    }
}
