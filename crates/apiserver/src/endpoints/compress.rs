//! Compression of large answers.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/writers.go

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;

use crate::body::Body;

/// Answers up to this size are not compressed.
///
/// upstream: defaultGzipThresholdBytes
const THRESHOLD_BYTES: u64 = 128 * 1024;
/// Bytes that are compressed in one go, between which others get their turn.
const STEP_BYTES: usize = 64 * 1024;

/// Compresses an answer that is large or of a size that is not known yet, for a client that takes
/// it so. Not for watches.
pub fn compress(accepted: Option<&HeaderValue>, response: Response<Body>) -> Response<Body> {
    let small = response.body().size_hint().exact().is_some_and(|size| size <= THRESHOLD_BYTES);
    if small || !takes_gzip(accepted) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let state = State { body, encoder: Some(encoder), rest: Bytes::new() };
    let frames = stream::unfold(state, |mut state| async move {
        let chunk = state.chunk().await?;
        Some((chunk.map(Frame::data), state))
    });
    Response::from_parts(parts, crate::body::stream(frames))
}

fn takes_gzip(accepted: Option<&HeaderValue>) -> bool {
    let given = accepted.and_then(|v| v.to_str().ok()).unwrap_or("");
    given.split(',').any(|token| token.trim() == "gzip")
}

struct State {
    body: Body,
    /// Taken when the stream is finished.
    encoder: Option<GzEncoder<Vec<u8>>>,
    rest: Bytes,
}

type Chunk = Result<Bytes, crate::body::BodyError>;

impl State {
    /// The next compressed bytes; `None` at the end.
    async fn chunk(&mut self) -> Option<Chunk> {
        loop {
            let encoder = self.encoder.as_mut()?;
            if self.rest.is_empty() {
                match self.body.frame().await {
                    Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => {
                        self.encoder = None;
                        return Some(Err(error));
                    }
                    None => {
                        let end = self.encoder.take()?.finish();
                        return Some(end.map(Bytes::from).map_err(Into::into));
                    }
                }
                continue;
            }
            let step = self.rest.split_to(self.rest.len().min(STEP_BYTES));
            if let Err(error) = encoder.write_all(&step) {
                self.encoder = None;
                return Some(Err(error.into()));
            }
            let ready = std::mem::take(encoder.get_mut());
            if !ready.is_empty() {
                return Some(Ok(ready.into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn answer(size: usize) -> (Bytes, Response<Body>) {
        let bytes: Bytes = (0..size).map(|i| b"a rather dull text "[i % 19]).collect();
        (bytes.clone(), Response::new(crate::body::full(bytes)))
    }

    #[tokio::test]
    async fn large_answers_are_compressed_for_those_who_ask() {
        let (plain, response) = answer(300_000);
        let response = compress(Some(&HeaderValue::from_static("br, gzip")), response);
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        assert_eq!(response.headers()[VARY], "Accept-Encoding");
        let packed = response.into_body().collect().await.expect("a body").to_bytes();
        assert!(packed.len() < 20_000, "{} bytes", packed.len());
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&*packed).read_to_end(&mut read).expect("gzip");
        assert!(read == plain);
    }

    #[test]
    fn others_are_sent_as_they_are() {
        for (size, encoding) in [(131_072, "gzip"), (300_000, "br"), (300_000, "gzipx")] {
            let response = compress(Some(&HeaderValue::from_static(encoding)), answer(size).1);
            assert!(!response.headers().contains_key(CONTENT_ENCODING), "{size} {encoding}");
        }
        let (_, response) = answer(300_000);
        assert!(!compress(None, response).headers().contains_key(CONTENT_ENCODING));
    }
}
