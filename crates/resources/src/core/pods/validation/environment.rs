//! Environment variables and where their values come from.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidateEnv, ValidateEnvFrom

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::mask_trailing_dash;
use longshore_api::names;
use serde_json::Value;

use super::common::{dns_label, each, required};
use super::paths::no_backsteps;
use crate::core::pods::resources::quantity;
use crate::core::pods::tree::{list, part, text};

/// Fields of the pod that a variable may show.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of the pod that have a label of their own in the downward API.
const LABELS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Resources of a container that a variable or file may show.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const DIVISORS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// The broken rules of a variable's name.
fn variable_name(name: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if name.is_empty() {
        broken.push("environment variable name must be non-empty".to_owned());
    }
    if name.bytes().any(|b| !(b' '..=b'~').contains(&b) || b == b'=') {
        broken.push("a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned());
    }
    broken
}

/// The variables of a container.
pub(super) fn variables(container: &Value, path: &Path, errors: &mut ErrorList) {
    for (i, variable) in list(container, "env").iter().enumerate() {
        let at = path.index(i);
        match text(variable, "name") {
            "" => errors.push(Error::required(&at.child("name"), "")),
            name => each(name, &at.child("name"), &variable_name(name), errors),
        }
        if let Some(source) = part(variable, "valueFrom") {
            value_from(source, text(variable, "value"), &at.child("valueFrom"), errors);
        }
    }
}

fn value_from(source: &Value, value: &str, path: &Path, errors: &mut ErrorList) {
    let mut count = 0;
    if let Some(reference) = part(source, "fieldRef") {
        count += 1;
        field_ref(reference, &FIELDS, &path.child("fieldRef"), errors);
    }
    if let Some(reference) = part(source, "resourceFieldRef") {
        count += 1;
        resource_ref(reference, false, &path.child("resourceFieldRef"), errors);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        let Some(reference) = part(source, key) else { continue };
        count += 1;
        let at = path.child(key);
        let name = text(reference, "name");
        each(name, &at.child("name"), &names::is_dns1123_subdomain(name), errors);
        match text(reference, "key") {
            "" => errors.push(Error::required(&at.child("key"), "")),
            key => each(key, &at.child("key"), &names::is_config_map_key(key), errors),
        }
    }
    if let Some(reference) = part(source, "fileKeyRef") {
        count += 1;
        file_ref(reference, &path.child("fileKeyRef"), errors);
    }
    let detail = if count == 0 {
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
    } else if !value.is_empty() {
        "may not be specified when `value` is not empty"
    } else if count > 1 {
        "may not have more than one field specified at a time"
    } else {
        return;
    };
    errors.push(Error::invalid(path, "", detail));
}

fn file_ref(reference: &Value, path: &Path, errors: &mut ErrorList) {
    match text(reference, "key") {
        "" => errors.push(Error::required(&path.child("key"), "")),
        key => each(key, &path.child("key"), &variable_name(key), errors),
    }
    match text(reference, "volumeName") {
        "" => errors.push(Error::required(&path.child("volumeName"), "")),
        name => dns_label(name, &path.child("volumeName"), errors),
    }
    match text(reference, "path") {
        "" => errors.push(Error::required(&path.child("path"), "")),
        file => no_backsteps(file, &path.child("path"), errors),
    }
}

/// The path and the subscript of `path['subscript']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (path, subscript) = path.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty()).then_some((path, subscript))
}

/// A field of the pod, out of those that are allowed here.
pub(super) fn field_ref(reference: &Value, allowed: &[&str], path: &Path, errors: &mut ErrorList) {
    let version = text(reference, "apiVersion");
    let field = text(reference, "fieldPath");
    for (key, value) in [("apiVersion", version), ("fieldPath", field)] {
        if value.is_empty() {
            errors.push(Error::required(&path.child(key), ""));
            return;
        }
    }
    let at = path.child("fieldPath");
    let problem = match subscript(field) {
        _ if version != "v1" => format!("unsupported pod version: {version}"),
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            return each(&key, path, &names::is_qualified_name(&key), errors);
        }
        Some(("metadata.labels", key)) => {
            return each(key, path, &names::is_qualified_name(key), errors);
        }
        Some(_) => format!("field label does not support subscript: {field}"),
        None if LABELS.contains(&field) || field == "spec.host" => {
            let field = if field == "spec.host" { "spec.nodeName" } else { field };
            if !allowed.contains(&field) {
                errors.push(Error::not_supported(&at, field, allowed));
            }
            return;
        }
        None => format!("field label not supported: {field}"),
    };
    errors.push(Error::invalid(&at, field, &format!("error converting fieldPath: {problem}")));
}

/// A resource of a container; files must name the container.
pub(super) fn resource_ref(reference: &Value, file: bool, path: &Path, errors: &mut ErrorList) {
    let resource = text(reference, "resource");
    let huge = ["requests.hugepages-", "limits.hugepages-"].iter().any(|p| resource.starts_with(p));
    if file && text(reference, "containerName").is_empty() {
        errors.push(Error::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(Error::required(&path.child("resource"), ""));
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.push(Error::not_supported(&path.child("resource"), resource, &RESOURCES));
    }
    let Some(divisor) = part(reference, "divisor").map(quantity).filter(|q| !q.is_zero()) else {
        return;
    };
    let divisor = divisor.to_string();
    let what = match resource {
        "limits.cpu" | "requests.cpu" => {
            if divisor != "1m" && divisor != "1" {
                let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.push(Error::invalid(&path.child("divisor"), resource, detail));
            }
            return;
        }
        "limits.memory" | "requests.memory" => "memory",
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => "local ephemeral storage",
        _ if huge => "hugepages",
        _ => return,
    };
    if !DIVISORS.contains(&divisor.as_str()) {
        let all = DIVISORS.join(", ");
        let detail = format!("only divisor's values {all} are supported with the {what} resource");
        errors.push(Error::invalid(&path.child("divisor"), resource, &detail));
    }
}

/// The objects whose every entry becomes a variable.
pub(super) fn sources(container: &Value, path: &Path, errors: &mut ErrorList) {
    for (i, source) in list(container, "envFrom").iter().enumerate() {
        let at = path.index(i);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            each(prefix, &at.child("prefix"), &variable_name(prefix), errors);
        }
        let mut count = 0;
        for key in ["configMapRef", "secretRef"] {
            let Some(reference) = part(source, key) else { continue };
            count += 1;
            let at = at.child(key).child("name");
            let name = text(reference, "name");
            required(name, &at, errors);
            if !name.is_empty() {
                let broken = names::is_dns1123_subdomain(&mask_trailing_dash(name));
                each(name, &at, &broken, errors);
            }
        }
        let detail = match count {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(Error::invalid(path, "", detail));
    }
}
