//! WATCH: the initial state, the changes after it, bookmarks, and the end.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/watch.go

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use longshore_api::selector::FieldSelector;
use longshore_api::{Object, StatusError, gostruct};
use serde_json::Value;
use tokio::time::{Instant, Sleep};

use super::list_options::{self, ListOptions};
use super::negotiate::{self, Format, Negotiated, Shape};
use super::{Api, Call, read, respond, selected, table};
use crate::body::Body;
use crate::cache::{Change, ChangeKind, Entry, Receiver, WatchRefused};
use crate::custom::convert;
use crate::limits::{self, WatchPlace};
use crate::registry::{Served, show_all, show_change};

/// How often an open watch is told how far it has come.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/storage/cacher defaultBookmarkFrequency
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// The shortest time a watch without `timeoutSeconds` lasts; up to twice as long by chance.
const TIMEOUT_MIN: Duration = Duration::from_secs(1800);
/// The longest time a watch lasts, whatever is asked for.
const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Frames put together into one chunk of the response.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// The annotation of the bookmark that ends the initial events.
pub const INITIAL_END: &str = "k8s.io/initial-events-end";
/// How long before its end a watch is told for the last time how far it has come.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/storage/cacher/cache_watcher.go nextBookmarkTime
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// Answers WATCH.
pub async fn watch(call: &Call) -> Result<Response<Body>, StatusError> {
    let mut options = ListOptions::of(&call.served, &call.info)?;
    let wanted = list_options::parse_version(&options.version).map_err(read::unexpected)?;
    let table = match call.negotiated.shape {
        Shape::Table => Some(table::Include::parse(call.info.param("includeObject"))?),
        _ => None,
    };
    let Some(media_type) = call.negotiated.format.stream_media_type() else {
        let cbor = call.api.cbor;
        return Err(negotiate::not_acceptable(&negotiate::stream_media_types(cbor)));
    };
    let fields = selected::late(&call.served, &mut options.interest);
    let Ok(place) = call.api.watches.enter(&call.user.name) else {
        return Ok(limits::too_many_requests());
    };
    let deadline = Instant::now() + timeout(call, &options);
    let opened = open(call, &options, wanted).await;
    let next_bookmark = options.bookmarks.then(|| next_bookmark(Instant::now(), deadline));
    let mut session = Box::new(Session {
        api: call.api.clone(),
        served: call.served.clone(),
        _place: place,
        negotiated: call.negotiated.clone(),
        include: table.unwrap_or(table::Include::Metadata),
        source: None,
        fields,
        state: Vec::new().into_iter(),
        initial_end: None,
        after: wanted,
        next_bookmark,
        deadline,
        timer: Box::pin(tokio::time::sleep_until(
            next_bookmark.map_or(deadline, |at| at.min(deadline)),
        )),
        headings: true,
        error: None,
    });
    match opened {
        // What goes wrong from here on is told in the stream.
        Err(error) => session.error = Some(error),
        Ok(start) => {
            session.source = Some(start.receiver);
            session.state = start.state.into_iter();
            let ends = options.initial_events == Some(true) && options.bookmarks;
            session.initial_end = ends.then(|| start.revision.max(start.applied));
        }
    }
    let frames = stream::unfold(session, |mut session| async move {
        let chunk = session.chunk().await?;
        Some((Ok(Frame::data(chunk)), session))
    });
    let mut response = respond::bytes(200, media_type, Bytes::new());
    *response.body_mut() = crate::body::stream(frames);
    Ok(response)
}

/// What a watch starts with.
struct Start {
    receiver: Receiver,
    state: Vec<Arc<Entry>>,
    /// The revision of the newest change to the resource in the state.
    revision: u64,
    /// The revision up to which the state is complete.
    applied: u64,
}

async fn open(call: &Call, options: &ListOptions, wanted: u64) -> Result<Start, StatusError> {
    let hub = call.api.registry.hub();
    let state_first = options.initial_events.unwrap_or(wanted == 0);
    if options.version != "0" {
        let newest = hub.fresh().await.map_err(StatusError::internal)?;
        if state_first && wanted > newest {
            return Err(read::too_large(wanted, newest));
        }
    }
    let applied = hub.applied();
    let interest = &options.interest;
    let after = (!state_first && wanted > 0).then_some(wanted);
    let (receiver, present, revision) =
        call.served.cache.watch(after, interest.clone()).map_err(|why| refused(&why, wanted))?;
    let state = if state_first { present.select(interest) } else { Vec::new() };
    Ok(Start { receiver, state, revision, applied })
}

fn timeout(call: &Call, options: &ListOptions) -> Duration {
    if options.timeout_seconds > 0 {
        return Duration::from_secs(options.timeout_seconds.min(TIMEOUT_MAX.as_secs()));
    }
    TIMEOUT_MIN + Duration::from_secs(call.api.rng.u64() % TIMEOUT_MIN.as_secs())
}

fn next_bookmark(now: Instant, deadline: Instant) -> Instant {
    let regular = now + BOOKMARK_INTERVAL;
    match deadline.checked_sub(LAST_BOOKMARK) {
        Some(last) if last > now && regular > last => last,
        _ => regular,
    }
}

fn refused(why: &WatchRefused, wanted: u64) -> StatusError {
    match why {
        WatchRefused::TooOld { oldest } => {
            StatusError::expired(format!("too old resource version: {wanted} ({oldest})"))
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
    _place: WatchPlace,
    negotiated: Negotiated,
    include: table::Include,
    /// Where changes come from; `None` when the watch has ended.
    source: Option<Receiver>,
    /// What of converted objects is selected.
    fields: Option<FieldSelector>,
    state: std::vec::IntoIter<Arc<Entry>>,
    /// The revision to tell when the state has been sent.
    initial_end: Option<u64>,
    /// Changes up to this revision are not told.
    after: u64,
    /// When it is told how far it has come; never if it did not ask for it.
    next_bookmark: Option<Instant>,
    deadline: Instant,
    /// Goes off at the next bookmark, or else at the deadline.
    timer: Pin<Box<Sleep>>,
    headings: bool,
    /// What ends the watch.
    error: Option<StatusError>,
}

impl Session {
    /// The next part of the stream; `None` at its end.
    async fn chunk(&mut self) -> Option<Bytes> {
        if let Some(error) = self.error.take() {
            self.source = None;
            return Some(self.encode("ERROR", &error.to_value()));
        }
        let mut chunk = Vec::new();
        while self.served.converter.is_some()
            && chunk.is_empty()
            && !self.state.as_slice().is_empty()
        {
            // Webhooks are sent many at once.
            let some = self.state.by_ref().take(convert::BATCH_MAX);
            let objects = some.map(|entry| entry.object()).collect();
            match show_all(&self.served, objects).await {
                Ok(objects) => {
                    for object in objects {
                        if !self.selects(&object) {
                            continue;
                        }
                        let value = self.shaped(object);
                        chunk.extend_from_slice(&self.encode(ChangeKind::Added.name(), &value));
                    }
                }
                Err(error) => chunk.extend_from_slice(&self.broken(&error)),
            }
        }
        while self.served.converter.is_none() && chunk.len() < CHUNK_BYTES_MAX {
            let Some(entry) = self.state.next() else { break };
            let frame = self.entry_frame(ChangeKind::Added, &entry).await;
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
        loop {
            let source = self.source.as_mut()?;
            let next = tokio::select! {
                biased;
                next = source.next() => next,
                () = &mut self.timer => {
                    let now = Instant::now();
                    if now >= self.deadline || self.next_bookmark.is_none() {
                        return None;
                    }
                    let next = next_bookmark(now, self.deadline);
                    self.next_bookmark = Some(next);
                    self.timer.as_mut().reset(next.min(self.deadline));
                    return Some(self.progress().await);
                }
            };
            let Some((kind, change)) = next else {
                self.source = None;
                // A resource that is not served any more has no more to tell.
                if self.served.cache.is_closed() {
                    return None;
                }
                let gone = StatusError::expired("the watch was too slow and was cut off");
                return Some(self.encode("ERROR", &gone.to_value()));
            };
            if change.revision <= self.after {
                continue;
            }
            let Some(first) = self.told(kind, &change).await else { continue };
            let Some(second) = self.queued().await else { return Some(first) };
            let mut chunk = first.to_vec();
            chunk.extend_from_slice(&second);
            while chunk.len() < CHUNK_BYTES_MAX {
                let Some(frame) = self.queued().await else { break };
                chunk.extend_from_slice(&frame);
            }
            return Some(chunk.into());
        }
    }

    /// The next change that is there now.
    async fn queued(&mut self) -> Option<Bytes> {
        loop {
            let (kind, change) = self.source.as_mut()?.try_next()?;
            if change.revision > self.after
                && let Some(frame) = self.told(kind, &change).await
            {
                return Some(frame);
            }
        }
    }

    /// A bookmark at the revision up to which this watch has been told everything. The revision
    /// is read first: whatever was applied before it is already queued, and queued changes go out
    /// before the bookmark.
    async fn progress(&mut self) -> Bytes {
        let applied = self.api.registry.hub().applied();
        let mut chunk = Vec::new();
        while let Some(frame) = self.queued().await {
            chunk.extend_from_slice(&frame);
        }
        chunk.extend_from_slice(&self.bookmark(applied, false));
        chunk.into()
    }

    fn selects(&self, object: &Object) -> bool {
        let fields = self.fields.as_ref();
        fields.is_none_or(|fields| selected::matches(&self.served, fields, object))
    }

    /// A change as it is told; none when it does not concern what is selected.
    async fn told(&mut self, kind: ChangeKind, change: &Arc<Change>) -> Option<Bytes> {
        if self.fields.is_none() {
            return Some(self.change_frame(kind, change).await);
        }
        let before = change.previous.as_ref().filter(|_| kind != ChangeKind::Added);
        let after = (kind != ChangeKind::Deleted).then_some(&change.entry);
        let mut states = [None, None];
        for (state, entry) in states.iter_mut().zip([before, after]) {
            let Some(entry) = entry else { continue };
            match show_change(&self.served, entry.object()).await {
                Ok(object) => *state = Some(object).filter(|object| self.selects(object)),
                Err(error) => return Some(self.broken(&error)),
            }
        }
        let (kind, object) = match states {
            [None, None] => return None,
            [None, Some(new)] => (ChangeKind::Added, new),
            [Some(_), Some(new)] => (ChangeKind::Modified, new),
            [Some(mut old), None] => {
                old.set(&["metadata", "resourceVersion"], change.revision.to_string());
                (ChangeKind::Deleted, old)
            }
        };
        let value = self.shaped(object);
        Some(self.encode(kind.name(), &value))
    }

    async fn change_frame(&mut self, kind: ChangeKind, change: &Arc<Change>) -> Bytes {
        let plain =
            self.negotiated.format == Format::Json && self.negotiated.shape == Shape::Object;
        if plain && read::is_native(&self.served, &change.entry) {
            return change.frame(kind).clone();
        }
        self.entry_frame(kind, &change.shown(kind)).await
    }

    async fn entry_frame(&mut self, kind: ChangeKind, entry: &Entry) -> Bytes {
        match show_change(&self.served, entry.object()).await {
            Ok(object) => {
                let value = self.shaped(object);
                self.encode(kind.name(), &value)
            }
            Err(error) => self.broken(&error),
        }
    }

    /// What cannot be converted cannot be told, and nothing may be left out: the watch ends.
    fn broken(&mut self, error: &StatusError) -> Bytes {
        (self.source, self.initial_end) = (None, None);
        self.state = Vec::new().into_iter();
        self.encode("ERROR", &error.to_value())
    }

    fn shaped(&mut self, object: Object) -> Value {
        let version = self.negotiated.shape_version.as_str();
        match self.negotiated.shape {
            Shape::Object | Shape::Discovery => object.into_value(),
            Shape::Metadata => table::metadata_of(&object, version),
            // One object is no list: upstream then sends the object.
            Shape::MetadataList => object.into_value(),
            Shape::Table => {
                let options = table::Options {
                    version,
                    include: self.include,
                    headings: std::mem::take(&mut self.headings),
                    now: self.api.registry.now(),
                };
                let meta = table::meta_of(&object);
                let columns = table::Columns::Resource(&self.served.resource);
                table::of(columns, std::iter::once(object), meta, &options)
            }
        }
    }

    fn encode(&self, kind: &str, value: &Value) -> Bytes {
        match self.negotiated.format {
            Format::Protobuf => super::wire::encode_event(kind, value)
                .unwrap_or_else(|error| json_event("ERROR", &error.to_value())),
            Format::Cbor => longshore_api::cbor::encode_event(kind, value).into(),
            Format::Json | Format::Yaml => json_event(kind, value),
        }
    }

    fn bookmark(&mut self, revision: u64, initial_end: bool) -> Bytes {
        let gvk = self.served.resource.gvk();
        let mut object = Object::default();
        object.set(&["apiVersion"], gvk.api_version());
        object.set(&["kind"], gvk.kind.as_str());
        object.set(&["metadata", "resourceVersion"], revision.to_string());
        if initial_end {
            object.set(&["metadata", "annotations", INITIAL_END], "true");
        }
        if self.negotiated.shape == Shape::Object
            && let Some(model) = &self.served.resource.model
        {
            model.complete(&mut object);
            if let Some(ty) = model.as_type() {
                object.change(|value| gostruct::converted(ty, value));
            }
        }
        let value = self.shaped(object);
        self.encode("BOOKMARK", &value)
    }
}

fn json_event(kind: &str, value: &Value) -> Bytes {
    let mut event = format!("{{\"type\":\"{kind}\",\"object\":").into_bytes();
    longshore_api::json::write(&mut event, value);
    event.extend_from_slice(b"}\n");
    event.into()
}
