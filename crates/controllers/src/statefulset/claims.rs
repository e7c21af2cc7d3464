//! The volume claims of stateful pods: made before the pod, and kept or deleted as the set says.
//!
//! upstream: pkg/controller/statefulset/{stateful_pod_control.go,stateful_set_utils.go}

use longshore_api::Object;
use longshore_client::Error;
use longshore_client::recorder::Severity;
use longshore_client::resource::PERSISTENT_VOLUME_CLAIMS;
use serde_json::{Value, json};

use super::{Controller, identity};
use crate::common::{controller_ref, replicas};

/// Which owner a claim has, so that it goes when the owner goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Nobody,
    Set,
    Pod,
}

/// upstream: pkg/controller/statefulset/stateful_set_utils.go updateClaimOwnerRefForSetAndPod
fn owner(set: &Object, ordinal: i64) -> Owner {
    let deletes =
        |when| set.str(&["spec", "persistentVolumeClaimRetentionPolicy", when]) == "Delete";
    let first = set.int(&["spec", "ordinals", "start"]).unwrap_or(0);
    let wanted = (first..first + replicas(set)).contains(&ordinal);
    if !wanted && deletes("whenScaled") {
        Owner::Pod
    } else if deletes("whenDeleted") {
        Owner::Set
    } else {
        Owner::Nobody
    }
}

fn owners(claim: &Object) -> &[Value] {
    claim.list(&["metadata", "ownerReferences"])
}

fn names(reference: &Value, object: &Object) -> bool {
    reference["apiVersion"] == object.api_version()
        && reference["kind"] == object.kind()
        && reference["name"] == object.name()
}

/// Whether a claim belongs to an earlier object of the same name.
fn is_stale(claim: &Object, object: &Object) -> bool {
    owners(claim).iter().find(|r| names(r, object)).is_some_and(|r| r["uid"] != object.uid())
}

/// Whether something else controls a claim that the set would control.
fn is_foreign(set: &Object, claim: &Object, pod: &Object) -> bool {
    let policy = set.get(&["spec", "persistentVolumeClaimRetentionPolicy"]);
    if !policy.is_some_and(|p| p["whenScaled"] == "Delete" || p["whenDeleted"] == "Delete") {
        return false;
    }
    owners(claim).iter().any(|r| match [set, pod].iter().find(|object| names(r, object)) {
        Some(object) => r["uid"] != object.uid(),
        None => r["controller"] == true,
    })
}

/// The owner references that a claim should have; `None` when it has them.
fn wanted_owners(set: &Object, claim: &Object, pod: &Object, ordinal: i64) -> Option<Vec<Value>> {
    if is_stale(claim, set) || is_stale(claim, pod) {
        return None; // the garbage collector deals with it
    }
    let mut wanted: Vec<Value> =
        owners(claim).iter().filter(|r| !names(r, set) && !names(r, pod)).cloned().collect();
    let foreign = is_foreign(set, claim, pod);
    match owner(set, ordinal) {
        _ if foreign => {}
        Owner::Nobody => {}
        Owner::Set => wanted.push(controller_ref(set)),
        Owner::Pod => wanted.push(controller_ref(pod)),
    }
    (wanted != owners(claim)).then_some(wanted)
}

impl Controller {
    /// The claims of a pod's volumes exist before the pod does.
    pub(super) async fn ensure_claims(
        &self,
        set: &Object,
        ordinal: i64,
        pod: &Object,
    ) -> Result<(), Error> {
        for claim in identity::claims(set, ordinal) {
            let name = claim["metadata"]["name"].as_str().unwrap_or("").to_owned();
            if let Some(present) = self.claims.get(set.namespace(), &name) {
                if present.is_deleting() {
                    return Err(Error::Decode(format!("pvc {name} is being deleted")));
                }
                continue;
            }
            let of = format!("Pod {} in StatefulSet {}", pod.name(), set.name());
            match self.ctx.client.create(PERSISTENT_VOLUME_CLAIMS, &claim).await {
                Ok(made) => {
                    self.claims.wait_for(&made).await;
                    let text = format!("Create Claim {name} {of} success");
                    self.tell(set, Severity::Normal, "SuccessfulCreate", &text);
                }
                Err(error) if error.is_already_exists() => {}
                Err(error) => {
                    let text = format!("Create Claim {name} for {of} failed error: {error}");
                    self.tell(set, Severity::Warning, "FailedCreate", &text);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn present_claims(&self, set: &Object, ordinal: i64) -> Vec<std::sync::Arc<Object>> {
        let wanted = identity::claims(set, ordinal).into_iter();
        let names = wanted.map(|claim| claim["metadata"]["name"].as_str().unwrap_or("").to_owned());
        names.filter_map(|name| self.claims.get(set.namespace(), &name)).collect()
    }

    /// Whether the claims of a pod have the owners that the set's policy gives them.
    pub(super) fn claims_are_owned(&self, set: &Object, ordinal: i64, pod: &Object) -> bool {
        let claims = self.present_claims(set, ordinal);
        claims.iter().all(|claim| wanted_owners(set, claim, pod, ordinal).is_none())
    }

    /// Whether a pod that is to be made would get claims that go with an earlier pod.
    pub(super) fn claims_are_stale(&self, set: &Object, ordinal: i64) -> bool {
        let policy = ["spec", "persistentVolumeClaimRetentionPolicy", "whenScaled"];
        let name = format!("{}-{ordinal}", set.name());
        set.str(&policy) == "Delete"
            && self
                .present_claims(set, ordinal)
                .iter()
                .any(|claim| owners(claim).iter().any(|r| r["kind"] == "Pod" && r["name"] == *name))
    }

    /// Gives the claims of a pod the owners that the set's policy gives them.
    pub(super) async fn own_claims(
        &self,
        set: &Object,
        ordinal: i64,
        pod: &Object,
    ) -> Result<(), Error> {
        for claim in self.present_claims(set, ordinal) {
            if is_foreign(set, &claim, pod) {
                let text = format!(
                    "PersistentVolumeClaim {} has a conflicting OwnerReference that acts as a \
                     manging controller, the retention policy is ignored for this claim",
                    claim.name()
                );
                self.tell(set, Severity::Warning, "ConflictingController", &text);
            }
            let Some(owners) = wanted_owners(set, &claim, pod, ordinal) else { continue };
            let mut changed = (*claim).clone();
            changed.set(&["metadata", "ownerReferences"], json!(owners));
            let written = self.ctx.client.update(PERSISTENT_VOLUME_CLAIMS, &changed).await?;
            self.claims.wait_for(&written).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(scaled: &str, deleted: &str) -> Object {
        Object::from_value(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": { "name": "web", "uid": "s" },
            "spec": { "replicas": 1, "persistentVolumeClaimRetentionPolicy": {
                "whenScaled": scaled, "whenDeleted": deleted,
            }},
        }))
        .unwrap()
    }

    fn claim(owners: Value) -> Object {
        Object::from_value(json!({ "metadata": { "ownerReferences": owners } })).unwrap()
    }

    #[test]
    fn the_policy_chooses_the_owner() {
        for (scaled, deleted, kept, surplus) in [
            ("Retain", "Retain", Owner::Nobody, Owner::Nobody),
            ("Retain", "Delete", Owner::Set, Owner::Set),
            ("Delete", "Retain", Owner::Nobody, Owner::Pod),
            ("Delete", "Delete", Owner::Set, Owner::Pod),
        ] {
            let set = set(scaled, deleted);
            assert_eq!((owner(&set, 0), owner(&set, 1)), (kept, surplus), "{scaled} {deleted}");
        }
    }

    #[test]
    fn foreign_and_earlier_owners_are_left_alone() {
        let (set, pod) = (
            set("Delete", "Delete"),
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web-0", "uid": "p" },
            }),
        );
        let pod = Object::from_value(pod).unwrap();
        let other = json!([{ "kind": "X", "name": "x", "uid": "x", "controller": true }]);
        assert_eq!(wanted_owners(&set, &claim(other), &pod, 0), None);
        let before = json!([{
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "earlier",
        }]);
        assert_eq!(wanted_owners(&set, &claim(before), &pod, 0), None);
        let owned = wanted_owners(&set, &claim(json!([])), &pod, 0).unwrap();
        assert_eq!(owned[0]["uid"], "s");
        assert_eq!(wanted_owners(&set, &claim(json!(owned)), &pod, 0), None);
    }
}
