//! Pods stay five minutes on a node that is not ready or cannot be reached.
//!
//! upstream: plugin/pkg/admission/defaulttolerationseconds/admission.go

use longshore_api::Object;
use serde_json::{Value, json};

use super::{Attributes, Plain, Verdict};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: i64 = 300;

pub(super) struct DefaultTolerationSeconds;

impl Plain for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn admit(&self, a: &Attributes<'_>, pod: &mut Object, _old: Option<&Object>) -> Verdict {
        if !a.is("", "pods") || !(a.creates() || a.updates()) {
            return Ok(());
        }
        let tolerations = pod.list(&["spec", "tolerations"]);
        let tolerated = |taint: &str| {
            tolerations.iter().any(|toleration| {
                let text = |key: &str| toleration[key].as_str().unwrap_or("");
                (text("key").is_empty() || text("key") == taint)
                    && (text("effect").is_empty() || text("effect") == "NoExecute")
            })
        };
        let missing: Vec<Value> = TAINTS
            .iter()
            .filter(|taint| !tolerated(taint))
            .map(|taint| {
                json!({"key": taint, "operator": "Exists", "effect": "NoExecute",
                    "tolerationSeconds": SECONDS})
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        match pod.get_mut(&["spec", "tolerations"]).and_then(Value::as_array_mut) {
            Some(own) => own.extend(missing),
            None => pod.set(&["spec", "tolerations"], missing),
        }
        Ok(())
    }
}
