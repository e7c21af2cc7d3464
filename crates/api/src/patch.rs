//! Patches of objects: what each patch type does, and what the API server answers when it cannot.
//! Server-side apply stands elsewhere.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go

pub mod gotext;
pub mod json;
pub mod merge;
pub mod strategic;
#[cfg(test)]
mod tests;
pub mod touched;

use serde_json::Value;

use crate::field;
use crate::schema::Type;
use crate::status::{Reason, StatusError};

/// Applies a JSON patch to an object.
///
/// # Errors
/// 400 when the patch is no list of operations, 413 when it has too many of them, 422 when one of
/// them cannot be applied.
pub fn json_patch(document: &Value, patch: &Value) -> Result<Value, StatusError> {
    let mut result = document.clone();
    json::apply(&mut result, patch)?;
    Ok(result)
}

/// Applies a JSON merge patch to an object.
///
/// # Errors
/// 400 when the patch is not an object.
pub fn merge_patch(document: &Value, patch: &Value) -> Result<Value, StatusError> {
    if patch.is_null() {
        return Err(StatusError::bad_request("Invalid JSON Patch"));
    }
    if !patch.is_object() {
        return Err(StatusError::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            json_type(patch)
        )));
    }
    let mut result = document.clone();
    merge::apply(&mut result, patch);
    Ok(result)
}

/// Applies a strategic merge patch to an object of a built-in type; see [`strategic::apply`].
pub fn strategic_patch(
    ty: &'static Type,
    document: &Value,
    patch: &Value,
) -> Result<Value, StatusError> {
    strategic::apply(ty, document, patch)
}

/// 422 for a patched document that is no object of its kind. `shown` is what upstream shows as the
/// value: the patched document as JSON for JSON and merge patches, the patch as [`gotext::plain`]
/// for strategic ones; the message quotes it.
pub fn invalid(shown: &str, why: &str) -> StatusError {
    let error = field::Error::invalid(&field::Path::new("patch"), shown, why);
    StatusError::invalid("", "", "", &[error])
}

/// 422 without details, as upstream answers a patch that cannot be applied.
fn rejected() -> StatusError {
    StatusError::new(
        Reason::Invalid,
        "the server rejected our request due to an error in our request",
    )
}

/// The name of a JSON type in Go's messages.
fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
