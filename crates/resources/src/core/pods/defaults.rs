//! Defaults of pods and pod templates that depend on other fields or on the place they stand in.
//!
//! upstream: pkg/apis/core/v1/defaults.go, pkg/apis/core/v1/conversion.go

use longshore_api::Object;
use longshore_api::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::image;
use super::resources::{aggregate, is_huge_page, is_pod_level};
use super::tree::{
    drop_field, fill, fill_always, fill_int, fill_text, flag, has, int, list_mut, part_mut, text,
};

/// `rw-r--r--`.
const FILE_MODE: i64 = 0o644;
/// Annotations that once held init containers; they are dropped.
const OLD_ANNOTATIONS: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

/// The defaults of a pod.
pub(crate) fn pod(object: &mut Object) {
    drop_annotations(object.get_mut(&["metadata", "annotations"]));
    let Some(spec) = object.get_mut(&["spec"]) else { return };
    pod_spec(spec);
    for key in ["containers", "initContainers"] {
        list_mut(spec, key).for_each(requests_from_limits);
    }
    pod_level_resources(spec);
    fill(spec, "enableServiceLinks", true);
    if flag(spec, "hostNetwork") {
        for key in ["containers", "initContainers"] {
            list_mut(spec, key).for_each(host_ports);
        }
    }
}

/// The defaults of a pod template: a field with metadata and spec.
pub(crate) fn template(template: &mut Value) {
    drop_annotations(template.get_mut("metadata").and_then(|m| m.get_mut("annotations")));
    pod_spec(part_mut(template, "spec"));
}

fn drop_annotations(annotations: Option<&mut Value>) {
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !OLD_ANNOTATIONS.contains(&key.as_str()));
    }
}

fn pod_spec(spec: &mut Value) {
    fill_text(spec, "dnsPolicy", "ClusterFirst");
    fill_text(spec, "restartPolicy", "Always");
    fill(spec, "securityContext", json!({}));
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill_text(spec, "schedulerName", "default-scheduler");
    service_account(spec);
    list_mut(spec, "volumes").for_each(volume);
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        list_mut(spec, key).for_each(container);
    }
    round_list(spec.get_mut("overhead"));
    round_resources(spec);
}

/// The old and the new name of one field.
pub(crate) fn service_account(spec: &mut Value) {
    let name = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    };
    let name = name.to_owned();
    for key in ["serviceAccountName", "serviceAccount"] {
        if name.is_empty() {
            drop_field(spec, key);
        } else {
            fill_always(spec, key, name.as_str());
        }
    }
}

fn volume(volume: &mut Value) {
    let sources = volume.as_object().map_or(0, |v| v.keys().filter(|k| *k != "name").count());
    if sources == 0 {
        fill(volume, "emptyDir", json!({}));
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(key) {
            fill(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = volume.get_mut("hostPath") {
        fill(source, "type", "");
    }
    if let Some(source) = volume.get_mut("azureDisk") {
        fill(source, "cachingMode", "ReadWrite");
        fill(source, "kind", "Shared");
    }
    if let Some(source) = volume.get_mut("downwardAPI") {
        list_mut(source, "items").for_each(field_ref);
    }
    if let Some(source) = volume.get_mut("projected") {
        for source in list_mut(source, "sources") {
            if let Some(source) = source.get_mut("downwardAPI") {
                list_mut(source, "items").for_each(field_ref);
            }
            if let Some(token) = source.get_mut("serviceAccountToken") {
                fill(token, "expirationSeconds", 3600);
            }
            if let Some(certificate) = source.get_mut("podCertificate") {
                fill(certificate, "maxExpirationSeconds", 86400);
            }
        }
    }
    if let Some(image_source) = volume.get_mut("image") {
        let policy = image::default_pull_policy(text(image_source, "reference"));
        fill_text(image_source, "pullPolicy", policy);
    }
    if let Some(ephemeral) = volume.get_mut("ephemeral")
        && has(ephemeral, "volumeClaimTemplate")
    {
        let spec = part_mut(part_mut(ephemeral, "volumeClaimTemplate"), "spec");
        fill(spec, "volumeMode", "Filesystem");
        round_resources(spec);
    }
}

/// A variable or file that shows something of the pod.
fn field_ref(holder: &mut Value) {
    if let Some(reference) = holder.get_mut("resourceFieldRef") {
        fill(reference, "divisor", "0");
    }
    if let Some(reference) = holder.get_mut("fieldRef") {
        fill_text(reference, "apiVersion", "v1");
    }
}

fn container(container: &mut Value) {
    let policy = image::default_pull_policy(text(container, "image"));
    fill_text(container, "imagePullPolicy", policy);
    fill_text(container, "terminationMessagePath", "/dev/termination-log");
    fill_text(container, "terminationMessagePolicy", "File");
    for variable in list_mut(container, "env") {
        if let Some(source) = variable.get_mut("valueFrom") {
            field_ref(source);
        }
    }
    round_resources(container);
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(key) {
            fill_int(probe, "timeoutSeconds", 1);
            fill_int(probe, "periodSeconds", 10);
            fill_int(probe, "successThreshold", 1);
            fill_int(probe, "failureThreshold", 3);
            http_get(probe);
            if let Some(grpc) = probe.get_mut("grpc") {
                fill(grpc, "service", "");
            }
        }
    }
    for key in ["postStart", "preStop"] {
        if let Some(handler) = container.get_mut("lifecycle").and_then(|l| l.get_mut(key)) {
            http_get(handler);
        }
    }
}

fn http_get(handler: &mut Value) {
    if let Some(action) = handler.get_mut("httpGet") {
        fill_text(action, "path", "/");
        fill_text(action, "scheme", "HTTP");
    }
}

fn host_ports(container: &mut Value) {
    for port in list_mut(container, "ports") {
        if let Some(number) = int(port, "containerPort") {
            fill_int(port, "hostPort", number);
        }
    }
}

fn requests_from_limits(container: &mut Value) {
    let Some(limits) = container["resources"]["limits"].as_object().cloned() else { return };
    let requests = part_mut(part_mut(container, "resources"), "requests");
    for (name, limit) in limits {
        fill(requests, &name, limit);
    }
    if requests.as_object().is_some_and(Map::is_empty) {
        drop_field(part_mut(container, "resources"), "requests");
    }
}

/// Rounds the quantities of `resources` up to thousandths.
pub(crate) fn round_resources(holder: &mut Value) {
    if let Some(resources) = holder.get_mut("resources") {
        round_list(resources.get_mut("limits"));
        round_list(resources.get_mut("requests"));
    }
}

/// Rounds a map of quantities up to thousandths.
pub(crate) fn round_list(quantities: Option<&mut Value>) {
    for value in quantities.and_then(Value::as_object_mut).into_iter().flatten().map(|(_, v)| v) {
        let Some(quantity) = value.as_str().and_then(|t| Quantity::parse(t).ok()) else { continue };
        let text = quantity.to_string();
        if text.ends_with('n') || text.ends_with('u') {
            *value = Quantity::from_milli(quantity.milli_value()).to_string().into();
        }
    }
}

/// Requests and limits of the whole pod, when it has some: what is missing comes from the
/// containers or the limits.
fn pod_level_resources(spec: &mut Value) {
    let Some(resources) = spec.get("resources").filter(|r| !r.is_null()).cloned() else { return };
    let given = |key: &str| resources[key].as_object().cloned().unwrap_or_default();
    let (mut limits, mut requests) = (given("limits"), given("requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    for (name, limit) in aggregate(spec, "limits") {
        let new = is_huge_page(&name) && !requests.contains_key(&name);
        if new && !limits.contains_key(&name) {
            limits.insert(name, limit.to_string().into());
        }
    }
    if !limits.is_empty() {
        for (name, request) in aggregate(spec, "requests") {
            let supported = is_pod_level(&name) && !is_huge_page(&name);
            if supported && !requests.contains_key(&name) {
                requests.insert(name, request.to_string().into());
            }
        }
        for (name, limit) in &limits {
            if is_pod_level(name) && !requests.contains_key(name) {
                requests.insert(name.clone(), limit.clone());
            }
        }
    }
    let resources = part_mut(spec, "resources");
    for (key, values) in [("limits", limits), ("requests", requests)] {
        if !values.is_empty() {
            fill_always(resources, key, Value::Object(values));
        }
    }
}
