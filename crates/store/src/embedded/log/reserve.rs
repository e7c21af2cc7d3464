//! Space that is kept aside for a full disk: what makes room (deletions, the compaction floor,
//! tidying) needs some first.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::disk::Disk;

/// The file.
const NAME: &str = "reserve";
/// How large it is: to rewrite a file of the log takes 16 MB and the largest batch, a deletion about
/// a hundred bytes.
const BYTES: u64 = 32 << 20;
/// The part of the space left that it takes at most, so that a small disk is not full of it.
const PART: u64 = 8;
/// The unit of [`MetadataExt::blocks`].
const BLOCK_BYTES: u64 = 512;

/// The reserve.
pub(super) struct Reserve {
    path: PathBuf,
    /// How much of it there is when it is there.
    bytes: u64,
    /// Whether it was given away, and the disk is full until it is there again.
    released: bool,
}

impl Reserve {
    /// The reserve in the log's folder; what is missing of it is taken.
    pub(super) fn open(disk: &dyn Disk, dir: &Path) -> Self {
        let path = dir.join(NAME);
        // A copy of it may be a file of holes.
        let whole = |found: &fs::Metadata| found.blocks() * BLOCK_BYTES >= found.len();
        let bytes = fs::metadata(&path).ok().filter(whole).map_or(0, |found| found.len());
        let mut reserve = Self { path, bytes, released: false };
        reserve.refill(disk);
        reserve
    }

    /// Takes as much as there should be if there is room, a part of it when the disk is small.
    pub(super) fn refill(&mut self, disk: &dyn Disk) {
        if self.released || self.bytes >= BYTES {
            return;
        }
        let dir = self.path.parent().unwrap_or(Path::new("."));
        // What was taken is not among what is left.
        let free = self.bytes + disk.free_bytes(dir).unwrap_or(0);
        let wanted = BYTES.min(free / PART);
        if wanted > self.bytes {
            self.bytes = match self.take(disk, wanted) {
                Ok(()) => wanted,
                Err(error) => {
                    tracing::warn!(%error, wanted, "no space is kept aside for a full disk");
                    self.give(disk);
                    0
                }
            };
        }
    }

    /// Whether it was given away.
    pub(super) fn is_released(&self) -> bool {
        self.released
    }

    /// Gives it away.
    pub(super) fn release(&mut self, disk: &dyn Disk) {
        self.released = true;
        self.give(disk);
    }

    /// Takes it back; false if there is no room for it yet.
    pub(super) fn recover(&mut self, disk: &dyn Disk) -> bool {
        if self.bytes > 0 && self.take(disk, self.bytes).is_err() {
            // A part may have been taken.
            self.give(disk);
            return false;
        }
        self.released = false;
        true
    }

    fn take(&self, disk: &dyn Disk, bytes: u64) -> io::Result<()> {
        disk.allocate(&disk.create(&self.path)?, bytes)
    }

    fn give(&self, disk: &dyn Disk) {
        match disk.remove(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "the space kept aside for a full disk cannot be given away");
            }
            _ => {}
        }
    }
}
