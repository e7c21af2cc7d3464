//! Whether a body is of the kind that its path takes.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/runtime/serializer/json/{json,meta}.go,
//! staging/src/k8s.io/apiserver/pkg/endpoints/handlers/rest.go transformDecodeError

use longshore_api::patch::gotext;
use longshore_api::{Gvk, StatusError, gvk, json, normalize, schema};
use serde_json::Value;

use super::body::preview;
use super::table::go_package;

/// The version of a group's internal types, which nobody may send.
const INTERNAL: &str = "__internal";
/// Groups whose names have no dot.
const SHORT_GROUPS: [&str; 6] = ["", "apps", "autoscaling", "batch", "extensions", "policy"];

/// Checks that the body is of the wanted kind; what is missing is taken from the path. `source` is
/// the body as it was sent.
///
/// # Errors
/// 400 with what the body is instead.
pub fn check(
    value: &Value,
    want: &Gvk,
    source: &[u8],
    warnings: &mut Vec<String>,
) -> Result<(), StatusError> {
    let unrecognized = |why: String| {
        StatusError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why} ({})",
            want.kind,
            preview(source)
        ))
    };
    let (api_version, kind) = interpret(value).map_err(|why| {
        unrecognized(format!("couldn't get version/kind; json parse error: {why}"))
    })?;
    let (group, version) = group_version(&api_version)
        .ok_or_else(|| unrecognized(format!("unexpected GroupVersion string: {api_version}")))?;
    let kind = if kind.is_empty() { &want.kind } else { &kind };
    let (group, version) = match (group, version) {
        ("", "") => (want.group.as_str(), want.version.as_str()),
        (group, "") if group == want.group => (group, want.version.as_str()),
        other => other,
    };
    if (group, version, kind) == (&want.group, &want.version, &want.kind) {
        return Ok(());
    }
    // upstream: pkg/registry/core/pod/storage/eviction.go AcceptsGroupVersion
    let eviction = ("policy", "v1beta1", "Eviction");
    if (group, version, kind.as_str()) == eviction && want.kind == "Eviction" {
        return Ok(());
    }
    let cannot = |why: String| {
        StatusError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: {why}",
            want.kind
        ))
    };
    if version.is_empty() {
        let source = String::from_utf8_lossy(source);
        return Err(cannot(format!("Object 'apiVersion' is missing in '{source}'")));
    }
    let api_version = gvk::api_version(group, version);
    let own = internal_type(group, kind) == internal_type(&want.group, &want.kind);
    if version == INTERNAL && own {
        // Internal types have other names for all their fields.
        let fields = value.as_object().into_iter().flat_map(|fields| fields.keys());
        let mut unknown: Vec<&String> =
            fields.filter(|name| !matches!(name.as_str(), "apiVersion" | "kind")).collect();
        let order = json::paths(source);
        unknown.sort_by_cached_key(|name| order.iter().position(|path| path == *name));
        warnings.extend(
            unknown.into_iter().map(|name| format!("unknown field {}", gotext::quote(name))),
        );
    } else if !is_registered(group, version, kind) {
        return Err(cannot(format!(
            "no kind {kind:?} is registered for version {api_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        )));
    }
    if let Some(ty) = schema::kind(group, version, kind) {
        let read = normalize::normalize(ty, &mut value.clone());
        let unknown = read.map_err(|error| cannot(error.to_string()))?;
        if own {
            let told = unknown.iter().map(|path| format!("unknown field {}", gotext::quote(path)));
            warnings.extend(told);
        }
    }
    if !own {
        return Err(cannot(format!(
            "converting ({version}.{kind}) to ({}.{}): unknown conversion",
            go_package(&want.group),
            want.kind
        )));
    }
    Err(other_version(&api_version, want))
}

/// Checks what a body says it is where a custom resource is wanted. Its kind is checked with its
/// other fields.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/runtime/serializer/json/json.go Decode of
/// unstructured objects
pub fn check_custom(value: &Value, want: &Gvk, source: &[u8]) -> Result<(), StatusError> {
    let unrecognized = |why: String| {
        StatusError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why} ({})",
            want.kind,
            preview(source)
        ))
    };
    let (api_version, kind) = interpret(value).map_err(|why| {
        unrecognized(format!("couldn't get version/kind; json parse error: {why}"))
    })?;
    if kind.is_empty() {
        let whole = String::from_utf8_lossy(source);
        return Err(unrecognized(format!("Object 'Kind' is missing in '{whole}'")));
    }
    let (group, version) = group_version(&api_version)
        .ok_or_else(|| unrecognized(format!("unexpected GroupVersion string: {api_version}")))?;
    if (group, version) != (&want.group, &want.version) {
        return Err(other_version(&api_version, want));
    }
    Ok(())
}

/// Whether a tree says that it is of a kind.
pub fn is_own(value: &Value, kind: &Gvk) -> bool {
    value["kind"] == kind.kind.as_str() && value["apiVersion"] == kind.api_version().as_str()
}

fn other_version(api_version: &str, want: &Gvk) -> StatusError {
    StatusError::bad_request(format!(
        "the API version in the data ({api_version}) does not match the expected API version ({})",
        want.api_version()
    ))
}

/// What a body says of itself. Go looks for the keys in any spelling.
fn interpret(value: &Value) -> Result<(String, String), String> {
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Null => return Ok(Default::default()),
        other => {
            return Err(format!(
                "json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
                type_name(other)
            ));
        }
    };
    let text = |name: &str| {
        let mut found = fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        match found.next_back().map(|(_, value)| value) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(format!(
                "json: cannot unmarshal {} into Go struct field .{name} of type string",
                type_name(other)
            )),
        }
    };
    Ok((text("apiVersion")?, text("kind")?))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// upstream: staging/src/k8s.io/apimachinery/pkg/runtime/schema/group_version.go ParseGroupVersion
fn group_version(text: &str) -> Option<(&str, &str)> {
    match text.matches('/').count() {
        _ if matches!(text, "" | "/") => Some(("", "")),
        0 => Some(("", text)),
        1 => text.split_once('/'),
        _ => None,
    }
}

/// Whether upstream's scheme has a kind, served or not.
fn is_registered(group: &str, version: &str, kind: &str) -> bool {
    let named = group.contains('.') || SHORT_GROUPS.contains(&group);
    let event = (group, version, kind) == ("", "v1", "WatchEvent");
    event || named && group != "meta.k8s.io" && schema::kind(group, version, kind).is_some()
}

/// The package and kind of the type that all versions of a kind are converted to.
fn internal_type<'a>(group: &'a str, kind: &'a str) -> (&'a str, &'a str) {
    let package = match (group, kind) {
        ("extensions", "Deployment" | "DaemonSet" | "ReplicaSet") => "apps",
        ("extensions", "Ingress" | "NetworkPolicy") => "networking",
        ("apps" | "extensions", "Scale") => "autoscaling",
        _ => go_package(group),
    };
    (package, kind)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies_of_another_kind_are_told_apart() {
        let want = Gvk::new("apps", "v1", "Deployment");
        let check = |value: &Value| check(value, &want, b"{...}", &mut Vec::new());
        for good in [
            json!({}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment"}),
            json!({"APIVERSION": "apps/v1", "Kind": "Deployment"}),
            json!({"apiVersion": null, "kind": ""}),
        ] {
            assert_eq!(check(&good), Ok(()), "{good}");
        }
        for (api_version, kind, want) in [
            (json!("apps/v1beta1"), "Deployment", "the API version in the data (apps/v1beta1)"),
            (json!("extensions/v1beta1"), "Deployment", "the API version in the data (extensions"),
            (json!("apps/__internal"), "Deployment", "the API version in the data (apps/__int"),
            (json!("apps/v1"), "ReplicaSet", "converting (v1.ReplicaSet) to (apps.Deployment)"),
            (json!("apps/v1"), "Pod", "no kind \"Pod\" is registered for version \"apps/v1\""),
            (json!("core/v1"), "Pod", "no kind \"Pod\" is registered for version \"core/v1\""),
            (json!("meta.k8s.io/v1"), "Table", "no kind \"Table\" is registered"),
            (json!("a/b/c"), "Pod", "unexpected GroupVersion string: a/b/c ({...})"),
            (json!("apps/"), "Pod", "no kind \"Pod\" is registered for version \"apps/v1\""),
            (json!("v1/"), "Pod", "Object 'apiVersion' is missing in '{...}'"),
            (json!(1), "Pod", "cannot unmarshal number into Go struct field .apiVersion of type"),
        ] {
            let error = check(&json!({"apiVersion": api_version, "kind": kind}));
            let error = error.expect_err("another kind");
            assert!(error.message.contains(want), "{}", error.message);
        }
        assert!(check(&json!([])).is_err());
    }
}
