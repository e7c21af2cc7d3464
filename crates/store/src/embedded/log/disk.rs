//! The calls by which the log changes files: a seam, so that tests can have a disk that refuses.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Only the owner reads what is stored: secrets are among it.
const MODE: u32 = 0o600;

/// What a disk does. What is not overridden is done by the system.
pub trait Disk: Send {
    /// Makes a file, empty, whatever had the name.
    ///
    /// # Errors
    /// What the system said; so for all of them.
    fn create(&self, path: &Path) -> io::Result<File> {
        File::options().create(true).truncate(true).read(true).write(true).mode(MODE).open(path)
    }

    /// Writes all of it, or a part and then fails.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    /// Makes what was written durable.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Cuts a file off.
    fn cut(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    /// Gives a file another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Makes what happened to names durable.
    fn sync_names(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    /// Makes a file that long, with all of its space taken.
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        Ok(fallocate(file, FallocateFlags::empty(), 0, bytes)?)
    }

    /// The space that is left for us.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let found = statvfs(dir)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// The disk of the system.
pub struct SystemDisk;

impl Disk for SystemDisk {}

/// Why a change of files did not come about.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no room for it, and everything is as it was before.
    NoSpace(io::Error),
    /// Nobody knows what is on the disk now.
    Broken(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl Failure {
    /// Of a call that changes nothing that counts when it fails for lack of space.
    pub(super) fn of(error: io::Error) -> Self {
        // ENOSPC, EDQUOT, EFBIG
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::NoSpace(error)
            }
            _ => Self::Broken(error),
        }
    }
}
