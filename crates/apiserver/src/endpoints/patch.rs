//! PATCH: JSON patch, merge patch and strategic merge patch on the newest state.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go

use http::{HeaderMap, Response};
use longshore_api::patch::touched;
use longshore_api::{Model, Object, Reason, StatusError, gostruct, json, normalize, patch};
use parking_lot::Mutex;
use serde_json::Value;

use super::body::{self, FieldValidation, Wanted};
use super::options::WriteOptions;
use super::{Call, apply, read, route, write};
use crate::body::Body;
use crate::registry::UpdateOptions;

/// A decoded patch.
pub struct Patch {
    kind: Kind,
    value: Value,
    duplicates: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Merge,
    Strategic,
}

/// Answers PATCH of an object or one of its subresources of the same kind.
pub async fn patch(
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    if apply::is_apply(headers, call.api.cbor) {
        return apply::apply(call, headers, body).await;
    }
    let kind = kind_of(call, headers)?;
    let bytes = body::read(body).await?;
    let options = WriteOptions::of(&call.info, "PatchOptions")?;
    // A patch is only looked into when there is an object.
    let patch = Patch::decode(kind, &bytes);
    let want = body::Wanted::of(&call.served.resource);
    let warnings = Mutex::new(Vec::new());
    let change = |old: Option<&Object>| {
        let Some(old) = old else {
            let resource = &call.served.resource;
            return Err(StatusError::not_found(&resource.group, &resource.plural, &call.info.name));
        };
        let patch = patch.as_ref().map_err(Clone::clone)?;
        let mut new = patch.apply(old, &want, options.validation, &mut warnings.lock())?;
        write::check_name(call, &mut new)?;
        call.write_context(options.dry_run).check_namespace(&mut new)?;
        Ok(new)
    };
    let ctx = call.write_context(options.dry_run);
    let update = UpdateOptions { patch: true, ..UpdateOptions::default() };
    let stored = call.api.registry.update(&ctx, &call.info.name, update, &change).await;
    // What is wrong with the patch is told before what is wrong with the object.
    call.warnings.lock().splice(..0, warnings.into_inner());
    Ok(read::written(call, stored?))
}

fn kind_of(call: &Call, headers: &HeaderMap) -> Result<Kind, StatusError> {
    kind_among(headers, call.api.cbor, call.served.resource.custom.is_some())
}

fn kind_among(headers: &HeaderMap, cbor: bool, custom: bool) -> Result<Kind, StatusError> {
    let media_type = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    match media_type.unwrap_or("").split(';').next().unwrap_or("") {
        "application/json-patch+json" => Ok(Kind::Json),
        "application/merge-patch+json" => Ok(Kind::Merge),
        "application/strategic-merge-patch+json" if !custom => Ok(Kind::Strategic),
        _ => {
            let mut known = route::patch_types(cbor).to_vec();
            known.retain(|known| !custom || *known != "application/strategic-merge-patch+json");
            let known = known.join(", ");
            let message = format!(
                "the body of the request was in an unknown format - accepted media types include: {known}"
            );
            Err(StatusError::new(Reason::UnsupportedMediaType, message))
        }
    }
}

/// Refuses a patch of a media type that custom resources do not take.
pub fn check_custom_type(headers: &HeaderMap, cbor: bool) -> Result<(), StatusError> {
    if apply::is_apply(headers, cbor) {
        return Ok(());
    }
    kind_among(headers, cbor, true).map(drop)
}

impl Patch {
    /// The patch of a request with its headers, for subresources of another kind.
    pub fn from_request(
        call: &Call,
        headers: &HeaderMap,
        bytes: &[u8],
    ) -> Result<Self, StatusError> {
        Self::decode(kind_of(call, headers)?, bytes)
    }

    fn decode(kind: Kind, bytes: &[u8]) -> Result<Self, StatusError> {
        let bad = |e: &dyn std::fmt::Display| {
            StatusError::bad_request(format!("error decoding patch: {e}"))
        };
        let (value, duplicates) = match json::decode(bytes) {
            Ok(decoded) => (decoded.value, decoded.duplicates),
            Err(error) if kind == Kind::Strategic => {
                return Err(StatusError::bad_request(error.to_string()));
            }
            Err(error) => return Err(bad(&error)),
        };
        let prefix = if kind == Kind::Json { "json patch " } else { "" };
        let mut duplicates: Vec<String> = duplicates
            .into_iter()
            .map(|path| format!("{prefix}duplicate field {}", patch::gotext::quote(&path)))
            .collect();
        if kind == Kind::Json {
            duplicates.extend(patch::json::unknown_fields(&value));
        }
        Ok(Self { kind, value, duplicates })
    }

    /// The object that the patch makes of `old`.
    pub fn apply(
        &self,
        old: &Object,
        want: &Wanted,
        validation: FieldValidation,
        warnings: &mut Vec<String>,
    ) -> Result<Object, StatusError> {
        let gvk = &want.gvk;
        let old = old.clone().into_value();
        let mut value = self.changed(&old, want)?;
        if self.kind == Kind::Strategic
            && let Some(why) = body::unreadable(gvk, &value)
        {
            return Err(StatusError::new(Reason::Unknown, why));
        }
        let mut strict = self.duplicates.clone();
        if self.kind != Kind::Strategic && !want.is_custom() {
            strict.extend(without_version(&mut value));
        }
        let unrecognized =
            format!("the object provided is unrecognized (must be of type {}): ", gvk.kind);
        let handled = format!(" cannot be handled as a {}: ", gvk.kind);
        body::normalise(value, strict, want, validation, warnings).map_err(|error| {
            let message = error.message.as_str();
            let bare =
                message.strip_prefix(&unrecognized).and_then(|m| m.strip_suffix(" (<empty>)"));
            let why = bare.or_else(|| message.split_once(&handled).map(|(_, why)| why));
            patch::invalid(&self.shown(&old, want), why.unwrap_or(message))
        })
    }

    /// The document that the patch makes of `old`.
    fn changed(&self, old: &Value, want: &Wanted) -> Result<Value, StatusError> {
        if self.kind != Kind::Strategic {
            let apply =
                if self.kind == Kind::Json { patch::json_patch } else { patch::merge_patch };
            return apply(old, &self.value);
        }
        let ty = want.model.as_ref().and_then(Model::as_type).ok_or_else(|| {
            let why = "this kind has no strategic merge patch";
            StatusError::new(Reason::UnsupportedMediaType, why)
        })?;
        let mut value = patch::strategic_patch(ty, old, &self.value)?;
        let restored = normalize::restore(ty, &mut value);
        restored.map_err(|why| patch::invalid(&patch::gotext::plain(&self.value), &why))?;
        Ok(value)
    }

    /// What is shown of a document that cannot be read.
    fn shown(&self, old: &Value, want: &Wanted) -> String {
        let touched = match self.kind {
            Kind::Strategic => return patch::gotext::plain(&self.value),
            Kind::Json => touched::by_json_patch(&self.value),
            Kind::Merge => touched::by_merge_patch(&self.value),
        };
        let new = self.changed(old, want).unwrap_or_default();
        gostruct::patched(&want.gvk, old, &new, &touched)
    }
}

/// Without a version an object is read as one of the internal types, which know none of its
/// fields; tells them.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go
/// jsonPatcher.applyPatchToCurrentObject
fn without_version(object: &mut Value) -> Vec<String> {
    let Value::Object(fields) = object else { return Vec::new() };
    if fields.get("apiVersion").is_some_and(|version| !version.is_null() && *version != "") {
        return Vec::new();
    }
    let mut unknown: Vec<String> = fields.keys().cloned().collect();
    unknown.retain(|name| !matches!(name.as_str(), "apiVersion" | "kind"));
    unknown.sort_unstable();
    fields.clear();
    unknown.iter().map(|name| format!("unknown field \"{name}\"")).collect()
}
