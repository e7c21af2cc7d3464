//! Protobuf on the wire: errors as the API tells them.

use bytes::Bytes;
use longshore_api::{Gvk, Reason, StatusError, protobuf};
use serde_json::Value;

/// Encodes an object. A kind without protobuf form cannot be sent as protobuf.
pub fn encode(value: &Value) -> Result<Bytes, StatusError> {
    protobuf::encode_object(value).map(Bytes::from).map_err(refused)
}

/// Decodes a body.
pub fn decode(bytes: &[u8], want: &Gvk) -> Result<Value, StatusError> {
    let api_version = want.api_version();
    if bytes.is_empty() {
        return Err(StatusError::bad_request("empty data"));
    }
    protobuf::decode_object(bytes, (&api_version, &want.kind))
        .map_err(|error| StatusError::bad_request(error.to_string()))
}

/// Encodes a watch event with its frame.
pub fn encode_event(kind: &str, value: &Value) -> Result<Bytes, StatusError> {
    protobuf::encode_event(kind, value).map(Bytes::from).map_err(refused)
}

fn refused(error: protobuf::Error) -> StatusError {
    StatusError::new(
        Reason::NotAcceptable,
        format!("the object cannot be sent as protobuf: {error}"),
    )
}
