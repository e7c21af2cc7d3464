//! Create: what the server sets, checks and stores for a new object.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/registry/rest/create.go BeforeCreate

use longshore_api::{Object, Reason, StatusError};

use crate::admission::Operation;

use super::fields::shrink;
use super::{
    CONFLICT_RETRIES_MAX, Registry, Stored, WriteContext, dedup_owners, finish, rfc3339,
    terminating, with_version,
};

/// Characters of a generated suffix.
const SUFFIX_LENGTH: usize = 5;
/// Longest base of a generated name, so that base and suffix fit in 63 characters.
const GENERATED_BASE_MAX: usize = 58;

impl Registry {
    /// Creates an object. `object` is decoded and normalised, its kind is checked, `name` is the
    /// name in the path (for subresources and create-on-update) or empty.
    pub async fn create(
        &self,
        ctx: &WriteContext<'_>,
        mut object: Object,
    ) -> Result<Stored, StatusError> {
        wipe(&mut object);
        ctx.check_namespace(&mut object)?;
        dedup_owners(&mut object, false, ctx.warnings);
        self.fill_and_track(ctx, &mut object, None).await?;
        let name = object.name().to_owned();
        if ctx.resource().custom.as_ref().is_some_and(|custom| custom.terminating) {
            return Err(terminating(ctx.resource(), &name));
        }
        let attributes = ctx.admission(Operation::Create, &name);
        self.admission.mutate(&attributes, Some(&mut object), None).await?;
        ctx.check_namespace(&mut object)?;
        dedup_owners(&mut object, true, ctx.warnings);
        self.check_rights(ctx, "", &object, None)?;
        // Only a generated name is worth another try.
        let template = wants_name(&object).then(|| object.clone());
        for _ in 0..CONFLICT_RETRIES_MAX {
            let mut object = template.clone().unwrap_or_else(|| std::mem::take(&mut object));
            self.generate_name(&mut object);
            self.stamp(ctx, &mut object);
            let reserved = self.take_service_parts(ctx, &mut object, None).await?;
            ctx.warnings.lock().extend(ctx.resource().strategy.early_warnings(&object));
            ctx.resource().strategy.prepare_create(&ctx.strategy_context(), &mut object);
            self.check_create(ctx, &object)?;
            // Also a write that is refused next is warned about.
            ctx.warnings.lock().extend(ctx.resource().strategy.warnings(&object, None));
            let name = object.name().to_owned();
            let attributes = ctx.admission(Operation::Create, &name);
            self.admission.validate(&attributes, Some(&object), None).await?;
            self.charge(&attributes, &object, None).await?;
            finish(ctx.resource(), &mut object);
            if ctx.resource().kind == "Pod" && object.get(&["spec", "resources"]).is_some() {
                // What admission gave to containers counts for the whole when it is read back.
                self.fill(ctx.resource(), &mut object)?;
            }
            let key = ctx.served.cache.key(object.namespace(), object.name());
            if ctx.dry_run {
                self.hub().fresh().await.map_err(StatusError::internal)?;
                if ctx.served.cache.get(object.namespace(), object.name()).is_some() {
                    return Err(already_exists(ctx, &object));
                }
                let object = ctx.answered(object, None).await?;
                return Ok(Stored { object, created: true, entry: None });
            }
            // upstream: staging/src/k8s.io/apiserver/pkg/storage/etcd3/store.go Create
            if object.resource_version().parse::<u64>().is_ok_and(|version| version > 0) {
                let message = "resourceVersion should not be set on objects to be created";
                return Err(StatusError::new(Reason::Unknown, message));
            }
            let mut written = self.swap(ctx.served, &key, 0, &*ctx.storage(&object).await?).await;
            if let Err(error) = written {
                shrink(error, &mut object)?;
                written = self.swap(ctx.served, &key, 0, &*ctx.storage(&object).await?).await;
            }
            match written? {
                Ok(entry) => {
                    reserved.keep();
                    let object = with_version(object, entry.revision);
                    let object = ctx.answered(object, Some(&entry)).await?;
                    return Ok(Stored { object, created: true, entry: Some(entry) });
                }
                Err(_) if template.is_some() => {}
                Err(present) => {
                    let leaves = present.is_some_and(|entry| entry.object().is_deleting());
                    let mut error = already_exists(ctx, &object);
                    if leaves {
                        error.message = format!("object is being deleted: {}", error.message);
                    }
                    return Err(error);
                }
            }
        }
        Err(already_exists(ctx, &template.unwrap_or_default()))
    }

    fn generate_name(&self, object: &mut Object) {
        if !wants_name(object) {
            return;
        }
        let base = object.str(&["metadata", "generateName"]);
        let mut end = base.len().min(GENERATED_BASE_MAX);
        while !base.is_char_boundary(end) {
            end -= 1;
        }
        let name = format!("{}{}", &base[..end], self.rng.suffix(SUFFIX_LENGTH));
        object.set(&["metadata", "name"], name);
    }

    /// Sets what only the server may set.
    pub(super) fn stamp(&self, ctx: &WriteContext<'_>, object: &mut Object) {
        let uid = self.rng.uuid();
        let meta = object.metadata_mut();
        meta.insert("uid".into(), uid.into());
        meta.insert("creationTimestamp".into(), rfc3339(ctx.now).into());
    }
}

/// Whether the server makes the name.
fn wants_name(object: &Object) -> bool {
    object.name().is_empty() && !object.str(&["metadata", "generateName"]).is_empty()
}

/// Removes what no client may set, also for admission.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/registry/rest/meta.go WipeObjectMetaSystemFields
fn wipe(object: &mut Object) {
    for field in
        ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"]
    {
        object.remove(&["metadata", field]);
    }
}

/// 409 for a name that is taken; who may have another one is told to try again.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/registry/rest/create.go CheckGeneratedNameError
fn already_exists(ctx: &WriteContext<'_>, object: &Object) -> StatusError {
    let (group, plural) = (&ctx.resource().group, &ctx.resource().plural);
    let mut error = StatusError::already_exists(group, plural, object.name());
    if !object.str(&["metadata", "generateName"]).is_empty() {
        error
            .message
            .push_str(", the server was not able to generate a unique name for the object");
        error.retry_after_seconds = 1;
    }
    error
}
