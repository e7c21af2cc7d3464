//! The envelope of every message: a prefix, then a `runtime.Unknown` that names the kind.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/runtime/generated.proto

use super::Error;
use super::wire::{Reader, put_bytes};

/// What every message begins with.
const MAGIC: &[u8] = b"k8s\0";

/// An opened envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apiVersion` of the object; empty when it is not told.
    pub api_version: &'a str,
    /// `kind` of the object; empty when it is not told.
    pub kind: &'a str,
    /// The object's own message.
    pub raw: &'a [u8],
}

/// Puts an object's message into an envelope.
pub fn wrap(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut meta = Vec::with_capacity(api_version.len() + kind.len() + 4);
    put_bytes(&mut meta, 1, api_version.as_bytes());
    put_bytes(&mut meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(MAGIC.len() + meta.len() + raw.len() + 16);
    out.extend_from_slice(MAGIC);
    put_bytes(&mut out, 1, &meta);
    put_bytes(&mut out, 2, raw);
    // Neither an encoding nor a media type of the content.
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    out
}

/// Opens an envelope.
///
/// # Errors
/// When the prefix is missing, or the envelope is malformed.
pub fn unwrap(bytes: &[u8]) -> Result<Envelope<'_>, Error> {
    let message = bytes.strip_prefix(MAGIC).ok_or(Error::NoMagic)?;
    if message.is_empty() {
        return Err(Error::Empty);
    }
    let mut envelope = Envelope::default();
    let mut fields = Reader::new(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => {
                let mut meta = Reader::new(field.bytes()?);
                while let Some((number, field)) = meta.next()? {
                    match number {
                        1 => envelope.api_version = field.text()?,
                        2 => envelope.kind = field.text()?,
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = field.bytes()?,
            _ => {}
        }
    }
    Ok(envelope)
}
