//! Server-side apply: PATCH with a configuration of which every field is to be true.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go applyPatcher

use http::{HeaderMap, Response};
use longshore_api::{Object, StatusError, cbor, json, yaml};
use serde_json::Value;

use super::body::{self, FieldValidation};
use super::options::WriteOptions;
use super::{Call, read, write};
use crate::body::Body;
use crate::registry::UpdateOptions;

/// The media type of a configuration.
pub const APPLY_YAML: &str = "application/apply-patch+yaml";
/// The media type of a configuration in CBOR, taken where CBOR is served.
pub const APPLY_CBOR: &str = "application/apply-patch+cbor";

/// Whether a request applies a configuration.
pub fn is_apply(headers: &HeaderMap, cbor: bool) -> bool {
    let given = headers.contains_key(http::header::CONTENT_TYPE);
    (given && body::media_type(headers) == APPLY_YAML) || is_cbor(headers, cbor)
}

fn is_cbor(headers: &HeaderMap, served: bool) -> bool {
    served && body::media_type(headers) == APPLY_CBOR
}

/// A decoded configuration.
pub struct Config {
    value: Value,
    /// What is wrong with it when it is read strictly.
    strict: Option<String>,
    /// Whether the fields of others are taken from them.
    force: bool,
}

impl Config {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// 400 when it is not one object.
    pub fn decode(call: &Call, headers: &HeaderMap, bytes: &[u8]) -> Result<Self, StatusError> {
        let force = call.info.flag("force");
        if is_cbor(headers, call.api.cbor) {
            let bad = |why: &str| StatusError::bad_request(format!("error decoding CBOR: {why}"));
            let value = cbor::decode(bytes).map_err(|error| bad(&error.to_string()))?;
            if !value.is_object() {
                return Err(bad("the configuration is not a map"));
            }
            return Ok(Self { value, strict: None, force });
        }
        let bad = |why: String| StatusError::bad_request(format!("error decoding YAML: {why}"));
        // JSON is YAML, too, and much faster to read.
        if let Ok(decoded) = json::decode(bytes)
            && decoded.duplicates.is_empty()
            && decoded.value.is_object()
        {
            return Ok(Self { value: decoded.value, strict: None, force });
        }
        let loose = yaml::decode_loose(bytes)
            .map_err(|error| bad(format!("error converting YAML to JSON: {error}")))?;
        let strict = loose.repeated();
        let value = loose.value;
        let kind = match &value {
            Value::Object(_) | Value::Null => return Ok(Self { value, strict, force }),
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
        };
        Err(bad(format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        )))
    }

    /// The configuration as it was written.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether the fields of others are taken from them.
    pub fn force(&self) -> bool {
        self.force
    }

    /// Fails or warns when the configuration is read strictly and has repeated fields.
    pub fn check(
        &self,
        validation: FieldValidation,
        warnings: &mut Vec<String>,
    ) -> Result<(), StatusError> {
        match (&self.strict, validation) {
            (Some(why), FieldValidation::Strict) => Err(StatusError::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {why}"
            ))),
            (Some(why), FieldValidation::Warn) => {
                if !warnings.contains(why) {
                    warnings.push(why.clone());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Answers an apply to an object or one of its subresources of the same kind.
pub async fn apply(
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    let bytes = body::read(body).await?;
    let options = WriteOptions::of_apply(&call.info)?;
    let config = Config::decode(call, headers, &bytes)?;
    let registry = &call.api.registry;
    let mut ctx = call.write_context(options.dry_run);
    // The managed fields come out of the apply.
    ctx.manager = None;
    let tracked = call.write_context(options.dry_run);
    let nothing = Object::default();
    let change = |old: Option<&Object>| {
        if old.is_none() && !call.info.subresource.is_empty() {
            return Err(ctx.not_found(&call.info.name));
        }
        let live = old.unwrap_or(&nothing);
        let mut new = registry.apply(&tracked, live, config.value(), config.force())?;
        config.check(options.validation, &mut call.warnings.lock())?;
        if old.is_none() && !new.uid().is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                new.uid()
            );
            return Err(ctx.conflict(&call.info.name, &why));
        }
        ctx.check_namespace(&mut new)?;
        write::check_name(call, &mut new)?;
        Ok(new)
    };
    let update = UpdateOptions { allow_create: true, patch: true, apply: true };
    let stored = registry.update(&ctx, &call.info.name, update, &change).await?;
    Ok(read::object(call, if stored.created { 201 } else { 200 }, stored.object))
}
