//! Volumes and claims in use are not removed: a finalizer holds them.
//!
//! upstream: plugin/pkg/admission/storage/storageobjectinuseprotection/admission.go

use longshore_api::Object;
use serde_json::Value;

use super::{Attributes, Plain, Verdict};

/// Group, resource, finalizer.
const PROTECTED: [(&str, &str, &str); 3] = [
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

pub(super) struct StorageObjectInUseProtection;

impl Plain for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn admit(&self, a: &Attributes<'_>, object: &mut Object, _old: Option<&Object>) -> Verdict {
        let entry = PROTECTED.iter().find(|(group, resource, _)| a.is(group, resource));
        let Some((_, _, finalizer)) = entry.filter(|_| a.creates()) else { return Ok(()) };
        if object.finalizers().contains(finalizer) {
            return Ok(());
        }
        match object.get_mut(&["metadata", "finalizers"]).and_then(Value::as_array_mut) {
            Some(finalizers) => finalizers.push((*finalizer).into()),
            None => object.set(&["metadata", "finalizers"], vec![*finalizer]),
        }
        Ok(())
    }
}
