//! Pods of controllers: made from a template, told about by events.
//!
//! upstream: pkg/controller/controller_utils.go

use futures_util::future::join_all;
use longshore_api::Object;
use longshore_client::recorder::Severity;
use longshore_client::resource::PODS;
use longshore_client::{Error, Informer};
use serde_json::{Value, json};

use crate::Context;
use crate::common::{controller_ref, gone_is_fine};

/// A pod that `owner` makes from a template; it has no name yet.
pub(crate) fn from_template(owner: &Object, template: &Value) -> Object {
    let mut metadata = json!({
        "generateName": format!("{}-", owner.name()), "namespace": owner.namespace(),
        "ownerReferences": [controller_ref(owner)],
    });
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let spec = template.get("spec").cloned().unwrap_or_else(|| json!({}));
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec });
    Object::from_value(pod).expect("built as an object")
}

/// Creates a pod and waits until the cache has it.
pub(crate) async fn create(
    ctx: &Context,
    cache: &Informer,
    owner: &Object,
    pod: Object,
) -> Result<(), Error> {
    match ctx.client.create(PODS, &pod.into_value()).await {
        Ok(pod) => {
            cache.wait_for(&pod).await;
            let message = format!("Created pod: {}", pod.name());
            ctx.recorder.event(owner, Severity::Normal, "SuccessfulCreate", &message);
            Ok(())
        }
        // Nothing can be made in a namespace that goes away.
        Err(error) if error.is_namespace_terminating() => Ok(()),
        Err(error) => {
            let message = format!("Error creating: {error}");
            ctx.recorder.event(owner, Severity::Warning, "FailedCreate", &message);
            Err(error)
        }
    }
}

/// Creates pods in batches that double while all succeeds, so that a broken template fails a few
/// times and not hundreds of times.
pub(crate) async fn create_slowly(
    ctx: &Context,
    cache: &Informer,
    owner: &Object,
    pods: Vec<Object>,
) -> Result<(), Error> {
    let (mut pods, mut batch) = (pods.into_iter().peekable(), 1);
    while pods.peek().is_some() {
        let some: Vec<Object> = pods.by_ref().take(batch).collect();
        let made = some.into_iter().map(|pod| create(ctx, cache, owner, pod));
        join_all(made).await.into_iter().collect::<Result<(), Error>>()?;
        batch *= 2;
    }
    Ok(())
}

/// Deletes a pod and waits until the cache knows.
pub(crate) async fn delete(
    ctx: &Context,
    cache: &Informer,
    owner: &Object,
    pod: &Object,
) -> Result<(), Error> {
    let options = json!({ "preconditions": { "uid": pod.uid() } });
    let deleted = ctx.client.delete(PODS, pod.namespace(), pod.name(), options).await;
    match gone_is_fine(deleted) {
        Ok(Some(left)) => {
            cache.wait_for(&left).await;
            let message = format!("Deleted pod: {}", pod.name());
            ctx.recorder.event(owner, Severity::Normal, "SuccessfulDelete", &message);
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => {
            let message = format!("Error deleting: {error}");
            ctx.recorder.event(owner, Severity::Warning, "FailedDelete", &message);
            Err(error)
        }
    }
}

/// Writes the status when it differs from what the object has.
pub(crate) async fn write_status(
    ctx: &Context,
    cache: &Informer,
    of: longshore_client::Resource,
    object: &Object,
    status: Value,
) -> Result<(), Error> {
    if object.get(&["status"]) == Some(&status) {
        return Ok(());
    }
    let mut changed = object.clone();
    changed.set(&["status"], status);
    let written = ctx.client.update_status(of, &changed).await;
    if let Some(written) = gone_is_fine(written)? {
        cache.wait_for(&written).await;
    }
    Ok(())
}
