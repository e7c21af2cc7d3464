//! Claims grow only where their class allows it.
//!
//! upstream: plugin/pkg/admission/storage/persistentvolume/resize/admission.go

use std::sync::Arc;

use longshore_api::Object;
use longshore_api::quantity::Quantity;

use super::{Attributes, Plain, Tools, Verdict};
use crate::reader::Reader;

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct PersistentVolumeClaimResize {
    reader: Arc<dyn Reader>,
}

impl PersistentVolumeClaimResize {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone() }
    }
}

fn size(claim: &Object) -> Quantity {
    let text = claim.str(&["spec", "resources", "requests", "storage"]);
    Quantity::parse(text).unwrap_or_else(|_| Quantity::from_integer(0))
}

fn class(claim: &Object) -> &str {
    claim.annotation(OLD_CLASS).unwrap_or_else(|| claim.str(&["spec", "storageClassName"]))
}

impl Plain for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn check(&self, a: &Attributes<'_>, object: Option<&Object>, old: Option<&Object>) -> Verdict {
        let (Some(claim), Some(old)) = (object, old) else { return Ok(()) };
        if !a.is("", "persistentvolumeclaims") || !a.updates() || size(claim) <= size(old) {
            return Ok(());
        }
        if old.str(&["status", "phase"]) != "Bound" {
            let text = "Only bound persistent volume claims can be expanded";
            return Err(a.forbidden(Some(claim), text));
        }
        let name = class(claim);
        let allowed = !name.is_empty()
            && name == class(old)
            && self
                .reader
                .get("storage.k8s.io", "storageclasses", "", name)
                .is_some_and(|class| class.bool(&["allowVolumeExpansion"]));
        if allowed {
            return Ok(());
        }
        let text = "only dynamically provisioned pvc can be resized and the storageclass that \
                    provisions the pvc must support resize";
        Err(a.forbidden(Some(claim), text))
    }
}
