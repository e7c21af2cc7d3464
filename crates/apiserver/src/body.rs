//! The body type of requests and responses: the client's, so that calls inside the process need no
//! conversion.

use bytes::Bytes;
use futures_util::Stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

pub use longshore_client::transport::{Body, BodyError, full};

/// A body that is made while it is sent.
pub fn stream(
    frames: impl Stream<Item = Result<Frame<Bytes>, BodyError>> + Send + 'static,
) -> Body {
    StreamBody::new(frames).boxed_unsync()
}
