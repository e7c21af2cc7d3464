//! Taints keep pods away that do not tolerate them; soft ones only lower the score.

use std::sync::Arc;

use longshore_api::Object;
use serde_json::Value;

use super::{Ask, Check, Plugin, Rate, Refusal, Start, normalize};
use crate::events::Event;
use crate::model::{Node, Pod};

pub(super) struct TaintToleration;

#[derive(Clone)]
struct Hard(Arc<Pod>);

struct Soft(Arc<Pod>);

/// Whether a toleration covers a taint.
///
/// upstream: staging/src/k8s.io/api/core/v1/toleration.go ToleratesTaint
fn covers(toleration: &Value, taint: &Value) -> bool {
    let text = |v: &Value, key: &str| v[key].as_str().unwrap_or("").to_owned();
    let (effect, key) = (text(toleration, "effect"), text(toleration, "key"));
    (effect.is_empty() || effect == text(taint, "effect"))
        && (key.is_empty() || key == text(taint, "key"))
        && match text(toleration, "operator").as_str() {
            "" | "Equal" => text(toleration, "value") == text(taint, "value"),
            "Exists" => true,
            _ => false,
        }
}

/// Whether one of a pod's tolerations covers a taint.
pub(super) fn tolerates(pod: &Object, taint: &Value) -> bool {
    pod.list(&["spec", "tolerations"]).iter().any(|t| covers(t, taint))
}

/// Whether a taint keeps pods away.
pub(super) fn is_hard(taint: &Value) -> bool {
    taint["effect"] == "NoSchedule" || taint["effect"] == "NoExecute"
}

fn is_kept_away(pod: &Object, node: &Object) -> bool {
    let taints = node.list(&["spec", "taints"]).iter();
    taints.filter(|t| is_hard(t)).any(|taint| !tolerates(pod, taint))
}

impl Plugin for TaintToleration {
    fn start(&self, ask: &Ask<'_>) -> Start {
        Start::Check(Box::new(Hard(ask.pod.clone())))
    }

    fn rate(&self, ask: &Ask<'_>, _feasible: &[Arc<Node>]) -> Option<Box<dyn Rate>> {
        Some(Box::new(Soft(ask.pod.clone())))
    }

    fn helps(&self, pod: &Pod, event: &Event) -> bool {
        let node = event.node(&[&["spec", "taints"]]);
        node.is_some_and(|node| !is_kept_away(&pod.object, node)) || matches!(event, Event::Own)
    }
}

impl Check for Hard {
    fn filter(&self, node: &Node) -> Result<(), Refusal> {
        if is_kept_away(&self.0.object, &node.object) {
            return Err(Refusal::always("node(s) had untolerated taint(s)"));
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Check> {
        Box::new(self.clone())
    }
}

impl Rate for Soft {
    fn score(&self, node: &Node) -> i64 {
        let soft =
            |v: &Value| matches!(v["effect"].as_str().unwrap_or(""), "" | "PreferNoSchedule");
        let tolerations = self.0.object.list(&["spec", "tolerations"]);
        let taints = node.object.list(&["spec", "taints"]).iter();
        let taints = taints.filter(|taint| taint["effect"] == "PreferNoSchedule");
        let open =
            taints.filter(|taint| !tolerations.iter().any(|t| soft(t) && covers(t, taint))).count();
        i64::try_from(open).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, true);
    }
}
