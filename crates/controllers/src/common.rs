//! What the controllers share: keys, owners, pods.

use std::sync::Arc;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::selector::LabelSelector;
use longshore_client::resource::Resource;
use longshore_client::{Client, Error, Informer, Patch, Queue};
use serde_json::{Value, json};

/// Namespace and name; the namespace is empty for cluster scope.
pub(crate) type Key = (String, String);

/// The key of an object.
pub(crate) fn key_of(object: &Object) -> Key {
    (object.namespace().to_owned(), object.name().to_owned())
}

/// Puts the key of every object that is there or changes into a queue.
pub(crate) fn follow(informer: &Informer, queue: &Queue<Key>) {
    let queue = queue.clone();
    informer.on_change(move |change| queue.add(key_of(change.object())));
}

/// Puts the keys of the objects of `kind` that control what changes into a queue.
pub(crate) fn follow_owned(informer: &Informer, kind: &'static str, queue: &Queue<Key>) {
    let queue = queue.clone();
    informer.on_change(move |change| {
        let mut objects = vec![change.object()];
        if let longshore_client::informer::Change::Applied { old: Some(old), .. } = change {
            objects.push(old);
        }
        for object in objects {
            let owners = object.list(&["metadata", "ownerReferences"]).iter();
            for owner in owners.filter(|o| o["controller"] == true && o["kind"] == kind) {
                let name = owner["name"].as_str().unwrap_or("").to_owned();
                queue.add((object.namespace().to_owned(), name));
            }
        }
    });
}

/// A pod without a controller may belong to any workload whose selector it matches.
pub(crate) fn follow_orphans(sets: &Informer, pods: &Informer, queue: &Queue<Key>) {
    let (sets, queue) = (sets.clone(), queue.clone());
    pods.on_change(move |change| {
        let pod = change.object();
        if longshore_client::informer::controller_uid(pod).is_some() {
            return;
        }
        for set in sets.list_namespace(pod.namespace()) {
            if selector_of(&set).is_some_and(|s| s.matches_map(pod.labels())) {
                queue.add(key_of(&set));
            }
        }
    });
}

/// The cache of secrets, with the data of tokens only: others may be large and concern nobody.
pub(crate) fn token_secrets(ctx: &crate::Context) -> Informer {
    ctx.caches.get_trimmed(longshore_client::resource::SECRETS, |secret| {
        let tokens = ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"];
        if !tokens.contains(&secret.str(&["type"])) {
            secret.remove(&["data"]);
        }
    })
}

/// A time as the API tells it.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The owner reference with which `owner` controls something.
pub(crate) fn controller_ref(owner: &Object) -> Value {
    json!({
        "apiVersion": owner.api_version(), "kind": owner.kind(), "name": owner.name(),
        "uid": owner.uid(), "controller": true, "blockOwnerDeletion": true,
    })
}

/// `spec.replicas`.
pub(crate) fn replicas(object: &Object) -> i64 {
    object.int(&["spec", "replicas"]).unwrap_or(1)
}

/// A count in the status.
pub(crate) fn status_count(object: &Object, field: &str) -> i64 {
    object.int(&["status", field]).unwrap_or(0)
}

/// The selector of a workload; `None` when it is missing or broken.
pub(crate) fn selector_of(object: &Object) -> Option<LabelSelector> {
    let selector = object.get(&["spec", "selector"])?;
    if object.kind() == "ReplicationController" {
        return LabelSelector::from_value(&json!({ "matchLabels": selector })).ok();
    }
    LabelSelector::from_value(selector).ok()
}

/// Whether a pod in this phase has ended for good.
pub(crate) fn pod_phase_is_final(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// The name of the owner of this kind that controls an object.
pub(crate) fn controller_of<'a>(object: &'a Object, kind: &str) -> Option<&'a str> {
    let owners = object.list(&["metadata", "ownerReferences"]).iter();
    let mut controllers = owners.filter(|o| o["controller"] == true && o["kind"] == kind);
    controllers.next()?["name"].as_str()
}

/// Whether a pod still runs or will.
pub(crate) fn is_active(pod: &Object) -> bool {
    !matches!(pod.str(&["status", "phase"]), "Succeeded" | "Failed") && !pod.is_deleting()
}

/// The condition of this type.
pub(crate) fn condition<'a>(object: &'a Object, kind: &str) -> Option<&'a Value> {
    object.list(&["status", "conditions"]).iter().find(|c| c["type"] == kind)
}

/// Whether a pod is ready.
pub(crate) fn is_ready(pod: &Object) -> bool {
    condition(pod, "Ready").is_some_and(|c| c["status"] == "True")
}

/// Whether a pod has been ready for long enough; if not yet, the seconds until then.
pub(crate) fn is_available(
    pod: &Object,
    min_ready: i64,
    now: Timestamp,
) -> Result<(), Option<i64>> {
    if !is_ready(pod) {
        return Err(None);
    }
    if min_ready == 0 {
        return Ok(());
    }
    let since = condition(pod, "Ready").and_then(|c| c["lastTransitionTime"].as_str());
    let since: Option<Timestamp> = since.and_then(|t| t.parse().ok());
    match since.map(|since| since.as_second() + min_ready - now.as_second()) {
        Some(left) if left <= 0 => Ok(()),
        Some(left) => Err(Some(left)),
        None => Err(None),
    }
}

/// The objects that `owner` controls; those without a controller that match its selector are
/// adopted, those that it controls and that no longer match are let go.
pub(crate) async fn claim(
    client: &Client,
    of: Resource,
    informer: &Informer,
    owner: &Object,
) -> Result<Vec<Arc<Object>>, Error> {
    claim_where(client, of, informer, owner, "", |_| true).await
}

/// [`claim`] among the objects that `look_at` names. With a `finalizer`, what is adopted gets it and what is let go
/// loses it.
///
/// upstream: pkg/controller/controller_ref_manager.go
pub(crate) async fn claim_where(
    client: &Client,
    of: Resource,
    informer: &Informer,
    owner: &Object,
    finalizer: &str,
    look_at: impl Fn(&Object) -> bool,
) -> Result<Vec<Arc<Object>>, Error> {
    let Some(selector) = selector_of(owner) else { return Ok(Vec::new()) };
    let mut claimed = Vec::new();
    for object in informer.owned_by(owner.uid()).into_iter().filter(|o| look_at(o)) {
        if owner.is_deleting() || selector.matches_map(object.labels()) {
            claimed.push(object);
        } else {
            release(client, of, &object, owner, finalizer).await?;
        }
    }
    let orphans =
        if owner.is_deleting() { Vec::new() } else { informer.orphans(owner.namespace()) };
    for object in orphans {
        let wanted = selector.matches_map(object.labels()) && !object.is_deleting();
        if wanted && look_at(&object) {
            let adopted = adopt(client, of, &object, owner, finalizer).await?;
            claimed.extend(adopted.map(Arc::new));
        }
    }
    claimed.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(claimed)
}

async fn adopt(
    client: &Client,
    of: Resource,
    object: &Object,
    owner: &Object,
    finalizer: &str,
) -> Result<Option<Object>, Error> {
    let mut patch = json!({ "metadata": {
        "uid": object.uid(), "ownerReferences": [controller_ref(owner)],
    }});
    if !finalizer.is_empty() {
        patch["metadata"]["finalizers"] = json!([finalizer]);
    }
    let patch = Patch::Strategic(patch);
    gone_is_fine(client.patch(of, object.namespace(), object.name(), "", &patch).await)
}

async fn release(
    client: &Client,
    of: Resource,
    object: &Object,
    owner: &Object,
    finalizer: &str,
) -> Result<(), Error> {
    let mut patch = json!({ "metadata": {
        "uid": object.uid(), "ownerReferences": [{ "$patch": "delete", "uid": owner.uid() }],
    }});
    if !finalizer.is_empty() {
        patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!([finalizer]);
    }
    let patch = Patch::Strategic(patch);
    gone_is_fine(client.patch(of, object.namespace(), object.name(), "", &patch).await).map(drop)
}

/// An object that somebody else deleted meanwhile is no failure.
pub(crate) fn gone_is_fine<T>(outcome: Result<T, Error>) -> Result<Option<T>, Error> {
    match outcome {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
