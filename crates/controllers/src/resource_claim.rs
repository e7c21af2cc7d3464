//! Claims of devices: made from the templates of pods, given back when no pod uses them any more.
//!
//! upstream: pkg/controller/resourceclaim/controller.go

use longshore_api::{Object, StatusError};
use longshore_client::informer::{Change, controller_uid};
use longshore_client::recorder::Severity;
use longshore_client::resource::{PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Patch, Queue};
use serde_json::{Value, json};

use crate::Context;
use crate::common::{Key, gone_is_fine, key_of, pod_phase_is_final};

/// Workers side by side.
const WORKERS: usize = 10;
/// Most users of one claim.
///
/// upstream: staging/src/k8s.io/api/resource/v1/types.go ResourceClaimReservedForMaxSize
const USERS_MAX: usize = 256;
/// Longest start of a generated name.
const BASE_BYTES_MAX: usize = 57;
/// Says on a claim which one of its pod it is.
const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
const MANAGER: &str = "ResourceClaimController";

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Item {
    Pod(Key),
    Claim(Key),
}

#[derive(Clone)]
struct Controller {
    ctx: Context,
    pods: Informer,
    claims: Informer,
    templates: Informer,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let pods = ctx.caches.get(PODS);
    let claims = ctx.caches.get(RESOURCE_CLAIMS);
    let templates = ctx.caches.get(RESOURCE_CLAIM_TEMPLATES);
    let again = queue.clone();
    pods.on_change(move |change| {
        note_pod(&again, change.object(), matches!(change, Change::Deleted(_)));
    });
    let (again, all) = (queue.clone(), pods.clone());
    claims.on_change(move |change| {
        let claim = change.object();
        if let Change::Applied { .. } = change {
            again.add(Item::Claim(key_of(claim)));
        }
        for pod in all.list_namespace(claim.namespace()) {
            let uses = |wanted: &Value| {
                claim_name(&pod, wanted).is_ok_and(|name| name == Some(claim.name()))
            };
            if pod_claims(&pod).any(uses) {
                note_pod(&again, &pod, false);
            }
        }
    });
    let (again, all) = (queue.clone(), pods.clone());
    templates.on_change(move |change| {
        let Change::Applied { new: template, .. } = change else { return };
        for pod in all.list_namespace(template.namespace()) {
            let uses = |claim: &Value| claim["resourceClaimTemplateName"] == template.name();
            if pod_claims(&pod).any(uses) {
                note_pod(&again, &pod, false);
            }
        }
    });
    let shutdown = ctx.shutdown.clone();
    let controller = Controller { ctx, pods, claims, templates };
    workers::run("resourceclaim-controller", queue, WORKERS, &shutdown, move |item| {
        let controller = controller.clone();
        async move {
            for cache in [&controller.pods, &controller.claims, &controller.templates] {
                cache.synced().await;
            }
            match item {
                Item::Pod(key) => controller.sync_pod(key).await,
                Item::Claim(key) => controller.sync_claim(key).await,
            }
        }
    });
}

/// Looks at a pod that may run, else at what it used: a claim that was made for it is dropped then,
/// and must not be made anew.
fn note_pod(queue: &Queue<Item>, pod: &Object, gone: bool) {
    if gone || is_done(pod) {
        for name in pod_claims(pod).filter_map(|claim| claim_name(pod, claim).ok().flatten()) {
            queue.add(Item::Claim((pod.namespace().to_owned(), name.to_owned())));
        }
    } else if pod_claims(pod).next().is_some() {
        queue.add(Item::Pod(key_of(pod)));
    }
}

fn pod_claims(pod: &Object) -> impl Iterator<Item = &Value> {
    pod.list(&["spec", "resourceClaims"]).iter()
}

/// A claim from a template that nobody has made yet.
struct NotMade;

/// The name of a claim that a pod uses; `None` when it turned out that none is needed.
///
/// upstream: staging/src/k8s.io/dynamic-resource-allocation/resourceclaim/resourceclaim.go Name
fn claim_name<'a>(pod: &'a Object, claim: &'a Value) -> Result<Option<&'a str>, NotMade> {
    if let Some(name) = claim["resourceClaimName"].as_str() {
        return Ok(Some(name));
    }
    let mut made = pod.list(&["status", "resourceClaimStatuses"]).iter();
    let made = made.find(|status| status["name"] == claim["name"]).ok_or(NotMade)?;
    Ok(made["resourceClaimName"].as_str())
}

/// Whether a pod will never run (again).
fn is_done(pod: &Object) -> bool {
    pod_phase_is_final(pod.str(&["status", "phase"]))
        || (pod.is_deleting() && pod.str(&["spec", "nodeName"]).is_empty())
}

/// Both names are cut in proportion, so that something is left of each.
fn name_base(pod: &str, claim: &str) -> String {
    let base = format!("{pod}-{claim}-");
    if base.len() <= BASE_BYTES_MAX {
        return base;
    }
    let cut = |text: &str| text[..text.len() * BASE_BYTES_MAX / base.len()].to_owned();
    format!("{}-{}", cut(pod), cut(claim))
}

/// Whether a user of a claim is a pod. Of others nothing is known, and they stay.
fn is_pod(user: &Value) -> bool {
    user["apiGroup"].as_str().unwrap_or("").is_empty() && user["resource"] == "pods"
}

impl Controller {
    async fn sync_pod(&self, (namespace, name): Key) -> Outcome {
        let Some(pod) = self.pods.get(&namespace, &name) else { return Ok(None) };
        if pod.is_deleting() || is_done(&pod) {
            return Ok(None);
        }
        let mut made = Vec::new();
        for wanted in pod_claims(&pod) {
            match self.provide(&pod, wanted).await {
                Ok(Some(claim)) => made.push(json!({
                    "name": wanted["name"], "resourceClaimName": claim.name(),
                })),
                Ok(None) => {}
                Err((why, error)) => {
                    let claim = wanted["name"].as_str().unwrap_or("");
                    let text = format!("PodResourceClaim {claim}: {why}");
                    let reason = "FailedResourceClaimCreation";
                    self.ctx.recorder.event(&pod, Severity::Warning, reason, &text);
                    return Err(error);
                }
            }
        }
        if !made.is_empty() {
            let fields = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": name, "namespace": namespace },
                "status": { "resourceClaimStatuses": made },
            });
            let patch = Patch::Apply { manager: MANAGER, fields };
            let told = self.ctx.client.patch(PODS, &namespace, &name, "status", &patch).await;
            let Some(told) = gone_is_fine(told)? else { return Ok(None) };
            self.pods.wait_for(&told).await;
        }
        // Until a pod has a node, its claims are the scheduler's.
        if !pod.str(&["spec", "nodeName"]).is_empty() {
            self.reserve(&pod).await?;
        }
        Ok(None)
    }

    /// The claim that has to be told to the pod: made from its template now, or earlier by somebody
    /// who did not come to tell.
    async fn provide(
        &self,
        pod: &Object,
        wanted: &Value,
    ) -> Result<Option<Object>, (String, Error)> {
        let name = match claim_name(pod, wanted) {
            Ok(None) => return Ok(None),
            Ok(name) => name,
            Err(NotMade) => None,
        };
        let Some(template) = wanted["resourceClaimTemplateName"].as_str() else { return Ok(None) };
        let is_own = |claim: &Object| controller_uid(claim) == Some(pod.uid());
        let present = name.and_then(|name| self.claims.get(pod.namespace(), name));
        if present.is_some_and(|claim| is_own(&claim)) {
            return Ok(None);
        }
        let mut own = self.claims.owned_by(pod.uid()).into_iter();
        let lost = own.find(|claim| claim.annotation(POD_CLAIM) == wanted["name"].as_str());
        if let Some(claim) = lost {
            return Ok(Some(Object::clone(&claim)));
        }
        let Some(template) = self.templates.get(pod.namespace(), template) else {
            // In the words of upstream's cache, which names the kind and not the plural.
            let (group, kind) = (RESOURCE_CLAIM_TEMPLATES.group, "resourceclaimtemplate");
            let missing = StatusError::not_found(group, kind, template);
            let why = format!("resource claim template \"{template}\": {missing}");
            return Err((why, missing.into()));
        };
        let claim = new_claim(pod, wanted["name"].as_str().unwrap_or(""), &template);
        let made = self.ctx.client.create(RESOURCE_CLAIMS, &claim).await;
        let made = made.map_err(|error| (format!("create ResourceClaim : {error}"), error))?;
        self.claims.wait_for(&made).await;
        Ok(Some(made))
    }

    /// Pods that got their node from somebody else than the scheduler use allocated claims, too.
    async fn reserve(&self, pod: &Object) -> Result<(), Error> {
        let made = self.pods.get(pod.namespace(), pod.name());
        let pod = made.as_deref().unwrap_or(pod);
        for wanted in pod_claims(pod) {
            let Ok(Some(name)) = claim_name(pod, wanted) else { continue };
            let Some(claim) = self.claims.get(pod.namespace(), name) else { return Ok(()) };
            let users = claim.list(&["status", "reservedFor"]);
            let is_mine = |user: &Value| user["uid"] == pod.uid();
            let is_foreign =
                wanted["resourceClaimName"].is_null() && controller_uid(&claim) != Some(pod.uid());
            let allocated = claim.get(&["status", "allocation"]).is_some();
            if is_foreign || !allocated || users.iter().any(is_mine) || users.len() >= USERS_MAX {
                continue;
            }
            let mut users = users.to_vec();
            users.push(json!({ "resource": "pods", "name": pod.name(), "uid": pod.uid() }));
            let mut changed = Object::clone(&claim);
            changed.set(&["status", "reservedFor"], users);
            let written = self.ctx.client.update_status(RESOURCE_CLAIMS, &changed).await;
            if let Some(written) = gone_is_fine(written)? {
                self.claims.wait_for(&written).await;
            }
        }
        Ok(())
    }

    async fn sync_claim(&self, (namespace, name): Key) -> Outcome {
        let Some(claim) = self.claims.get(&namespace, &name) else { return Ok(None) };
        let users = claim.list(&["status", "reservedFor"]);
        let mut left = Vec::with_capacity(users.len());
        for user in users {
            if !is_pod(user) || self.still_uses(&namespace, user).await? {
                left.push(user.clone());
            }
        }
        let unused = left.is_empty();
        let held = claim.finalizers().contains(&FINALIZER);
        let mut changed = Object::clone(&claim);
        if left.len() < users.len() {
            // Unused devices go back, so that the next user may run elsewhere.
            if unused {
                changed.remove(&["status", "reservedFor"]);
                if held {
                    changed.remove(&["status", "allocation"]);
                }
            } else {
                changed.set(&["status", "reservedFor"], left);
            }
            changed = self.ctx.client.update_status(RESOURCE_CLAIMS, &changed).await?;
            if held && changed.get(&["status", "allocation"]).is_none() {
                changed = self.let_go(&changed).await?;
            }
        } else if held && claim.is_deleting() && unused {
            if changed.remove(&["status", "allocation"]).is_some() {
                changed = self.ctx.client.update_status(RESOURCE_CLAIMS, &changed).await?;
            }
            changed = self.let_go(&changed).await?;
        }
        if unused && !changed.is_deleting() {
            self.drop_generated(&claim).await?;
        }
        Ok(None)
    }

    async fn let_go(&self, claim: &Object) -> Result<Object, Error> {
        let mut changed = claim.clone();
        let kept = claim.finalizers().into_iter().filter(|f| *f != FINALIZER);
        let kept: Vec<Value> = kept.map(Value::from).collect();
        changed.set(&["metadata", "finalizers"], kept);
        self.ctx.client.update(RESOURCE_CLAIMS, &changed).await
    }

    /// Whether a pod that a claim names is there and may run. One that is not in the cache yet may
    /// have been scheduled just now, so the server is asked.
    async fn still_uses(&self, namespace: &str, user: &Value) -> Result<bool, Error> {
        let name = user["name"].as_str().unwrap_or("");
        if let Some(pod) = self.pods.get(namespace, name) {
            return Ok(user["uid"] == pod.uid() && !is_done(&pod));
        }
        let pod = self.ctx.client.find(PODS, namespace, name).await?;
        Ok(pod.is_some_and(|pod| user["uid"] == pod.uid()))
    }

    /// Deletes a claim that was made for a pod which will not run; the pod itself may stay long.
    async fn drop_generated(&self, claim: &Object) -> Result<(), Error> {
        let mut owners = claim.list(&["metadata", "ownerReferences"]).iter();
        let Some(owner) = owners.find(|owner| {
            owner["controller"] == true && owner["apiVersion"] == "v1" && owner["kind"] == "Pod"
        }) else {
            return Ok(());
        };
        let name = owner["name"].as_str().unwrap_or("");
        // One that is not in the cache may come; if it is gone, its dependents are collected.
        let Some(pod) = self.pods.get(claim.namespace(), name) else { return Ok(()) };
        if owner["uid"] == pod.uid() && !is_done(&pod) {
            return Ok(());
        }
        let (namespace, name) = (claim.namespace(), claim.name());
        let deleted = self.ctx.client.delete(RESOURCE_CLAIMS, namespace, name, Value::Null).await;
        gone_is_fine(deleted).map(drop)
    }
}

/// The claim that a template makes for a pod.
fn new_claim(pod: &Object, name: &str, template: &Object) -> Value {
    let part = |path: &[&str]| template.get(path).cloned().unwrap_or(Value::Null);
    let mut annotations = part(&["spec", "metadata", "annotations"]);
    if !annotations.is_object() {
        annotations = json!({});
    }
    annotations[POD_CLAIM] = name.into();
    let mut claim = json!({
        "apiVersion": RESOURCE_CLAIMS.api_version(), "kind": RESOURCE_CLAIMS.kind,
        "metadata": {
            "generateName": name_base(pod.name(), name), "namespace": pod.namespace(),
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": pod.name(), "uid": pod.uid(),
                "controller": true,
            }],
        },
        "spec": part(&["spec", "spec"]),
    });
    let labels = part(&["spec", "metadata", "labels"]);
    if labels.is_object() {
        claim["metadata"]["labels"] = labels;
    }
    claim
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_a_part_of_both() {
        assert_eq!(name_base("pod", "gpu"), "pod-gpu-");
        let base = name_base(&"p".repeat(60), &"c".repeat(20));
        assert!(base.len() <= BASE_BYTES_MAX && base.contains("p-c"), "{base}");
    }

    #[test]
    fn a_claim_is_named_by_the_pod_or_its_status() {
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {"resourceClaims": [
                {"name": "a", "resourceClaimName": "x"},
                {"name": "b", "resourceClaimTemplateName": "t"},
                {"name": "c", "resourceClaimTemplateName": "t"},
                {"name": "d", "resourceClaimTemplateName": "t"},
            ]},
            "status": {"resourceClaimStatuses": [
                {"name": "b", "resourceClaimName": "y"}, {"name": "c"},
            ]},
        });
        let pod = Object::from_value(pod).expect("an object");
        let names: Vec<_> = pod_claims(&pod).map(|claim| claim_name(&pod, claim).ok()).collect();
        assert_eq!(names, [Some(Some("x")), Some(Some("y")), Some(None), None]);
    }

    #[tokio::test]
    async fn nothing_is_made_for_a_pod_that_has_ended() {
        let pod = |phase: &str| {
            let pod = json!({
                "metadata": {"name": "p", "namespace": "n"},
                "spec": {"resourceClaims": [
                    {"name": "made", "resourceClaimTemplateName": "t"},
                    {"name": "other", "resourceClaimTemplateName": "t"},
                ]},
                "status": {"phase": phase, "resourceClaimStatuses": [
                    {"name": "made", "resourceClaimName": "c"},
                ]},
            });
            Object::from_value(pod).expect("an object")
        };
        let claim = Item::Claim(("n".into(), "c".into()));
        for (phase, gone, wanted) in [
            ("Running", false, Item::Pod(("n".into(), "p".into()))),
            ("Running", true, claim.clone()),
            ("Succeeded", false, claim),
        ] {
            let queue = Queue::new();
            note_pod(&queue, &pod(phase), gone);
            assert_eq!((queue.len(), queue.next().await), (1, Some(wanted)), "{phase}");
        }
    }

    #[test]
    fn a_new_claim_is_the_pods_own() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}});
        let pod = Object::from_value(pod).expect("an object");
        let template = json!({"spec": {
            "metadata": {"labels": {"l": "1"}, "annotations": {"a": "2"}},
            "spec": {"devices": {"requests": []}},
        }});
        let template = Object::from_value(template).expect("an object");
        let claim = new_claim(&pod, "gpu", &template);
        assert_eq!(claim["metadata"]["labels"], json!({"l": "1"}));
        assert_eq!(claim["metadata"]["annotations"], json!({"a": "2", POD_CLAIM: "gpu"}));
        assert_eq!(claim["spec"], json!({"devices": {"requests": []}}));
        assert_eq!(claim["metadata"]["ownerReferences"][0]["uid"], "u");
    }
}
