//! Taints keep pods away that do not tolerate them; soft ones only lower the score.

use longshore_api::Object;
use serde_json::Value;

use super::{Cycle, Plugin, normalize};
use crate::model::Node;

pub(super) struct TaintToleration;

/// Whether one of a pod's tolerations covers a taint.
pub(super) fn tolerates(pod: &Object, taint: &Value) -> bool {
    let text = |v: &Value, key: &str| v[key].as_str().unwrap_or("").to_owned();
    pod.list(&["spec", "tolerations"]).iter().any(|t| {
        let (effect, key) = (text(t, "effect"), text(t, "key"));
        (effect.is_empty() || effect == text(taint, "effect"))
            && (key.is_empty() || key == text(taint, "key"))
            && match text(t, "operator").as_str() {
                "" | "Equal" => text(t, "value") == text(taint, "value"),
                "Exists" => true,
                _ => false,
            }
    })
}

impl Plugin for TaintToleration {
    fn filter(&self, cycle: &Cycle<'_>, node: &Node) -> Result<(), Vec<String>> {
        let hard = node.object.list(&["spec", "taints"]).iter();
        let mut hard = hard.filter(|t| t["effect"] == "NoSchedule" || t["effect"] == "NoExecute");
        match hard.find(|taint| !tolerates(&cycle.pod.object, taint)) {
            None => Ok(()),
            Some(taint) => {
                let text = |key: &str| taint[key].as_str().unwrap_or("");
                Err(vec![format!(
                    "node(s) had untolerated taint {{{}: {}}}",
                    text("key"),
                    text("value")
                )])
            }
        }
    }

    fn score(&self, cycle: &Cycle<'_>, node: &Node) -> Option<i64> {
        let soft = node.object.list(&["spec", "taints"]).iter();
        let soft = soft.filter(|t| t["effect"] == "PreferNoSchedule");
        let count = soft.filter(|taint| !tolerates(&cycle.pod.object, taint)).count();
        i64::try_from(count).ok()
    }

    fn normalize(&self, scores: Vec<i64>) -> Vec<i64> {
        normalize(scores, true)
    }
}
