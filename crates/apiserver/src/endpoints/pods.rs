//! The subresources of pods that act: binding and eviction.
//!
//! upstream: pkg/registry/core/pod/storage/{storage,eviction}.go

use http::{HeaderMap, Response};
use longshore_api::field::{Error, Path};
use longshore_api::selector::LabelSelector;
use longshore_api::{Gvk, Object, Reason, StatusError, status::Cause};
use serde_json::{Value, json};

use super::options::{WriteOptions, check_delete};
use super::{Call, body, respond};
use crate::admission::Operation;
use crate::body::Body;
use crate::registry::{DeleteOptions, Preconditions, StorageConflict, rfc3339};

/// Pods whose eviction a budget remembers at most.
///
/// upstream: pkg/registry/core/pod/storage/eviction.go MaxDisruptedPodSize
const DISRUPTED_PODS_MAX: usize = 2000;

fn success(call: &Call) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    respond::value(201, &call.negotiated, &status)
}

/// Answers POST of `pods/NAME/binding` and of `bindings`: gives a pod its node.
pub async fn bind(
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    let bytes = body::read(body).await?;
    let options = WriteOptions::of(&call.info, "CreateOptions")?;
    let want = body::Wanted::built_in(Gvk::new("", "v1", "Binding"));
    let mut warnings = Vec::new();
    let binding = body::decode(headers, &bytes, &want, options.validation, &mut warnings)?;
    call.warnings.lock().extend(warnings);
    let name = if call.info.name.is_empty() { binding.name() } else { &call.info.name };
    check_meta(call, &binding, name)?;
    check_binding(&binding)?;
    let mut ctx = call.write_context(options.dry_run);
    let mut object = binding.clone();
    let attributes = ctx.admission(Operation::Create, name);
    call.api.registry.admission().mutate(&attributes, Some(&mut object), None).await?;
    call.api.registry.admission().validate(&attributes, Some(&object), None).await?;
    let pods = call.api.registry.table().get("", "v1", "pods");
    let pods = pods.ok_or_else(crate::handler::no_such_resource)?;
    ctx.served = &pods;
    let key = pods.cache.key(&call.info.namespace, name);
    let change = |pod: &mut Object| {
        check_preconditions(pod, &object, &key)?;
        assign(pod, &object, call.now, name)
    };
    call.api.registry.modify(&ctx, name, &change).await?;
    Ok(success(call))
}

/// Name and namespace in the body have to be those in the path.
fn check_meta(call: &Call, object: &Object, name: &str) -> Result<(), StatusError> {
    call.write_context(false).check_namespace(&mut object.clone())?;
    if object.name() == name {
        return Ok(());
    }
    let kind = object.kind();
    Err(StatusError::bad_request(format!("name in URL does not match name in {kind} object")))
}

fn check_binding(binding: &Object) -> Result<(), StatusError> {
    let target = Path::new("target");
    let mut errors = Vec::new();
    let kind = binding.str(&["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.push(Error::not_supported(&target.child("kind"), kind, &["Node", "<empty>"]));
    }
    if binding.str(&["target", "name"]).is_empty() {
        errors.push(Error::required(&target.child("name"), ""));
    }
    if errors.is_empty() {
        return Ok(());
    }
    // Upstream returns the bare errors, which become a failure without a reason.
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let text = if texts.len() > 1 { format!("[{}]", texts.join(", ")) } else { texts.concat() };
    Err(StatusError::new(Reason::Unknown, text))
}

/// Uid and version of a binding are those that the pod has to have.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/storage/interfaces.go Preconditions.Check
fn check_preconditions(pod: &Object, binding: &Object, key: &[u8]) -> Result<(), StatusError> {
    let pairs = [
        ("UID", binding.uid(), pod.uid()),
        ("ResourceVersion", binding.resource_version(), pod.resource_version()),
    ];
    let broken = pairs.into_iter().find(|(_, wanted, has)| !wanted.is_empty() && wanted != has);
    match broken {
        Some((what, wanted, has)) => {
            Err(StorageConflict { key, what, wanted, has }.of("", "pods", pod.name()))
        }
        None => Ok(()),
    }
}

/// upstream: pkg/registry/core/pod/storage/storage.go setPodNodeAndMetadata
fn assign(
    pod: &mut Object,
    binding: &Object,
    now: jiff::Timestamp,
    name: &str,
) -> Result<(), StatusError> {
    let refused = |why: String| Err(StatusError::conflict("", "pods/binding", name, &why));
    if pod.is_deleting() {
        return refused(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    let node = pod.str(&["spec", "nodeName"]);
    if !node.is_empty() {
        return refused(format!("pod {name} is already assigned to node {node:?}"));
    }
    if !pod.list(&["spec", "schedulingGates"]).is_empty() {
        return refused(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    pod.set(&["spec", "nodeName"], binding.str(&["target", "name"]));
    for field in ["annotations", "labels"] {
        let Some(Value::Object(extra)) = binding.get(&["metadata", field]) else { continue };
        for (key, value) in extra {
            pod.set(&["metadata", field, key], value.clone());
        }
    }
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": rfc3339(now),
    });
    let mut conditions = pod.list(&["status", "conditions"]).to_vec();
    match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
        Some(present) if present["status"] == "True" => {}
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
    pod.set(&["status", "conditions"], conditions);
    pod.remove(&["status", "nominatedNodeName"]);
    Ok(())
}

/// Answers POST of `pods/NAME/eviction`: deletes a pod if its disruption budget allows it.
pub async fn evict(
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    let bytes = body::read(body).await?;
    let write = WriteOptions::of(&call.info, "CreateOptions")?;
    let want = super::write::kind_of(call);
    let mut warnings = Vec::new();
    let eviction = body::decode(headers, &bytes, &want, write.validation, &mut warnings)?;
    call.warnings.lock().extend(warnings);
    let name = &call.info.name;
    check_meta(call, &eviction, name)?;
    if let Some(options) = eviction.get(&["deleteOptions"]) {
        let errors = check_delete(options);
        if !errors.is_empty() {
            return Err(StatusError::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
        }
    }
    let text = |path: &[&str]| eviction.get(path).and_then(Value::as_str).map(str::to_owned);
    let asked_dry = !eviction.list(&["deleteOptions", "dryRun"]).is_empty();
    let mut options = DeleteOptions {
        grace_period_seconds: eviction.int(&["deleteOptions", "gracePeriodSeconds"]),
        preconditions: Preconditions {
            uid: text(&["deleteOptions", "preconditions", "uid"]),
            resource_version: text(&["deleteOptions", "preconditions", "resourceVersion"]),
        },
        propagation: text(&["deleteOptions", "propagationPolicy"]),
        cascades: false,
        admitted: true,
        ..DeleteOptions::default()
    };
    let mut ctx = call.write_context(write.dry_run || asked_dry);
    let mut object = eviction.clone();
    let attributes = ctx.admission(Operation::Create, name);
    call.api.registry.admission().mutate(&attributes, Some(&mut object), None).await?;
    call.api.registry.admission().validate(&attributes, Some(&object), None).await?;
    ctx.subresource = "";
    let pod = call.api.registry.get(&call.served, &call.info.namespace, name).await?.object();
    let phase = pod.str(&["status", "phase"]);
    let ends = matches!(phase, "Succeeded" | "Failed" | "Pending") || pod.is_deleting();
    if !ends {
        take_from_budget(call, &pod, ctx.dry_run).await?;
    }
    if !ctx.dry_run {
        let wanted = options.preconditions.clone();
        let change = |pod: &mut Object| note_eviction(pod, &wanted, call.now);
        let marked = call.api.registry.modify(&ctx, name, &change).await?;
        if options.preconditions.resource_version.is_some() {
            options.preconditions.resource_version = Some(marked.resource_version().to_owned());
        }
    }
    call.api.registry.delete(&ctx, name, &options).await?;
    Ok(success(call))
}

/// A pod tells why it goes.
///
/// upstream: pkg/registry/core/pod/storage/eviction.go addConditionAndDeletePod
fn note_eviction(
    pod: &mut Object,
    wanted: &Preconditions,
    now: jiff::Timestamp,
) -> Result<(), StatusError> {
    let pairs = [
        ("UID", &wanted.uid, pod.uid(), "deleted and then recreated"),
        ("ResourceVersion", &wanted.resource_version, pod.resource_version(), "modified"),
    ];
    for (what, wanted, present, how) in pairs {
        if let Some(wanted) = wanted.as_deref().filter(|wanted| !wanted.is_empty())
            && wanted != present
        {
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record \
                 ({present}). The object might have been {how}"
            );
            return Err(StatusError::conflict("", "Pod", pod.name(), &why));
        }
    }
    let mut condition = json!({
        "type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": rfc3339(now), "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    });
    let mut conditions = pod.list(&["status", "conditions"]).to_vec();
    match conditions.iter_mut().find(|c| c["type"] == "DisruptionTarget") {
        Some(present) => {
            if present["status"] == "True" {
                condition["lastTransitionTime"] = present["lastTransitionTime"].clone();
            }
            *present = condition;
        }
        None => conditions.push(condition),
    }
    pod.set(&["status", "conditions"], conditions);
    Ok(())
}

async fn take_from_budget(call: &Call, pod: &Object, dry_run: bool) -> Result<(), StatusError> {
    let table = call.api.registry.table();
    let Some(budgets) = table.get("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
    let (snapshot, _) = budgets.cache.snapshot();
    let matching: Vec<Object> = crate::cache::range(&snapshot, &call.info.namespace, None)
        .map(|(_, entry)| entry.object())
        .filter(|budget| selects(budget, pod))
        .collect();
    let budget = match matching.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(StatusError::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    if !is_ready(pod) && unhealthy_may_go(budget) {
        return Ok(());
    }
    let mut ctx = call.write_context(dry_run);
    ctx.served = &budgets;
    let change = |budget: &mut Object| take(budget, pod.name(), call.now);
    call.api.registry.modify(&ctx, budget.name(), &change).await.map(drop)
}

fn selects(budget: &Object, pod: &Object) -> bool {
    let Some(selector) = budget.get(&["spec", "selector"]) else { return false };
    LabelSelector::from_value(selector).is_ok_and(|selector| selector.matches_map(pod.labels()))
}

fn is_ready(pod: &Object) -> bool {
    let conditions = pod.list(&["status", "conditions"]);
    conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn unhealthy_may_go(budget: &Object) -> bool {
    let count = |field| budget.int(&["status", field]).unwrap_or(0);
    budget.str(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow"
        || (count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0)
}

/// Why a budget has no room.
fn why_not(budget: &Object) -> String {
    let name = budget.name();
    let conditions = budget.list(&["status", "conditions"]).iter();
    let mut told = conditions.filter(|c| {
        c["type"] == "DisruptionAllowed" && c["status"] == "False" && c["message"] != ""
    });
    let told = told.next().map(|c| {
        let text = |key: &str| c[key].as_str().unwrap_or("").to_owned();
        (text("reason"), text("message"))
    });
    let count = |field| budget.int(&["status", field]).unwrap_or(0);
    let (desired, healthy) = (count("desiredHealthy"), count("currentHealthy"));
    match told {
        Some((reason, message)) if reason == "SyncFailed" => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed \
             sync: {message}"
        ),
        _ if healthy <= desired => format!(
            "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        ),
        Some((reason, message)) => format!(
            "The disruption budget {name} does not allow evicting pods currently ({reason}): \
             {message}"
        ),
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

fn take(budget: &mut Object, pod: &str, now: jiff::Timestamp) -> Result<(), StatusError> {
    let refused = |reason: &str, message: String, seconds: u32| {
        let mut error = StatusError::new(
            Reason::TooManyRequests,
            "Cannot evict pod as it would violate the pod's disruption budget.",
        );
        let cause = Cause { reason: reason.to_owned(), message, field: String::new() };
        error.causes = vec![cause];
        error.retry_after_seconds = seconds;
        Err(error)
    };
    let count = |field| budget.int(&["status", field]).unwrap_or(0);
    let name = budget.name().to_owned();
    if count("observedGeneration") < budget.generation() {
        let text = format!("The disruption budget {name} is still being processed by the server.");
        return refused("DisruptionBudget", text, 10);
    }
    let disrupted = budget.get(&["status", "disruptedPods"]).and_then(Value::as_object);
    if disrupted.map_or(0, serde_json::Map::len) > DISRUPTED_PODS_MAX {
        return Err(StatusError::forbidden(
            "policy",
            "poddisruptionbudgets",
            &name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if count("disruptionsAllowed") <= 0 {
        return refused("DisruptionBudget", why_not(budget), 0);
    }
    let left = count("disruptionsAllowed") - 1;
    budget.set(&["status", "disruptionsAllowed"], left);
    if left == 0 {
        tell_exhausted(budget, now);
    }
    budget.set(&["status", "disruptedPods", pod], rfc3339(now));
    Ok(())
}

/// upstream: pkg/apis/policy/... pdbhelper UpdateDisruptionAllowedCondition
fn tell_exhausted(budget: &mut Object, now: jiff::Timestamp) {
    let mut condition = json!({
        "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods",
        "message": "", "lastTransitionTime": rfc3339(now),
        "observedGeneration": budget.int(&["status", "observedGeneration"]).unwrap_or(0),
    });
    let mut conditions = budget.list(&["status", "conditions"]).to_vec();
    match conditions.iter_mut().find(|c| c["type"] == "DisruptionAllowed") {
        Some(present) => {
            if present["status"] == "False" {
                condition["lastTransitionTime"] = present["lastTransitionTime"].clone();
            }
            *present = condition;
        }
        None => conditions.push(condition),
    }
    budget.set(&["status", "conditions"], conditions);
}
