//! Pod Security Standards: namespaces say by labels what their pods may do.
//!
//! No namespace, user or runtime class is exempt, and without labels everything is allowed, as in
//! a cluster without a configuration of this plugin.
//!
//! upstream: staging/src/k8s.io/pod-security-admission/admission/admission.go

mod checks;
mod level;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use longshore_api::patch::gotext;
use longshore_api::{Object, StatusError};
use serde_json::Value;

use self::checks::{Pod, evaluate};
use self::level::{Level, Policies, Policy, policies};
use super::{Attributes, Plain, Tools, Verdict};
use crate::reader::Reader;

/// Pods of a namespace that are looked at when its level changes.
///
/// upstream: defaultNamespaceMaxPodsToCheck
const PODS_MAX: usize = 3_000;

/// Subresources of pods that cannot change what a pod may do.
const IGNORED: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// Where the resources that make pods keep the template.
const TEMPLATES: [(&str, &str, &[&str]); 8] = [
    ("", "podtemplates", &["template"]),
    ("", "replicationcontrollers", &["spec", "template"]),
    ("apps", "replicasets", &["spec", "template"]),
    ("apps", "deployments", &["spec", "template"]),
    ("apps", "daemonsets", &["spec", "template"]),
    ("apps", "statefulsets", &["spec", "template"]),
    ("batch", "jobs", &["spec", "template"]),
    ("batch", "cronjobs", &["spec", "jobTemplate", "spec", "template"]),
];

pub(super) struct PodSecurity {
    reader: Arc<dyn Reader>,
}

impl PodSecurity {
    pub(super) fn new(tools: &Tools) -> Self {
        Self { reader: tools.reader.clone() }
    }

    fn policies_of(&self, namespace: &str) -> Option<Policies> {
        let object = self.reader.get("", "namespaces", "", namespace)?;
        Some(policies(&object).0)
    }

    fn namespace(&self, a: &Attributes<'_>, new: &Object, old: Option<&Object>) -> Verdict {
        let (policies_new, errors) = policies(new);
        let invalid = |errors: &[_]| Err(StatusError::invalid("", "Namespace", a.name, errors));
        let Some(old) = old else {
            return if errors.is_empty() { Ok(()) } else { invalid(&errors) };
        };
        let (policies_old, errors_old) = policies(old);
        if !errors.is_empty() && errors != errors_old {
            return invalid(&errors);
        }
        let (enforce, before) = (policies_new.enforce, policies_old.enforce);
        let relaxed = enforce.version == before.version && enforce.level <= before.level;
        if enforce != before && enforce.level != Level::Privileged && !relaxed {
            for warning in self.violations(new.name(), enforce) {
                a.warn(warning);
            }
        }
        Ok(())
    }

    /// What to say about the pods of a namespace that break its new level.
    fn violations(&self, namespace: &str, enforce: Policy) -> Vec<String> {
        let pods = one_of_each_controller_first(self.reader.list("", "pods", namespace));
        let total = pods.len();
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for object in pods.iter().take(PODS_MAX) {
            let found = evaluate(enforce, &pod_of(object));
            if !found.is_empty() {
                let reasons: Vec<&str> = found.iter().map(|v| v.reason).collect();
                names.entry(reasons.join(", ")).or_default().push(object.name().to_owned());
            }
        }
        let mut warnings = Vec::new();
        if total > PODS_MAX {
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {PODS_MAX} of {total} existing pods"
            ));
        }
        if !names.is_empty() {
            warnings.push(format!(
                "existing pods in namespace {} violate the new PodSecurity enforce level {}",
                gotext::quote(namespace),
                gotext::quote(&enforce.to_string())
            ));
        }
        let mut pods: Vec<String> = names
            .into_iter()
            .map(|(reasons, mut pods)| {
                pods.sort();
                let first = &pods[0];
                match pods.len() {
                    1 => format!("{first}: {reasons}"),
                    2 => format!("{first} (and 1 other pod): {reasons}"),
                    count => format!("{first} (and {} other pods): {reasons}", count - 1),
                }
            })
            .collect();
        pods.sort();
        warnings.extend(pods);
        warnings
    }

    fn pod(&self, a: &Attributes<'_>, new: &Object, old: Option<&Object>) -> Verdict {
        let Some(policies) = self.policies_of(a.namespace) else {
            let why = format!("failed to lookup namespace {}", gotext::quote(a.namespace));
            return Err(StatusError::internal(why));
        };
        if policies.all_privileged() || old.is_some_and(|old| !changes_images(new, old)) {
            return Ok(());
        }
        let pod = pod_of(new);
        let found = evaluate(policies.enforce, &pod);
        if !found.is_empty() {
            let why = format!("violates PodSecurity {}", told(policies.enforce, &found));
            return Err(StatusError::forbidden("", "pods", a.name, &why));
        }
        warn(a, policies.warn, &pod);
        Ok(())
    }

    fn template(&self, a: &Attributes<'_>, path: &[&str], new: &Object) {
        let Some(policies) = self.policies_of(a.namespace) else { return };
        let Some(template) = new.get(path).filter(|template| template.is_object()) else { return };
        warn(a, policies.warn, &Pod::new(&template["metadata"], &template["spec"]));
    }
}

impl Plain for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn check(&self, a: &Attributes<'_>, object: Option<&Object>, old: Option<&Object>) -> Verdict {
        let Some(new) = object.filter(|_| a.creates() || a.updates()) else { return Ok(()) };
        if a.is("", "namespaces") {
            return self.namespace(a, new, old);
        }
        if a.is_any("", "pods") {
            return if IGNORED.contains(&a.subresource) { Ok(()) } else { self.pod(a, new, old) };
        }
        let template = TEMPLATES.iter().find(|(group, resource, _)| a.is(group, resource));
        if let Some((_, _, path)) = template {
            self.template(a, path, new);
        }
        Ok(())
    }
}

fn pod_of(object: &Object) -> Pod<'_> {
    let part = |key: &str| object.get(&[key]).unwrap_or(&Value::Null);
    Pod::new(part("metadata"), part("spec"))
}

fn warn(a: &Attributes<'_>, policy: Policy, pod: &Pod<'_>) {
    let found = evaluate(policy, pod);
    if !found.is_empty() {
        a.warn(format!("would violate PodSecurity {}", told(policy, &found)));
    }
}

fn told(policy: Policy, found: &[checks::Violation]) -> String {
    let texts: Vec<String> = found
        .iter()
        .map(|v| {
            if v.detail.is_empty() {
                v.reason.into()
            } else {
                format!("{} ({})", v.reason, v.detail)
            }
        })
        .collect();
    format!("{}: {}", gotext::quote(&policy.to_string()), texts.join(", "))
}

/// Of the fields that an update can change, only images and new containers matter.
///
/// upstream: isSignificantPodUpdate
fn changes_images(new: &Object, old: &Object) -> bool {
    for list in ["containers", "initContainers"] {
        let (new, old) = (new.list(&["spec", list]), old.list(&["spec", list]));
        let same = new.len() == old.len()
            && new.iter().zip(old).all(|(new, old)| new["image"] == old["image"]);
        if !same {
            return true;
        }
    }
    let known = old.list(&["spec", "ephemeralContainers"]);
    new.list(&["spec", "ephemeralContainers"]).iter().any(|new| {
        let old = known.iter().find(|old| old["name"] == new["name"]);
        old.is_none_or(|old| old["image"] != new["image"])
    })
}

/// Pods of one controller are alike: one of each comes before the rest.
fn one_of_each_controller_first(pods: Vec<Arc<Object>>) -> Vec<Arc<Object>> {
    let mut seen: HashSet<String> = HashSet::new();
    let (mut first, rest): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| {
        let owners = pod.list(&["metadata", "ownerReferences"]);
        let controller = owners.iter().find(|owner| owner["controller"] == true);
        controller.is_none_or(|owner| seen.insert(owner["uid"].as_str().unwrap_or("").to_owned()))
    });
    first.extend(rest);
    first
}

#[cfg(test)]
mod tests;
