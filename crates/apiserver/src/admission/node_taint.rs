//! New nodes are not ready until their kubelet says so.
//!
//! upstream: plugin/pkg/admission/nodetaint/admission.go

use longshore_api::Object;
use serde_json::{Value, json};

use super::{Attributes, Plain, Verdict};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(super) struct TaintNodesByCondition;

impl Plain for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn admit(&self, a: &Attributes<'_>, node: &mut Object, _old: Option<&Object>) -> Verdict {
        if !a.is("", "nodes") || !a.creates() {
            return Ok(());
        }
        let tainted = node
            .list(&["spec", "taints"])
            .iter()
            .any(|taint| taint["key"] == NOT_READY && taint["effect"] == "NoSchedule");
        if tainted {
            return Ok(());
        }
        let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
        match node.get_mut(&["spec", "taints"]).and_then(Value::as_array_mut) {
            Some(taints) => taints.push(taint),
            None => node.set(&["spec", "taints"], vec![taint]),
        }
        Ok(())
    }
}
