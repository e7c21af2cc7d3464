//! Volumes, claims and classes of attributes that are in use stay until nobody uses them.
//!
//! upstream: pkg/controller/volume/{pvcprotection,pvprotection,vacprotection}

use std::collections::BTreeSet;

use longshore_api::Object;
use longshore_client::resource::{
    PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, Resource, VOLUME_ATTRIBUTES_CLASSES,
};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Queue, informer::Change};
use serde_json::Value;

use crate::Context;
use crate::common::{Key, follow, gone_is_fine};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
const CLASS_FINALIZER: &str = "kubernetes.io/vac-protection";

/// Starts the controller of claims.
pub(crate) fn start_claims(ctx: Context) {
    let queue = Queue::new();
    let (claims, pods) = (ctx.caches.get(PERSISTENT_VOLUME_CLAIMS), ctx.caches.get(PODS));
    follow(&claims, &queue);
    let again = queue.clone();
    pods.on_change(move |change| {
        if let Change::Deleted(pod) = change {
            for name in claims_of(pod) {
                again.add((pod.namespace().to_owned(), name));
            }
        }
    });
    let shutdown = ctx.shutdown.clone();
    let name = "persistentvolumeclaim-protection-controller";
    workers::run(name, queue, 1, &shutdown, move |key: Key| {
        let (ctx, claims, pods) = (ctx.clone(), claims.clone(), pods.clone());
        async move {
            pods.synced().await;
            let Some(claim) = claims.get(&key.0, &key.1) else { return Ok(None) };
            if let Some(outcome) =
                protect(&ctx, PERSISTENT_VOLUME_CLAIMS, &claim, CLAIM_FINALIZER).await
            {
                return outcome;
            }
            // Kubelets learn of pods when they are scheduled; before that nothing is in use.
            let in_use = pods.list_namespace(&key.0).iter().any(|pod| {
                !pod.str(&["spec", "nodeName"]).is_empty() && claims_of(pod).contains(&key.1)
            });
            release(&ctx, PERSISTENT_VOLUME_CLAIMS, &claim, CLAIM_FINALIZER, in_use).await
        }
    });
}

/// Starts the controller of volumes.
pub(crate) fn start_volumes(ctx: Context) {
    let (queue, volumes) = (Queue::new(), ctx.caches.get(PERSISTENT_VOLUMES));
    follow(&volumes, &queue);
    let shutdown = ctx.shutdown.clone();
    let name = "persistentvolume-protection-controller";
    workers::run(name, queue, 1, &shutdown, move |key: Key| {
        let (ctx, volumes) = (ctx.clone(), volumes.clone());
        async move {
            let Some(volume) = volumes.get(&key.0, &key.1) else { return Ok(None) };
            if let Some(outcome) =
                protect(&ctx, PERSISTENT_VOLUMES, &volume, VOLUME_FINALIZER).await
            {
                return outcome;
            }
            let in_use = volume.str(&["status", "phase"]) == "Bound";
            release(&ctx, PERSISTENT_VOLUMES, &volume, VOLUME_FINALIZER, in_use).await
        }
    });
}

/// Starts the controller of classes of attributes.
pub(crate) fn start_classes(ctx: Context) {
    let queue = Queue::new();
    let classes = ctx.caches.get(VOLUME_ATTRIBUTES_CLASSES);
    let users = [ctx.caches.get(PERSISTENT_VOLUME_CLAIMS), ctx.caches.get(PERSISTENT_VOLUMES)];
    follow(&classes, &queue);
    for cache in &users {
        let again = queue.clone();
        cache.on_change(move |change| {
            // Only who lets go of a class can free it.
            let (before, now) = match change {
                Change::Applied { old: Some(old), new } => (old, classes_of(new)),
                Change::Applied { old: None, .. } => return,
                Change::Deleted(gone) => (gone, BTreeSet::new()),
            };
            for class in classes_of(before).difference(&now) {
                again.add((String::new(), (*class).to_owned()));
            }
        });
    }
    let shutdown = ctx.shutdown.clone();
    let name = "volumeattributesclass-protection-controller";
    workers::run(name, queue, 1, &shutdown, move |key: Key| {
        let (ctx, classes, users) = (ctx.clone(), classes.clone(), users.clone());
        async move {
            for cache in &users {
                cache.synced().await;
            }
            let Some(class) = classes.get("", &key.1) else { return Ok(None) };
            let of = VOLUME_ATTRIBUTES_CLASSES;
            if let Some(outcome) = protect(&ctx, of, &class, CLASS_FINALIZER).await {
                return outcome;
            }
            let in_use = class.is_deleting()
                && users.iter().any(|cache| {
                    cache.list().iter().any(|user| classes_of(user).contains(key.1.as_str()))
                });
            release(&ctx, of, &class, CLASS_FINALIZER, in_use).await
        }
    });
}

/// The classes of attributes that a claim or volume has, or is to get.
fn classes_of(user: &Object) -> BTreeSet<&str> {
    let places: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    places.into_iter().map(|place| user.str(place)).filter(|name| !name.is_empty()).collect()
}

/// The claims that a pod uses, its own ephemeral ones too.
fn claims_of(pod: &Object) -> Vec<String> {
    let volumes = pod.list(&["spec", "volumes"]).iter();
    let names = volumes.filter_map(|volume| {
        if let Some(name) = volume["persistentVolumeClaim"]["claimName"].as_str() {
            return Some(name.to_owned());
        }
        volume.get("ephemeral")?;
        Some(format!("{}-{}", pod.name(), volume["name"].as_str()?))
    });
    names.collect()
}

/// Gives an object its finalizer back; `None` when it needs none.
async fn protect(ctx: &Context, of: Resource, object: &Object, finalizer: &str) -> Option<Outcome> {
    if object.is_deleting() || object.finalizers().contains(&finalizer) {
        return None;
    }
    let mut finalizers: Vec<Value> = object.finalizers().into_iter().map(Value::from).collect();
    finalizers.push(finalizer.into());
    let mut changed = object.clone();
    changed.set(&["metadata", "finalizers"], finalizers);
    Some(gone_is_fine(ctx.client.update(of, &changed).await).map(|_| None))
}

async fn release(
    ctx: &Context,
    of: Resource,
    object: &Object,
    finalizer: &str,
    in_use: bool,
) -> Outcome {
    if !object.is_deleting() || in_use || !object.finalizers().contains(&finalizer) {
        return Ok(None);
    }
    let kept = object.finalizers().into_iter().filter(|f| *f != finalizer);
    let kept: Vec<Value> = kept.map(Value::from).collect();
    let mut changed = object.clone();
    changed.set(&["metadata", "finalizers"], kept);
    gone_is_fine(ctx.client.update(of, &changed).await)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes_of_a_claim() {
        let claim = json!({
            "spec": {"volumeAttributesClassName": "new"},
            "status": {
                "currentVolumeAttributesClassName": "old",
                "modifyVolumeStatus": {"targetVolumeAttributesClassName": "new", "status": "Pending"},
            },
        });
        let claim = Object::from_value(claim).unwrap();
        assert_eq!(classes_of(&claim).into_iter().collect::<Vec<_>>(), ["new", "old"]);
        let none = json!({"spec": {"volumeAttributesClassName": ""}});
        assert!(classes_of(&Object::from_value(none).unwrap()).is_empty());
    }

    #[test]
    fn claims_of_a_pod() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "b", "ephemeral": {}}, {"name": "d", "emptyDir": {}},
        ]}});
        assert_eq!(claims_of(&Object::from_value(pod).unwrap()), ["c", "p-b"]);
    }
}
