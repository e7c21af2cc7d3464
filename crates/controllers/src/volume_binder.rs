//! Claims get volumes: one that fits, or one that a provisioner is asked for.
//!
//! The volume names the claim first and the claim names the volume second, so that a crash between
//! the two never gives a volume away twice.
//!
//! upstream: pkg/controller/volume/persistentvolume/pv_controller.go

use std::sync::Arc;

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use longshore_api::selector::LabelSelector;
use longshore_client::recorder::Severity;
use longshore_client::resource::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES};
use longshore_client::workers::{self, Outcome};
use longshore_client::{Error, Informer, Queue};
use serde_json::{Value, json};

use crate::common::{Key, follow, key_of};
use crate::{Context, pods};

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_US: &str = "pv.kubernetes.io/bound-by-controller";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const PROVISIONER: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// Which driver made a volume.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Provisioners that were once built in, and the drivers that took their place.
///
/// upstream: staging/src/k8s.io/csi-translation-lib/plugins
const MOVED_OUT: [(&str, &str); 7] = [
    ("kubernetes.io/aws-ebs", "ebs.csi.aws.com"),
    ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io"),
    ("kubernetes.io/cinder", "cinder.csi.openstack.org"),
    ("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    ("kubernetes.io/azure-file", "file.csi.azure.com"),
    ("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com"),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com"),
];

/// The driver that does the work of a provisioner.
fn driver_of(provisioner: &str) -> &str {
    let moved = MOVED_OUT.iter().find(|(before, _)| *before == provisioner);
    moved.map_or(provisioner, |(_, driver)| driver)
}

#[derive(Clone)]
struct Controller {
    ctx: Context,
    claims: Informer,
    volumes: Informer,
    classes: Informer,
}

pub(crate) fn start(ctx: Context) {
    let (claim_queue, volume_queue): (Queue<Key>, Queue<Key>) = (Queue::new(), Queue::new());
    let claims = ctx.caches.get(PERSISTENT_VOLUME_CLAIMS);
    let volumes = ctx.caches.get(PERSISTENT_VOLUMES);
    let classes = ctx.caches.get(STORAGE_CLASSES);
    follow(&claims, &claim_queue);
    follow(&volumes, &volume_queue);
    // A new volume or class may be what a waiting claim waits for.
    for cache in [&volumes, &classes] {
        let (queue, claims) = (claim_queue.clone(), claims.clone());
        cache.on_change(move |_| {
            for claim in claims.list().iter().filter(|c| !is_bound(c)) {
                queue.add(key_of(claim));
            }
        });
    }
    let again = claim_queue.clone();
    volumes.on_change(move |change| {
        let volume = change.object();
        let claim = |key| volume.str(&["spec", "claimRef", key]).to_owned();
        if !claim("name").is_empty() {
            again.add((claim("namespace"), claim("name")));
        }
    });
    let again = volume_queue.clone();
    claims.on_change(move |change| {
        let volume = change.object().str(&["spec", "volumeName"]);
        if !volume.is_empty() {
            again.add((String::new(), volume.to_owned()));
        }
    });
    let controller = Controller { ctx, claims, volumes, classes };
    let shutdown = controller.ctx.shutdown.clone();
    let for_volumes = controller.clone();
    // One worker: two claims must not be given the same volume.
    workers::run("persistentvolume-binder-controller", claim_queue, 1, &shutdown, move |key| {
        let controller = controller.clone();
        async move { controller.sync_claim(key).await }
    });
    workers::run("persistentvolume-binder-controller", volume_queue, 1, &shutdown, move |key| {
        let controller = for_volumes.clone();
        async move { controller.sync_volume(key).await }
    });
}

fn is_bound(claim: &Object) -> bool {
    claim.annotation(BIND_COMPLETED).is_some()
}

fn class_of(object: &Object) -> &str {
    object.annotation(CLASS).unwrap_or_else(|| object.str(&["spec", "storageClassName"]))
}

fn amount(object: &Object, path: &[&str]) -> Option<Quantity> {
    Quantity::parse(object.str(path)).ok()
}

/// Whether a volume is kept for this claim.
fn is_for(volume: &Object, claim: &Object) -> bool {
    let uid = volume.str(&["spec", "claimRef", "uid"]);
    volume.str(&["spec", "claimRef", "namespace"]) == claim.namespace()
        && volume.str(&["spec", "claimRef", "name"]) == claim.name()
        && (uid.is_empty() || uid == claim.uid())
}

/// What keeps a volume from satisfying a claim.
///
/// upstream: pkg/controller/volume/persistentvolume checkVolumeSatisfyClaim
fn mismatch(volume: &Object, claim: &Object) -> Option<&'static str> {
    let asked = amount(claim, &["spec", "resources", "requests", "storage"]);
    let size = amount(volume, &["spec", "capacity", "storage"]);
    let mode = |object: &Object| match object.str(&["spec", "volumeMode"]) {
        "" => "Filesystem".to_owned(),
        mode => mode.to_owned(),
    };
    let offered = volume.list(&["spec", "accessModes"]);
    if volume.is_deleting() {
        Some("volume is being deleted")
    } else if asked > size {
        Some("requested PV is too small")
    } else if class_of(volume) != class_of(claim) {
        Some("storageClassName does not match")
    } else if mode(volume) != mode(claim) {
        Some("incompatible volumeMode")
    } else if !claim.list(&["spec", "accessModes"]).iter().all(|mode| offered.contains(mode)) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

impl Controller {
    fn tell(&self, claim: &Object, severity: Severity, reason: &str, message: &str) {
        self.ctx.recorder.event(claim, severity, reason, message);
    }

    async fn sync_claim(&self, (namespace, name): Key) -> Outcome {
        for cache in [&self.claims, &self.volumes, &self.classes] {
            cache.synced().await;
        }
        let Some(claim) = self.claims.get(&namespace, &name) else { return Ok(None) };
        if claim.is_deleting() {
            return Ok(None);
        }
        let wanted = claim.str(&["spec", "volumeName"]);
        if wanted.is_empty() {
            match self.best(&claim) {
                Some(volume) => self.bind(&volume, &claim).await?,
                None => self.provision(&claim).await?,
            }
            return Ok(None);
        }
        let volume = self.volumes.get("", wanted);
        match volume {
            None if is_bound(&claim) => {
                if claim.str(&["status", "phase"]) != "Lost" {
                    let text =
                        "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
                    self.tell(&claim, Severity::Warning, "ClaimLost", text);
                }
                self.set_phase(&claim, "Lost").await?;
            }
            None => self.set_phase(&claim, "Pending").await?,
            Some(volume) if is_for(&volume, &claim) => self.bind(&volume, &claim).await?,
            Some(volume) if volume.get(&["spec", "claimRef"]).is_none() => {
                match mismatch(&volume, &claim) {
                    None => self.bind(&volume, &claim).await?,
                    Some(why) => {
                        let text =
                            format!("Cannot bind to requested volume {:?}: {why}", volume.name());
                        self.tell(&claim, Severity::Warning, "VolumeMismatch", &text);
                        self.set_phase(&claim, "Pending").await?;
                    }
                }
            }
            Some(volume) => {
                let text =
                    format!("volume {:?} already bound to a different claim.", volume.name());
                self.tell(&claim, Severity::Warning, "FailedBinding", &text);
                self.set_phase(&claim, "Pending").await?;
            }
        }
        Ok(None)
    }

    /// The volume kept for the claim, or the smallest free one that fits.
    fn best(&self, claim: &Object) -> Option<Arc<Object>> {
        let selector = claim.get(&["spec", "selector"]).map(LabelSelector::from_value);
        let volumes = self.volumes.list();
        if let Some(kept) = volumes.iter().find(|volume| {
            volume.get(&["spec", "claimRef"]).is_some()
                && is_for(volume, claim)
                && mismatch(volume, claim).is_none()
        }) {
            return Some(kept.clone());
        }
        if self.waits_for_pod(claim) {
            return None;
        }
        let fits = |volume: &&Arc<Object>| {
            let labels = match &selector {
                None => true,
                Some(Ok(selector)) => selector.matches_map(volume.labels()),
                Some(Err(_)) => false,
            };
            volume.get(&["spec", "claimRef"]).is_none()
                && volume.str(&["status", "phase"]) == "Available"
                && labels
                && mismatch(volume, claim).is_none()
        };
        let size = |volume: &&Arc<Object>| amount(volume, &["spec", "capacity", "storage"]);
        volumes.iter().filter(fits).min_by_key(size).cloned()
    }

    /// Whether the scheduler has to choose a node first.
    fn waits_for_pod(&self, claim: &Object) -> bool {
        let class = self.classes.get("", class_of(claim));
        class.is_some_and(|class| class.str(&["volumeBindingMode"]) == "WaitForFirstConsumer")
            && claim.annotation(SELECTED_NODE).is_none()
    }

    /// Asks a provisioner for a volume.
    async fn provision(&self, claim: &Object) -> Result<(), Error> {
        let class = self.classes.get("", class_of(claim));
        if self.waits_for_pod(claim) {
            let text = "waiting for first consumer to be created before binding";
            self.tell(claim, Severity::Normal, "WaitForFirstConsumer", text);
        } else if class_of(claim).is_empty() {
            let text = "no persistent volumes available for this claim and no storage class is set";
            self.tell(claim, Severity::Normal, "FailedBinding", text);
        } else if let Some(class) = class {
            let provisioner = driver_of(class.str(&["provisioner"]));
            if provisioner.starts_with("kubernetes.io/") {
                // None of these is a part of this process.
                let text = format!("no volume plugin matched name: {provisioner}");
                self.tell(claim, Severity::Warning, "ProvisioningFailed", &text);
            } else {
                let text = format!(
                    "Waiting for a volume to be created either by the external provisioner \
                     '{provisioner}' or manually by the system administrator. If volume creation \
                     is delayed, please verify that the provisioner is running and correctly \
                     registered."
                );
                self.tell(claim, Severity::Normal, "ExternalProvisioning", &text);
                let mut changed = claim.clone();
                for key in PROVISIONER {
                    changed.set(&["metadata", "annotations", key], provisioner);
                }
                self.write(PERSISTENT_VOLUME_CLAIMS, &self.claims, claim, changed).await?;
            }
        } else {
            let text = format!("storageclass.storage.k8s.io {:?} not found", class_of(claim));
            self.tell(claim, Severity::Warning, "ProvisioningFailed", &text);
        }
        Ok(())
    }

    async fn bind(&self, volume: &Object, claim: &Object) -> Result<(), Error> {
        let mut changed = volume.clone();
        if volume.str(&["spec", "claimRef", "uid"]) != claim.uid() {
            if volume.get(&["spec", "claimRef"]).is_none() {
                changed.set(&["metadata", "annotations", BOUND_BY_US], "yes");
            }
            changed.set(&["spec", "claimRef"], longshore_client::recorder::reference(claim));
        }
        let volume = self.write(PERSISTENT_VOLUMES, &self.volumes, volume, changed).await?;
        self.set_volume_phase(&volume, "Bound").await?;
        let mut changed = claim.clone();
        if claim.str(&["spec", "volumeName"]) != volume.name() {
            changed.set(&["spec", "volumeName"], volume.name());
            changed.set(&["metadata", "annotations", BOUND_BY_US], "yes");
        }
        if !is_bound(claim) {
            changed.set(&["metadata", "annotations", BIND_COMPLETED], "yes");
        }
        let claim = self.write(PERSISTENT_VOLUME_CLAIMS, &self.claims, claim, changed).await?;
        let mut status = claim.get(&["status"]).cloned().unwrap_or_else(|| json!({}));
        status["phase"] = "Bound".into();
        status["accessModes"] = volume.list(&["spec", "accessModes"]).to_vec().into();
        if status.get("capacity").is_none() {
            status["capacity"] = volume.get(&["spec", "capacity"]).cloned().unwrap_or_default();
        }
        let (ctx, of) = (&self.ctx, PERSISTENT_VOLUME_CLAIMS);
        pods::write_status(ctx, &self.claims, of, &claim, status).await
    }

    async fn write(
        &self,
        of: longshore_client::Resource,
        cache: &Informer,
        old: &Object,
        new: Object,
    ) -> Result<Object, Error> {
        if *old == new {
            return Ok(new);
        }
        let written = self.ctx.client.update(of, &new).await?;
        cache.wait_for(&written).await;
        Ok(written)
    }

    async fn set_phase(&self, claim: &Object, phase: &str) -> Result<(), Error> {
        let mut status = claim.get(&["status"]).cloned().unwrap_or_else(|| json!({}));
        status["phase"] = phase.into();
        if let Some(fields) = status.as_object_mut().filter(|_| phase == "Lost") {
            fields.remove("accessModes");
            fields.remove("capacity");
        }
        let (ctx, of) = (&self.ctx, PERSISTENT_VOLUME_CLAIMS);
        pods::write_status(ctx, &self.claims, of, claim, status).await
    }

    async fn set_volume_phase(&self, volume: &Object, phase: &str) -> Result<(), Error> {
        if volume.str(&["status", "phase"]) == phase {
            return Ok(());
        }
        let mut status = volume.get(&["status"]).cloned().unwrap_or_else(|| json!({}));
        status["phase"] = phase.into();
        pods::write_status(&self.ctx, &self.volumes, PERSISTENT_VOLUMES, volume, status).await
    }

    async fn sync_volume(&self, (_, name): Key) -> Outcome {
        self.claims.synced().await;
        let Some(volume) = self.volumes.get("", &name) else { return Ok(None) };
        let uid = volume.str(&["spec", "claimRef", "uid"]);
        if volume.get(&["spec", "claimRef"]).is_none_or(Value::is_null) || uid.is_empty() {
            self.set_volume_phase(&volume, "Available").await?;
            return Ok(None);
        }
        let namespace = volume.str(&["spec", "claimRef", "namespace"]);
        let claim_name = volume.str(&["spec", "claimRef", "name"]);
        let there = match self.claims.get(namespace, claim_name) {
            Some(claim) => Some(claim),
            // The cache may be behind; a volume must not be released by mistake.
            None => {
                let of = PERSISTENT_VOLUME_CLAIMS;
                self.ctx.client.find(of, namespace, claim_name).await?.map(Arc::new)
            }
        };
        if there.is_some_and(|claim| claim.uid() == uid) {
            self.set_volume_phase(&volume, "Bound").await?;
            return Ok(None);
        }
        if volume.str(&["status", "phase"]) != "Failed" {
            self.set_volume_phase(&volume, "Released").await?;
        }
        if volume.str(&["spec", "persistentVolumeReclaimPolicy"]) == "Delete" {
            self.reclaim(&name).await?;
        }
        Ok(None)
    }

    /// Drivers delete their volumes themselves; nobody deletes one that no driver made.
    ///
    /// upstream: pkg/controller/volume/persistentvolume/pv_controller.go findDeletablePlugin
    async fn reclaim(&self, name: &str) -> Result<(), Error> {
        let Some(volume) = self.volumes.get("", name) else { return Ok(()) };
        let driver = volume.annotation(PROVISIONED_BY).map(driver_of);
        let why = match driver {
            Some(driver) if !driver.starts_with("kubernetes.io/") => return Ok(()),
            Some(driver) => format!("no volume plugin matched name: {driver}"),
            None => format!(
                "error getting deleter volume plugin for volume {name:?}: no deletable volume \
                 plugin matched"
            ),
        };
        if volume.str(&["status", "phase"]) == "Failed" {
            return Ok(());
        }
        self.tell(&volume, Severity::Warning, "VolumeFailedDelete", &why);
        let mut status = volume.get(&["status"]).cloned().unwrap_or_else(|| json!({}));
        status["phase"] = "Failed".into();
        status["message"] = why.into();
        pods::write_status(&self.ctx, &self.volumes, PERSISTENT_VOLUMES, &volume, status).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).unwrap()
    }

    #[test]
    fn what_fits() {
        let volume = object(json!({"spec": {"capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"], "storageClassName": "a"}}));
        let claim = |size: &str, class: &str, mode: &str| {
            object(json!({"spec": {"resources": {"requests": {"storage": size}},
                "accessModes": [mode], "storageClassName": class}}))
        };
        assert_eq!(mismatch(&volume, &claim("1Gi", "a", "ReadWriteOnce")), None);
        assert!(mismatch(&volume, &claim("2Gi", "a", "ReadWriteOnce")).is_some());
        assert!(mismatch(&volume, &claim("1Gi", "b", "ReadWriteOnce")).is_some());
        assert!(mismatch(&volume, &claim("1Gi", "a", "ReadWriteMany")).is_some());
    }
}
