//! A bound pod is resized only to what its node could hold.
//!
//! upstream: plugin/pkg/admission/podresize/admission.go

use std::sync::Arc;

use longshore_api::quantity::Quantity;
use longshore_api::status::Cause;
use longshore_api::{Object, StatusError};
use longshore_resources::amounts::{amounts, pod_amounts};
use serde_json::Value;

use super::{Attributes, Plain, Tools, Verdict};
use crate::reader::Reader;

const OS_LABEL: &str = "kubernetes.io/os";

pub(super) struct PodResize {
    reader: Arc<dyn Reader>,
}

impl PodResize {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone() }
    }
}

/// What of a pod's requests its node cannot hold.
fn too_much(pod: &Object, node: &Object) -> Option<String> {
    let none = Quantity::from_integer(0);
    let has = amounts(node.get(&["status", "allocatable"]).unwrap_or(&Value::Null));
    let wants = pod_amounts(pod, "requests", true);
    let pair = |name: &str| {
        let of = |amounts: &longshore_resources::amounts::Amounts| {
            amounts.get(name).copied().unwrap_or(none)
        };
        Some((of(&wants), of(&has))).filter(|(wants, has)| wants > has)
    };
    let mut texts = Vec::new();
    if let Some((wants, has)) = pair("cpu") {
        let (wants, has) = (wants.milli_value(), has.milli_value());
        texts.push(format!("cpu, requested: {wants}, allocatable: {has}"));
    }
    if let Some((wants, has)) = pair("memory") {
        let (wants, has) = (wants.value(), has.value());
        texts.push(format!("memory, requested: {wants}, allocatable: {has}"));
    }
    let all = texts.join("; ");
    (!all.is_empty()).then(|| format!("node didn't have enough allocatable resources: {all}"))
}

fn refused(a: &Attributes<'_>, pod: &Object, why: &str, reason: &str) -> StatusError {
    let mut error = a.forbidden(Some(pod), why);
    let (message, field) = (String::new(), String::new());
    error.causes = vec![Cause { reason: reason.to_owned(), message, field }];
    error
}

impl Plain for PodResize {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn check(&self, a: &Attributes<'_>, object: Option<&Object>, old: Option<&Object>) -> Verdict {
        let (Some(pod), Some(old)) = (object, old) else { return Ok(()) };
        if !a.is_any("", "pods") || !a.updates() || a.subresource != "resize" {
            return Ok(());
        }
        let name = pod.str(&["spec", "nodeName"]);
        if name.is_empty() || pod.generation() == old.generation() {
            return Ok(());
        }
        let Some(node) = self.reader.get("", "nodes", "", name) else {
            return Err(a.forbidden(Some(pod), &format!("node {name:?} not found")));
        };
        let os = node.labels().and_then(|labels| labels.get(OS_LABEL)).and_then(Value::as_str);
        if let Some(os) = os.filter(|os| *os != "linux") {
            let why =
                format!("pod resize is only supported on linux nodes, node {name:?} is {os:?}");
            return Err(refused(a, pod, &why, "UnsupportedPlatform"));
        }
        match too_much(pod, &node) {
            Some(why) => Err(refused(a, pod, &why, "NodeCapacity")),
            None => Ok(()),
        }
    }
}
