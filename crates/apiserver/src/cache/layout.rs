//! Where things stand in an object's canonical bytes, so that nothing of it has to be kept apart.
//!
//! Canonical bytes are JSON without spaces with the keys of each object in order, made by
//! [`encode`]. Offsets count from the object's first byte.

use std::cell::RefCell;

use bytes::Bytes;
use longshore_api::Object;
use serde_json::{Map, Value};

/// Bytes in front of a stored object: where the resource version belongs.
pub(super) const HEADER_BYTES: usize = 4;

/// The places in one object's canonical bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Where the field after `apiVersion` begins.
    pub(super) head: u32,
    /// The field `kind` with its comma.
    pub(super) kind: (u32, u32),
    /// What stands between the braces of `metadata.labels`.
    pub(super) labels: (u32, u32),
    /// Where the resource version belongs.
    pub(super) version: u32,
    /// Whether the object has a namespace.
    pub(super) namespaced: bool,
}

/// An object as encoded for the store: JSON without a resource version, which is the store's own
/// revision, behind four bytes that say where the resource version belongs.
pub fn encode(object: &Object) -> (Bytes, Layout) {
    // What is stored stays in memory: it gets exactly the bytes it needs.
    SCRATCH.with_borrow_mut(|out| {
        out.clear();
        let layout = write(out, object);
        let stored = Bytes::copy_from_slice(out);
        out.shrink_to(SCRATCH_BYTES_MAX);
        (stored, layout)
    })
}

/// Memory that a thread keeps for the next object.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn write(out: &mut Vec<u8>, object: &Object) -> Layout {
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let mut layout = Layout::default();
    out.push(b'{');
    for (i, (key, value)) in object.root().iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let start = position(out);
        write_key(out, key);
        match (key.as_str(), value) {
            ("metadata", Value::Object(metadata)) => {
                write_metadata(out, metadata, &mut layout);
            }
            _ => write_json(out, value),
        }
        match key.as_str() {
            "apiVersion" if i == 0 => layout.head = position(out) + 1,
            "kind" => layout.kind = (start, position(out) + 1),
            _ => {}
        }
    }
    out.push(b'}');
    assert!(layout.version > 0, "a stored object has a uid");
    out[..HEADER_BYTES].copy_from_slice(&layout.version.to_le_bytes());
    layout
}

fn write_metadata(out: &mut Vec<u8>, metadata: &Map<String, Value>, layout: &mut Layout) {
    out.push(b'{');
    let fields = metadata.iter().filter(|(key, _)| *key != "resourceVersion");
    for (i, (key, value)) in fields.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        // Keys are in order: the version goes in front of the first key after its own.
        if layout.version == 0 && key.as_str() > "resourceVersion" {
            layout.version = position(out);
        }
        write_key(out, key);
        let start = position(out);
        write_json(out, value);
        note_metadata(layout, key.as_bytes(), start, position(out), value.is_object(), out);
    }
    out.push(b'}');
}

/// Notes a field of metadata, its value standing in `start..end` of what `out` has behind its header.
fn note_metadata(
    layout: &mut Layout,
    key: &[u8],
    start: u32,
    end: u32,
    is_object: bool,
    out: &[u8],
) {
    match key {
        b"labels" if is_object => layout.labels = (start + 1, end - 1),
        b"namespace" => layout.namespaced = out[HEADER_BYTES + start as usize..].len() > 2,
        _ => {}
    }
}

fn position(out: &[u8]) -> u32 {
    u32::try_from(out.len() - HEADER_BYTES).expect("objects are limited to a few megabytes")
}

fn write_key(out: &mut Vec<u8>, key: &str) {
    serde_json::to_writer(&mut *out, key).expect("a text always encodes into memory");
    out.push(b':');
}

fn write_json(out: &mut Vec<u8>, value: &Value) {
    longshore_api::json::write(out, value);
}

impl Layout {
    /// Finds the places in a stored value that was read back; `None` when it is none of ours.
    pub fn find(stored: &[u8]) -> Option<Self> {
        let (header, body) = stored.split_at_checked(HEADER_BYTES)?;
        let version = u32::from_le_bytes(header.try_into().ok()?);
        let mut layout = Self { version, ..Self::default() };
        let mut scan = Scan { bytes: body, at: 0 };
        let mut metadata = None;
        scan.object(|scan, key, start| {
            if key == b"metadata" {
                metadata = Some(scan.at);
            }
            scan.value()?;
            match key {
                b"apiVersion" if start == 1 => layout.head = number(scan.at + 1)?,
                b"kind" => layout.kind = (number(start)?, number(scan.at + 1)?),
                _ => {}
            }
            Some(())
        })?;
        scan.at = metadata?;
        let mut fits = false;
        scan.object(|scan, key, start| {
            fits |= start == version as usize;
            let begin = number(scan.at)?;
            let is_object = scan.peek() == Some(b'{');
            scan.value()?;
            let end = number(scan.at)?;
            note_metadata(
                &mut layout,
                key,
                begin,
                end,
                is_object,
                &stored[..HEADER_BYTES + scan.at],
            );
            Some(())
        })?;
        fits.then_some(layout)
    }
}

fn number(at: usize) -> Option<u32> {
    u32::try_from(at).ok()
}

/// The text between the quotes at the beginning of `bytes`, as it stands there, and what follows.
pub(super) fn quoted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = bytes.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        match inside.get(at)? {
            b'"' => return Some((&inside[..at], &inside[at + 1..])),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Walks over JSON without building anything. What it walks over was checked or made by a real
/// parser; here wrong syntax only must not break anything.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let (inside, rest) = quoted(self.bytes.get(self.at..)?)?;
        self.at = self.bytes.len() - rest.len();
        Some(inside)
    }

    /// Goes through the fields of an object. `field` gets the key and where it begins, and has to
    /// go over the value.
    fn object(
        &mut self,
        mut field: impl FnMut(&mut Self, &'a [u8], usize) -> Option<()>,
    ) -> Option<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return self.expect(b'}');
        }
        loop {
            let start = self.at;
            let key = self.text()?;
            self.expect(b':')?;
            field(self, key, start)?;
            if self.peek()? == b'}' {
                return self.expect(b'}');
            }
            self.expect(b',')?;
        }
    }

    /// Goes over one value.
    fn value(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.text()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                _ => self.at += 1,
            }
            if depth == 0 && matches!(self.peek(), Some(b',' | b'}' | b']') | None) {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_found_is_what_was_noted_when_it_was_made() {
        let full = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a\"{": "}\\", "b": "[1,{\"kind\":"},
            "list": [[], {}, [1, -2.5e3, null, true, {"x": ["]"]}]], "immutable": true,
            "metadata": {"name": "n", "namespace": "s", "uid": "u", "resourceVersion": "7",
                "labels": {"x": "y", "z/é": "\u{1}"}, "annotations": {"uid": "\"resourceVersion\":"}},
        });
        let bare = json!({"kind": "A", "metadata": {"uid": "u"}});
        let empty =
            json!({"apiVersion": "v1", "kind": "A", "metadata": {"labels": {}, "uid": "u"}});
        for value in [full, bare, empty] {
            let object = Object::from_value(value).expect("an object");
            let (stored, layout) = encode(&object);
            assert_eq!(Layout::find(&stored), Some(layout), "{stored:?}");
        }
    }

    #[test]
    fn broken_bytes_have_no_layout() {
        let (stored, _) = encode(
            &Object::from_value(json!({"a": [{"b": "c"}], "metadata": {"uid": "u"}}))
                .expect("an object"),
        );
        for end in 0..stored.len() {
            assert_eq!(Layout::find(&stored[..end]), None, "{end}");
        }
        for header in [0u8, 1, 200] {
            let mut moved = stored.to_vec();
            moved[0] = header;
            assert_eq!(Layout::find(&moved), None, "{header}");
        }
    }
}
