//! Annotations that have a meaning for pods.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidatePodSpecificAnnotations

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::names;
use serde_json::Value;

use super::affinity::tolerations;
use super::options::{Options, containers, containers_at};
use super::paths::descending;
use crate::core::pods::tree::{entries, opt_text, part, text};

/// Marks the picture of a pod that a node runs on its own.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
/// Before the container's name: its AppArmor profile.
pub(in crate::core::pods) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const BYTES_MAX: usize = 256 * 1024;

fn annotation<'a>(metadata: &'a Value, key: &str) -> Option<&'a str> {
    metadata.get("annotations")?.get(key)?.as_str()
}

/// The form of keys and the size of all.
pub(super) fn keys(metadata: &Value, path: &Path, errors: &mut ErrorList) {
    let mut size = 0;
    for (key, value) in entries(metadata, "annotations") {
        size += key.len() + value.as_str().map_or(0, str::len);
        let broken = names::is_qualified_name(&key.to_lowercase());
        errors.extend(broken.iter().map(|m| Error::invalid(path, key.as_str(), m)));
    }
    if size > BYTES_MAX {
        errors.push(Error::too_long(path, BYTES_MAX));
    }
}

/// The annotations that pods and templates give a meaning.
pub(super) fn pod_specific(
    metadata: &Value,
    spec: &Value,
    path: &Path,
    options: &Options,
    errors: &mut ErrorList,
) {
    if let Some(value) = annotation(metadata, MIRROR)
        && text(spec, "nodeName").is_empty()
    {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Error::invalid(&path.key(MIRROR), value, detail));
    }
    if let Some(value) = annotation(metadata, TOLERATIONS).filter(|v| !v.is_empty()) {
        match serde_json::from_str::<Vec<Value>>(value) {
            Ok(list) => tolerations(&list, &path.child(TOLERATIONS), options, errors),
            Err(error) => errors.push(Error::invalid(path, TOLERATIONS, &error.to_string())),
        }
    }
    if let Some(value) = annotation(metadata, DELETION_COST).filter(|v| !is_int32(v)) {
        let detail = "must be a 32bit integer";
        errors.push(Error::invalid(&path.key(DELETION_COST), value, detail));
    }
    if let Some(profile) = annotation(metadata, SECCOMP_POD) {
        seccomp(profile, &path.child(SECCOMP_POD), errors);
    }
    for (key, value) in entries(metadata, "annotations") {
        let value = value.as_str().unwrap_or("");
        if key.starts_with(SECCOMP) {
            seccomp(value, &path.child(key), errors);
        }
        if let Some(container) = key.strip_prefix(APP_ARMOR) {
            let path = path.key(key);
            if !containers(spec).any(|c| text(c, "name") == container) {
                errors.push(Error::invalid(&path, container, "container not found"));
            }
            let good = ["", "runtime/default", "unconfined"].contains(&value)
                || value.starts_with("localhost/");
            if !good {
                let detail = format!("invalid AppArmor profile name: {value:?}");
                errors.push(Error::invalid(&path, value, &detail));
            }
        }
    }
}

fn is_int32(text: &str) -> bool {
    let first = text.bytes().next();
    let good = text == "0" || first.is_some_and(|b| b == b'-' || (b'1'..=b'9').contains(&b));
    good && text.parse::<i32>().is_ok()
}

fn seccomp(profile: &str, path: &Path, errors: &mut ErrorList) {
    if ["runtime/default", "docker/default", "unconfined"].contains(&profile) {
        return;
    }
    match profile.strip_prefix("localhost/") {
        Some(file) => descending(file, path, errors),
        None => errors.push(Error::invalid(path, profile, "must be a valid seccomp profile")),
    }
}

/// Where a profile stands both in an annotation and in a field, they agree.
pub(super) fn match_fields(metadata: &Value, spec: &Value, path: &Path, errors: &mut ErrorList) {
    let of = |holder: &Value, key: &str| -> Option<Value> {
        part(holder, "securityContext").and_then(|s| part(s, key)).cloned()
    };
    if let (Some(profile), Some(value)) =
        (of(spec, "seccompProfile"), annotation(metadata, SECCOMP_POD))
    {
        let at = path.child("securityContext").child("seccompProfile");
        seccomp_matches(value, &profile, &at, errors);
    }
    for (container, at) in containers_at(spec, path) {
        let key = format!("{SECCOMP}{}", text(container, "name"));
        if let (Some(profile), Some(value)) =
            (of(container, "seccompProfile"), annotation(metadata, &key))
        {
            let at = at.child("securityContext").child("seccompProfile");
            seccomp_matches(value, &profile, &at, errors);
        }
    }
    if part(spec, "os").is_some_and(|os| text(os, "name") == "windows") {
        return;
    }
    for (container, at) in containers_at(spec, path) {
        let key = format!("{APP_ARMOR}{}", text(container, "name"));
        let profile = of(container, "appArmorProfile").or_else(|| of(spec, "appArmorProfile"));
        if let (Some(profile), Some(value)) = (profile, annotation(metadata, &key)) {
            let at = at.child("securityContext").child("appArmorProfile");
            let wrong = mismatch(value, &profile, &["runtime/default"]);
            add_mismatch(wrong, "apparmor", &at, errors);
        }
    }
}

fn seccomp_matches(value: &str, profile: &Value, path: &Path, errors: &mut ErrorList) {
    let wrong = mismatch(value, profile, &["runtime/default", "docker/default"]);
    add_mismatch(wrong, "seccomp", path, errors);
}

/// The field that an annotation contradicts.
fn mismatch(value: &str, profile: &Value, defaults: &[&str]) -> Option<&'static str> {
    match text(profile, "type") {
        "Unconfined" => (value != "unconfined").then_some("type"),
        "RuntimeDefault" => (!defaults.contains(&value)).then_some("type"),
        "Localhost" => match value.strip_prefix("localhost/") {
            None => Some("type"),
            Some(file) => {
                (opt_text(profile, "localhostProfile") != Some(file)).then_some("localhostProfile")
            }
        },
        _ => None,
    }
}

fn add_mismatch(field: Option<&str>, what: &str, path: &Path, errors: &mut ErrorList) {
    if let Some(field) = field {
        let subject = if field == "type" { "type" } else { "profile" };
        let detail = format!("{what} {subject} in annotation and field must match");
        errors.push(Error::forbidden(&path.child(field), &detail));
    }
}

/// Annotations that may not change.
pub(super) fn updates(new: &Value, old: &Value, path: &Path, errors: &mut ErrorList) {
    for (key, value) in entries(old, "annotations") {
        if annotation(new, key) == value.as_str() {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            let detail = "may not remove or update AppArmor annotations";
            errors.push(Error::forbidden(&path.key(key), detail));
        }
        if key == MIRROR {
            let detail = "may not remove or update mirror pod annotation";
            errors.push(Error::forbidden(&path.key(key), detail));
        }
    }
    for (key, _) in entries(new, "annotations") {
        if annotation(old, key).is_some() {
            continue;
        }
        if key.starts_with(APP_ARMOR) {
            errors.push(Error::forbidden(&path.key(key), "may not add AppArmor annotations"));
        }
        if key == MIRROR {
            errors.push(Error::forbidden(&path.key(key), "may not add mirror pod annotation"));
        }
    }
}
