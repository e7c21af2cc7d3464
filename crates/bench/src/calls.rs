//! Stands between a node agent and its container runtime, and notes when each call began and ended.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_base::TaskKind;
use parking_lot::Mutex;
use tokio::net::{UnixListener, UnixStream};

/// The largest message that is passed on.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most calls that are kept: what is measured takes far fewer.
const CALLS_MAX: usize = 100_000;
/// Bytes of a message with nothing in it: the frame of gRPC. Such a list asks for everything there is, which the
/// agent does once in a while and for no pod in particular.
const EMPTY_MESSAGE: usize = 5;

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name, such as `RunPodSandbox`.
    pub name: String,
    /// When it reached us.
    pub start: Instant,
    /// When its answer did.
    pub end: Instant,
}

/// The calls so far.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    /// Listens on a socket and passes on to the runtime's.
    pub fn between(front: &Path, runtime: &Path) -> Result<Self> {
        let listener =
            UnixListener::bind(front).with_context(|| format!("listen on {}", front.display()))?;
        let calls = Self::default();
        let (all, runtime) = (calls.clone(), runtime.to_owned());
        longshore_base::spawn(TaskKind::PerItem, "runtime calls", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = serve(stream, runtime.clone(), all.clone());
                longshore_base::spawn(TaskKind::PerItem, "runtime connection", async move {
                    if let Err(error) = Box::pin(connection).await {
                        eprintln!("a connection to the runtime: {error:#}");
                    }
                });
            }
        });
        Ok(calls)
    }

    /// The calls that began in a span of time, in the order in which they ended.
    pub fn during(&self, from: Instant, to: Instant) -> Vec<Call> {
        let all = self.0.lock();
        all.iter().filter(|call| call.start >= from && call.start <= to).cloned().collect()
    }
}

async fn serve(stream: UnixStream, runtime: PathBuf, calls: Calls) -> Result<()> {
    let back = UnixStream::connect(&runtime).await.context("connect to the runtime")?;
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(back)).await?;
    longshore_base::spawn(TaskKind::PerItem, "runtime connection", async move {
        if let Err(error) = connection.await {
            eprintln!("the connection to the runtime: {error}");
        }
    });
    let service = service_fn(move |request| pass(sender.clone(), request, calls.clone()));
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    server.serve_connection(TokioIo::new(stream), service).await.context("serve")
}

/// Passes on one call and its answer.
async fn pass(
    mut runtime: SendRequest<Full<Bytes>>,
    request: Request<Incoming>,
    calls: Calls,
) -> Result<Response<Collected<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let start = Instant::now();
    let (head, body) = request.into_parts();
    let name = head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    let body = Limited::new(body, MESSAGE_BYTES_MAX).collect().await?.to_bytes();
    let of_a_pod = body.len() > EMPTY_MESSAGE;
    let answer = runtime.send_request(Request::from_parts(head, Full::new(body))).await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MESSAGE_BYTES_MAX).collect().await?;
    let mut all = calls.0.lock();
    if of_a_pod && all.len() < CALLS_MAX {
        all.push(Call { name, start, end: Instant::now() });
    }
    Ok(Response::from_parts(head, body))
}

/// Milliseconds of a span in which at least one call was on its way.
pub fn covered(calls: &[Call], from: Instant, to: Instant) -> f64 {
    let mut spans: Vec<(Instant, Instant)> =
        calls.iter().map(|call| (call.start.max(from), call.end.min(to))).collect();
    spans.sort_unstable();
    let (mut sum, mut until) = (0.0, from);
    for (start, end) in spans {
        let start = start.max(until);
        if end > start {
            sum += (end - start).as_secs_f64() * 1e3;
            until = end;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn calls_at_the_same_time_count_once() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let call = |from, to| Call { name: String::new(), start: at(from), end: at(to) };
        let calls = [call(10, 20), call(15, 30), call(16, 18), call(90, 200), call(40, 50)];
        assert_eq!(covered(&calls, at(0), at(100)).round(), 40.0);
        assert_eq!(covered(&[], at(0), at(100)), 0.0);
    }
}
