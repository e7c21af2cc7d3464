//! The bytes of a log file: a header, and batches with checksums behind it. All numbers are
//! little-endian.

use std::io::{self, Read};

use bytes::Bytes;

use crate::Revision;
use crate::embedded::engine::Change;

/// The format this version writes. 1 was a SQLite database; 2: first with a log.
pub(super) const FORMAT: u32 = 2;
/// Bytes of a file's header.
pub(super) const HEADER_BYTES: usize = 64;
/// What a file of ours begins with.
const MAGIC: [u8; 8] = *b"longshor";
/// What a batch begins with.
const BATCH_MAGIC: [u8; 4] = *b"\xb5log";
/// Bytes in front of a batch's payload: magic, length, checksum of length and payload.
pub(super) const FRAME_BYTES: usize = 12;
/// The longest payload: more than any batch of the writer has.
pub(super) const PAYLOAD_BYTES_MAX: u32 = 256 << 20;

const FLOOR: u8 = 1;
const PUT: u8 = 2;
const PUT_WITH_END: u8 = 3;
const DELETION: u8 = 4;

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The store that the file belongs to.
    pub id: [u8; 16],
    /// The first revision that it may hold.
    pub first: u64,
    /// The first revision after a file that was rewritten; 0 for a file as it was first written,
    /// which has each revision from its first on.
    pub end: u64,
    /// The compaction floor when it was begun.
    pub floor: u64,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// A newer version wrote it.
    Newer(u32),
    /// It is none of ours, or not as it was written.
    Damaged,
}

/// One thing in a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// The compaction floor was raised.
    Floor(u64),
    /// A key changed.
    Change(Change),
}

/// The checksum of headers and batches: CRC-32.
fn checksum(parts: &[&[u8]]) -> u32 {
    let mut crc = flate2::Crc::new();
    parts.iter().for_each(|part| crc.update(part));
    crc.sum()
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..32].copy_from_slice(&self.id);
        for (i, number) in [self.first, self.end, self.floor].into_iter().enumerate() {
            out[32 + 8 * i..40 + 8 * i].copy_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(&[&out[..60]]);
        out[60..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let bytes: &[u8; HEADER_BYTES] = bytes.try_into().map_err(|_| BadHeader::Damaged)?;
        let mut rest = &bytes[..];
        let magic = take::<8>(&mut rest).ok_or(BadHeader::Damaged)?;
        let format = take(&mut rest).map(u32::from_le_bytes).ok_or(BadHeader::Damaged)?;
        if magic != MAGIC {
            return Err(BadHeader::Damaged);
        }
        // Whatever else a newer version writes, its number stands here.
        if format > FORMAT {
            return Err(BadHeader::Newer(format));
        }
        let sum = checksum(&[&bytes[..60]]);
        if format < FORMAT || bytes[60..] != sum.to_le_bytes() {
            return Err(BadHeader::Damaged);
        }
        let mut parts = || {
            take::<4>(&mut rest)?;
            let id = take(&mut rest)?;
            let mut number = || take(&mut rest).map(u64::from_le_bytes);
            Some(Self { id, first: number()?, end: number()?, floor: number()? })
        };
        parts().ok_or(BadHeader::Damaged)
    }
}

/// Takes bytes off the beginning.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// A batch that is being written.
#[derive(Default)]
pub(super) struct Batch(Vec<u8>);

/// Memory that is kept for the next batch.
const KEPT_BYTES_MAX: usize = 1 << 20;

impl Batch {
    /// Begins a new batch.
    pub(super) fn clear(&mut self) {
        self.0.clear();
        self.0.shrink_to(KEPT_BYTES_MAX);
        self.0.extend_from_slice(&[0; FRAME_BYTES]);
    }

    /// How long the payload is so far.
    pub(super) fn payload_bytes(&self) -> usize {
        self.0.len().saturating_sub(FRAME_BYTES)
    }

    pub(super) fn floor(&mut self, floor: u64) {
        self.0.push(FLOOR);
        self.0.extend_from_slice(&floor.to_le_bytes());
    }

    pub(super) fn change(&mut self, change: &Change) {
        let value = change.value.as_deref();
        let kind = match (value, change.expires_at) {
            (None, _) => DELETION,
            (Some(_), None) => PUT,
            (Some(_), Some(_)) => PUT_WITH_END,
        };
        let value = value.unwrap_or_default();
        self.0.push(kind);
        self.0.extend_from_slice(&change.revision.0.to_le_bytes());
        if let (PUT_WITH_END, Some(at)) = (kind, change.expires_at) {
            self.0.extend_from_slice(&at.to_le_bytes());
        }
        for length in [change.key.len(), value.len()] {
            let length = u32::try_from(length).expect("keys and values are far below 4 GB");
            self.0.extend_from_slice(&length.to_le_bytes());
        }
        self.0.extend_from_slice(&change.key);
        self.0.extend_from_slice(value);
    }

    /// Ends the batch: its bytes as they are written.
    pub(super) fn finish(&mut self) -> &[u8] {
        let (frame, payload) = self.0.split_at_mut(FRAME_BYTES);
        let length = u32::try_from(payload.len()).expect("batches are far below 4 GB");
        let length = length.to_le_bytes();
        frame[..4].copy_from_slice(&BATCH_MAGIC);
        frame[4..8].copy_from_slice(&length);
        frame[8..].copy_from_slice(&checksum(&[&length, payload]).to_le_bytes());
        &self.0
    }
}

/// What comes next in a file.
pub(super) enum Next {
    /// A batch; its payload is in the buffer.
    Batch,
    /// The file ends here.
    End,
    /// Something that is no whole batch.
    Broken,
}

/// Reads the next batch's payload into a buffer.
pub(super) fn read_batch(file: &mut impl Read, payload: &mut Vec<u8>) -> io::Result<Next> {
    let mut frame = [0; FRAME_BYTES];
    match read_fully(file, &mut frame)? {
        0 => return Ok(Next::End),
        FRAME_BYTES => {}
        _ => return Ok(Next::Broken),
    }
    let Some((length, sum)) = frame_parts(&frame) else { return Ok(Next::Broken) };
    payload.clear();
    let count = file.take(u64::from(length)).read_to_end(payload)?;
    let whole = count == length as usize && checksum(&[&length.to_le_bytes(), payload]) == sum;
    Ok(if whole { Next::Batch } else { Next::Broken })
}

/// Length and checksum of a payload, if this can be the beginning of a batch.
fn frame_parts(frame: &[u8]) -> Option<(u32, u32)> {
    let mut rest = frame;
    let magic = take::<4>(&mut rest)?;
    let length = take(&mut rest).map(u32::from_le_bytes)?;
    let sum = take(&mut rest).map(u32::from_le_bytes)?;
    (magic == BATCH_MAGIC && length <= PAYLOAD_BYTES_MAX).then_some((length, sum))
}

/// Whether there is a whole batch anywhere in these bytes.
pub(super) fn has_batch(bytes: &[u8]) -> bool {
    bytes.windows(FRAME_BYTES).enumerate().any(|(at, frame)| {
        let Some((length, sum)) = frame_parts(frame) else { return false };
        let start = at + FRAME_BYTES;
        let payload = bytes.get(start..start.saturating_add(length as usize));
        payload.is_some_and(|payload| checksum(&[&length.to_le_bytes(), payload]) == sum)
    })
}

fn read_fully(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// The records of a payload, each with the bytes it takes; `None` stands for bytes that are no record.
pub(super) fn records(mut payload: &[u8]) -> impl Iterator<Item = Option<Record>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        let record = record(&mut payload);
        if record.is_none() {
            payload = &[];
        }
        Some(record)
    })
}

fn record(rest: &mut &[u8]) -> Option<Record> {
    let [kind] = take::<1>(rest)?;
    let number = take(rest).map(u64::from_le_bytes)?;
    if kind == FLOOR {
        return Some(Record::Floor(number));
    }
    if !(PUT..=DELETION).contains(&kind) {
        return None;
    }
    let expires_at = match kind {
        PUT_WITH_END => Some(take(rest).map(i64::from_le_bytes)?),
        _ => None,
    };
    let mut length = || take(rest).map(u32::from_le_bytes).map(|length| length as usize);
    let (key, value) = (length()?, length()?);
    let mut bytes = |length: usize| {
        let (head, tail) = rest.split_at_checked(length)?;
        *rest = tail;
        Some(Bytes::copy_from_slice(head))
    };
    let (key, value) = (bytes(key)?, bytes(value)?);
    let value = (kind != DELETION).then_some(value);
    Some(Record::Change(Change { key, value, revision: Revision(number), expires_at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Vec<Change> {
        let change = |revision, value: Option<&'static [u8]>, expires_at| Change {
            key: Bytes::from(format!("key-{revision}")),
            value: value.map(Bytes::from_static),
            revision: Revision(revision),
            expires_at,
        };
        vec![
            change(7, Some(b"value"), None),
            change(8, None, None),
            change(u64::MAX, Some(b""), Some(-5)),
        ]
    }

    fn batch() -> Vec<u8> {
        let mut batch = Batch::default();
        batch.clear();
        batch.floor(3);
        changes().iter().for_each(|change| batch.change(change));
        batch.finish().to_vec()
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = batch();
        bytes.extend_from_slice(&batch());
        let (mut file, mut payload) = (&bytes[..], Vec::new());
        for _ in 0..2 {
            assert!(matches!(read_batch(&mut file, &mut payload), Ok(Next::Batch)));
            let read: Vec<Record> = records(&payload).map(|r| r.expect("a record")).collect();
            let mut want = vec![Record::Floor(3)];
            want.extend(changes().into_iter().map(Record::Change));
            assert_eq!(read, want);
        }
        assert!(matches!(read_batch(&mut file, &mut payload), Ok(Next::End)));
        assert!(matches!(read_batch(&mut &[][..], &mut payload), Ok(Next::End)));
    }

    #[test]
    fn each_bit_and_each_missing_byte_is_noticed() {
        let whole = batch();
        assert!(has_batch(&[&[1; 30], &whole[..], &[2; 30]].concat()));
        let mut payload = Vec::new();
        for end in 1..whole.len() {
            let read = read_batch(&mut &whole[..end], &mut payload);
            assert!(matches!(read, Ok(Next::Broken)), "{end}");
            assert!(!has_batch(&whole[..end]));
        }
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = read_batch(&mut &bytes[..], &mut payload);
            assert!(matches!(read, Ok(Next::Broken)), "{bit}");
        }
    }

    #[test]
    fn payloads_that_are_no_records_are_told() {
        let whole = batch();
        let payload = &whole[FRAME_BYTES..];
        for end in 1..payload.len() {
            let read: Vec<_> = records(&payload[..end]).collect();
            let whole_records = records(payload).take(read.len()).collect::<Vec<_>>();
            assert!(read.last().is_some_and(Option::is_none) || read == whole_records, "{end}");
        }
        assert_eq!(records(&[9; 40]).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn headers_are_checked() {
        let header = Header { id: [7; 16], first: 3, end: 9, floor: 2 };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for at in (0..8).chain(12..HEADER_BYTES) {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert_eq!(Header::decode(&changed), Err(BadHeader::Damaged), "{at}");
        }
        let mut newer = bytes;
        newer[8] = 9;
        assert_eq!(Header::decode(&newer), Err(BadHeader::Newer(9)));
        assert_eq!(Header::decode(&bytes[..63]), Err(BadHeader::Damaged));
    }
}
