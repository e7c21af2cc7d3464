//! One open watch: what it is interested in, its bounded buffer, and the shared encoding of what
//! it is told.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use longshore_api::selector::{FieldSelector, LabelSelector};
use tokio::sync::mpsc;

use super::Entry;

/// What a watcher is told about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The object is new (to this watcher).
    Added,
    /// The object changed.
    Modified,
    /// The object is gone (for this watcher).
    Deleted,
}

impl ChangeKind {
    /// The event's `type` on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change of one object, shared by all watchers, with its encodings made at most once.
#[derive(Debug)]
pub struct Change {
    /// The revision of the change.
    pub revision: u64,
    /// The new state; for a deletion the last state with the revision of the deletion.
    pub entry: Arc<Entry>,
    /// The state before.
    pub previous: Option<Arc<Entry>>,
    /// Whether the object is gone.
    pub deleted: bool,
    frames: [OnceLock<Bytes>; 3],
}

impl Change {
    pub(super) fn put(entry: Arc<Entry>, previous: Option<Arc<Entry>>) -> Self {
        let revision = entry.revision;
        Self { revision, entry, previous, deleted: false, frames: Default::default() }
    }

    pub(super) fn deleted(previous: &Arc<Entry>, revision: u64) -> Self {
        Self {
            revision,
            entry: Arc::new(previous.at_revision(revision)),
            previous: Some(previous.clone()),
            deleted: true,
            frames: Default::default(),
        }
    }

    /// What a watcher is told that is interested in every change of the object.
    pub(super) fn seen_by_all(&self) -> ChangeKind {
        match (&self.previous, self.deleted) {
            (_, true) => ChangeKind::Deleted,
            (None, false) => ChangeKind::Added,
            (Some(_), false) => ChangeKind::Modified,
        }
    }

    /// What a watcher with this interest is told; `None` when it does not concern it.
    pub fn seen_by(&self, interest: &Interest) -> Option<ChangeKind> {
        let before = self.previous.as_ref().is_some_and(|e| interest.matches(e));
        let after = !self.deleted && interest.matches(&self.entry);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(ChangeKind::Added),
            (true, true) => Some(ChangeKind::Modified),
            (true, false) => Some(ChangeKind::Deleted),
        }
    }

    /// The object to show for a kind: an object that left the selection is shown as it last was
    /// in it, at the revision of the change.
    pub fn shown(&self, kind: ChangeKind) -> Arc<Entry> {
        match (&self.previous, kind) {
            (Some(previous), ChangeKind::Deleted) if !self.deleted => {
                Arc::new(previous.at_revision(self.revision))
            }
            _ => self.entry.clone(),
        }
    }

    /// The JSON watch frame, made once and shared.
    pub fn frame(&self, kind: ChangeKind) -> &Bytes {
        self.frames[kind as usize].get_or_init(|| {
            let entry = self.shown(kind);
            let mut frame = Vec::with_capacity(entry.json_bytes_max() + FRAME_BYTES);
            write_frame(&mut frame, kind, |out| entry.write_json(out));
            frame.into()
        })
    }
}

/// What a JSON watch frame has besides its object, in bytes.
const FRAME_BYTES: usize = 40;

/// Appends a JSON watch frame with its newline.
pub fn write_frame(out: &mut Vec<u8>, kind: ChangeKind, object: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.name().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object(out);
    out.extend_from_slice(b"}\n");
}

/// A JSON watch frame with its newline.
pub fn json_frame(kind: ChangeKind, object: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(object.len() + FRAME_BYTES);
    write_frame(&mut frame, kind, |out| out.extend_from_slice(object));
    frame.into()
}

/// Which objects a watch or list is about.
#[derive(Clone, Debug, Default)]
pub struct Interest {
    /// Only this namespace; empty for all.
    pub namespace: String,
    /// Only this name; empty for all.
    pub name: String,
    /// Labels; `None` for all.
    pub labels: Option<LabelSelector>,
    /// Fields; `None` for all.
    pub fields: Option<FieldSelector>,
}

impl Interest {
    /// Whether everything in the namespace, or everywhere without one, is selected.
    fn is_plain(&self) -> bool {
        self.name.is_empty() && self.labels.is_none() && self.fields.is_none()
    }

    /// The only name that can be selected.
    pub fn name(&self) -> Option<&str> {
        if self.name.is_empty() { self.equal("metadata.name") } else { Some(&self.name) }
    }

    /// The value that a field must have.
    pub fn equal(&self, field: &str) -> Option<&str> {
        let requirements = self.fields.as_ref().map_or(&[][..], |fields| fields.requirements());
        let found = requirements.iter().find(|r| r.equal && r.field == field);
        found.map(|r| r.value.as_str())
    }

    /// Whether an object is selected.
    pub fn matches(&self, entry: &Entry) -> bool {
        (self.namespace.is_empty() || self.namespace == entry.namespace())
            && (self.name.is_empty() || self.name == entry.name())
            && self.labels.as_ref().is_none_or(|s| s.matches(|key| entry.label(key)))
            && self
                .fields
                .as_ref()
                .is_none_or(|s| s.matches(|field| entry.field(field).unwrap_or("")))
    }
}

/// What waits for a watcher: a change, and what it is for this watcher.
type Told = (ChangeKind, Arc<Change>);

/// The cache's end of a watch.
pub(super) struct Sender {
    interest: Arc<Interest>,
    /// Whether it is interested in everything in its namespace, or everywhere.
    plain: bool,
    queue: mpsc::Sender<Told>,
}

/// The reader's end of a watch.
pub struct Receiver {
    /// What the watch is about.
    pub interest: Arc<Interest>,
    backlog: std::vec::IntoIter<Arc<Change>>,
    queue: mpsc::Receiver<Told>,
}

pub(super) fn channel(
    interest: Arc<Interest>,
    backlog: Vec<Arc<Change>>,
    buffer_max: usize,
) -> (Sender, Receiver) {
    let (sender, queue) = mpsc::channel(buffer_max);
    let receiver = Receiver { interest: interest.clone(), backlog: backlog.into_iter(), queue };
    let plain = interest.is_plain();
    (Sender { interest, plain, queue: sender }, receiver)
}

impl Sender {
    /// Queues a change in the watcher's namespace if it concerns it; `all` is what one is told that
    /// wants everything. False when the watcher is gone or too slow: it is dropped, and its stream
    /// ends.
    pub(super) fn offer(&self, change: &Arc<Change>, all: ChangeKind) -> bool {
        let seen = if self.plain { Some(all) } else { change.seen_by(&self.interest) };
        match seen {
            Some(kind) => self.queue.try_send((kind, change.clone())).is_ok(),
            None => self.is_open(),
        }
    }

    /// Whether somebody still listens.
    pub(super) fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }
}

impl Receiver {
    /// The next change that concerns the watcher; `None` when it was cut off for being too slow.
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<(ChangeKind, Arc<Change>)> {
        match self.missed() {
            Some(told) => Some(told),
            None => self.queue.recv().await,
        }
    }

    /// The next change if one is there now.
    pub fn try_next(&mut self) -> Option<(ChangeKind, Arc<Change>)> {
        self.missed().or_else(|| self.queue.try_recv().ok())
    }

    fn missed(&mut self) -> Option<Told> {
        let interest = &self.interest;
        self.backlog.find_map(|change| change.seen_by(interest).map(|kind| (kind, change)))
    }
}
