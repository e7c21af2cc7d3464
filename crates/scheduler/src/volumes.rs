//! Before a pod is bound, its claims get their volumes.
//!
//! upstream: pkg/scheduler/framework/plugins/volumebinding/binder.go BindPodVolumes

use std::sync::Arc;
use std::time::Duration;

use longshore_client::Error;
use longshore_client::resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use serde_json::json;

use crate::Shared;
use crate::plugins::Plan;

/// How long a claim may take to get its volume.
///
/// upstream: pkg/scheduler/apis/config/v1/defaults.go BindTimeoutSeconds
const BIND_TIMEOUT: Duration = Duration::from_secs(600);
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Reserves the volumes of a plan, asks for those that have to be made, and waits until all claims
/// have theirs.
pub(crate) async fn carry_out(shared: &Arc<Shared>, plan: &Plan, node: &str) -> Result<(), Error> {
    if plan.is_empty() {
        return Ok(());
    }
    for (claim, volume) in &plan.bind {
        let mut volume = (**volume).clone();
        volume.set(
            &["spec", "claimRef"],
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim.name(),
                "namespace": claim.namespace(), "uid": claim.uid(),
                "resourceVersion": claim.resource_version(),
            }),
        );
        volume.set(&["metadata", "annotations", "pv.kubernetes.io/bound-by-controller"], "yes");
        shared.client.update(PERSISTENT_VOLUMES, &volume).await?;
    }
    for claim in &plan.provision {
        if claim.annotation(SELECTED_NODE) != Some(node) {
            let mut claim = (**claim).clone();
            claim.set(&["metadata", "annotations", SELECTED_NODE], node);
            shared.client.update(PERSISTENT_VOLUME_CLAIMS, &claim).await?;
        }
    }
    let waiting = async {
        loop {
            let changed = shared.claim_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match state(shared, plan, node) {
                Ok(true) => return Ok(()),
                Ok(false) => changed.await,
                Err(error) => return Err(error),
            }
        }
    };
    match tokio::time::timeout(BIND_TIMEOUT, waiting).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::Decode("binding volumes: context deadline exceeded".into())),
    }
}

/// Whether all claims have their volumes.
fn state(shared: &Shared, plan: &Plan, node: &str) -> Result<bool, Error> {
    let claims = plan.bind.iter().map(|(claim, _)| claim).chain(&plan.provision);
    for claim in claims {
        let fresh = shared.listers.claims.get(claim.namespace(), claim.name());
        let Some(fresh) = fresh.filter(|fresh| fresh.uid() == claim.uid()) else {
            let text = format!("persistentvolumeclaim {:?} not found", claim.name());
            return Err(Error::Decode(text));
        };
        let bound = fresh.annotation("pv.kubernetes.io/bind-completed").is_some();
        if !bound || fresh.str(&["spec", "volumeName"]).is_empty() {
            // A provisioner that gives up takes the node away.
            let seen = fresh.resource_version() != claim.resource_version();
            let provisions = plan.provision.iter().any(|other| other.uid() == claim.uid());
            if seen && provisions && fresh.annotation(SELECTED_NODE) != Some(node) {
                let text = format!(
                    "provisioning failed for PVC \"{}/{}\"",
                    claim.namespace(),
                    claim.name()
                );
                return Err(Error::Decode(text));
            }
            return Ok(false);
        }
    }
    Ok(true)
}
