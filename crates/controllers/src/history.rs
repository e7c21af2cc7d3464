//! Revisions: what templates daemon sets and stateful sets had.
//!
//! upstream: pkg/controller/history, pkg/controller/daemon/update.go

use std::sync::Arc;

use longshore_api::Object;
use longshore_client::resource::CONTROLLER_REVISIONS;
use longshore_client::{Error, Informer};
use serde_json::{Value, json};

use crate::Context;
use crate::common::{claim, controller_ref, gone_is_fine};
use crate::deployment::hash;

/// The label that carries a pod's revision.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";
/// Names longer than this are cut before the hash is added.
///
/// upstream: pkg/controller/history/controller_history.go ControllerRevisionName
const PREFIX_MAX: usize = 223;

/// The revisions of an owner, oldest first; the one of its present template is `current`.
pub(crate) struct History {
    /// The revision of the present template.
    pub(crate) current: Arc<Object>,
    /// All others, oldest first.
    pub(crate) old: Vec<Arc<Object>>,
    /// How often a name was taken, if it ever was.
    pub(crate) collisions: Option<i64>,
}

fn number(revision: &Object) -> i64 {
    revision.int(&["revision"]).unwrap_or(0)
}

/// What a revision of the owner's present template holds.
fn data_of(owner: &Object) -> Value {
    let mut template = owner.get(&["spec", "template"]).cloned().unwrap_or_else(|| json!({}));
    template["$patch"] = "replace".into();
    json!({ "spec": { "template": template } })
}

/// The template that a revision holds.
pub(crate) fn template_of(revision: &Object) -> Value {
    let mut template = revision.get(&["data", "spec", "template"]).cloned().unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.remove("$patch");
    }
    template
}

/// Finds the owner's revisions and makes sure that there is one of the present template, with the
/// highest number. `label` is the label that the revision's hash is put under.
pub(crate) async fn load(
    ctx: &Context,
    cache: &Informer,
    owner: &Object,
    label: &str,
) -> Result<History, Error> {
    cache.synced().await;
    let mut all = claim(&ctx.client, CONTROLLER_REVISIONS, cache, owner).await?;
    all.sort_by_key(|revision| (number(revision), revision.name().to_owned()));
    let collisions = owner.int(&["status", "collisionCount"]);
    let (data, newest) = (data_of(owner), all.last().map_or(0, |r| number(r)));
    let same = all.iter().rposition(|revision| revision.get(&["data"]) == Some(&data));
    let Some(at) = same else {
        return make(ctx, cache, owner, label, data, newest + 1, all, collisions).await;
    };
    let mut current = all.remove(at);
    if number(&current) < newest {
        let mut raised = (*current).clone();
        raised.set(&["revision"], newest + 1);
        let raised = ctx.client.update(CONTROLLER_REVISIONS, &raised).await?;
        cache.wait_for(&raised).await;
        current = Arc::new(raised);
    }
    Ok(History { current, old: all, collisions })
}

#[expect(clippy::too_many_arguments, reason = "the state that load has gathered")]
async fn make(
    ctx: &Context,
    cache: &Informer,
    owner: &Object,
    label: &str,
    data: Value,
    revision: i64,
    old: Vec<Arc<Object>>,
    mut collisions: Option<i64>,
) -> Result<History, Error> {
    let prefix: String = owner.name().chars().take(PREFIX_MAX).collect();
    loop {
        let hash = hash::of(&data["spec"]["template"], collisions);
        let name = format!("{prefix}-{hash}");
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision", "data": data, "revision": revision,
            "metadata": {
                "name": name, "namespace": owner.namespace(),
                "labels": data["spec"]["template"]["metadata"]["labels"],
                "ownerReferences": [controller_ref(owner)],
            },
        });
        if !object["metadata"]["labels"].is_object() {
            object["metadata"]["labels"] = json!({});
        }
        object["metadata"]["labels"][label] = hash.into();
        // Such as the cause of a change, which the history shows.
        if let Some(annotations) = owner.get(&["metadata", "annotations"]) {
            object["metadata"]["annotations"] = annotations.clone();
        }
        match ctx.client.create(CONTROLLER_REVISIONS, &object).await {
            Ok(made) => {
                cache.wait_for(&made).await;
                return Ok(History { current: Arc::new(made), old, collisions });
            }
            Err(error) if error.is_already_exists() => {
                let there = ctx.client.get(CONTROLLER_REVISIONS, owner.namespace(), &name).await?;
                if there.get(&["data"]) == Some(&data) {
                    return Ok(History { current: Arc::new(there), old, collisions });
                }
                collisions = Some(collisions.unwrap_or(0) + 1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Deletes the oldest revisions beyond `spec.revisionHistoryLimit` that `in_use` does not want.
pub(crate) async fn truncate(
    ctx: &Context,
    owner: &Object,
    history: &History,
    in_use: impl Fn(&Object) -> bool,
) -> Result<(), Error> {
    let limit = owner.int(&["spec", "revisionHistoryLimit"]).unwrap_or(10);
    let idle: Vec<_> = history.old.iter().filter(|revision| !in_use(revision)).collect();
    let surplus = idle.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    for revision in &idle[..surplus] {
        let (namespace, name) = (revision.namespace(), revision.name());
        let gone = ctx.client.delete(CONTROLLER_REVISIONS, namespace, name, Value::Null).await;
        gone_is_fine(gone)?;
    }
    Ok(())
}
