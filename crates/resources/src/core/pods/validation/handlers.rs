//! Probes and what runs at the start and the end of a container.
//!
//! upstream: pkg/apis/core/validation/validation.go validateProbe, validateLifecycle

use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::common::{not_negative, one_of, port_or_name, required};
use crate::core::pods::tree::{int, list, part, text};

/// The probes of a container.
pub(super) fn probes(container: &Value, grace: Option<i64>, path: &Path, errors: &mut ErrorList) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = part(container, key) else { continue };
        let at = path.child(key);
        self::probe(probe, grace, &at, errors);
        if key == "readinessProbe" {
            if let Some(seconds) = int(probe, "terminationGracePeriodSeconds") {
                let at = at.child("terminationGracePeriodSeconds");
                let detail = "must not be set for readinessProbes";
                errors.push(Error::invalid(&at, seconds, detail));
            }
        } else {
            let threshold = int(probe, "successThreshold").unwrap_or(0);
            if threshold != 1 {
                let at = at.child("successThreshold");
                errors.push(Error::invalid(&at, threshold, "must be 1"));
            }
        }
    }
}

fn probe(probe: &Value, grace: Option<i64>, path: &Path, errors: &mut ErrorList) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], grace, path, errors);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        not_negative(int(probe, key).unwrap_or(0), &path.child(key), errors);
    }
    if let Some(seconds) = int(probe, "terminationGracePeriodSeconds").filter(|s| *s <= 0) {
        let at = path.child("terminationGracePeriodSeconds");
        errors.push(Error::invalid(&at, seconds, "must be greater than 0"));
    }
}

/// What runs after the start and before the end of a container.
pub(super) fn lifecycle(
    container: &Value,
    spec: &Value,
    grace: Option<i64>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let Some(lifecycle) = part(container, "lifecycle") else { return };
    let path = path.child("lifecycle");
    for key in ["postStart", "preStop"] {
        if let Some(action) = part(lifecycle, key) {
            let kinds = ["exec", "httpGet", "tcpSocket", "sleep"];
            handler(action, &kinds, grace, &path.child(key), errors);
        }
    }
    if part(lifecycle, "stopSignal").is_some() && part(spec, "os").is_none() {
        let detail = "may not be set for containers with empty `spec.os.name`";
        errors.push(Error::forbidden(&path.child("stopSignal"), detail));
    }
}

fn handler(
    handler: &Value,
    kinds: &[&str],
    grace: Option<i64>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let mut found = false;
    for kind in kinds {
        let Some(action) = part(handler, kind) else { continue };
        let at = path.child(kind);
        if found {
            errors.push(Error::forbidden(&at, "may not specify more than 1 handler type"));
            continue;
        }
        found = true;
        match *kind {
            "exec" => {
                if list(action, "command").is_empty() {
                    errors.push(Error::required(&at.child("command"), ""));
                }
            }
            "httpGet" => http_get(action, &at, errors),
            "sleep" => sleep(action, grace, &at, errors),
            _ => port_or_name(action.get("port"), &at.child("port"), errors),
        }
    }
    if !found {
        errors.push(Error::required(path, "must specify a handler type"));
    }
}

fn http_get(action: &Value, path: &Path, errors: &mut ErrorList) {
    required(text(action, "path"), &path.child("path"), errors);
    port_or_name(action.get("port"), &path.child("port"), errors);
    one_of(text(action, "scheme"), &["HTTP", "HTTPS"], &path.child("scheme"), errors);
    for header in list(action, "httpHeaders") {
        let name = text(header, "name");
        let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !good {
            let detail = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
            errors.push(Error::invalid(&path.child("httpHeaders"), name, detail));
        }
    }
}

fn sleep(action: &Value, grace: Option<i64>, path: &Path, errors: &mut ErrorList) {
    let seconds = int(action, "seconds").unwrap_or(0);
    if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
        let detail =
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(Error::invalid(path, seconds, &detail));
    }
}
