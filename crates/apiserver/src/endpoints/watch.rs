//! WATCH: the initial state, the changes after it, bookmarks, and the end.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/watch.go

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use longshore_api::field::{Error, Path};
use longshore_api::{Object, StatusError};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::negotiate::{Format, Negotiated, Shape};
use super::{Api, Call, read, respond, table};
use crate::body::Body;
use crate::cache::{Change, ChangeKind, Entry, Receiver, WatchRefused, range, watcher::json_frame};
use crate::registry::Served;

/// How often an open watch is told how far it has come.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/storage/cacher defaultBookmarkFrequency
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// The shortest time a watch without `timeoutSeconds` lasts; up to twice as long by chance.
const TIMEOUT_MIN: Duration = Duration::from_secs(1800);
/// Frames put together into one chunk of the response.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Answers WATCH.
pub async fn watch(call: &Call) -> Result<Response<Body>, StatusError> {
    let interest = read::interest(&call.served, &call.info)?;
    let version = call.info.param("resourceVersion");
    let initial = initial_events(call)?;
    let hub = call.api.registry.hub();
    let after = match version {
        "" | "0" => None,
        text => Some(text.parse::<u64>().map_err(|_| read::invalid_version(text))?),
    };
    if version != "0" {
        let newest = hub.fresh().await.map_err(StatusError::internal)?;
        if let Some(wanted) = after.filter(|wanted| *wanted > newest) {
            return Err(read::too_large(wanted, newest));
        }
    }
    let applied = hub.applied();
    let start = if initial == Some(true) { None } else { after };
    let (receiver, snapshot, revision) =
        call.served.cache.watch(start, interest.clone()).map_err(refused)?;
    let with_state = initial.unwrap_or(after.is_none());
    let state: Vec<Arc<Entry>> = if with_state {
        range(&snapshot, &interest.namespace, None)
            .filter(|(_, entry)| interest.matches(entry))
            .map(|(_, entry)| entry.clone())
            .collect()
    } else {
        Vec::new()
    };
    let bookmarks = call.info.flag("allowWatchBookmarks");
    let session = Session {
        api: call.api.clone(),
        served: call.served.clone(),
        negotiated: call.negotiated.clone(),
        include: call.info.param("includeObject").to_owned(),
        receiver,
        state: state.into_iter(),
        initial_end: (initial == Some(true) && bookmarks).then(|| applied.max(revision)),
        bookmarks,
        next_bookmark: Instant::now() + BOOKMARK_INTERVAL,
        deadline: Instant::now() + timeout(call)?,
        headings: true,
        ended: false,
    };
    let frames = stream::unfold(session, |mut session| async move {
        let chunk = session.chunk().await?;
        Some((Ok(Frame::data(chunk)), session))
    });
    let mut response = respond::bytes(200, stream_media_type(&call.negotiated), Bytes::new());
    *response.body_mut() = crate::body::stream(frames);
    Ok(response)
}

fn stream_media_type(negotiated: &Negotiated) -> &'static str {
    match negotiated.format {
        Format::Json => "application/json",
        Format::Yaml => "application/yaml",
        Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
    }
}

/// Whether the state comes first: `sendInitialEvents` with its rules.
fn initial_events(call: &Call) -> Result<Option<bool>, StatusError> {
    let info = &call.info;
    let given = info.query.contains_key("sendInitialEvents");
    let matching = info.param("resourceVersionMatch");
    let mut errors = Vec::new();
    let path = Path::new("resourceVersionMatch");
    if given && matching != "NotOlderThan" {
        if matching.is_empty() {
            errors.push(Error::forbidden(
                &path,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        } else {
            errors.push(Error::not_supported(&path, matching, &["NotOlderThan"]));
        }
    }
    if !given && !matching.is_empty() {
        errors.push(Error::forbidden(
            &path,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ));
    }
    if !errors.is_empty() {
        return Err(StatusError::invalid("meta.k8s.io", "ListOptions", "", &errors));
    }
    Ok(given.then(|| info.flag("sendInitialEvents")))
}

fn timeout(call: &Call) -> Result<Duration, StatusError> {
    match call.info.param("timeoutSeconds") {
        "" | "0" => {
            let spread = call.api.rng.u64() % TIMEOUT_MIN.as_secs();
            Ok(TIMEOUT_MIN + Duration::from_secs(spread))
        }
        text => text.parse().map(Duration::from_secs).map_err(|_| {
            StatusError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        }),
    }
}

fn refused(why: WatchRefused) -> StatusError {
    match why {
        WatchRefused::TooOld { oldest } => {
            StatusError::expired(format!("too old resource version: the oldest is {oldest}"))
        }
        WatchRefused::TooMany => {
            let mut error = StatusError::new(
                longshore_api::Reason::TooManyRequests,
                "too many watches are open, please try again later",
            );
            error.retry_after_seconds = 5;
            error
        }
    }
}

/// One open watch.
struct Session {
    api: Arc<Api>,
    served: Arc<Served>,
    negotiated: Negotiated,
    include: String,
    receiver: Receiver,
    state: std::vec::IntoIter<Arc<Entry>>,
    /// The revision to tell when the state has been sent.
    initial_end: Option<u64>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    headings: bool,
    ended: bool,
}

impl Session {
    /// The next part of the stream; `None` at its end.
    async fn chunk(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_BYTES_MAX {
            let Some(entry) = self.state.next() else { break };
            let frame = self.entry_frame(ChangeKind::Added, &entry);
            chunk.extend_from_slice(&frame);
        }
        if !chunk.is_empty() {
            return Some(chunk.into());
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(self.bookmark(revision, true));
        }
        self.changes().await
    }

    async fn changes(&mut self) -> Option<Bytes> {
        let next = tokio::select! {
            biased;
            next = self.receiver.next() => next,
            () = tokio::time::sleep_until(self.deadline) => return None,
            () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                self.next_bookmark = Instant::now() + BOOKMARK_INTERVAL;
                return Some(self.progress());
            }
        };
        let Some((kind, change)) = next else {
            self.ended = true;
            let gone = StatusError::expired("the watch was too slow and was cut off");
            return Some(error_frame(&gone));
        };
        let first = self.change_frame(kind, &change);
        let Some((kind, change)) = self.receiver.try_next() else { return Some(first) };
        let mut chunk = first.to_vec();
        chunk.extend_from_slice(&self.change_frame(kind, &change));
        while chunk.len() < CHUNK_BYTES_MAX {
            let Some((kind, change)) = self.receiver.try_next() else { break };
            chunk.extend_from_slice(&self.change_frame(kind, &change));
        }
        Some(chunk.into())
    }

    /// A bookmark at the revision up to which this watch has been told everything. The revision
    /// is read first: whatever was applied before it is already queued, and queued changes go out
    /// before the bookmark.
    fn progress(&mut self) -> Bytes {
        let applied = self.api.registry.hub().applied();
        let mut chunk = Vec::new();
        while let Some((kind, change)) = self.receiver.try_next() {
            chunk.extend_from_slice(&self.change_frame(kind, &change));
        }
        chunk.extend_from_slice(&self.bookmark(applied, false));
        chunk.into()
    }

    fn change_frame(&mut self, kind: ChangeKind, change: &Arc<Change>) -> Bytes {
        let plain =
            self.negotiated.format == Format::Json && self.negotiated.shape == Shape::Object;
        if plain && read::is_native(&self.served, &change.entry) {
            return change.frame(kind).clone();
        }
        self.entry_frame(kind, &change.shown(kind))
    }

    fn entry_frame(&mut self, kind: ChangeKind, entry: &Entry) -> Bytes {
        let object = super::shown(&self.served, entry.object());
        let value = match self.negotiated.shape {
            Shape::Object => object.into_value(),
            Shape::Metadata => table::metadata_of(&object, &self.negotiated.shape_version),
            Shape::Table => {
                let headings = std::mem::take(&mut self.headings);
                table::of(
                    &self.served.resource,
                    std::iter::once(object),
                    json!({}),
                    &self.negotiated,
                    &self.include,
                    self.api.registry.now(),
                    headings,
                )
            }
        };
        self.encode(kind.name(), &value)
    }

    fn encode(&self, kind: &str, value: &Value) -> Bytes {
        match self.negotiated.format {
            Format::Protobuf => {
                super::wire::encode_event(kind, value).unwrap_or_else(|error| error_frame(&error))
            }
            Format::Json if kind == "BOOKMARK" => {
                format!("{}\n", json!({ "type": kind, "object": value })).into()
            }
            Format::Json => match kind {
                "ADDED" => json_frame(ChangeKind::Added, value.to_string().as_bytes()),
                "MODIFIED" => json_frame(ChangeKind::Modified, value.to_string().as_bytes()),
                _ => json_frame(ChangeKind::Deleted, value.to_string().as_bytes()),
            },
            Format::Yaml => {
                longshore_api::yaml::encode(&json!({ "type": kind, "object": value })).into()
            }
        }
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Bytes {
        let mut object = Object::default();
        object.set(&["metadata", "resourceVersion"], revision.to_string());
        if initial_end {
            object.set(&["metadata", "annotations", "k8s.io/initial-events-end"], "true");
        }
        let value = match self.negotiated.shape {
            Shape::Object => {
                let gvk = self.served.resource.gvk();
                object.set(&["apiVersion"], gvk.api_version());
                object.set(&["kind"], gvk.kind.as_str());
                object.set(&["metadata", "creationTimestamp"], Value::Null);
                object.into_value()
            }
            Shape::Metadata => table::metadata_of(&object, &self.negotiated.shape_version),
            Shape::Table => json!({
                "kind": "Table",
                "apiVersion": format!("meta.k8s.io/{}", self.negotiated.shape_version),
                "metadata": object.get(&["metadata"]), "columnDefinitions": [], "rows": [],
            }),
        };
        self.encode("BOOKMARK", &value)
    }
}

fn error_frame(error: &StatusError) -> Bytes {
    format!("{}\n", json!({ "type": "ERROR", "object": error.to_value() })).into()
}
