//! Kubernetes' protobuf: objects by the schema table, inside the envelope that names their kind.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/runtime/serializer/protobuf and the generated.proto
//! files (field numbers are in the schema table)

mod decode;
mod encode;
pub mod envelope;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use serde_json::Value;

use crate::gvk::split_api_version;
use crate::schema;

pub use decode::decode;
pub use encode::encode;

/// Bytes or a tree that cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The envelope's prefix is missing.
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    NoMagic,
    /// There is nothing in the envelope.
    #[error("empty body")]
    Empty,
    /// The bytes end inside a field.
    #[error("unexpected EOF")]
    Truncated,
    /// A field has a wrong form.
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
    let envelope = envelope::unwrap(bytes)?;
    let or = |told: &str, default: &str| if told.is_empty() { default } else { told }.to_owned();
    let api_version = or(envelope.api_version, default.0);
    let kind = or(envelope.kind, default.1);
    let ty = type_of(&api_version, &kind)?;
    let mut value = decode(ty, envelope.raw)?;
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Ok(value)
}

/// Encodes an object with its envelope.
pub fn encode_object(value: &Value) -> Result<Vec<u8>, Error> {
    let text = |key: &str| value[key].as_str().unwrap_or("");
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let ty = type_of(api_version, kind)?;
    Ok(envelope::wrap(api_version, kind, &encode(ty, value)))
}

/// Encodes a list with its envelope from items that are messages already. `kind` is the list's,
/// such as `PodList`; `metadata` is its list metadata.
pub fn encode_list<'a>(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    items: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let ty = schema::type_named("meta/v1.ListMeta").expect("a type of the table");
    let mut raw = Vec::new();
    wire::put_bytes(&mut raw, 1, &encode(ty, metadata));
    items.for_each(|item| wire::put_bytes(&mut raw, 2, item));
    envelope::wrap(api_version, kind, &raw)
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

/// Kinds that every version of every group has.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/register.go AddToGroupVersion
const EVERYWHERE: [&str; 7] = [
    "WatchEvent",
    "ListOptions",
    "GetOptions",
    "DeleteOptions",
    "CreateOptions",
    "UpdateOptions",
    "PatchOptions",
];

fn type_of(api_version: &str, kind: &str) -> Result<&'static schema::Type, Error> {
    let found = split_api_version(api_version).and_then(|(group, version)| {
        let own = schema::kind(group, version, kind);
        own.or_else(|| schema::kind("", "v1", kind).filter(|_| EVERYWHERE.contains(&kind)))
    });
    found.ok_or_else(|| Error::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    })
}
