//! Pods take overhead, node selector and tolerations from their runtime class.
//!
//! upstream: plugin/pkg/admission/runtimeclass/admission.go

use std::sync::Arc;

use longshore_api::patch::gotext;
use longshore_api::{Object, StatusError};
use serde_json::Value;

use super::resources::amounts;
use super::{Attributes, Plain, Tools, Verdict};
use crate::reader::Reader;

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub(super) struct RuntimeClass {
    reader: Arc<dyn Reader>,
}

impl RuntimeClass {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone() }
    }

    fn class(&self, a: &Attributes<'_>, pod: &Object) -> Result<Option<Arc<Object>>, StatusError> {
        let Some(name) = pod.get(&["spec", "runtimeClassName"]).and_then(Value::as_str) else {
            return Ok(None);
        };
        let class = self.reader.get("node.k8s.io", "runtimeclasses", "", name);
        class.map(Some).ok_or_else(|| {
            let text = format!("pod rejected: RuntimeClass {} not found", gotext::quote(name));
            a.forbidden(Some(pod), &text)
        })
    }
}

impl Plain for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn admit(&self, a: &Attributes<'_>, pod: &mut Object, _old: Option<&Object>) -> Verdict {
        if !a.is("", "pods") || !a.creates() {
            return Ok(());
        }
        let Some(class) = self.class(a, pod)? else { return Ok(()) };
        if class.get(&["overhead"]).is_some_and(Value::is_object) {
            let wanted = class.get(&["overhead", "podFixed"]).cloned().unwrap_or(Value::Null);
            let own = pod.get(&["spec", "overhead"]).map(amounts).unwrap_or_default();
            if !own.is_empty() && own != amounts(&wanted) {
                return Err(a.forbidden(Some(pod), MISMATCH));
            }
            if wanted.is_object() {
                pod.set(&["spec", "overhead"], wanted);
            }
        }
        set_scheduling(a, pod, &class)
    }

    fn check(&self, a: &Attributes<'_>, object: Option<&Object>, _old: Option<&Object>) -> Verdict {
        let Some(pod) = object.filter(|_| a.is("", "pods") && a.creates()) else { return Ok(()) };
        let class = self.class(a, pod)?;
        let own = pod.get(&["spec", "overhead"]);
        match class.as_ref().and_then(|class| class.get(&["overhead"])) {
            Some(overhead) if overhead.is_object() => {
                if amounts(&overhead["podFixed"]) != own.map(amounts).unwrap_or_default() {
                    return Err(a.forbidden(Some(pod), MISMATCH));
                }
                Ok(())
            }
            _ if own.is_some_and(|own| !own.is_null()) || pod.is_given_empty("spec.overhead") => {
                let text = "pod rejected: Pod Overhead set without corresponding RuntimeClass \
                            defined Overhead";
                Err(a.forbidden(Some(pod), text))
            }
            _ => Ok(()),
        }
    }
}

fn set_scheduling(a: &Attributes<'_>, pod: &mut Object, class: &Object) -> Verdict {
    let selector = class.get(&["scheduling", "nodeSelector"]).and_then(Value::as_object);
    for (key, wanted) in selector.into_iter().flatten() {
        let own = pod.get(&["spec", "nodeSelector"]).and_then(|s| s.get(key));
        if let Some(own) = own.filter(|own| *own != wanted) {
            let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
            let text = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; \
                 pod.spec.nodeSelector[{key}] = {}",
                text(wanted),
                text(own)
            );
            return Err(a.forbidden(Some(pod), &text));
        }
        pod.set(&["spec", "nodeSelector", key], wanted.clone());
    }
    let more = class.list(&["scheduling", "tolerations"]);
    if class.get(&["scheduling"]).is_some_and(Value::is_object) {
        let mut all = pod.list(&["spec", "tolerations"]).to_vec();
        all.extend_from_slice(more);
        let merged = merge_tolerations(&all);
        if !merged.is_empty() {
            pod.set(&["spec", "tolerations"], merged);
        }
    }
    Ok(())
}

// upstream: pkg/util/tolerations/tolerations.go
fn merge_tolerations(all: &[Value]) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for (i, one) in all.iter().enumerate() {
        let known = merged.iter().any(|other| covers(other, one));
        let later = all[i + 1..].iter().any(|other| other != one && covers(other, one));
        if !known && !later {
            merged.push(one.clone());
        }
    }
    merged
}

/// Whether `wide` tolerates everything that `narrow` does.
fn covers(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("").to_owned();
    let operator = text(wide, "operator");
    let any_key = text(wide, "key").is_empty() && operator == "Exists";
    if text(wide, "key") != text(narrow, "key") && !any_key {
        return false;
    }
    let effect = text(wide, "effect");
    if effect != text(narrow, "effect") && !effect.is_empty() {
        return false;
    }
    if effect == "NoExecute"
        && let Some(most) = wide["tolerationSeconds"].as_i64()
        && narrow["tolerationSeconds"].as_i64().is_none_or(|own| own > most)
    {
        return false;
    }
    match operator.as_str() {
        "Exists" => true,
        "" | "Equal" => {
            text(narrow, "operator") == "Equal" && text(narrow, "value") == text(wide, "value")
        }
        _ => false,
    }
}
