//! The events of one request.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderMap};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use longshore_base::{Shutdown, TaskKind};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Audit;
use super::event::{Event, without_managers};
use super::policy::{Chosen, Level, Stage};
use crate::auth::UserInfo;
use crate::body::{Body, BodyError, full};
use crate::endpoints::respond::{Passed, Switched};

/// Bytes of an answer that is looked at for a `Status`.
const STATUS_BYTES_MAX: u64 = 64 << 10;
/// Bytes of an object that is written down; of a larger one only the rest of the event is.
const OBJECT_BYTES_MAX: u64 = 64 << 20;

/// What is written down of one request.
pub struct Trail {
    pub(super) audit: Arc<Audit>,
    pub(super) chosen: Chosen,
    pub(super) event: Mutex<Event>,
}

/// Where the trail of a request is kept while it runs. A request that is given up has an end, too.
#[derive(Default)]
pub struct Slot {
    trail: OnceLock<Arc<Trail>>,
    ended: AtomicBool,
}

impl Slot {
    /// Keeps a trail.
    pub fn keep(&self, trail: &Arc<Trail>) {
        self.trail.get_or_init(|| trail.clone());
    }

    /// Sends the last events, if there are any.
    pub async fn finish(&self, response: Response<Body>, end: End) -> Response<Body> {
        self.ended.store(true, Ordering::Relaxed);
        match self.trail.get() {
            Some(trail) => trail.clone().finish(response, end).await,
            None => response,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(trail) = self.trail.take().filter(|_| !self.ended.load(Ordering::Relaxed)) else {
            return;
        };
        trail.event.lock().status(&json!({
            "status": "Success", "message": "Connection closed early", "code": 200,
        }));
        trail.complete();
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an answer.
    Answer,
    /// With an answer that goes on for long.
    LongAnswer,
    /// With a failure of its handler.
    Panic,
}

impl Trail {
    /// Sends the event of a stage; false when the request must not go on.
    pub async fn stage(&self, stage: Stage) -> bool {
        if self.chosen.omit_stages.contains(&stage) {
            return true;
        }
        let event = self.event.lock().at(stage, self.audit.clock.now());
        let goes_on = self.audit.send(event).await;
        if !goes_on && stage == Stage::RequestReceived {
            self.audit.metrics.rejected();
        }
        goes_on
    }

    /// A text for the log. The first one of a key stands.
    pub fn annotate(&self, key: &str, value: &str) {
        self.event.lock().annotate(key, value);
    }

    /// Texts for logs, each from a level on.
    pub fn annotate_all(&self, annotations: &BTreeMap<String, (Level, String)>) {
        let mut event = self.event.lock();
        let wanted = annotations.iter().filter(|(_, (level, _))| *level <= self.chosen.level);
        wanted.for_each(|(key, (_, text))| event.annotate(key, text));
    }

    /// Whom the user acts as.
    pub fn impersonate(&self, user: &UserInfo) {
        self.event.lock().impersonate(user);
    }

    /// The body of a request.
    pub fn sent(&self, headers: &HeaderMap, bytes: &Bytes) {
        if bytes.is_empty() {
            return;
        }
        let Some(mut object) = read(headers, bytes) else { return };
        if self.chosen.omit_managed_fields {
            without_managers(&mut object);
        }
        self.event.lock().request(object, self.chosen.level);
    }

    /// The answer to a request for a resource, before it is packed. What it says of itself is taken
    /// from it, and what it brings, when that is wanted.
    pub async fn answered(&self, response: Response<Body>, may_be_status: bool) -> Response<Body> {
        let whole = self.chosen.level >= Level::RequestResponse && is_object(response.headers());
        self.look_into(response, may_be_status, whole).await
    }

    async fn look_into(
        &self,
        response: Response<Body>,
        may_be_status: bool,
        whole: bool,
    ) -> Response<Body> {
        let size = response.body().size_hint().exact();
        let small = size.is_some_and(|size| size <= STATUS_BYTES_MAX);
        let whole = whole && size.is_none_or(|size| size <= OBJECT_BYTES_MAX);
        let failed = response.status().as_u16() >= 400;
        if !(whole || (small && (failed || may_be_status))) {
            return response;
        }
        let (head, body) = response.into_parts();
        let bytes = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => return Response::from_parts(head, broken(error)),
        };
        let fits = u64::try_from(bytes.len()).is_ok_and(|size| size <= OBJECT_BYTES_MAX);
        if let Some(mut object) = read(&head.headers, &bytes).filter(|_| fits) {
            let mut event = self.event.lock();
            if object["kind"] == "Status" {
                event.status(&object);
            }
            if whole {
                if self.chosen.omit_managed_fields {
                    without_managers(&mut object);
                }
                event.response(object);
            }
        }
        Response::from_parts(head, full(bytes))
    }

    /// A request that did not say who it is.
    pub async fn refused(&self, code: u16, attempted: &str) {
        {
            let mut event = self.event.lock();
            event.status(&json!({ "message": attempted }));
            event.code(code);
        }
        self.stage(Stage::ResponseStarted).await;
    }

    /// Sends the last event when nobody waits for it.
    fn complete(self: Arc<Self>) {
        let ended = Shutdown::new();
        ended.cancel();
        self.complete_after(ended);
    }

    /// Sends the last event when something has ended, or everything does.
    fn complete_after(self: Arc<Self>, ended: Shutdown) {
        let audit = self.audit.clone();
        let stop = audit.stop.clone();
        let sending = audit.tasks.track_future(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = stop.cancelled() => {}
            }
            self.stage(Stage::ResponseComplete).await;
        });
        longshore_base::spawn(TaskKind::PerItem, "audit event", sending);
    }

    /// Sends the last events of a request.
    async fn finish(self: Arc<Self>, response: Response<Body>, end: End) -> Response<Body> {
        if end == End::Panic {
            self.event.lock().status(&json!({
                "status": "Failure", "reason": "InternalError", "code": 500,
                "message": "APIServer panic'd: the request handler failed unexpectedly",
            }));
            self.stage(Stage::Panic).await;
            return response;
        }
        // What another server answers may be long in coming, and is not about this one.
        let passed = response.extensions().get::<Passed>().is_some();
        let known = passed || self.event.lock().has_status();
        let response = if known { response } else { self.look_into(response, false, false).await };
        self.event.lock().code(response.status().as_u16());
        if end == End::Answer {
            self.stage(Stage::ResponseComplete).await;
            return response;
        }
        self.stage(Stage::ResponseStarted).await;
        if let Some(Switched(ended)) = response.extensions().get().cloned() {
            self.complete_after(ended);
            return response;
        }
        response.map(|body| Followed { body, trail: Some(self) }.boxed_unsync())
    }
}

fn broken(error: BodyError) -> Body {
    crate::body::stream(futures_util::stream::once(std::future::ready(Err(error))))
}

fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

/// Whether an answer is an object and not a stream of them, or text.
fn is_object(headers: &HeaderMap) -> bool {
    let stream = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.to_str().is_ok_and(|value| value.contains("stream=watch")));
    let known = [
        "application/json",
        "application/yaml",
        "application/cbor",
        "application/vnd.kubernetes.protobuf",
    ];
    !stream && known.contains(&media_type(headers))
}

/// The object in a body.
fn read(headers: &HeaderMap, bytes: &Bytes) -> Option<Value> {
    match media_type(headers) {
        "application/vnd.kubernetes.protobuf" => {
            longshore_api::protobuf::decode_object(bytes, ("", "")).ok()
        }
        kind if kind.contains("cbor") => longshore_api::cbor::decode(bytes).ok(),
        kind if kind.contains("yaml") => longshore_api::yaml::decode(bytes).ok(),
        _ => serde_json::from_slice(bytes).ok(),
    }
}

/// A body that tells when it has ended, however it does.
struct Followed {
    body: Body,
    trail: Option<Arc<Trail>>,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some(trail) = self.trail.take() {
            trail.complete();
        }
    }
}
