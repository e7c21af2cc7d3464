//! The log engine: changes in files that are only appended to, and rewritten without what was
//! discarded.
//!
//! Invariant: each file covers a range of revisions, and the ranges follow one another from
//! revision 1 on. Only the last file is written to; the others never change, they are replaced.

mod clean;
mod disk;
mod files;
mod format;
mod reserve;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use clean::Pass;
use disk::Failure;
pub use disk::{Disk, SystemDisk};
use files::{Files, Found};
use format::{Batch, HEADER_BYTES, Header, Next, Record};
use reserve::Reserve;

use super::OpenError;
use super::engine::{Change, Engine, Garbage, Loaded};
use crate::{Error, Revision};

/// A new file is begun when one is longer than this.
const FILE_BYTES: u64 = 16 << 20;
/// What is read from a file at once.
const READ_BYTES: usize = 256 << 10;

/// A file of the log.
struct Segment {
    /// The first revision that it may hold; the next file's is its end.
    first: u64,
    /// How long what is written in it is.
    bytes: u64,
    /// What was discarded of it since it was written.
    dead: Vec<Garbage>,
    dead_bytes: u64,
    /// Whether it was rewritten: then it has not every revision of its range.
    rewritten: bool,
}

/// The log in a folder.
pub struct LogEngine {
    files: Files,
    id: [u8; 16],
    /// In order of revisions; the last one is written to.
    segments: Vec<Segment>,
    /// The last segment's file.
    active: File,
    /// The revision of the next change.
    next: u64,
    floor: u64,
    batch: Batch,
    pass: Option<Pass>,
    file_bytes: u64,
    reserve: Reserve,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSpace(error) => Self::NoSpace(error.to_string()),
            Failure::Broken(error) => Self::Backend(error.to_string()),
        }
    }
}

impl LogEngine {
    /// Opens or creates the log in a folder, whose parent is there, and takes its lock.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, FILE_BYTES, Box::new(SystemDisk))
    }

    /// As [`LogEngine::open`], with files of about so many bytes, on any disk; for tests.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with(dir: &Path, file_bytes: u64, disk: Box<dyn Disk>) -> Result<Self, OpenError> {
        let files = Files::lock(dir, disk)?;
        let mut found = files.find()?;
        if found.is_empty() {
            let mut id = [0; 16];
            getrandom::fill(&mut id)
                .map_err(|error| files.io(&io::Error::other(error.to_string())))?;
            let header = Header { id, first: 1, end: 0, floor: 0 };
            files.create(&header).map_err(|failure| match failure {
                Failure::NoSpace(error) | Failure::Broken(error) => files.io(&error),
            })?;
            found.push(Found { path: files.path(1), header });
        }
        files.check(&found)?;
        let last = found.last().expect("there is at least one file");
        let (id, last_header) = (last.header.id, last.header);
        let active = File::options().read(true).write(true).open(&last.path);
        let active = active.map_err(|error| files.io_at(&last.path, &error))?;
        let floor = found.iter().map(|found| found.header.floor).max().unwrap_or(0);
        let segments = found.iter().map(|found| Segment::new(&found.header, 0)).collect();
        let (batch, next) = (Batch::default(), last_header.first);
        let reserve = Reserve::open(&*files.disk, dir);
        let pass = None;
        Ok(Self { files, id, segments, active, next, floor, batch, pass, file_bytes, reserve })
    }

    /// Writes what is in the batch behind what is there. If there is no room for it, what was
    /// written of it is cut off again.
    fn append(&mut self) -> Result<(), Failure> {
        let last = self.segments.last_mut().expect("there is at least one file");
        let bytes = self.batch.finish();
        if let Err(error) = self.files.disk.write(&self.active, bytes, last.bytes) {
            let failure = Failure::of(error);
            if let Failure::NoSpace(_) = failure {
                self.files.disk.cut(&self.active, last.bytes)?;
                self.files.disk.sync(&self.active)?;
            }
            return Err(failure);
        }
        self.files.disk.sync(&self.active)?;
        last.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Begins a new file.
    fn rotate(&mut self) -> Result<(), Failure> {
        let header = Header { id: self.id, first: self.next, end: 0, floor: self.floor };
        self.active = self.files.create(&header)?;
        self.segments.push(Segment::new(&header, HEADER_BYTES as u64));
        self.reserve.refill(&*self.files.disk);
        Ok(())
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), Failure> {
        let last = self.segments.last().expect("there is at least one file");
        // A file that has no change yet has no range to be told by.
        if last.bytes >= self.file_bytes && self.next > last.first {
            match self.rotate() {
                // Then the file becomes longer than others; the batch may have room in it.
                Ok(()) | Err(Failure::NoSpace(_)) => {}
                Err(broken) => return Err(broken),
            }
        }
        self.batch.clear();
        let mut next = self.next;
        for change in changes {
            if change.revision.0 != next {
                let message = format!("revision {} follows {}", change.revision.0, next - 1);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message).into());
            }
            self.batch.change(change);
            next += 1;
        }
        self.append()?;
        self.next = next;
        Ok(())
    }

    /// Reads a file into `loaded`.
    fn read(&mut self, at: usize, loaded: &mut Loaded) -> Result<(), OpenError> {
        let first = self.segments[at].first;
        let path = self.files.path(first);
        let end = self.segments.get(at + 1).map(|segment| segment.first);
        let is_last = end.is_none();
        let mut reader = Reader::open(&path).map_err(|error| self.files.io_at(&path, &error))?;
        let mut expected = first;
        loop {
            let next = reader.next().map_err(|error| self.files.io_at(&path, &error))?;
            match next {
                Next::Batch => {}
                Next::End => break,
                Next::Broken if is_last => {
                    self.cut(&path, reader.at)?;
                    break;
                }
                Next::Broken => return Err(damaged(&path, "a batch is not as it was written")),
            }
            for record in format::records(&reader.payload) {
                match record {
                    None => return Err(damaged(&path, "a batch holds what is no record")),
                    Some(Record::Floor(floor)) => self.floor = self.floor.max(floor),
                    Some(Record::Change(change)) => {
                        let revision = change.revision.0;
                        let follows = if self.segments[at].rewritten {
                            revision >= expected && end.is_none_or(|end| revision < end)
                        } else {
                            revision == expected
                        };
                        if !follows {
                            return Err(damaged(&path, "revisions do not follow one another"));
                        }
                        expected = revision + 1;
                        loaded.changes.push(change);
                    }
                }
            }
        }
        if !self.segments[at].rewritten && end.is_some_and(|end| expected != end) {
            return Err(damaged(&path, "changes at its end are missing"));
        }
        if is_last {
            self.next = expected;
        }
        self.segments[at].bytes = reader.at;
        Ok(())
    }

    /// Cuts off what a crash left of a batch that nobody was told of. A whole batch behind it would
    /// have been told: then it is damage, and nothing is cut.
    fn cut(&mut self, path: &Path, at: u64) -> Result<(), OpenError> {
        let failed = |error: &io::Error| self.files.io_at(path, error);
        let mut rest = Vec::new();
        (&self.active).seek(SeekFrom::Start(at)).map_err(|e| failed(&e))?;
        (&self.active).read_to_end(&mut rest).map_err(|e| failed(&e))?;
        if format::has_batch(&rest[1..]) {
            return Err(damaged(path, "a batch is not as it was written"));
        }
        tracing::warn!(
            file = %path.display(), bytes = rest.len(),
            "a write that was under way at the last end was not finished, and is taken back"
        );
        self.active.set_len(at).map_err(|e| failed(&e))?;
        self.active.sync_all().map_err(|e| failed(&e))
    }
}

fn damaged(path: &Path, why: &str) -> OpenError {
    OpenError::Damaged { path: path.display().to_string(), why: why.to_owned() }
}

impl Segment {
    fn new(header: &Header, bytes: u64) -> Self {
        let rewritten = header.end > 0;
        Self { first: header.first, bytes, dead: Vec::new(), dead_bytes: 0, rewritten }
    }
}

/// Reads a file batch by batch.
struct Reader {
    file: BufReader<File>,
    /// How far whole batches have been read.
    at: u64,
    payload: Vec<u8>,
}

impl Reader {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(READ_BYTES, File::open(path)?);
        file.seek_relative(HEADER_BYTES as i64)?;
        Ok(Self { file, at: HEADER_BYTES as u64, payload: Vec::new() })
    }

    fn next(&mut self) -> io::Result<Next> {
        let next = format::read_batch(&mut self.file, &mut self.payload)?;
        if let Next::Batch = next {
            self.at += (format::FRAME_BYTES + self.payload.len()) as u64;
        }
        Ok(next)
    }
}

impl Engine for LogEngine {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        let mut loaded = Loaded::default();
        for at in 0..self.segments.len() {
            self.read(at, &mut loaded)?;
        }
        loaded.floor = Revision(self.floor);
        loaded.newest = Revision(self.next - 1);
        Ok(loaded)
    }

    fn commit(&mut self, batch: &[Change]) -> Result<(), Error> {
        Ok(self.write(batch)?)
    }

    fn set_floor(&mut self, floor: Revision) -> Result<(), Error> {
        let floor = self.floor.max(floor.0);
        self.batch.clear();
        self.batch.floor(floor);
        self.append()?;
        self.floor = floor;
        Ok(())
    }

    fn discard(&mut self, garbage: &[Garbage]) {
        for one in garbage {
            let at = self.segments.partition_point(|segment| segment.first <= one.revision.0);
            // The first file begins with revision 1.
            if let Some(segment) = at.checked_sub(1).and_then(|at| self.segments.get_mut(at)) {
                segment.dead.push(*one);
                segment.dead_bytes += one.bytes;
            }
        }
    }

    fn tidy(&mut self, idle: bool) -> Result<bool, Error> {
        Ok(self.clean(idle)?)
    }

    fn release(&mut self) {
        self.reserve.release(&*self.files.disk);
    }

    fn recover(&mut self) -> bool {
        self.reserve.recover(&*self.files.disk)
    }
}
