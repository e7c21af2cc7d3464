//! Policies whose rules are expressions, and what they share: how they are kept compiled, and how bindings
//! bring them their parameters.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/generic

mod authorizer;
mod metrics;
pub mod mutating;
pub mod source;
pub mod validating;

use std::sync::Arc;

use arc_swap::ArcSwap;
use longshore_api::{Object, StatusError};
use longshore_resources::rules::admission::Request;
use serde_json::{Map, Value, json};

use super::matching::{self, Matched};
use super::{Attributes, Tools};
use crate::auth::Authorization;
use crate::reader::Reader;
use crate::registry::{ServedTable, convert};

pub use authorizer::Asker;
pub use metrics::Metrics;
use source::{Binding, Hook};

/// The group of policies.
const GROUP: &str = "admissionregistration.k8s.io";

/// What policies are never about: they could forbid to repair them, or are never stored.
///
/// upstream: pkg/kubeapiserver/admission/exclusion/resources.go, policy/generic/plugin.go
const EXCLUDED: [(&str, &str); 10] = [
    (GROUP, "validatingadmissionpolicies"),
    (GROUP, "validatingadmissionpolicybindings"),
    (GROUP, "mutatingadmissionpolicies"),
    (GROUP, "mutatingadmissionpolicybindings"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// A binding with the parameters that it brings.
type Selected<'h> = (&'h Binding, Option<Arc<Object>>);

/// What both kinds of policies look at.
#[derive(Clone)]
struct Surroundings {
    reader: Arc<dyn Reader>,
    table: Arc<ArcSwap<ServedTable>>,
    authorization: Arc<Authorization>,
}

impl Surroundings {
    fn new(tools: &Tools) -> Self {
        Self {
            reader: tools.reader.clone(),
            table: tools.table.clone(),
            authorization: tools.authorization.clone(),
        }
    }

    /// The namespace of a request as expressions see it; none for cluster scope.
    ///
    /// # Errors
    /// When it is gone.
    fn namespace(&self, a: &Attributes<'_>) -> Result<Option<Value>, StatusError> {
        if a.namespace.is_empty() || a.is_any("", "namespaces") {
            return Ok(None);
        }
        let namespace = self.reader.get("", "namespaces", "", a.namespace);
        let namespace =
            namespace.ok_or_else(|| StatusError::not_found("", "namespaces", a.namespace))?;
        Ok(Some(shown_namespace(&namespace)))
    }

    /// How a policy sees a request that it is about, and the bindings that put it in force for it, with their
    /// parameters. `misconfigured` is told why the policy, or a binding, cannot say.
    fn select<'h, T>(
        &self,
        hook: &'h Hook<T>,
        a: &Attributes<'_>,
        [object, old]: [Option<&Object>; 2],
        table: &ServedTable,
        misconfigured: &mut dyn FnMut(&str, Option<&Binding>),
    ) -> Option<(Matched, Vec<Selected<'h>>)> {
        let reader = &*self.reader;
        let matched = match hook.constraints.matches(a, object, old, reader, table) {
            Ok(matched) => matched?,
            Err(why) => {
                misconfigured(&why, None);
                return None;
            }
        };
        let mut selected = Vec::new();
        for binding in &hook.bindings {
            let constraints = binding.constraints.as_ref();
            match constraints.map(|own| own.matches(a, object, old, reader, table)) {
                None | Some(Ok(Some(_))) => {}
                Some(Ok(None)) => continue,
                Some(Err(why)) => {
                    misconfigured(&why, Some(binding));
                    continue;
                }
            }
            match self.params(hook.param_kind.as_ref(), binding, matching::namespace(a)) {
                Ok(params) => {
                    selected.extend(params.into_iter().map(|params| (binding, params)));
                }
                Err(why) => misconfigured(&why, Some(binding)),
            }
        }
        Some((matched, selected))
    }

    /// The parameters that a binding brings to a policy; none in the list when it brings none.
    ///
    /// # Errors
    /// When they cannot be told, or are wanted and missing.
    fn params(
        &self,
        kind: Option<&source::ParamKind>,
        binding: &Binding,
        namespace: &str,
    ) -> Result<Vec<Option<Arc<Object>>>, String> {
        let (Some(kind), Some(reference)) = (kind, &binding.params) else { return Ok(vec![None]) };
        let table = self.table.load();
        let served = table.iter().find(|served| {
            served.api_version == kind.api_version && served.resource.kind == kind.kind.as_str()
        });
        let Some(served) = served else {
            return Err(format!("paramKind kind `{kind}` not known"));
        };
        let resource = &served.resource;
        let namespace = match (resource.namespaced(), reference.namespace.as_str()) {
            (false, "") => "",
            (false, _) => {
                return Err(
                    "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
                        .to_owned(),
                );
            }
            (true, "") if namespace.is_empty() => {
                return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned());
            }
            (true, "") => namespace,
            (true, named) => named,
        };
        let shown = |object: Object| Some(Arc::new(crate::registry::shown(served, object)));
        let found: Vec<_> = if !reference.name.is_empty() {
            let entry = served.cache.get(namespace, &reference.name);
            entry.into_iter().map(|entry| shown(entry.object())).collect()
        } else {
            let selector = reference.selector.as_ref().map_err(Clone::clone)?;
            let (snapshot, _) = served.cache.snapshot();
            let entries = crate::cache::range(&snapshot, namespace, None);
            let objects = entries.map(|(_, entry)| entry.object());
            objects.filter(|object| selector.matches_map(object.labels())).map(shown).collect()
        };
        if found.is_empty() && reference.denies {
            return Err(
                "no params found for policy binding with `Deny` parameterNotFoundAction".to_owned()
            );
        }
        Ok(found)
    }
}

/// Whether no policy is about a resource.
fn is_excluded(a: &Attributes<'_>) -> bool {
    EXCLUDED.iter().any(|(group, resource)| a.is_any(group, resource))
}

/// The parts of a namespace that expressions see.
///
/// upstream: pkg/admission/plugin/cel/condition.go CreateNamespaceObject
fn shown_namespace(namespace: &Object) -> Value {
    const METADATA: [&str; 12] = [
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "finalizers",
    ];
    let metadata = METADATA
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), namespace.get(&["metadata", key])?.clone())));
    let part = |key: &str| namespace.get(&[key]).cloned().unwrap_or_else(|| json!({}));
    json!({
        "metadata": metadata.collect::<Map<String, Value>>(),
        "spec": part("spec"),
        "status": part("status"),
    })
}

/// What expressions see of a request.
///
/// upstream: pkg/admission/plugin/cel/condition.go CreateAdmissionRequest
pub fn request(a: &Attributes<'_>, matched: &Matched) -> Request {
    let own = a.kind();
    let resource = a.resource.gvr();
    let kind = |kind: &longshore_api::Gvk| json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let names = |resource: &longshore_api::Gvr| {
        json!({
            "group": resource.group, "version": resource.version, "resource": resource.resource,
        })
    };
    let mut user = json!({});
    if !a.user.name.is_empty() {
        user["username"] = a.user.name.as_str().into();
    }
    if !a.user.uid.is_empty() {
        user["uid"] = a.user.uid.as_str().into();
    }
    if !a.user.groups.is_empty() {
        user["groups"] = json!(a.user.groups);
    }
    if !a.user.extra.is_empty() {
        user["extra"] = json!(a.user.extra);
    }
    let mut request = json!({
        "uid": "",
        "kind": kind(&matched.kind),
        "resource": names(&matched.resource),
        "requestKind": kind(&own),
        "requestResource": names(&resource),
        "operation": a.operation.name(),
        "userInfo": user,
        "object": null,
        "oldObject": null,
        "dryRun": a.dry_run,
        "options": a.options(),
    });
    for (key, value) in [
        ("subResource", a.subresource),
        ("requestSubResource", a.subresource),
        ("name", a.name),
        ("namespace", matching::namespace(a)),
    ] {
        if !value.is_empty() {
            request[key] = value.into();
        }
    }
    let in_conditions = matched.other.as_ref().map(|_| {
        let mut request = request.clone();
        request["resource"] = request["requestResource"].clone();
        request
    });
    Request { seen: request, in_conditions }
}

/// An object in the version in which a policy sees it.
async fn converted(
    a: &Attributes<'_>,
    matched: &Matched,
    table: &ServedTable,
    object: Option<&Object>,
) -> Result<Option<Object>, StatusError> {
    let Some(object) = object else { return Ok(None) };
    let Some(other) = &matched.other else { return Ok(Some(object.clone())) };
    let own = a.resource;
    let own = table.get(&own.group, &own.version, &own.plural);
    match own.filter(|_| matched.kind != a.kind()) {
        Some(own) => convert(&own, other, object.clone()).await.map(Some),
        None => Ok(Some(object.clone())),
    }
}
