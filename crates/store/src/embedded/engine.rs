//! The durable part behind a small seam: the log in production, a faulty one in tests.

use bytes::Bytes;

use super::OpenError;
use crate::{Error, Revision};

/// One change as the engine keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Bytes,
    /// The new value; `None` for a deletion.
    pub value: Option<Bytes>,
    /// Its revision.
    pub revision: Revision,
    /// When the key ends, in milliseconds since 1970.
    pub expires_at: Option<i64>,
}

/// What an engine holds when it is opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Changes in revision order: at least the newest of every live key and all above the floor.
    pub changes: Vec<Change>,
    /// The compaction floor.
    pub floor: Revision,
    /// The newest revision ever committed.
    pub newest: Revision,
}

/// A change that is below the floor and was superseded, or a deletion below the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Garbage {
    /// Its revision.
    pub revision: Revision,
    /// What it takes on disk, about.
    pub bytes: u64,
}

impl Garbage {
    /// What a change with such a key and value leaves.
    pub fn new(revision: Revision, key: &[u8], value: Option<&[u8]>) -> Self {
        /// What a change takes besides its key and value.
        const FIXED_BYTES: usize = 17;
        Self { revision, bytes: (FIXED_BYTES + key.len() + value.map_or(0, <[u8]>::len)) as u64 }
    }
}

/// Durable storage of changes. One thread uses it. After [`Error::NoSpace`] everything is as it was
/// before the call; after any other error it is not used again.
pub trait Engine: Send {
    /// Reads everything; called once, first.
    fn load(&mut self) -> Result<Loaded, OpenError>;

    /// Makes a batch durable, all or nothing.
    fn commit(&mut self, batch: &[Change]) -> Result<(), Error>;

    /// Makes a new compaction floor durable.
    fn set_floor(&mut self, floor: Revision) -> Result<(), Error>;

    /// Notes changes that nothing needs any more.
    fn discard(&mut self, garbage: &[Garbage]);

    /// Gives back space of what was discarded, in one step of a few milliseconds at most. When
    /// writers wait (`idle` is false) only if there is too much of it. True if there is more to do.
    fn tidy(&mut self, idle: bool) -> Result<bool, Error>;

    /// Gives away the space that is kept aside: the disk is full, and from now on only what makes
    /// room is written.
    fn release(&mut self);

    /// Takes that space back; false if there is no room for it yet.
    fn recover(&mut self) -> bool;
}
