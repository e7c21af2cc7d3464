//! The review that a webhook is sent, and what of its answer holds.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/request/admissionreview.go,
//! errors/statuserror.go

use std::collections::BTreeMap;

use base64::Engine as _;
use bytes::Bytes;
use longshore_api::{Object, StatusError, json as wire};
use serde_json::{Map, Value, json};

use super::matching::Invocation;
use crate::admission::Attributes;

/// The group of reviews.
const GROUP: &str = "admission.k8s.io";
/// The versions of reviews.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];
/// Codes below this are no failures.
const FAILURE_CODE_MIN: u64 = 400;

/// A review on its way.
pub(super) struct Review {
    pub(super) uid: String,
    version: &'static str,
    pub(super) document: Bytes,
}

/// What a webhook says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    pub(super) patch: Vec<u8>,
    pub(super) patch_type: String,
    result: Value,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Review {
    /// The review for a webhook.
    ///
    /// # Errors
    /// When it understands no version of reviews.
    pub(super) fn new(
        uid: String,
        a: &Attributes<'_>,
        invocation: &Invocation,
        object: Option<&Object>,
        old: Option<&Object>,
    ) -> Result<Self, String> {
        let known = |version: &String| VERSIONS.into_iter().find(|known| known == version);
        let version = invocation.hook.versions.iter().find_map(known).ok_or(
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)",
        )?;
        let tree = |object: Option<&Object>| {
            object.map_or(Value::Null, |object| Value::Object(object.root().clone()))
        };
        let kind = |kind: &longshore_api::Gvk| json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let (group, of_version, plural) = &invocation.resource;
        let mut user = json!({});
        for (key, value) in [("username", &a.user.name), ("uid", &a.user.uid)] {
            if !value.is_empty() {
                user[key] = value.as_str().into();
            }
        }
        if !a.user.groups.is_empty() {
            user["groups"] = json!(a.user.groups);
        }
        if !a.user.extra.is_empty() {
            user["extra"] = json!(a.user.extra);
        }
        let mut request = json!({
            "uid": uid,
            "kind": kind(&invocation.kind),
            "resource": {"group": group, "version": of_version, "resource": plural},
            "requestKind": kind(&a.kind()),
            "requestResource": {
                "group": a.resource.group, "version": a.resource.version,
                "resource": a.resource.plural,
            },
            "operation": a.operation.name(),
            "userInfo": user,
            "object": tree(object),
            "oldObject": tree(old),
            "dryRun": a.dry_run,
            "options": a.options(),
        });
        for (key, value) in [
            ("subResource", a.subresource),
            ("requestSubResource", a.subresource),
            ("name", invocation.name.as_str()),
            ("namespace", invocation.namespace.as_str()),
        ] {
            if !value.is_empty() {
                request[key] = value.into();
            }
        }
        let api_version = format!("{GROUP}/{version}");
        let review =
            json!({"kind": "AdmissionReview", "apiVersion": api_version, "request": request});
        Ok(Self { uid, version, document: Bytes::from(review.to_string()) })
    }

    /// Reads what a webhook has answered.
    ///
    /// # Errors
    /// What is wrong with the answer.
    pub(super) fn read(&self, body: &[u8], mutating: bool) -> Result<Answer, String> {
        let called = |why: String| format!("failed to call webhook: {why}");
        let decoded = wire::decode(body)
            .map_err(|why| called(format!("couldn't get version/kind; json parse error: {why}")))?;
        let review = decoded.value;
        let text = |key: &str| review[key].as_str().unwrap_or("");
        let (group, version) = match text("apiVersion").split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", text("apiVersion")),
        };
        let kind = text("kind");
        let named = !version.is_empty() && !kind.is_empty();
        if named && (group, version, kind) != (GROUP, self.version, "AdmissionReview") {
            let known = group == GROUP && VERSIONS.contains(&version) && kind == "AdmissionReview";
            return Err(called(if known {
                let own = self.version;
                format!(
                    "converting ({version}.AdmissionReview) to ({own}.AdmissionReview): unknown conversion"
                )
            } else {
                let api_version = text("apiVersion");
                format!("no kind {kind:?} is registered for version {api_version:?}")
            }));
        }
        check_types(&review["response"]).map_err(called)?;
        self.verify(&review, (group, version, kind), mutating)
            .map_err(|why| format!("received invalid webhook response: {why}"))
    }

    fn verify(
        &self,
        review: &Value,
        (group, version, kind): (&str, &str, &str),
        mutating: bool,
    ) -> Result<Answer, String> {
        let response = &review["response"];
        if response.is_null() {
            return Err("webhook response was absent".to_owned());
        }
        let text = |key: &str| response[key].as_str().unwrap_or("");
        let patch = base64::engine::general_purpose::STANDARD.decode(text("patch"));
        let mut patch = patch.map_err(|error| error.to_string())?;
        let mut patch_type = text("patchType").to_owned();
        let typed = !response["patchType"].is_null();
        if self.version == "v1" {
            if text("uid") != self.uid {
                let (wanted, got) = (&self.uid, text("uid"));
                return Err(format!("expected response.uid={wanted:?}, got {got:?}"));
            }
            if kind.is_empty() || version.is_empty() {
                return Err(format!(
                    "expected webhook response of {GROUP}/v1, Kind=AdmissionReview, got {group}/{version}, Kind={kind}"
                ));
            }
            match (mutating, patch.is_empty(), typed) {
                (true, false, false) => {
                    return Err(
                        "webhook returned response.patch but not response.patchType".to_owned()
                    );
                }
                (true, true, true) => {
                    return Err(
                        "webhook returned response.patchType but not response.patch".to_owned()
                    );
                }
                (true, false, true) if patch_type.is_empty() => {
                    return Err("webhook returned invalid response.patchType of \"\"".to_owned());
                }
                (false, false, _) => {
                    return Err("validating webhook may not return response.patch".to_owned());
                }
                (false, _, true) => {
                    return Err("validating webhook may not return response.patchType".to_owned());
                }
                _ => {}
            }
        } else if mutating && !patch.is_empty() {
            "JSONPatch".clone_into(&mut patch_type);
        } else if !mutating {
            patch.clear();
        }
        let texts = response["warnings"].as_array().into_iter().flatten();
        let notes = response["auditAnnotations"].as_object().into_iter().flatten();
        Ok(Answer {
            allowed: response["allowed"] == true,
            patch,
            patch_type,
            result: response["status"].clone(),
            warnings: texts.filter_map(|text| text.as_str().map(str::to_owned)).collect(),
            annotations: notes
                .filter_map(|(key, text)| Some((key.clone(), text.as_str()?.to_owned())))
                .collect(),
        })
    }
}

/// What of an answer cannot be read, in Go's words.
fn check_types(response: &Value) -> Result<(), String> {
    let wrong = |value: &Value, field: &str, wanted: &str| {
        let got = match value {
            Value::Null => return Ok(()),
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        Err(format!(
            "json: cannot unmarshal {got} into Go struct field AdmissionResponse{field} of type {wanted}"
        ))
    };
    if !response.is_object() {
        return wrong(response, "", "v1.AdmissionResponse");
    }
    if !response["allowed"].is_boolean() {
        wrong(&response["allowed"], ".response.allowed", "bool")?;
    }
    for (key, wanted) in [("uid", "types.UID"), ("patch", "[]uint8"), ("patchType", "v1.PatchType")]
    {
        if !response[key].is_string() {
            wrong(&response[key], &format!(".response.{key}"), wanted)?;
        }
    }
    if !response["status"].is_object() {
        wrong(&response["status"], ".response.status", "v1.Status")?;
    }
    if !response["warnings"].is_array() {
        wrong(&response["warnings"], ".response.warnings", "[]string")?;
    }
    if !response["auditAnnotations"].is_object() {
        let wanted = "map[string]string";
        wrong(&response["auditAnnotations"], ".response.auditAnnotations", wanted)?;
    }
    Ok(())
}

impl Answer {
    /// The refusal of a webhook as a status.
    pub(super) fn refusal(&self, name: &str) -> StatusError {
        let mut result = self.result.as_object().cloned().unwrap_or_else(Map::new);
        let code = result.get("code").and_then(Value::as_u64).unwrap_or(0).max(FAILURE_CODE_MIN);
        let text = |key: &str| result.get(key).and_then(Value::as_str).unwrap_or("");
        let denied = format!("admission webhook {name:?} denied the request");
        let message = match (text("message"), text("reason")) {
            ("", "") => format!("{denied} without explanation"),
            ("", why) | (why, _) => format!("{denied}: {why}"),
        };
        result.insert("message".to_owned(), message.into());
        let code = u16::try_from(code).unwrap_or(u16::MAX);
        StatusError::from_value(code, &Value::Object(result))
    }
}
