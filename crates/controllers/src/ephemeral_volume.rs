//! Volumes that a pod brings along: each gets a claim that goes with the pod.
//!
//! upstream: pkg/controller/volume/ephemeral/controller.go

use longshore_api::Object;
use longshore_client::informer::{Change, controller_uid};
use longshore_client::recorder::Severity;
use longshore_client::resource::{PERSISTENT_VOLUME_CLAIMS, PODS};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Queue};
use serde_json::{Value, json};

use crate::Context;
use crate::common::{Key, controller_ref, key_of};

/// Workers side by side.
const WORKERS: usize = 5;

#[derive(Clone)]
struct Controller {
    ctx: Context,
    pods: Informer,
    claims: Informer,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (pods, claims) = (ctx.caches.get(PODS), ctx.caches.get(PERSISTENT_VOLUME_CLAIMS));
    let again = queue.clone();
    pods.on_change(move |change| {
        let pod = change.object();
        let new = matches!(change, Change::Applied { old: None, .. });
        if new && volumes(pod).next().is_some() {
            again.add(key_of(pod));
        }
    });
    let (again, all) = (queue.clone(), pods.clone());
    claims.on_change(move |change| {
        // A claim that is gone is made again while its pod is there.
        let Change::Deleted(claim) = change else { return };
        for pod in all.list_namespace(claim.namespace()) {
            if volumes(&pod).any(|volume| claim_name(&pod, volume) == claim.name()) {
                again.add(key_of(&pod));
            }
        }
    });
    let shutdown = ctx.shutdown.clone();
    let controller = Controller { ctx, pods, claims };
    workers::run("ephemeral-volume-controller", queue, WORKERS, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync(key).await }
    });
}

fn volumes(pod: &Object) -> impl Iterator<Item = &Value> {
    pod.list(&["spec", "volumes"]).iter().filter(|volume| volume["ephemeral"].is_object())
}

fn claim_name(pod: &Object, volume: &Value) -> String {
    format!("{}-{}", pod.name(), volume["name"].as_str().unwrap_or(""))
}

impl Controller {
    async fn sync(&self, (namespace, name): Key) -> Outcome {
        self.claims.synced().await;
        let Some(pod) = self.pods.get(&namespace, &name) else { return Ok(None) };
        if pod.is_deleting() {
            return Ok(None);
        }
        for volume in volumes(&pod) {
            let claim = claim_name(&pod, volume);
            let outcome = match self.claims.get(&namespace, &claim) {
                // Somebody else's; we look again when it is gone.
                Some(present) if controller_uid(&present) != Some(pod.uid()) => {
                    self.tell(
                        &pod,
                        volume,
                        &format!(
                            "PVC {namespace}/{claim} was not created for pod {namespace}/{name} \
                             (pod is not owner)"
                        ),
                    );
                    continue;
                }
                Some(_) => continue,
                None => self.create(&pod, volume).await,
            };
            if let Err(error) = outcome {
                self.tell(&pod, volume, &error.to_string());
                return Err(error);
            }
        }
        Ok(None)
    }

    fn tell(&self, pod: &Object, volume: &Value, why: &str) {
        let text = format!("ephemeral volume {}: {why}", volume["name"].as_str().unwrap_or(""));
        self.ctx.recorder.event(pod, Severity::Warning, "FailedBinding", &text);
    }

    async fn create(&self, pod: &Object, volume: &Value) -> Result<(), Error> {
        let template = &volume["ephemeral"]["volumeClaimTemplate"];
        let mut claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": claim_name(pod, volume), "namespace": pod.namespace(),
                "ownerReferences": [controller_ref(pod)],
            },
            "spec": template["spec"],
        });
        for field in ["labels", "annotations"] {
            if template["metadata"][field].is_object() {
                claim["metadata"][field] = template["metadata"][field].clone();
            }
        }
        let made = self.ctx.client.create(PERSISTENT_VOLUME_CLAIMS, &claim).await?;
        self.claims.wait_for(&made).await;
        Ok(())
    }
}
