//! GET of one object and LIST.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/get.go

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use longshore_api::{Object, Reason, StatusError};
use serde_json::{Value, json};

use super::continue_token::ContinueToken;
use super::list_options::{ListOptions, parse_version};
use super::negotiate::{Format, Negotiated, Shape};
use super::{Call, list_body, respond, selected, table};
use crate::body::Body;
use crate::cache::{Candidates, Entry, ResourceCache, Snapshot, range};
use crate::registry::{Served, Stored, show_all};

/// Answers GET of one object.
pub async fn get(call: &Call) -> Result<Response<Body>, StatusError> {
    at_least(call, call.info.param("resourceVersion")).await?;
    let entry = call.api.registry.get(&call.served, &call.info.namespace, &call.info.name).await?;
    if let Some(response) = stored(call, 200, &entry) {
        return Ok(response);
    }
    Ok(object(call, 200, call.shown(&entry).await?))
}

/// An error that upstream does not expect where it finds it: 500 without a reason.
pub fn unexpected(error: StatusError) -> StatusError {
    StatusError::new(Reason::Unknown, error.message)
}

/// Checks that the state a request wants has been reached.
async fn at_least(call: &Call, version: &str) -> Result<(), StatusError> {
    let wanted = parse_version(version).map_err(unexpected)?;
    if wanted == 0 {
        return Ok(());
    }
    let newest = call.api.registry.hub().fresh().await.map_err(StatusError::internal)?;
    if wanted > newest { Err(too_large(wanted, newest)) } else { Ok(()) }
}

/// The canonical bytes of an entry, where they fit what is asked for.
fn stored(call: &Call, code: u16, entry: &Entry) -> Option<Response<Body>> {
    let fits = canonical(&call.negotiated) && is_native(&call.served, entry);
    fits.then(|| respond::bytes(code, "application/json", entry.json_line()))
}

/// An object that was written, in the negotiated format and shape.
pub fn written(call: &Call, stored: Stored) -> Response<Body> {
    let code = if stored.created { 201 } else { 200 };
    let bytes = stored.entry.as_ref().and_then(|entry| self::stored(call, code, entry));
    bytes.unwrap_or_else(|| object(call, code, stored.object))
}

/// An object in the negotiated format and shape.
pub fn object(call: &Call, code: u16, object: Object) -> Response<Body> {
    match shaped(call, object) {
        Ok(value) => respond::value(code, &call.negotiated, &value),
        Err(refused) => respond::failure(&call.negotiated, &refused),
    }
}

fn shaped(call: &Call, object: Object) -> Result<Value, StatusError> {
    let negotiated = &call.negotiated;
    let version = &negotiated.shape_version;
    match negotiated.shape {
        Shape::Object | Shape::Discovery => Ok(object.into_value()),
        Shape::Metadata => Ok(table::metadata_of(&object, version)),
        Shape::MetadataList => Err(table::not_a_list(&call.served, &object)),
        Shape::Table => {
            let meta = table::meta_of(&object);
            let columns = table::Columns::of(&call.served.resource, &object);
            Ok(table::of(columns, std::iter::once(object), meta, &table_options(call)?))
        }
    }
}

fn table_options(call: &Call) -> Result<table::Options<'_>, StatusError> {
    Ok(table::Options {
        version: &call.negotiated.shape_version,
        include: table::Include::parse(call.info.param("includeObject"))?,
        headings: true,
        now: call.now,
    })
}

fn canonical(negotiated: &Negotiated) -> bool {
    negotiated.format == Format::Json && negotiated.shape == Shape::Object && !negotiated.pretty
}

/// Whether an entry was stored in the version that is asked for.
pub fn is_native(served: &Served, entry: &Entry) -> bool {
    entry.is_of_version(&served.api_version)
}

/// One page of a list.
pub struct Page {
    /// What is on it.
    pub entries: Vec<Arc<Entry>>,
    /// Its list metadata.
    pub meta: Value,
}

/// Answers LIST.
pub async fn list(call: &Call) -> Result<Response<Body>, StatusError> {
    let options = ListOptions::of(&call.served, &call.info)?;
    let page = page(call, &options).await?;
    collection(call, page.meta, page.entries).await
}

/// A list of entries in the negotiated format and shape.
pub async fn collection(
    call: &Call,
    meta: Value,
    entries: Vec<Arc<Entry>>,
) -> Result<Response<Body>, StatusError> {
    let served = &call.served;
    if canonical(&call.negotiated) && served.converter.is_none() {
        let mut response = respond::bytes(200, "application/json", Bytes::new());
        *response.body_mut() = list_body::body(served, &meta, entries);
        return Ok(response);
    }
    let objects = entries.iter().map(|entry| entry.object()).collect();
    let objects = show_all(served, objects).await?.into_iter();
    let version = &call.negotiated.shape_version;
    let value = match call.negotiated.shape {
        Shape::Table => {
            let columns = table::Columns::Resource(&served.resource);
            table::of(columns, objects, meta, &table_options(call)?)
        }
        Shape::Metadata => return Err(table::is_a_list(served)),
        Shape::MetadataList => json!({
            "apiVersion": format!("meta.k8s.io/{version}"),
            "kind": "PartialObjectMetadataList",
            "metadata": meta,
            "items": objects.map(|o| table::metadata_of(&o, version)).collect::<Vec<_>>(),
        }),
        Shape::Object | Shape::Discovery => json!({
            "apiVersion": served.resource.gvk().api_version(),
            "kind": served.resource.list_kind(),
            "metadata": meta,
            "items": objects.map(|object| list_item(served, object)).collect::<Vec<_>>(),
        }),
    };
    Ok(respond::value(200, &call.negotiated, &value))
}

/// Items of a list do not repeat their kind; custom objects always tell it.
pub fn list_item(served: &Served, mut object: longshore_api::Object) -> Value {
    if served.resource.custom.is_none() {
        object.remove(&["apiVersion"]);
        object.remove(&["kind"]);
    }
    object.into_value()
}

/// The page that a list asks for.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/storage/interfaces.go ValidateListOptions,
/// storage/cacher/cacher.go GetList
pub async fn page(call: &Call, options: &ListOptions) -> Result<Page, StatusError> {
    let mut wider = options.clone();
    let Some(fields) = selected::late(&call.served, &mut wider.interest) else {
        return stored_page(call, options).await;
    };
    // All of it is one page: how many are selected is not known before.
    (wider.limit, wider.token) = (0, String::new());
    let mut page = stored_page(call, &wider).await?;
    let objects = page.entries.iter().map(|entry| entry.object()).collect();
    let mut objects = show_all(&call.served, objects).await?.into_iter();
    page.entries.retain(|_| {
        objects.next().is_some_and(|object| selected::matches(&call.served, &fields, &object))
    });
    Ok(page)
}

async fn stored_page(call: &Call, options: &ListOptions) -> Result<Page, StatusError> {
    let interest = &options.interest;
    let namespace = interest.namespace.as_str();
    // One object has no pages.
    let pages = interest.name.is_empty();
    let token = if pages && !options.token.is_empty() {
        let token = ContinueToken::decode(&options.token, namespace)?;
        if !matches!(options.version.as_str(), "" | "0") {
            return Err(StatusError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        Some(token)
    } else {
        None
    };
    let present = call.api.registry.hub().applied();
    let limit = if pages { options.limit } else { 0 };
    let (candidates, revision) = match &token {
        Some(ContinueToken { revision: Some(revision), .. }) => {
            let state = state_at(call, *revision).await?;
            let state = state.ok_or_else(|| expired_token(&options.token))?;
            (Candidates::All(state), *revision)
        }
        Some(_) => newest(call, all).await?,
        None => state_for(call, options).await?,
    };
    let (snapshot, revision) = match candidates {
        Candidates::All(snapshot) => (snapshot, revision),
        Candidates::Few(entries) if limit == 0 || entries.len() < limit => {
            let meta = json!({ "resourceVersion": revision.to_string() });
            return Ok(Page { entries: Candidates::Few(entries).select(interest), meta });
        }
        // There may be more pages: all has to be kept for them.
        Candidates::Few(_) => at_present(call, ResourceCache::snapshot),
    };
    let start = token.as_ref().map(|token| token.start.as_slice());
    let mut entries = Vec::new();
    let mut items = range(&snapshot, namespace, start);
    let mut last: Option<&Bytes> = None;
    for (path, entry) in items.by_ref().filter(|(_, entry)| interest.matches(entry)) {
        entries.push(entry.clone());
        if entries.len() == limit {
            last = Some(path);
            break;
        }
    }
    let mut meta = json!({ "resourceVersion": revision.to_string() });
    if let Some(last) = last {
        // What is not selected counts, too: whether there is more is known without reading it.
        let remaining = items.count();
        if remaining > 0 {
            call.api.pins.put(call.served.cache.prefix(), revision, &snapshot, present);
            meta["continue"] = ContinueToken::after(last, namespace, revision).into();
            if !options.is_selective() {
                meta["remainingItemCount"] = remaining.into();
            }
        }
    }
    Ok(Page { entries, meta })
}

/// The newest state, with everything that was written before the request.
async fn newest<T>(
    call: &Call,
    read: impl FnOnce(&ResourceCache) -> (T, u64),
) -> Result<(T, u64), StatusError> {
    let hub = call.api.registry.hub();
    hub.fresh().await.map_err(StatusError::internal)?;
    Ok(at_present(call, read))
}

fn at_present<T>(call: &Call, read: impl FnOnce(&ResourceCache) -> (T, u64)) -> (T, u64) {
    // The caches' revision is taken first: everything up to it is in the state.
    let applied = call.api.registry.hub().applied();
    let (state, revision) = read(&call.served.cache);
    (state, applied.max(revision))
}

fn all(cache: &ResourceCache) -> (Candidates, u64) {
    let (snapshot, revision) = cache.snapshot();
    (Candidates::All(snapshot), revision)
}

/// The state at a revision; `None` when it is no longer kept.
async fn state_at(call: &Call, revision: u64) -> Result<Option<Snapshot>, StatusError> {
    let newest = call.api.registry.hub().fresh().await.map_err(StatusError::internal)?;
    if revision > newest {
        return Err(too_large(revision, newest));
    }
    if let Some(pinned) = call.api.pins.get(call.served.cache.prefix(), revision) {
        return Ok(Some(pinned));
    }
    // The cache of a resource that changes seldom reaches back further than clients may ask.
    let readable = call.api.registry.hub().readable(revision).await;
    Ok(if readable.map_err(StatusError::internal)? { call.served.cache.at(revision) } else { None })
}

/// The state a list is answered from, by `resourceVersion` and `resourceVersionMatch`.
async fn state_for(call: &Call, options: &ListOptions) -> Result<(Candidates, u64), StatusError> {
    let read = |cache: &ResourceCache| cache.candidates(&options.interest);
    let wanted = parse_version(&options.version).map_err(|error| {
        StatusError::bad_request(format!("invalid resource version: {}", error.message))
    })?;
    let pages = options.limit > 0 && options.interest.name.is_empty();
    let exact = match options.matching.as_str() {
        "Exact" => true,
        "" => pages && wanted > 0,
        _ => false,
    };
    if exact {
        let state = state_at(call, wanted).await?;
        let state = state.ok_or_else(|| {
            StatusError::expired("The resourceVersion for the provided list is too old.")
        })?;
        return Ok((Candidates::All(state), wanted));
    }
    if options.version == "0" {
        return Ok(at_present(call, read));
    }
    let (state, revision) = newest(call, read).await?;
    if wanted > revision {
        return Err(too_large(wanted, revision));
    }
    Ok((state, revision))
}

/// 504 for a resource version from the future.
pub fn too_large(wanted: u64, newest: u64) -> StatusError {
    let mut error = StatusError::new(
        Reason::Timeout,
        format!("Timeout: Too large resource version: {wanted}, current: {newest}"),
    );
    error.causes = vec![longshore_api::status::Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    }];
    error.retry_after_seconds = 1;
    error
}

/// 410 with a token that goes on in the newest state.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/storage/etcd3/errors.go handleCompactedErrorForPaging
fn expired_token(token: &str) -> StatusError {
    let mut error = StatusError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    error.continue_token = ContinueToken::in_newest_state(token).unwrap_or_default();
    error
}
