//! The queries of streams: what is wrong with them is told before anybody is asked.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidatePodLogOptions,
//! staging/src/k8s.io/apimachinery/pkg/conversion/queryparams

use longshore_api::field::{Error, Path};
use longshore_api::{Gvk, Object, StatusError, normalize, schema};
use serde_json::json;

use crate::endpoints::list_options::parse_number;
use crate::request_info::RequestInfo;

/// Checks the query of a request for logs.
///
/// # Errors
/// 400 for what cannot be read, 422 for what breaks rules.
pub(super) fn check_log(info: &RequestInfo) -> Result<(), StatusError> {
    let number = |name: &str| {
        let given = info.query.get(name).and_then(|values| values.first());
        given.map(|text| parse_number(text)).transpose()
    };
    let since_seconds = number("sinceSeconds")?;
    let since_time = info.query.get("sinceTime").and_then(|values| values.first());
    if let (Some(time), Some(ty)) = (since_time, schema::kind("", "v1", "PodLogOptions")) {
        let mut options = json!({ "sinceTime": time });
        normalize::normalize(ty, &mut options)
            .map_err(|error| StatusError::bad_request(error.to_string()))?;
    }
    let (tail_lines, limit_bytes) = (number("tailLines")?, number("limitBytes")?);
    let mut errors = Vec::new();
    if let Some(lines) = tail_lines.filter(|lines| *lines < 0) {
        let why = "must be greater than or equal to 0";
        errors.push(Error::invalid(&Path::new("tailLines"), lines, why));
    }
    if let Some(bytes) = limit_bytes.filter(|bytes| *bytes < 1) {
        errors.push(Error::invalid(&Path::new("limitBytes"), bytes, "must be greater than 0"));
    }
    if let Some(seconds) = since_seconds {
        if since_time.is_some() {
            let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            errors.push(Error::forbidden(&Path::new(""), why));
        } else if seconds < 1 {
            let why = "must be greater than 0";
            errors.push(Error::invalid(&Path::new("sinceSeconds"), seconds, why));
        }
    }
    if info.query.contains_key("stream") {
        errors.push(Error::forbidden(&Path::new("stream"), "may not be specified"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(StatusError::invalid("", "PodLogOptions", &info.name, &errors))
}

/// Checks the ports of a request to forward some.
///
/// # Errors
/// 400 when one is no number.
pub(super) fn check_ports(info: &RequestInfo) -> Result<(), StatusError> {
    let ports = info.query.get("ports").map_or(&[][..], Vec::as_slice);
    for port in ports {
        if port.parse::<u16>().is_err() {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let why = if digits { "value out of range" } else { "invalid syntax" };
            return Err(StatusError::bad_request(format!(
                "cannot convert to []int32: strconv.ParseUint: parsing {port:?}: {why}"
            )));
        }
    }
    Ok(())
}

/// The options of a stream as an object of their kind.
pub fn as_object(info: &RequestInfo, kind: &Gvk, path: &str) -> Object {
    let mut object = Object::default();
    object.set(&["kind"], kind.kind.as_str());
    object.set(&["apiVersion"], kind.api_version());
    let values = |name: &str| info.query.get(name).cloned().unwrap_or_default();
    match info.subresource.as_str() {
        "exec" | "attach" => {
            for name in ["stdin", "stdout", "stderr", "tty"] {
                if info.flag(name) {
                    object.set(&[name], true);
                }
            }
            let container = info.param("container");
            if !container.is_empty() {
                object.set(&["container"], container);
            }
            let command = values("command");
            if info.subresource == "exec" && !command.is_empty() {
                object.set(&["command"], command);
            }
        }
        "portforward" => {
            let ports: Vec<u64> = (values("ports").iter())
                .flat_map(|ports| ports.split(','))
                .filter_map(|port| port.parse().ok())
                .collect();
            if !ports.is_empty() {
                object.set(&["ports"], ports);
            }
        }
        _ if !path.is_empty() => object.set(&["path"], path),
        _ => {}
    }
    object
}
