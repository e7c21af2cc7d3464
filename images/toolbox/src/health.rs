//! A gRPC health service: serving or not, as `/healthz` says.

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::HEALTHY;

/// The method that is answered.
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// The gRPC status of other methods.
const UNIMPLEMENTED: &str = "12";

/// Serves one connection.
pub async fn serve(stream: TcpStream) -> std::io::Result<()> {
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer))
        .await
        .map_err(std::io::Error::other)
}

async fn answer(
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let known = request.uri().path() == CHECK;
    let mut trailers = HeaderMap::new();
    let status = if known { "0" } else { UNIMPLEMENTED };
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let state = if HEALTHY.load(Ordering::Relaxed) { 1 } else { 2 };
    // A frame with a message whose field 1 is the state.
    let message = known.then(|| Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 0x08, state])));
    let frames = message.into_iter().chain([Frame::trailers(trailers)]).map(Ok);
    let frames = futures_util::stream::iter(frames);
    let mut response = Response::new(BoxBody::new(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}
