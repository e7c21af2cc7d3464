//! Kinds that are answered and never stored: reviews of access and identity, token requests, and
//! component statuses.
//!
//! upstream: pkg/registry/authorization, pkg/registry/authentication

use http::{HeaderMap, Response};
use longshore_api::{Model, Object, StatusError};

use super::options::WriteOptions;
use super::{Call, body, read, write};
use crate::admission::Operation;
use crate::auth;
use crate::body::Body;
use crate::handler::{Handler, no_such_resource};
use crate::registry::track_unstored;

/// Answers POST of a review.
pub async fn create(
    handler: &Handler,
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    let (mut object, _) = decode(handler, call, headers, body).await?;
    // The answer to a token is written over the status that came with it.
    if call.info.resource != "tokenreviews" {
        object.remove(&["status"]);
    }
    if !call.served.resource.namespaced() {
        object.remove(&["metadata", "namespace"]);
    }
    let authorization = &handler.authorization;
    match call.info.resource.as_str() {
        "tokenreviews" => handler.authentication.review_token(&mut object, call.now)?,
        "selfsubjectreviews" => auth::review_self(&mut object, &call.user, call.now),
        "subjectaccessreviews" => authorization.review_subject(&mut object)?,
        "localsubjectaccessreviews" => {
            call.write_context(false).check_namespace(&mut object)?;
            authorization.review_local(&mut object, &call.info.namespace)?;
        }
        "selfsubjectaccessreviews" => authorization.review_own(&mut object, &call.user)?,
        "selfsubjectrulesreviews" => authorization.review_rules(&mut object, &call.user)?,
        _ => return Err(no_such_resource()),
    }
    if let Some(model) = &call.served.resource.model {
        model.complete(&mut object);
    }
    Ok(read::object(call, 201, object))
}

/// Answers POST of `serviceaccounts/NAME/token`.
pub async fn token(
    handler: &Handler,
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    let (mut object, options) = decode(handler, call, headers, body).await?;
    let ctx = call.write_context(options.dry_run);
    ctx.check_namespace(&mut object)?;
    call.api.registry.hub().fresh().await.map_err(StatusError::internal)?;
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let attributes = ctx.admission(Operation::Create, name);
    let admission = call.api.registry.admission();
    admission.mutate(&attributes, Some(&mut object), None).await?;
    admission.validate(&attributes, Some(&object), None).await?;
    let reader = handler.reader.as_ref();
    auth::create_token(
        handler.authentication.tokens(),
        reader,
        namespace,
        name,
        &mut object,
        call.now,
    )?;
    Ok(read::object(call, 201, object))
}

async fn decode(
    handler: &Handler,
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Object, WriteOptions), StatusError> {
    body::check_media_type(headers)?;
    let bytes = body::read(body).await?;
    let options = WriteOptions::of(&call.info, "CreateOptions")?;
    let want = write::kind_of(call);
    let warnings = &mut call.warnings.lock();
    let mut object = body::decode(headers, &bytes, &want, options.validation, warnings)?;
    handler.api.registry.apply_defaults(&want.gvk, &mut object);
    let ty = want.model.as_ref().and_then(Model::as_type);
    track_unstored(&call.write_context(options.dry_run), ty, &mut object);
    Ok((object, options))
}
