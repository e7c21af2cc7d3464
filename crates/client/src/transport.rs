//! How requests reach the API server: over HTTPS, or in process through the same request chain.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

use crate::error::Error;

/// Why a body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A body of bytes that may still be on its way.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A way to the API server.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request. The URI has a path and a query only.
    fn call(
        &self,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, Error>>;
}

/// A body of bytes that are all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    full(Bytes::new())
}
