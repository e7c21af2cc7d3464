//! Create, update, delete and deletecollection.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/{create,update,delete}.go

use http::{HeaderMap, Response};
use longshore_api::{Object, StatusError};
use serde_json::json;

use super::body::{self, Wanted, decode};
use super::list_options::ListOptions;
use super::options::{WriteOptions, delete_options};
use super::{Call, read, respond};
use crate::body::Body;
use crate::registry::{DeleteOptions, Deleted, UpdateOptions, dedup_owners};

/// Answers POST to a collection.
pub async fn create(
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    body::check_media_type(headers)?;
    let bytes = body::read(body).await?;
    let options = WriteOptions::of(&call.info, "CreateOptions")?;
    let want = Wanted::of(&call.served.resource);
    let object = decode(headers, &bytes, &want, options.validation, &mut call.warnings.lock())?;
    let stored = call.api.registry.create(&call.write_context(options.dry_run), object).await?;
    Ok(read::written(call, stored))
}

/// Answers PUT to an object or one of its subresources of the same kind.
pub async fn update(
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    let bytes = body::read(body).await?;
    let options = WriteOptions::of(&call.info, "UpdateOptions")?;
    body::check_media_type(headers)?;
    let want = Wanted::of(&call.served.resource);
    let mut object = decode(headers, &bytes, &want, options.validation, &mut call.warnings.lock())?;
    let ctx = call.write_context(options.dry_run);
    ctx.check_namespace(&mut object)?;
    check_name(call, &mut object)?;
    dedup_owners(&mut object, false, &call.warnings);
    let update = UpdateOptions { allow_create: true, ..UpdateOptions::default() };
    let change = |_: Option<&Object>| Ok(object.clone());
    let stored = call.api.registry.update(&ctx, &call.info.name, update, &change).await?;
    Ok(read::written(call, stored))
}

/// The name in the body has to be the one in the path; a missing one is not filled in.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/rest.go checkName
pub fn check_name(call: &Call, object: &mut Object) -> Result<(), StatusError> {
    let name = &call.info.name;
    if object.name().is_empty() {
        return Err(StatusError::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if object.name() != name {
        return Err(StatusError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            object.name()
        )));
    }
    Ok(())
}

/// Answers DELETE of one object.
pub async fn delete(
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    let (options, dry_run) = delete_options(call, headers, body).await?;
    let resource = &call.served.resource;
    if let Some(why) = resource.strategy.keeps(&call.info.name) {
        let (group, plural) = (&resource.group, &resource.plural);
        return Err(StatusError::forbidden(group, plural, &call.info.name, why));
    }
    warn_of_orphans(call, &options);
    let ctx = call.write_context(dry_run);
    let deleted = call.api.registry.delete(&ctx, &call.info.name, &options).await?;
    Ok(deleted_response(call, deleted, &options))
}

fn warn_of_orphans(call: &Call, options: &DeleteOptions) {
    if options.propagation.is_none() {
        let text = call.served.resource.strategy.orphan_warning();
        call.warnings.lock().extend(text.map(str::to_owned));
    }
}

fn deleted_response(call: &Call, deleted: Deleted, options: &DeleteOptions) -> Response<Body> {
    match deleted {
        Deleted::Pending(object) => {
            read::object(call, if options.cascades { 202 } else { 200 }, object)
        }
        Deleted::Gone(object) if call.served.resource.strategy.returns_deleted() => {
            read::object(call, 200, object)
        }
        Deleted::Gone(object) => {
            let mut details = json!({ "name": object.name(), "kind": call.served.resource.plural });
            if !call.served.resource.group.is_empty() {
                details["group"] = call.served.resource.group.as_ref().into();
            }
            if !object.uid().is_empty() {
                details["uid"] = object.uid().into();
            }
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                "details": details,
            });
            respond::value(200, &call.negotiated, &status)
        }
    }
}

/// Answers DELETE of a collection: deletes what is selected now, one by one.
pub async fn delete_collection(
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    let selection = ListOptions::of(&call.served, &call.info)?;
    let (mut options, dry_run) = delete_options(call, headers, body).await?;
    options.of_collection = true;
    warn_of_orphans(call, &options);
    let page = read::page(call, &selection).await?;
    for entry in &page.entries {
        let mut ctx = call.write_context(dry_run);
        ctx.namespace = entry.namespace();
        match call.api.registry.delete(&ctx, entry.name(), &options).await {
            // Somebody else deleted it meanwhile.
            Err(error) if error.code == 404 => {}
            other => drop(other?),
        }
    }
    read::collection(call, page.meta, page.entries).await
}

/// The kind that a subresource reads and writes; the resource's own without one.
pub fn kind_of(call: &Call) -> Wanted {
    let resource = &call.served.resource;
    match resource.subresource(&call.info.subresource) {
        Some(sub) if sub.kind != resource.gvk() => Wanted::built_in(sub.kind.clone()),
        _ => Wanted::of(resource),
    }
}
