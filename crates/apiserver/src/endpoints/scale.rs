//! The `scale` subresource of workloads: one small kind in front of every kind that counts pods.
//!
//! upstream: pkg/registry/apps/deployment/storage/storage.go ScaleREST

use http::{HeaderMap, Response};
use longshore_api::{Object, StatusError};
use longshore_resources::autoscaling::scale::{apply_scale, to_scale, validate_scale};
use parking_lot::Mutex;

use super::options::WriteOptions;
use super::patch::Patch;
use super::{Call, body, read, write};
use crate::body::Body;
use crate::registry::UpdateOptions;

fn scale_of(object: &Object) -> Object {
    Object::from_value(to_scale(object)).expect("a scale is an object")
}

/// Answers GET.
pub async fn get(call: &Call) -> Result<Response<Body>, StatusError> {
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let entry = call.api.registry.get(&call.served, namespace, name).await?;
    Ok(read::object(call, 200, scale_of(&call.shown(&entry))))
}

/// Answers PUT and PATCH.
pub async fn write(
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    let bytes = body::read(body).await?;
    let gvk = write::kind_of(call);
    let put = call.info.verb == "update";
    let options = WriteOptions::of(&call.info, if put { "UpdateOptions" } else { "PatchOptions" })?;
    let warnings = Mutex::new(Vec::new());
    let wanted = if put {
        let warnings = &mut warnings.lock();
        let mut scale = body::decode(headers, &bytes, &gvk, options.validation, warnings)?;
        write::check_name(call, &mut scale)?;
        call.write_context(options.dry_run).check_namespace(&mut scale)?;
        Wanted::Scale(scale)
    } else {
        Wanted::Patch(Patch::from_request(headers, &bytes)?)
    };
    let change = |old: Option<&Object>| {
        let Some(old) = old else { return Err(not_found(call)) };
        let scale = match &wanted {
            Wanted::Scale(scale) => scale.clone(),
            Wanted::Patch(patch) => {
                patch.apply(&scale_of(old), &gvk, options.validation, &mut warnings.lock())?
            }
        };
        let errors = validate_scale(&scale);
        if !errors.is_empty() {
            return Err(StatusError::invalid("autoscaling", "Scale", &call.info.name, &errors));
        }
        let mut new = old.clone();
        apply_scale(&mut new, &scale);
        Ok(new)
    };
    let ctx = call.write_context(options.dry_run);
    let update = UpdateOptions::default();
    let stored = call.api.registry.update(&ctx, &call.info.name, update, &change).await?;
    call.warnings.lock().extend(warnings.into_inner());
    Ok(read::object(call, 200, scale_of(&stored.object)))
}

enum Wanted {
    Scale(Object),
    Patch(Patch),
}

fn not_found(call: &Call) -> StatusError {
    let resource = &call.served.resource;
    StatusError::not_found(&resource.group, &resource.plural, &call.info.name)
}
