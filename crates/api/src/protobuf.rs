//! Kubernetes' protobuf: objects by the schema table, inside the envelope that names their kind.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/runtime/serializer/protobuf and the generated.proto
//! files (field numbers are in the schema table)

mod decode;
mod encode;
#[cfg(test)]
mod tests;
mod wire;

use serde_json::Value;

use crate::gvk::split_api_version;
use crate::schema;

pub use decode::decode;
pub use encode::encode;

/// What every message begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Bytes or a tree that cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The envelope's prefix is missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix {MAGIC:?}")]
    NoMagic,
    /// The bytes end inside a field, or a field has a wrong form.
    #[error("the protobuf message is malformed: {0}")]
    Malformed(&'static str),
    /// The kind is not in the schema table.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// Its version.
        api_version: String,
        /// Its name.
        kind: String,
    },
}

/// Decodes an enveloped object; the tree has `apiVersion` and `kind`. An envelope without a kind
/// takes the one given.
pub fn decode_object(bytes: &[u8], default: (&str, &str)) -> Result<Value, Error> {
    let message = bytes.strip_prefix(MAGIC).ok_or(Error::NoMagic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut fields = wire::Reader::new(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => {
                let mut meta = wire::Reader::new(field.bytes()?);
                while let Some((number, field)) = meta.next()? {
                    match number {
                        1 => api_version = field.text()?.to_owned(),
                        2 => kind = field.text()?.to_owned(),
                        _ => {}
                    }
                }
            }
            2 => raw = field.bytes()?,
            _ => {}
        }
    }
    if api_version.is_empty() {
        api_version = default.0.to_owned();
    }
    if kind.is_empty() {
        kind = default.1.to_owned();
    }
    let ty = type_of(&api_version, &kind)?;
    let mut value = decode(ty, raw)?;
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Ok(value)
}

/// Encodes an object with its envelope.
pub fn encode_object(value: &Value) -> Result<Vec<u8>, Error> {
    let text = |key: &str| value[key].as_str().unwrap_or("");
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let ty = type_of(api_version, kind)?;
    let mut meta = Vec::new();
    wire::put_bytes(&mut meta, 1, api_version.as_bytes());
    wire::put_bytes(&mut meta, 2, kind.as_bytes());
    let mut out = MAGIC.to_vec();
    wire::put_bytes(&mut out, 1, &meta);
    wire::put_bytes(&mut out, 2, &encode(ty, value));
    wire::put_bytes(&mut out, 3, b"");
    wire::put_bytes(&mut out, 4, b"");
    Ok(out)
}

/// Encodes a watch event as one frame of a stream: its length in four bytes, then the event.
pub fn encode_event(kind: &str, object: &Value) -> Result<Vec<u8>, Error> {
    let mut raw = Vec::new();
    wire::put_bytes(&mut raw, 1, &encode_object(object)?);
    let mut event = Vec::new();
    wire::put_bytes(&mut event, 1, kind.as_bytes());
    wire::put_bytes(&mut event, 2, &raw);
    let length =
        u32::try_from(event.len()).map_err(|_| Error::Malformed("an event is too long"))?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.append(&mut event);
    Ok(frame)
}

fn type_of(api_version: &str, kind: &str) -> Result<&'static schema::Type, Error> {
    let found = split_api_version(api_version)
        .and_then(|(group, version)| schema::kind(group, version, kind));
    found.ok_or_else(|| Error::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    })
}
