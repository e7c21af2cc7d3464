//! Giving back the space of what was discarded: files are rewritten without it, oldest first, in
//! small steps.
//!
//! Invariant: a deletion leaves the disk after every older state of its key. So one pass goes from
//! the oldest file to the newest, and drops those deletions only that were discarded before it
//! began: whatever they delete was then dropped from the files before.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use super::disk::{Disk, Failure};
use super::format::{self, Batch, HEADER_BYTES, Header, Next, Record};
use super::{LogEngine, Reader, Segment};
use crate::embedded::engine::{Engine, Garbage};

/// What is read and written in one step.
const STEP_BYTES: u64 = 1 << 20;
/// While the disk is full, this part of a file in garbage is worth rewriting files.
const FULL_PART: u64 = 16;

/// One way through all files that are not written to any more.
pub(super) struct Pass {
    /// Files from this revision on are not part of it.
    end: u64,
    /// The compaction floor when it began.
    floor: u64,
    /// Files before this revision are done.
    next: u64,
    run: Option<Run>,
}

/// Neighbouring files that are being rewritten into one.
struct Run {
    /// The first revision of the first of them.
    first: u64,
    /// The first revision of the one that is being read.
    source: u64,
    reader: Reader,
    /// What is left out, by revision.
    dropped: HashSet<u64>,
    /// All that was discarded of the files, should this come to nothing.
    taken: Vec<Garbage>,
    /// What would be left out if its time had come.
    kept: Vec<Garbage>,
    file: File,
    /// How long the new file is.
    bytes: u64,
    batch: Batch,
}

impl LogEngine {
    /// One step; true if there is more to do.
    pub(super) fn clean(&mut self, idle: bool) -> Result<bool, Failure> {
        let full = self.reserve.is_released();
        if full && self.active_is_worth_it() {
            self.rotate()?;
        }
        let (mut live, mut dead) = (0, 0);
        let closed = self.segments.len() - 1;
        for segment in &self.segments[..closed] {
            live += segment.bytes.saturating_sub(segment.dead_bytes);
            dead += segment.dead_bytes;
        }
        // Half as much garbage as there is data, or a file of it, may lie about; when writers wait,
        // twice that.
        let mut limit = (live / 2).max(self.file_bytes);
        if full {
            limit = limit.min(self.file_bytes / FULL_PART);
        }
        if !idle && dead < 2 * limit {
            return Ok(self.pass.is_some());
        }
        let mut pass = match self.pass.take() {
            Some(pass) => pass,
            None if dead < limit => return Ok(false),
            None => {
                Pass { end: self.segments[closed].first, floor: self.floor, next: 0, run: None }
            }
        };
        let run = match pass.run.take() {
            Some(run) => Some(run),
            None => self.begin(&pass)?,
        };
        let Some(mut run) = run else { return Ok(false) };
        match self.go_on(&mut pass, &mut run) {
            Ok(true) => {}
            Ok(false) => pass.run = Some(run),
            Err(failure) => {
                // The old files stay as they are, and with them this pass ends: a later one begins
                // with the oldest file again.
                self.files.remove_unfinished(run.first);
                self.discard(&run.taken);
                return Err(failure);
            }
        }
        self.pass = Some(pass);
        Ok(true)
    }

    /// Whether so much was discarded of the file that is written to that it should be closed.
    fn active_is_worth_it(&self) -> bool {
        let last = self.segments.last().expect("there is at least one file");
        last.dead_bytes >= self.file_bytes / FULL_PART && self.next > last.first
    }

    /// One step of rewriting; true when the new file is in its place.
    fn go_on(&mut self, pass: &mut Pass, run: &mut Run) -> Result<bool, Failure> {
        let disk = &*self.files.disk;
        if !run.step(disk, pass.floor)? || self.extend(pass, run)? {
            return Ok(false);
        }
        pass.next = self.replace(run)?;
        Ok(true)
    }

    /// Begins to rewrite the next file of which something was discarded.
    fn begin(&mut self, pass: &Pass) -> Result<Option<Run>, Failure> {
        let of_pass = pass.next..pass.end;
        let Some(segment) = self
            .segments
            .iter_mut()
            .find(|segment| of_pass.contains(&segment.first) && !segment.dead.is_empty())
        else {
            return Ok(None);
        };
        let header = Header { id: self.id, first: segment.first, end: u64::MAX, floor: 0 };
        let reader = Reader::open(&self.files.path(segment.first))?;
        let file = self.files.create_unfinished(&header).inspect_err(|_| {
            self.files.remove_unfinished(header.first);
        })?;
        let taken = segment.take_dead();
        Ok(Some(Run {
            first: segment.first,
            source: segment.first,
            reader,
            dropped: revisions(&taken),
            taken,
            kept: Vec::new(),
            file,
            bytes: HEADER_BYTES as u64,
            batch: Batch::default(),
        }))
    }

    /// Goes on with the next file if it fits as well; false if it does not.
    fn extend(&mut self, pass: &Pass, run: &mut Run) -> Result<bool, Failure> {
        let at = self.segments.partition_point(|segment| segment.first <= run.source);
        let Some(segment) = self.segments.get_mut(at) else { return Ok(false) };
        let live = segment.bytes.saturating_sub(segment.dead_bytes);
        if segment.first >= pass.end || run.bytes + live > self.file_bytes {
            return Ok(false);
        }
        run.reader = Reader::open(&self.files.path(segment.first))?;
        run.source = segment.first;
        let taken = segment.take_dead();
        run.dropped = revisions(&taken);
        run.taken.extend(taken);
        Ok(true)
    }

    /// Puts the new file into the place of the old ones. Gives the end of its range.
    fn replace(&mut self, run: &mut Run) -> Result<u64, Failure> {
        let from = self.segments.partition_point(|segment| segment.first < run.first);
        let to = self.segments.partition_point(|segment| segment.first <= run.source);
        let end = self.segments[to].first;
        let header = Header { id: self.id, first: run.first, end, floor: 0 };
        self.files.disk.write(&run.file, &header.encode(), 0).map_err(Failure::of)?;
        self.files.finish(&run.file, &header)?;
        let mut segment = Segment::new(&header, run.bytes);
        segment.dead = std::mem::take(&mut run.kept);
        for (at, old) in self.segments.drain(from..to).enumerate() {
            if at > 0 {
                // From now on only its name is in the way: at the next start it goes without this.
                self.files.remove(old.first)?;
            }
            // What was discarded while it was being read.
            segment.dead.extend(old.dead);
        }
        segment.dead_bytes = segment.dead.iter().map(|one| one.bytes).sum();
        self.segments.insert(from, segment);
        Ok(end)
    }
}

impl Segment {
    fn take_dead(&mut self) -> Vec<Garbage> {
        self.dead_bytes = 0;
        std::mem::take(&mut self.dead)
    }
}

fn revisions(garbage: &[Garbage]) -> HashSet<u64> {
    garbage.iter().map(|one| one.revision.0).collect()
}

impl Run {
    /// Copies a part of a file without what is dropped; true at its end.
    fn step(&mut self, disk: &dyn Disk, floor: u64) -> Result<bool, Failure> {
        let start = self.reader.at;
        self.batch.clear();
        while self.reader.at - start < STEP_BYTES {
            match self.reader.next()? {
                Next::Batch => {}
                Next::End => {
                    self.flush(disk)?;
                    return Ok(true);
                }
                Next::Broken => return Err(broken().into()),
            }
            for record in format::records(&self.reader.payload) {
                match record {
                    None => return Err(broken().into()),
                    // The header of each later file has a floor that is as high.
                    Some(Record::Floor(_)) => {}
                    Some(Record::Change(change)) => {
                        let dead = self.dropped.contains(&change.revision.0);
                        if dead && change.value.is_none() && change.revision.0 > floor {
                            self.kept.push(Garbage::new(change.revision, &change.key, None));
                        } else if dead {
                            continue;
                        }
                        self.batch.change(&change);
                    }
                }
            }
        }
        self.flush(disk)?;
        Ok(false)
    }

    fn flush(&mut self, disk: &dyn Disk) -> Result<(), Failure> {
        if self.batch.payload_bytes() > 0 {
            let bytes = self.batch.finish();
            disk.write(&self.file, bytes, self.bytes).map_err(Failure::of)?;
            self.bytes += bytes.len() as u64;
            self.batch.clear();
            // A little each time, so that the sync at the end is short.
            disk.sync(&self.file).map_err(Failure::of)?;
        }
        Ok(())
    }
}

/// A file that was whole when it was written or read is no longer.
fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a log file is no longer as it was written")
}
