//! Events: what components tell people about objects. Repeated ones are counted, not repeated.
//!
//! upstream counterpart: staging/src/k8s.io/client-go/tools/record

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_base::rng::Rng;
use longshore_base::{Clock, Shutdown, TaskKind};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::client::{Client, Patch};
use crate::resource::EVENTS;

/// Events that may wait to be sent; more are dropped.
///
/// upstream: staging/src/k8s.io/client-go/tools/record/event.go maxQueuedEvents
const QUEUE_MAX: usize = 1000;
/// Distinct events that are remembered for counting.
const REMEMBERED_MAX: usize = 4096;
/// How long an event is counted under the same name.
const SAME_FOR: Duration = Duration::from_secs(600);

/// Whether an event is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something happened as it should.
    Normal,
    /// Something is wrong.
    Warning,
}

struct Event {
    about: Value,
    severity: Severity,
    reason: String,
    message: String,
    /// What was done; empty for events of the older form.
    action: &'static str,
    at: Timestamp,
}

/// Records events of one component. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Event>,
    clock: Arc<dyn Clock>,
}

impl EventRecorder {
    /// A recorder that writes with this client until shutdown. `host` is empty for components that
    /// are not bound to a node.
    pub fn new(
        client: Client,
        component: &str,
        host: &str,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        shutdown: Shutdown,
    ) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            client,
            component: component.to_owned(),
            host: host.to_owned(),
            rng,
            known: HashMap::new(),
        };
        longshore_base::spawn(TaskKind::Critical, "events", writer.run(receiver, shutdown));
        Self { queue, clock }
    }

    /// Tells something about an object. Never waits; when too many events are waiting, this one is
    /// dropped.
    pub fn event(&self, object: &Object, severity: Severity, reason: &str, message: &str) {
        self.event_about(reference(object), severity, reason, "", message);
    }

    /// Tells what was done with an object, in the form of `events.k8s.io`.
    pub fn action(
        &self,
        object: &Object,
        severity: Severity,
        reason: &str,
        action: &'static str,
        message: &str,
    ) {
        self.event_about(reference(object), severity, reason, action, message);
    }

    /// Tells something about a part of an object, given by `involvedObject`'s `fieldPath`.
    pub fn event_at(
        &self,
        object: &Object,
        field_path: &str,
        severity: Severity,
        reason: &str,
        message: &str,
    ) {
        let mut about = reference(object);
        about["fieldPath"] = field_path.into();
        self.event_about(about, severity, reason, "", message);
    }

    fn event_about(
        &self,
        about: Value,
        severity: Severity,
        reason: &str,
        action: &'static str,
        message: &str,
    ) {
        let event = Event {
            about,
            severity,
            reason: reason.to_owned(),
            message: message.to_owned(),
            action,
            at: self.clock.now(),
        };
        if self.queue.try_send(event).is_err() {
            tracing::warn!(reason, message, "too many events are waiting, one is dropped");
        }
    }
}

/// An `ObjectReference` to an object.
pub fn reference(object: &Object) -> Value {
    let mut about = json!({
        "apiVersion": object.api_version(), "kind": object.kind(), "name": object.name(),
        "uid": object.uid(),
    });
    if !object.namespace().is_empty() {
        about["namespace"] = object.namespace().into();
    }
    if !object.resource_version().is_empty() {
        about["resourceVersion"] = object.resource_version().into();
    }
    about
}

/// An event that was written: it is counted up when it happens again.
struct Known {
    name: String,
    count: u32,
    last: Timestamp,
}

fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

struct Writer {
    client: Client,
    component: String,
    host: String,
    rng: Arc<dyn Rng>,
    known: HashMap<String, Known>,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Event>, shutdown: Shutdown) {
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = queue.recv() => event,
            };
            let Some(event) = event else { return };
            if let Err(error) = self.write(event).await {
                tracing::debug!(%error, "an event could not be written");
            }
        }
    }

    async fn write(&mut self, event: Event) -> Result<(), crate::error::Error> {
        let text = |key: &str| event.about[key].as_str().unwrap_or("").to_owned();
        let namespace = match text("namespace") {
            namespace if namespace.is_empty() => "default".to_owned(),
            namespace => namespace,
        };
        let key = format!(
            "{}/{}/{}/{}/{}/{}",
            text("uid"),
            text("name"),
            text("fieldPath"),
            event.reason,
            event.message,
            namespace
        );
        let at = event.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let same = i64::try_from(SAME_FOR.as_secs()).expect("a small number");
        if let Some(known) = self.known.get_mut(&key)
            && event.at.as_second() - known.last.as_second() < same
        {
            known.count += 1;
            known.last = event.at;
            let patch = Patch::Merge(if event.action.is_empty() {
                json!({ "count": known.count, "lastTimestamp": at })
            } else {
                json!({ "series": { "count": known.count, "lastObservedTime": micros(event.at) } })
            });
            let name = known.name.clone();
            match self.client.patch(EVENTS, &namespace, &name, "", &patch).await {
                Err(error) if error.is_not_found() => {} // it expired: write a new one
                outcome => return outcome.map(drop),
            }
        }
        let name = format!("{}.{:x}", text("name"), self.rng.u64());
        let severity = match event.severity {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        };
        let mut object = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": { "name": name, "namespace": namespace },
            "involvedObject": event.about, "reason": event.reason, "message": event.message,
            "type": severity, "reportingComponent": self.component,
            "reportingInstance": self.host,
        });
        if event.action.is_empty() {
            object["count"] = 1.into();
            object["firstTimestamp"] = at.as_str().into();
            object["lastTimestamp"] = at.as_str().into();
            object["source"] = json!({ "component": self.component });
            if !self.host.is_empty() {
                object["source"]["host"] = self.host.as_str().into();
            }
        } else {
            object["action"] = event.action.into();
            object["eventTime"] = micros(event.at).into();
            let instance = [self.component.as_str(), &self.host].join("-");
            object["reportingInstance"] = instance.trim_end_matches('-').into();
        }
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.insert(key, Known { name, count: 1, last: event.at });
        self.client.create(EVENTS, &object).await.map(drop)
    }
}
