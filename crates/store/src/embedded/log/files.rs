//! The files of the log in their folder: the lock, names, what is there at start.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::disk::{Disk, Failure};
use super::format::{BadHeader, FORMAT, HEADER_BYTES, Header};
use crate::embedded::OpenError;

/// The database of format 1.
const FORMAT_1: &str = "longshore.db";
/// The file whose lock says that a process uses the folder.
const LOCK: &str = "lock";
/// How log files end.
const LOG: &str = ".log";
/// How files end that are not finished.
const UNFINISHED: &str = ".tmp";
/// Only the owner has a use for the lock.
const MODE: u32 = 0o600;

/// A folder that is ours while this lives.
pub(super) struct Files {
    pub disk: Box<dyn Disk>,
    dir: PathBuf,
    lock: File,
}

impl Drop for Files {
    fn drop(&mut self) {
        // Closing is not enough: a process that was just forked has the file too until it runs its
        // own program.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the lock of the database cannot be given back");
        }
    }
}

/// A log file.
pub(super) struct Found {
    pub path: PathBuf,
    pub header: Header,
}

impl Files {
    /// Takes the lock of a folder; makes the folder if it is missing.
    pub(super) fn lock(dir: &Path, disk: Box<dyn Disk>) -> Result<Self, OpenError> {
        let name = dir.display().to_string();
        let failed =
            |error: &io::Error| OpenError::Io { path: name.clone(), why: error.to_string() };
        if dir.join(FORMAT_1).exists() {
            return Err(OpenError::OlderFormat { path: dir.join(FORMAT_1).display().to_string() });
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(&error));
            }
            _ => {}
        }
        // A write is not durable in a folder whose name is not.
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let synced = File::open(parent.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all());
        synced.map_err(|error| failed(&error))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(MODE)
            .open(dir.join(LOCK))
            .map_err(|error| failed(&error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { disk, dir: dir.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(name)),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }

    /// The file whose range begins with a revision.
    pub(super) fn path(&self, first: u64) -> PathBuf {
        self.dir.join(format!("{first:020}{LOG}"))
    }

    pub(super) fn io(&self, error: &io::Error) -> OpenError {
        self.io_at(&self.dir, error)
    }

    pub(super) fn io_at(&self, path: &Path, error: &io::Error) -> OpenError {
        OpenError::Io { path: path.display().to_string(), why: error.to_string() }
    }

    fn unfinished(&self, first: u64) -> PathBuf {
        self.path(first).with_extension(&UNFINISHED[1..])
    }

    /// A new file that gets its name when it is finished.
    pub(super) fn create_unfinished(&self, header: &Header) -> Result<File, Failure> {
        let file = self.disk.create(&self.unfinished(header.first)).map_err(Failure::of)?;
        self.disk.write(&file, &header.encode(), 0).map_err(Failure::of)?;
        Ok(file)
    }

    /// Syncs a file and gives it its name; the file that had the name goes.
    pub(super) fn finish(&self, file: &File, header: &Header) -> Result<(), Failure> {
        // As long as it has no name nobody needs what is in it.
        self.disk.sync(file).map_err(Failure::of)?;
        let path = self.path(header.first);
        self.disk.rename(&self.unfinished(header.first), &path).map_err(Failure::of)?;
        Ok(self.disk.sync_names(&self.dir)?)
    }

    /// Makes a file with its header only, durable.
    pub(super) fn create(&self, header: &Header) -> Result<File, Failure> {
        let created = self.create_unfinished(header).and_then(|file| {
            self.finish(&file, header)?;
            Ok(file)
        });
        if let Err(Failure::NoSpace(_)) = created {
            self.remove_unfinished(header.first);
        }
        created
    }

    /// Removes what there is of a file that cannot be finished.
    pub(super) fn remove_unfinished(&self, first: u64) {
        match self.disk.remove(&self.unfinished(first)) {
            // The next one takes its place, and each start removes it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "an unfinished file of the database cannot be removed");
            }
            _ => {}
        }
    }

    /// Removes the file of a range.
    pub(super) fn remove(&self, first: u64) -> io::Result<()> {
        self.disk.remove(&self.path(first))
    }

    /// The log files in order. What was not finished, and what a finished one replaces, is removed.
    pub(super) fn find(&self) -> Result<Vec<Found>, OpenError> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|error| self.io(&error))? {
            let path = entry.map_err(|error| self.io(&error))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(UNFINISHED) {
                fs::remove_file(&path).map_err(|error| self.io_at(&path, &error))?;
            } else if name.ends_with(LOG) {
                paths.push(path);
            }
        }
        paths.sort();
        let mut found: Vec<Found> = Vec::new();
        for path in paths {
            let header = self.header(&path)?;
            let replaced = found.last().is_some_and(|before| header.first < before.header.end);
            if replaced {
                fs::remove_file(&path).map_err(|error| self.io_at(&path, &error))?;
            } else {
                found.push(Found { path, header });
            }
        }
        Ok(found)
    }

    fn header(&self, path: &Path) -> Result<Header, OpenError> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| self.io_at(path, &error))?;
        file.take(HEADER_BYTES as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| self.io_at(path, &error))?;
        let header = Header::decode(&bytes).map_err(|bad| match bad {
            BadHeader::Newer(found) => OpenError::NewerFormat {
                path: path.display().to_string(),
                found: i64::from(found),
                known: i64::from(FORMAT),
            },
            BadHeader::Damaged => super::damaged(path, "its header is none of ours"),
        })?;
        if *path != self.path(header.first) {
            return Err(super::damaged(path, "it has the name of another file"));
        }
        Ok(header)
    }

    /// Checks that the files belong together and that none is missing.
    pub(super) fn check(&self, found: &[Found]) -> Result<(), OpenError> {
        let mut expected = Some(1);
        for (at, one) in found.iter().enumerate() {
            if one.header.id != found[0].header.id {
                return Err(super::damaged(&one.path, "it belongs to another database"));
            }
            if expected.is_some_and(|expected| expected != one.header.first) {
                return Err(super::damaged(&one.path, "the file before it is missing"));
            }
            let is_last = at + 1 == found.len();
            if is_last && one.header.end > 0 {
                return Err(super::damaged(&one.path, "the file behind it is missing"));
            }
            // How far a file goes that was not rewritten is known when it has been read.
            expected = (one.header.end > 0).then_some(one.header.end);
        }
        Ok(())
    }
}
