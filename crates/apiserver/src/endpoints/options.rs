//! The options of writes, from the query or (for deletions) the body.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/validation/validation.go

use http::HeaderMap;
use http::header::USER_AGENT;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::meta_validation::{FIELD_MANAGER_BYTES_MAX, validate_field_manager};
use longshore_api::patch::gotext::prints;
use longshore_api::{Gvk, StatusError};
use serde_json::{Value, json};

use super::Call;
use super::body::{self, FieldValidation};
use super::list_options::parse_number;
use crate::body::Body;
use crate::registry::{DeleteOptions, Preconditions};
use crate::request_info::RequestInfo;

/// Kinds of the core group that every scheme has.
const UNVERSIONED: [&str; 5] =
    ["APIGroup", "APIGroupList", "APIResourceList", "APIVersions", "Status"];

/// The checked options of create, update and patch.
#[derive(Clone, Copy, Debug)]
pub struct WriteOptions {
    /// Do everything except storing.
    pub dry_run: bool,
    /// What happens to unknown fields.
    pub validation: FieldValidation,
}

impl WriteOptions {
    /// The options of a request; `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`.
    pub fn of(info: &RequestInfo, kind: &str) -> Result<Self, StatusError> {
        let mut errors = ErrorList::new();
        let force = info.param("force");
        if !force.is_empty() && kind == "PatchOptions" {
            let text = "may not be specified for non-apply patch";
            errors.push(Error::forbidden(&Path::new("force"), text));
        }
        Self::read(info, kind, errors)
    }

    /// The options of an apply.
    pub fn of_apply(info: &RequestInfo) -> Result<Self, StatusError> {
        let mut errors = ErrorList::new();
        if info.param("fieldManager").is_empty() {
            let text = "is required for apply patch";
            errors.push(Error::required(&Path::new("fieldManager"), text));
        }
        Self::read(info, "PatchOptions", errors)
    }

    fn read(info: &RequestInfo, kind: &str, mut errors: ErrorList) -> Result<Self, StatusError> {
        errors
            .extend(validate_field_manager(info.param("fieldManager"), &Path::new("fieldManager")));
        let dry_run: Vec<&str> = values(info, "dryRun");
        errors.extend(check_dry_run(&dry_run));
        let validation = FieldValidation::parse(info.param("fieldValidation"), &mut errors);
        if !errors.is_empty() {
            return Err(StatusError::invalid("meta.k8s.io", kind, "", &errors));
        }
        Ok(Self { dry_run: !dry_run.is_empty(), validation })
    }
}

fn values<'a>(info: &'a RequestInfo, name: &str) -> Vec<&'a str> {
    info.query.get(name).map_or_else(Vec::new, |v| v.iter().map(String::as_str).collect())
}

/// The options of a create, update or patch as admission is told them.
pub fn given(info: &RequestInfo) -> Value {
    let mut options = json!({});
    if !matches!(info.verb, "create" | "update" | "patch") {
        return options;
    }
    let dry_run = values(info, "dryRun");
    if !dry_run.is_empty() {
        options["dryRun"] = json!(dry_run);
    }
    for name in ["fieldManager", "fieldValidation"] {
        let value = info.param(name);
        if !value.is_empty() {
            options[name] = value.into();
        }
    }
    options
}

/// Whose the changes of a write are: the manager that it names, else the client's name in front
/// of its version.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/create.go managerOrUserAgent
pub fn field_manager(info: &RequestInfo, headers: &HeaderMap) -> String {
    if !matches!(info.verb, "create" | "update" | "patch") {
        return String::new();
    }
    let named = info.param("fieldManager");
    if !named.is_empty() {
        return named.to_owned();
    }
    let agent = headers.get(USER_AGENT).map_or(&b""[..], |value| value.as_bytes());
    let agent = String::from_utf8_lossy(agent);
    let mut name = String::new();
    for letter in agent.split('/').next().unwrap_or("").chars().filter(|c| prints(*c)) {
        if name.len() + letter.len_utf8() > FIELD_MANAGER_BYTES_MAX {
            break;
        }
        name.push(letter);
    }
    name
}

fn check_dry_run(values: &[&str]) -> ErrorList {
    if values.iter().all(|value| *value == "All") {
        return ErrorList::new();
    }
    vec![Error::not_supported(&Path::new("dryRun"), json!(values), &["All"])]
}

/// The options of DELETE: from the body when there is one, else from the query.
pub async fn delete_options(
    call: &Call,
    headers: &http::HeaderMap,
    body: Body,
) -> Result<(DeleteOptions, bool), StatusError> {
    let bytes = body::read(body).await?;
    let value =
        if bytes.is_empty() { from_query(&call.info)? } else { from_body(headers, &bytes)? };
    let errors = check_delete(&value);
    if !errors.is_empty() {
        return Err(StatusError::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let propagation = match value["orphanDependents"].as_bool() {
        Some(true) => Some("Orphan".to_owned()),
        Some(false) => Some("Background".to_owned()),
        None => text(&value["propagationPolicy"]),
    };
    let dry_run = value["dryRun"].as_array().is_some_and(|list| !list.is_empty());
    let options = DeleteOptions {
        grace_period_seconds: value["gracePeriodSeconds"].as_i64(),
        preconditions: Preconditions {
            uid: text(&value["preconditions"]["uid"]),
            resource_version: text(&value["preconditions"]["resourceVersion"]),
        },
        propagation,
        cascades: value["orphanDependents"] == Value::Bool(false),
        of_collection: false,
        admitted: false,
        given: value,
    };
    Ok((options, dry_run))
}

fn from_body(headers: &http::HeaderMap, bytes: &[u8]) -> Result<Value, StatusError> {
    let want = Gvk::new("", "v1", "DeleteOptions");
    let (mut value, _) = body::parse_bare(headers, bytes, &want)?;
    let given = value["kind"].as_str().unwrap_or("");
    if !matches!(given, "" | "DeleteOptions") {
        let version = value["apiVersion"].as_str().unwrap_or("v1");
        return Err(StatusError::bad_request(if UNVERSIONED.contains(&given) {
            format!("converting ({version}.{given}) to (v1.DeleteOptions): unknown conversion")
        } else {
            format!(
                "no kind {given:?} is registered for version {version:?} in scheme \"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27\""
            )
        }));
    }
    if let Some(ty) = longshore_api::schema::kind("", "v1", "DeleteOptions") {
        longshore_api::normalize::normalize(ty, &mut value)
            .map_err(|e| StatusError::bad_request(e.to_string()))?;
    }
    Ok(value)
}

fn from_query(info: &RequestInfo) -> Result<Value, StatusError> {
    let mut value = json!({});
    if info.query.contains_key("gracePeriodSeconds") {
        let seconds = parse_number(info.param("gracePeriodSeconds"))?;
        value["gracePeriodSeconds"] = seconds.into();
    }
    if info.query.contains_key("propagationPolicy") {
        value["propagationPolicy"] = info.param("propagationPolicy").into();
    }
    if info.query.contains_key("orphanDependents") {
        value["orphanDependents"] = info.flag("orphanDependents").into();
    }
    if let Some(dry_run) = info.query.get("dryRun") {
        value["dryRun"] = dry_run.clone().into();
    }
    Ok(value)
}

/// The broken rules of `DeleteOptions`.
pub fn check_delete(value: &Value) -> ErrorList {
    let path = Path::new("propagationPolicy");
    let mut errors = ErrorList::new();
    if let Some(policy) = value["propagationPolicy"].as_str() {
        if value["orphanDependents"].is_boolean() {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(Error::invalid(&path, policy, detail));
        }
        if !matches!(policy, "Foreground" | "Background" | "Orphan") {
            let known = ["Foreground", "Background", "Orphan", "nil"];
            errors.push(Error::not_supported(&path, policy, &known));
        }
    }
    let list = value["dryRun"].as_array().map_or(&[][..], Vec::as_slice);
    let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    errors.extend(check_dry_run(&texts));
    errors
}
