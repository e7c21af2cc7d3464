//! Whether a webhook is called for a request, and with which version of the object.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/generic/webhook.go,
//! predicates/{namespace,object}

use std::sync::Arc;

use longshore_api::{Gvk, Object, StatusError};
use serde_json::{Map, Value};

use super::Shared;
use super::hook::Hook;
use super::rules::Asked;
use super::versions::Versions;
use crate::admission::{Attributes, Operation};
use crate::registry::Served;

/// Kinds that no webhook may look at: a broken one could not be mended.
const EXEMPT: [&str; 6] = [
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
];

/// A webhook that is to be called.
pub(super) struct Invocation {
    pub(super) hook: Arc<Hook>,
    /// What it is shown: the kind of the objects.
    pub(super) kind: Gvk,
    /// Group, version and plural of what it is told of.
    pub(super) resource: (String, String, String),
    /// The other version of the resource that it asks for.
    pub(super) equivalent: Option<Arc<Served>>,
    pub(super) name: String,
    pub(super) namespace: String,
}

/// A request as webhooks see it.
pub(super) struct Request<'a> {
    pub(super) a: &'a Attributes<'a>,
    /// The name in the request; of a new object, its own.
    pub(super) name: String,
    /// The namespace; of a namespace itself, its name.
    pub(super) namespace: String,
}

/// Whether webhooks are never called for a request.
pub(super) fn is_exempt(a: &Attributes<'_>) -> bool {
    a.resource.group == "admissionregistration.k8s.io" && EXEMPT.contains(&&*a.resource.kind)
}

impl<'a> Request<'a> {
    pub(super) fn of(a: &'a Attributes<'a>, object: Option<&Object>) -> Self {
        let mut name = a.name.to_owned();
        if name.is_empty() && a.creates() {
            name = object.map_or("", Object::name).to_owned();
        }
        let namespace = if a.namespace.is_empty() && a.is_any("", "namespaces") {
            name.clone()
        } else {
            a.namespace.to_owned()
        };
        Self { a, name, namespace }
    }

    fn asked<'b>(&'b self, group: &'b str, version: &'b str, resource: &'b str) -> Asked<'b> {
        Asked {
            operation: self.a.operation,
            group,
            version,
            resource,
            subresource: self.a.subresource,
            namespace: &self.namespace,
        }
    }
}

impl Shared {
    /// How a webhook is to be called; none when it is not.
    pub(super) async fn invocation(
        &self,
        request: &Request<'_>,
        hook: &Arc<Hook>,
        versions: &mut Versions<'_>,
    ) -> Result<Option<Invocation>, StatusError> {
        let a = request.a;
        let in_namespace = self.in_namespace(request, hook, versions.object());
        if matches!(in_namespace, Ok(false)) {
            return Ok(None);
        }
        let objects = hook.objects.as_ref().map_err(StatusError::internal);
        let selected = objects.map(|selector| {
            let matches = |object: Option<&Object>| {
                object.is_some_and(|object| selector.matches_map(object.labels()))
            };
            selector.is_empty() || matches(versions.object()) || matches(versions.old())
        });
        if matches!(selected, Ok(false)) {
            return Ok(None);
        }
        let Some((kind, resource, equivalent)) = self.named_by_rules(request, hook) else {
            return Ok(None);
        };
        in_namespace?;
        selected?;
        let (name, namespace) = (request.name.clone(), request.namespace.clone());
        let invocation =
            Invocation { hook: hook.clone(), kind, resource, equivalent, name, namespace };
        if let Some(conditions) = &hook.conditions {
            let (object, old) = versions.of(self, &invocation).await?;
            match conditions.hold(a, &self.authorization, &invocation.kind, object, old) {
                Ok(true) => {}
                Ok(false) => {
                    self.metrics.excluded(&hook.name, self.step, a.operation.name());
                    return Ok(None);
                }
                Err(why) => {
                    let (group, plural) = (&a.resource.group, &a.resource.plural);
                    return Err(StatusError::forbidden(group, plural, a.name, &why));
                }
            }
        }
        Ok(Some(invocation))
    }

    /// Whether the namespace of a request is one that a webhook asks for.
    fn in_namespace(
        &self,
        request: &Request<'_>,
        hook: &Hook,
        object: Option<&Object>,
    ) -> Result<bool, StatusError> {
        let a = request.a;
        if request.namespace.is_empty() && a.resource.plural != "namespaces" {
            return Ok(true);
        }
        let selector = hook.namespaces.as_ref().map_err(StatusError::internal)?;
        if selector.is_empty() {
            return Ok(true);
        }
        let written = matches!(a.operation, Operation::Create | Operation::Update);
        if a.is("", "namespaces") && written {
            return Ok(selector.matches_map(object.and_then(Object::labels)));
        }
        let namespace = self.reader.get("", "namespaces", "", &request.namespace);
        let namespace = namespace
            .ok_or_else(|| StatusError::not_found("", "namespaces", &request.namespace))?;
        let labels: Option<&Map<String, Value>> = namespace.labels();
        Ok(selector.matches_map(labels))
    }

    /// What a webhook is told that a request is about; none when its rules do not name it.
    #[expect(clippy::type_complexity, reason = "the parts of an invocation")]
    fn named_by_rules(
        &self,
        request: &Request<'_>,
        hook: &Hook,
    ) -> Option<(Gvk, (String, String, String), Option<Arc<Served>>)> {
        let own = request.a.resource;
        let name = |group: &str, version: &str, plural: &str| {
            (group.to_owned(), version.to_owned(), plural.to_owned())
        };
        let asked = request.asked(&own.group, &own.version, &own.plural);
        if hook.rules.iter().any(|rule| rule.matches(&asked)) {
            let resource = name(&own.group, &own.version, &own.plural);
            return Some((request.a.kind(), resource, None));
        }
        if !hook.matches_equivalent {
            return None;
        }
        let others = self.equivalents(request.a);
        // Earlier rules come first.
        hook.rules.iter().find_map(|rule| {
            others.iter().find_map(|other| {
                let resource = &other.resource;
                let asked = request.asked(&resource.group, &resource.version, &resource.plural);
                rule.matches(&asked).then(|| {
                    let sub = resource.subresource(request.a.subresource);
                    let kind = sub.map_or_else(|| resource.gvk(), |sub| sub.kind.clone());
                    let named = name(&resource.group, &resource.version, &resource.plural);
                    (kind, named, Some(other.clone()))
                })
            })
        })
    }

    /// The other resources whose objects are the same.
    fn equivalents(&self, a: &Attributes<'_>) -> Vec<Arc<Served>> {
        let table = self.table.load();
        let Some(own) = table.get(&a.resource.group, &a.resource.version, &a.resource.plural)
        else {
            return Vec::new();
        };
        if own.resource.storage.is_empty() {
            return Vec::new();
        }
        let others = table.iter().filter(|other| {
            Arc::ptr_eq(&other.cache, &own.cache)
                && !Arc::ptr_eq(other, &own)
                && (a.subresource.is_empty() || other.resource.subresource(a.subresource).is_some())
        });
        others.cloned().collect()
    }
}
