//! A bound pod is changed only in ways that its node says it can follow.
//!
//! upstream: plugin/pkg/admission/nodedeclaredfeatures/admission.go,
//! staging/src/k8s.io/component-helpers/nodedeclaredfeatures/features

use std::sync::Arc;

use longshore_api::Object;
use serde_json::Value;

use super::{Attributes, Plain, Tools, Verdict};
use crate::reader::Reader;

pub(super) struct NodeDeclaredFeatures {
    reader: Arc<dyn Reader>,
}

impl NodeDeclaredFeatures {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone() }
    }
}

/// The features that a change needs, in upstream's order.
fn needed(pod: &Object, old: &Object) -> Vec<&'static str> {
    let mut features = Vec::new();
    let whole = |pod: &Object| pod.get(&["spec", "resources"]).cloned();
    if whole(pod) != whole(old) {
        features.push("InPlacePodLevelResourcesVerticalScaling");
    }
    let resources = |container: &Value| container.get("resources").cloned();
    let mut init = old
        .list(&["spec", "initContainers"])
        .iter()
        .zip(pod.list(&["spec", "initContainers"]))
        .filter(|(old, _)| old["restartPolicy"] != "Always");
    if init.any(|(old, new)| resources(old) != resources(new)) {
        features.push("InPlacePodVerticalScalingInitContainers");
    }
    features
}

impl Plain for NodeDeclaredFeatures {
    fn name(&self) -> &'static str {
        "NodeDeclaredFeatureValidator"
    }

    fn check(&self, a: &Attributes<'_>, object: Option<&Object>, old: Option<&Object>) -> Verdict {
        let (Some(pod), Some(old)) = (object, old) else { return Ok(()) };
        let concerned = matches!(a.subresource, "" | "resize");
        if !a.is_any("", "pods") || !a.updates() || !concerned {
            return Ok(());
        }
        let name = pod.str(&["spec", "nodeName"]);
        if name.is_empty() || pod.generation() == old.generation() {
            return Ok(());
        }
        let mut features = needed(pod, old);
        if features.is_empty() {
            return Ok(());
        }
        let Some(node) = self.reader.get("", "nodes", "", name) else {
            return Err(a.forbidden(Some(pod), &format!("node {name:?} not found")));
        };
        let declared = node.list(&["status", "declaredFeatures"]);
        features.retain(|feature| !declared.iter().any(|known| known == feature));
        if features.is_empty() {
            return Ok(());
        }
        let why = format!(
            "pod update requires features {} which are not available on node {name:?}",
            features.join(", ")
        );
        Err(a.forbidden(Some(pod), &why))
    }
}
