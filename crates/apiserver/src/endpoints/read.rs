//! GET of one object and LIST.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/get.go

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use longshore_api::field::{Error, Path};
use longshore_api::selector::{FieldSelector, LabelSelector};
use longshore_api::{Reason, StatusError};
use serde_json::{Value, json};

use super::negotiate::{Format, Negotiated, Shape};
use super::{Call, respond, table};
use crate::body::Body;
use crate::cache::{Entry, Interest, Snapshot, range};
use crate::registry::Served;
use crate::request_info::RequestInfo;

/// Answers GET of one object.
pub async fn get(call: &Call) -> Result<Response<Body>, StatusError> {
    let entry = call.api.registry.get(&call.served, &call.info.namespace, &call.info.name).await?;
    Ok(one(call, 200, &entry))
}

/// An entry in the negotiated format; the canonical bytes where they fit.
fn one(call: &Call, code: u16, entry: &Entry) -> Response<Body> {
    let negotiated = &call.negotiated;
    if canonical(negotiated) && is_native(&call.served, entry) {
        return respond::bytes(code, "application/json", entry.json());
    }
    object(call, code, call.shown(entry))
}

/// An object in the negotiated format and shape.
pub fn object(call: &Call, code: u16, object: longshore_api::Object) -> Response<Body> {
    let negotiated = &call.negotiated;
    let value = match negotiated.shape {
        Shape::Object => object.into_value(),
        Shape::Metadata => table::metadata_of(&object, &negotiated.shape_version),
        Shape::Table => table::of(
            &call.served.resource,
            std::iter::once(object),
            json!({}),
            negotiated,
            call.info.param("includeObject"),
            call.now,
            true,
        ),
    };
    respond::value(code, negotiated, &value)
}

fn canonical(negotiated: &Negotiated) -> bool {
    negotiated.format == Format::Json && negotiated.shape == Shape::Object && !negotiated.pretty
}

/// Whether an entry was stored in the version that is asked for.
pub fn is_native(served: &Served, entry: &Entry) -> bool {
    let own = (&*served.resource.group, &*served.resource.version);
    longshore_api::gvk::split_api_version(entry.api_version()) == Some(own)
}

/// What selectors and paging a list or watch asks for.
pub fn interest(served: &Served, info: &RequestInfo) -> Result<Interest, StatusError> {
    let labels =
        match info.param("labelSelector") {
            "" => None,
            text => Some(LabelSelector::parse(text).map_err(|e| {
                StatusError::bad_request(format!("unable to parse requirement: {e}"))
            })?),
        };
    let fields = match info.param("fieldSelector") {
        "" => None,
        text => Some(parse_fields(served, text)?),
    };
    Ok(Interest { namespace: info.namespace.clone(), name: info.name.clone(), labels, fields })
}

fn parse_fields(served: &Served, text: &str) -> Result<FieldSelector, StatusError> {
    let selector =
        FieldSelector::parse(text).map_err(|e| StatusError::bad_request(e.to_string()))?;
    let known = served.resource.strategy.selectable_field_names();
    for requirement in selector.requirements() {
        let field = requirement.field.as_str();
        if !matches!(field, "metadata.name" | "metadata.namespace") && !known.contains(&field) {
            let gvk = served.resource.gvk();
            return Err(StatusError::bad_request(format!(
                "Unable to find {:?} that match label selector \"\", field selector {text:?}: field label not supported: {field}",
                Gvr(&gvk.group, &gvk.version, &served.resource.plural)
            )));
        }
    }
    Ok(selector)
}

struct Gvr<'a>(&'a str, &'a str, &'a str);

impl std::fmt::Debug for Gvr<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}/{}, Resource={}\"", self.0, self.1, self.2)
    }
}

/// One page of a list.
struct Page {
    entries: Vec<Arc<Entry>>,
    revision: u64,
    next: Option<Bytes>,
    remaining: usize,
}

/// Answers LIST.
pub async fn list(call: &Call) -> Result<Response<Body>, StatusError> {
    let interest = interest(&call.served, &call.info)?;
    let page = page(call, &interest).await?;
    let continue_token =
        page.next.as_ref().map(|last| encode_token(page.revision, last)).unwrap_or_default();
    let mut meta = json!({ "resourceVersion": page.revision.to_string() });
    if !continue_token.is_empty() {
        meta["continue"] = continue_token.into();
        let selective = interest.labels.is_some() || interest.fields.is_some();
        if !selective {
            meta["remainingItemCount"] = page.remaining.into();
        }
    }
    Ok(collection(call, meta, &page.entries))
}

/// A list of entries in the negotiated format and shape.
pub fn collection(call: &Call, meta: Value, entries: &[Arc<Entry>]) -> Response<Body> {
    let served = &call.served;
    if canonical(&call.negotiated) && entries.iter().all(|e| is_native(served, e)) {
        return respond::bytes(200, "application/json", concatenate(served, &meta, entries));
    }
    let objects = entries.iter().map(|entry| call.shown(entry));
    let negotiated = &call.negotiated;
    let include = call.info.param("includeObject");
    let value = match negotiated.shape {
        Shape::Table => {
            table::of(&served.resource, objects, meta, negotiated, include, call.now, true)
        }
        Shape::Metadata => json!({
            "apiVersion": format!("meta.k8s.io/{}", negotiated.shape_version),
            "kind": "PartialObjectMetadataList",
            "metadata": meta,
            "items": objects
                .map(|o| table::metadata_of(&o, &negotiated.shape_version))
                .collect::<Vec<_>>(),
        }),
        Shape::Object => json!({
            "apiVersion": served.resource.gvk().api_version(),
            "kind": format!("{}List", served.resource.kind),
            "metadata": meta,
            "items": objects.map(list_item).collect::<Vec<_>>(),
        }),
    };
    respond::value(200, negotiated, &value)
}

/// Items of a list do not repeat their kind.
fn list_item(mut object: longshore_api::Object) -> Value {
    object.remove(&["apiVersion"]);
    object.remove(&["kind"]);
    object.into_value()
}

/// The list body from the bytes of its items.
fn concatenate(served: &Served, meta: &Value, entries: &[Arc<Entry>]) -> Bytes {
    let size: usize = entries.iter().map(|e| e.json_bytes_max() + 1).sum();
    let mut out = Vec::with_capacity(size + 256);
    let gvk = served.resource.gvk();
    let open = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"items\":[",
        gvk.kind,
        gvk.api_version()
    );
    out.extend_from_slice(open.as_bytes());
    for (i, entry) in entries.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        entry.write_item(&mut out);
    }
    out.extend_from_slice(b"]}\n");
    out.into()
}

async fn page(call: &Call, interest: &Interest) -> Result<Page, StatusError> {
    let limit: usize = match call.info.param("limit") {
        "" => 0,
        text => text.parse::<i64>().map_err(|_| bad_number("limit", text))?.max(0) as usize,
    };
    let token = match call.info.param("continue") {
        "" => None,
        token => Some(decode_token(token)?),
    };
    let (snapshot, revision) = match &token {
        Some((revision, _)) => {
            let pinned = call.api.pins.get(call.served.cache.prefix(), *revision);
            (pinned.ok_or_else(expired_token)?, *revision)
        }
        None => snapshot_for(call).await?,
    };
    let after = token.as_ref().map(|(_, last)| last.as_ref());
    let mut entries = Vec::new();
    let mut last: Option<&Bytes> = None;
    let mut more = 0;
    let selective = interest.labels.is_some() || interest.fields.is_some();
    for (path, entry) in range(&snapshot, &interest.namespace, after) {
        if !interest.matches(entry) {
            continue;
        }
        if limit > 0 && entries.len() == limit {
            more += 1;
            if selective {
                break;
            }
            continue;
        }
        entries.push(entry.clone());
        last = Some(path);
    }
    let next = if more > 0 { last.cloned() } else { None };
    if next.is_some() {
        call.api.pins.put(call.served.cache.prefix(), revision, &snapshot);
    }
    Ok(Page { entries, revision, next, remaining: more })
}

fn bad_number(name: &str, text: &str) -> StatusError {
    StatusError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax ({name})"))
}

/// The state a list is answered from, by `resourceVersion` and `resourceVersionMatch`.
async fn snapshot_for(call: &Call) -> Result<(Snapshot, u64), StatusError> {
    let hub = call.api.registry.hub();
    let version = call.info.param("resourceVersion");
    let matching = call.info.param("resourceVersionMatch");
    check_match(version, matching, &call.info)?;
    match version {
        "0" => {}
        "" => {
            hub.fresh().await.map_err(StatusError::internal)?;
        }
        text => {
            let wanted: u64 = text.parse().map_err(|_| invalid_version(text))?;
            let newest = hub.fresh().await.map_err(StatusError::internal)?;
            if wanted > newest {
                return Err(too_large(wanted, newest));
            }
            if matching == "Exact" {
                let exact = call.api.pins.get(call.served.cache.prefix(), wanted);
                let (now, revision) = call.served.cache.snapshot();
                // Nothing changed in this resource since: the present state is the exact one.
                let same = revision <= wanted;
                return match exact {
                    Some(snapshot) => Ok((snapshot, wanted)),
                    None if same => Ok((now, wanted)),
                    None => Err(StatusError::expired(format!(
                        "The resourceVersion for the provided list is too old: {wanted}"
                    ))),
                };
            }
        }
    }
    // The caches' revision is taken first: everything up to it is in the snapshot.
    let applied = hub.applied();
    let (snapshot, revision) = call.served.cache.snapshot();
    Ok((snapshot, applied.max(revision)))
}

/// upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/internalversion/validation
fn check_match(version: &str, matching: &str, info: &RequestInfo) -> Result<(), StatusError> {
    if matching.is_empty() {
        return Ok(());
    }
    let path = Path::new("resourceVersionMatch");
    let mut errors = Vec::new();
    if version.is_empty() {
        errors.push(Error::forbidden(
            &path,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ));
    }
    if !info.param("continue").is_empty() {
        errors.push(Error::forbidden(
            &path,
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    if !matches!(matching, "Exact" | "NotOlderThan") {
        errors.push(Error::not_supported(&path, matching, &["Exact", "NotOlderThan", ""]));
    }
    if matching == "Exact" && version == "0" {
        errors.push(Error::forbidden(
            &path,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(StatusError::invalid("meta.k8s.io", "ListOptions", "", &errors))
}

/// 400 for a resource version that is not a number.
pub fn invalid_version(text: &str) -> StatusError {
    let path = Path::new("resourceVersion");
    let detail = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
    let error = Error::invalid(&path, text, &detail);
    StatusError::bad_request(error.to_string())
}

/// 504 for a resource version from the future.
pub fn too_large(wanted: u64, newest: u64) -> StatusError {
    let mut error = StatusError::new(
        Reason::Timeout,
        format!("Too large resource version: {wanted}, current: {newest}"),
    );
    error.causes = vec![longshore_api::status::Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    }];
    error.retry_after_seconds = 1;
    error
}

fn expired_token() -> StatusError {
    StatusError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    )
}

fn encode_token(revision: u64, last: &[u8]) -> String {
    use base64::Engine as _;
    let start = format!("{}\0", String::from_utf8_lossy(last));
    let token = json!({ "v": "meta.k8s.io/v1", "rv": revision, "start": start });
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.to_string())
}

fn decode_token(token: &str) -> Result<(u64, Bytes), StatusError> {
    use base64::Engine as _;
    let bad = |why: &str| StatusError::bad_request(format!("continue key is not valid: {why}"));
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(token.trim_end_matches('='))
        .map_err(|e| bad(&e.to_string()))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| bad(&e.to_string()))?;
    if value["v"] != "meta.k8s.io/v1" {
        return Err(bad(&format!("server does not recognize this encoded version {}", value["v"])));
    }
    let revision = value["rv"].as_u64().filter(|r| *r > 0);
    let revision = revision
        .ok_or_else(|| bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"))?;
    let start = value["start"].as_str().and_then(|s| s.strip_suffix('\0'));
    let start = start.ok_or_else(|| bad("encoded start key invalid"))?;
    Ok((revision, Bytes::copy_from_slice(start.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_reject_noise() {
        let token = encode_token(42, b"default/a");
        let (revision, last) = decode_token(&token).expect("its own token");
        assert_eq!((revision, last.as_ref()), (42, &b"default/a"[..]));
        for bad in ["", "x", "e30", "bm90IGpzb24"] {
            assert_eq!(decode_token(bad).expect_err("noise").code, 400, "{bad}");
        }
    }
}
