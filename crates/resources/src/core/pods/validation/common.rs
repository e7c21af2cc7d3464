//! Rules that fields of many kinds share.
//!
//! upstream: pkg/apis/core/validation/validation.go,
//! staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/validation/validation.go

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::validate_labels;
use longshore_api::names;
use serde_json::Value;

use crate::core::pods::tree::{list, text, texts};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const NEGATIVE: &str = "must be greater than or equal to 0";
/// What is said about a changed field that may not change.
pub(crate) const IMMUTABLE: &str = "field is immutable";
const PORT_NAME_MAX: usize = 15;

/// Adds an error for every text that a rule gives.
pub(crate) fn each(value: &str, path: &Path, broken: &[String], errors: &mut ErrorList) {
    errors.extend(broken.iter().map(|m| Error::invalid(path, value, m)));
}

/// A DNS label.
pub(crate) fn dns_label(value: &str, path: &Path, errors: &mut ErrorList) {
    each(value, path, &names::is_dns1123_label(value), errors);
}

/// A DNS subdomain.
pub(crate) fn dns_subdomain(value: &str, path: &Path, errors: &mut ErrorList) {
    each(value, path, &names::is_dns1123_subdomain(value), errors);
}

/// A qualified name; also the rule of label keys.
pub(crate) fn qualified_name(value: &str, path: &Path, errors: &mut ErrorList) {
    each(value, path, &names::is_qualified_name(value), errors);
}

/// The number of a port.
pub(crate) fn port_number(port: i64, path: &Path, errors: &mut ErrorList) {
    let broken = names::is_valid_port_num(port);
    errors.extend(broken.iter().map(|m| Error::invalid(path, port, m)));
}

/// A transport protocol.
pub(crate) fn protocol(value: &str, path: &Path, errors: &mut ErrorList) {
    required_one_of(value, &PROTOCOLS, path, errors);
}

/// A value of a closed set that must be there.
pub(crate) fn required_one_of(value: &str, set: &[&str], path: &Path, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(Error::required(path, ""));
    } else {
        one_of(value, set, path, errors);
    }
}

/// A value of a closed set.
pub(crate) fn one_of(value: &str, set: &[&str], path: &Path, errors: &mut ErrorList) {
    if !set.contains(&value) {
        errors.push(Error::not_supported(path, value, set));
    }
}

/// A text that must be there.
pub(crate) fn required(value: &str, path: &Path, errors: &mut ErrorList) {
    if value.is_empty() {
        errors.push(Error::required(path, ""));
    }
}

/// A number that may not be negative.
pub(crate) fn not_negative(value: i64, path: &Path, errors: &mut ErrorList) {
    if value < 0 {
        errors.push(Error::invalid(path, value, NEGATIVE));
    }
}

/// A number that must be positive.
pub(crate) fn positive(value: i64, path: &Path, errors: &mut ErrorList) {
    if value <= 0 {
        errors.push(Error::invalid(path, value, "must be greater than zero"));
    }
}

/// A value that may not change.
pub(crate) fn immutable(
    new: Option<&Value>,
    old: Option<&Value>,
    path: &Path,
    errors: &mut ErrorList,
) {
    if new != old {
        let value = new.cloned().unwrap_or(Value::Null);
        errors.push(Error::invalid(path, value, IMMUTABLE));
    }
}

/// A path below a domain, such as `example.com/name`.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/util/validation IsDomainPrefixedPath
pub(crate) fn domain_path(text: &str, path: &Path, errors: &mut ErrorList) {
    match text.split_once('/') {
        _ if text.is_empty() => errors.push(Error::required(path, "")),
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            each(host, path, &names::is_dns1123_subdomain(host), errors);
            let good = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
            if !rest.bytes().all(good) {
                let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                errors.push(Error::invalid(path, rest, detail));
            }
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(Error::invalid(path, text, detail));
        }
    }
}

/// The broken rules of a port's name.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go IsValidPortName
pub(crate) fn port_name(name: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if name.len() > PORT_NAME_MAX {
        broken.push(format!("must be no more than {PORT_NAME_MAX} characters"));
    }
    let charset = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || !name.bytes().all(charset) {
        broken.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        broken.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        broken.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        broken.push("must not begin or end with a hyphen".to_owned());
    }
    broken
}

/// A port by number or name.
pub(crate) fn port_or_name(port: Option<&Value>, path: &Path, errors: &mut ErrorList) {
    match port {
        Some(Value::String(name)) => each(name, path, &port_name(name), errors),
        other => port_number(other.and_then(Value::as_i64).unwrap_or(0), path, errors),
    }
}

/// A label selector of an object.
pub(crate) fn label_selector(
    selector: Option<&Value>,
    path: &Path,
    allow_bad_values: bool,
    errors: &mut ErrorList,
) {
    let Some(selector) = selector.filter(|s| !s.is_null()) else { return };
    errors.extend(validate_labels(selector.get("matchLabels"), &path.child("matchLabels")));
    for (i, expression) in list(selector, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let values = texts(expression, "values");
        match text(expression, "operator") {
            "In" | "NotIn" => {
                if values.is_empty() {
                    let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                    errors.push(Error::required(&path.child("values"), detail));
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let detail =
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.push(Error::forbidden(&path.child("values"), detail));
                }
            }
            other => {
                let detail = "not a valid selector operator";
                errors.push(Error::invalid(&path.child("operator"), other, detail));
            }
        }
        qualified_name(text(expression, "key"), &path.child("key"), errors);
        if !allow_bad_values {
            for (i, value) in values.into_iter().enumerate() {
                let path = path.child("values").index(i);
                each(value, &path, &names::is_valid_label_value(value), errors);
            }
        }
    }
}

/// Whether a selector has a value that no label can have.
pub(crate) fn has_bad_values(selector: Option<&Value>) -> bool {
    let Some(selector) = selector else { return false };
    list(selector, "matchExpressions")
        .iter()
        .flat_map(|e| texts(e, "values"))
        .any(|value| !names::is_valid_label_value(value).is_empty())
}

/// Whether a selector names nothing at all.
pub(crate) fn is_empty_selector(selector: &Value) -> bool {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    labels.is_none_or(serde_json::Map::is_empty) && list(selector, "matchExpressions").is_empty()
}
