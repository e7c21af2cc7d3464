//! A pod's priority comes from its priority class.
//!
//! upstream: plugin/pkg/admission/priority/admission.go

use std::sync::Arc;

use longshore_api::Object;
use serde_json::Value;

use super::{Attributes, Plain, Tools, Verdict};
use crate::reader::Reader;

const GROUP: &str = "scheduling.k8s.io";

pub(super) struct Priority {
    reader: Arc<dyn Reader>,
}

impl Priority {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone() }
    }

    /// Of several default classes the lowest counts.
    fn default_class(&self) -> Option<Arc<Object>> {
        let classes = self.reader.list(GROUP, "priorityclasses", "");
        let defaults = classes.into_iter().filter(|class| class.bool(&["globalDefault"]));
        defaults.min_by_key(|class| class.int(&["value"]).unwrap_or(0))
    }

    fn admit_pod(&self, a: &Attributes<'_>, pod: &mut Object) -> Verdict {
        let name = pod.str(&["spec", "priorityClassName"]).to_owned();
        let class = if name.is_empty() {
            self.default_class()
        } else {
            let found = self.reader.get(GROUP, "priorityclasses", "", &name);
            Some(found.ok_or_else(|| {
                let text = format!("no PriorityClass with name {name} was found");
                a.forbidden(Some(pod), &text)
            })?)
        };
        let (value, policy) = match &class {
            None => (0, "PreemptLowerPriority"),
            Some(class) => (class.int(&["value"]).unwrap_or(0), class.str(&["preemptionPolicy"])),
        };
        if let Some(class) = &class {
            pod.set(&["spec", "priorityClassName"], class.name());
        }
        if let Some(given) = pod.int(&["spec", "priority"]).filter(|given| *given != value) {
            let text = format!(
                "the integer value of priority ({given}) must not be provided in pod spec; \
                 priority admission controller computed {value} from the given PriorityClass name"
            );
            return Err(a.forbidden(Some(pod), &text));
        }
        pod.set(&["spec", "priority"], value);
        if policy.is_empty() {
            return Ok(());
        }
        let given = pod.get(&["spec", "preemptionPolicy"]).and_then(Value::as_str);
        if let Some(given) = given.filter(|given| *given != policy) {
            let text = format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; \
                 priority admission controller computed {policy} from the given PriorityClass name"
            );
            return Err(a.forbidden(Some(pod), &text));
        }
        pod.set(&["spec", "preemptionPolicy"], policy);
        Ok(())
    }
}

impl Plain for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn admit(&self, a: &Attributes<'_>, object: &mut Object, old: Option<&Object>) -> Verdict {
        if !a.is("", "pods") {
            return Ok(());
        }
        if a.creates() {
            return self.admit_pod(a, object);
        }
        let Some(old) = old.filter(|_| a.updates()) else { return Ok(()) };
        for key in ["priority", "preemptionPolicy"] {
            if object.get(&["spec", key]).is_none()
                && let Some(value) = old.get(&["spec", key])
            {
                object.set(&["spec", key], value.clone());
            }
        }
        Ok(())
    }

    fn check(&self, a: &Attributes<'_>, object: Option<&Object>, _old: Option<&Object>) -> Verdict {
        let Some(class) = object.filter(|_| a.is(GROUP, "priorityclasses")) else { return Ok(()) };
        if !class.bool(&["globalDefault"]) || !(a.creates() || a.updates()) {
            return Ok(());
        }
        match self.default_class() {
            Some(other) if a.creates() || other.name() != class.name() => {
                let text = format!(
                    "PriorityClass {} is already marked as default. Only one default can exist",
                    other.name()
                );
                Err(a.forbidden(Some(class), &text))
            }
            _ => Ok(()),
        }
    }
}
