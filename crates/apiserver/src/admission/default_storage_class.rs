//! Claims that name no class get the default one.
//!
//! upstream: plugin/pkg/admission/storage/storageclass/setdefault/admission.go

use std::sync::Arc;

use longshore_api::Object;

use super::{Attributes, Plain, Tools, Verdict};
use crate::reader::Reader;

const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) struct DefaultStorageClass {
    reader: Arc<dyn Reader>,
}

impl DefaultStorageClass {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone() }
    }
}

/// Of several default classes: the newest, by name when of equal age.
pub(super) fn newest(classes: Vec<Arc<Object>>) -> Option<Arc<Object>> {
    let created = |class: &Object| class.str(&["metadata", "creationTimestamp"]).to_owned();
    classes
        .into_iter()
        .min_by(|a, b| created(b).cmp(&created(a)).then_with(|| a.name().cmp(b.name())))
}

impl Plain for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn admit(&self, a: &Attributes<'_>, claim: &mut Object, _old: Option<&Object>) -> Verdict {
        let named = claim.get(&["spec", "storageClassName"]).is_some_and(|v| !v.is_null())
            || claim.annotation(OLD_CLASS).is_some();
        if !a.is("", "persistentvolumeclaims") || !a.creates() || named {
            return Ok(());
        }
        let mut classes = self.reader.list("storage.k8s.io", "storageclasses", "");
        classes.retain(|class| DEFAULT.iter().any(|key| class.annotation(key) == Some("true")));
        if let Some(class) = newest(classes) {
            claim.set(&["spec", "storageClassName"], class.name());
        }
        Ok(())
    }
}
