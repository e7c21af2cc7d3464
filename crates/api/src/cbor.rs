//! CBOR (RFC 8949) as another spelling of JSON: what upstream's serializer writes and reads.
//!
//! Text is written as byte strings and read from either kind of string; keys are sorted by their
//! encoded bytes, numbers take their shortest form. A document starts with the tag that says that
//! it is CBOR, and a sequence of documents (RFC 8742) needs nothing between them.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/runtime/serializer/cbor

mod decode;
#[cfg(test)]
mod tests;

use serde_json::{Map, Number, Value};

pub use decode::{decode, decode_sequence};

/// The tag 55799 in front of every document.
pub const MAGIC: [u8; 3] = [0xd9, 0xd9, 0xf7];
/// Deepest nesting that is read, the same as of JSON bodies.
pub const DEPTH_MAX: usize = crate::json::DEPTH_MAX;

/// Bytes that are not one CBOR document with a JSON meaning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end inside an item.
    #[error("unexpected EOF")]
    Truncated,
    /// Bytes follow the document.
    #[error("cbor: {0} bytes of extraneous data starting at index {1}")]
    Trailing(usize, usize),
    /// An item has a form that CBOR does not have.
    #[error("cbor: {0}")]
    Malformed(&'static str),
    /// An item has no meaning in JSON.
    #[error("cbor: {0}")]
    NotJson(&'static str),
    /// A map has a key twice.
    #[error("cbor: found duplicate map key {0:?}")]
    DuplicateKey(String),
    /// Containers are nested deeper than [`DEPTH_MAX`].
    #[error("cbor: exceeded max nested level {DEPTH_MAX}")]
    TooDeep,
}

/// Major types.
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// Encodes a tree as one document.
pub fn encode(value: &Value) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    item(&mut out, value);
    out
}

/// Encodes a watch event as one document of a sequence. The object in it is a document of its own.
pub fn encode_event(kind: &str, object: &Value) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    head(&mut out, MAP, 2);
    string(&mut out, "type");
    string(&mut out, kind);
    string(&mut out, "object");
    out.extend_from_slice(&MAGIC);
    item(&mut out, object);
    out
}

fn item(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(SIMPLE << 5 | 22),
        Value::Bool(bit) => out.push(SIMPLE << 5 | (20 + u8::from(*bit))),
        Value::Number(number) => self::number(out, number),
        Value::String(text) => string(out, text),
        Value::Array(items) => {
            head(out, ARRAY, items.len() as u64);
            items.iter().for_each(|value| item(out, value));
        }
        Value::Object(fields) => map(out, fields),
    }
}

/// The shortest form of a head: one byte, or the argument in 1, 2, 4 or 8 more.
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    let (code, length) = match argument {
        0..24 => {
            out.push(major | bytes[7]);
            return;
        }
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    out.push(major | code);
    out.extend_from_slice(&bytes[8 - length..]);
}

fn string(out: &mut Vec<u8>, text: &str) {
    head(out, BYTES, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Shorter keys come first: their heads are smaller.
fn map(out: &mut Vec<u8>, fields: &Map<String, Value>) {
    head(out, MAP, fields.len() as u64);
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by(|(a, _), (b, _)| (a.len(), a.as_bytes()).cmp(&(b.len(), b.as_bytes())));
    for (key, value) in fields {
        string(out, key);
        item(out, value);
    }
}

fn number(out: &mut Vec<u8>, number: &Number) {
    if let Some(value) = number.as_u64() {
        head(out, UNSIGNED, value);
    } else if let Some(value) = number.as_i64() {
        head(out, NEGATIVE, !value as u64);
    } else {
        float(out, number.as_f64().unwrap_or(0.0));
    }
}

fn float(out: &mut Vec<u8>, value: f64) {
    let single = value as f32;
    if f64::from(single) != value {
        out.push(SIMPLE << 5 | 27);
        out.extend_from_slice(&value.to_be_bytes());
        return;
    }
    match half(single) {
        Some(half) => {
            out.push(SIMPLE << 5 | 25);
            out.extend_from_slice(&half.to_be_bytes());
        }
        None => {
            out.push(SIMPLE << 5 | 26);
            out.extend_from_slice(&single.to_be_bytes());
        }
    }
}

/// A number as IEEE 754 half precision, if it fits exactly.
fn half(value: f32) -> Option<u16> {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let exponent = (bits >> 23 & 0xff) as i32 - 127;
    let fraction = bits & 0x7f_ffff;
    if value == 0.0 {
        return Some(sign);
    }
    if (-14..=15).contains(&exponent) {
        let exact = fraction & 0x1fff == 0;
        return exact.then(|| sign | ((exponent + 15) as u16) << 10 | (fraction >> 13) as u16);
    }
    // Numbers below the smallest normal one have no leading bit.
    if (-24..-14).contains(&exponent) {
        let shift = (-exponent - 1) as u32;
        let whole = fraction | 0x80_0000;
        let exact = whole & ((1 << shift) - 1) == 0;
        return exact.then(|| sign | (whole >> shift) as u16);
    }
    None
}
