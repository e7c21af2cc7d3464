//! Pods get the topology labels of the node they are bound to.
//!
//! upstream: plugin/pkg/admission/podtopologylabels/admission.go

use std::sync::Arc;

use longshore_api::Object;

use super::{Attributes, Plain, Tools, Verdict};
use crate::reader::Reader;

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub(super) struct PodTopologyLabels {
    reader: Arc<dyn Reader>,
}

impl PodTopologyLabels {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone() }
    }
}

impl Plain for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn admit(&self, a: &Attributes<'_>, object: &mut Object, _old: Option<&Object>) -> Verdict {
        let binding = a.is_any("", "pods") && a.subresource == "binding";
        let node = if binding && a.creates() && object.str(&["target", "kind"]) == "Node" {
            object.str(&["target", "name"])
        } else if a.is("", "pods") && a.creates() {
            object.str(&["spec", "nodeName"])
        } else {
            ""
        };
        if node.is_empty() {
            return Ok(());
        }
        let Some(node) = self.reader.get("", "nodes", "", node) else { return Ok(()) };
        for key in LABELS {
            if let Some(value) = node.label(key) {
                object.set(&["metadata", "labels", key], value);
            }
        }
        Ok(())
    }
}
