//! The logs of a container: the newest file or the one before, from its end or a time on, and on as
//! it grows.
//!
//! upstream: staging/src/k8s.io/cri-client/pkg/logs/logs.go

use std::io::SeekFrom;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use jiff::{SignedDuration, Timestamp};
use longshore_client::transport::{Body, BodyError};
use longshore_cri::logs;
use longshore_cri::v1::{Container, ContainerFilter, ContainerState, ListContainersRequest};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{Query, Refused};
use crate::Shared;
use crate::observe::labels;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// How often a followed file is looked at.
const FOLLOW_PERIOD: Duration = Duration::from_millis(200);
/// How often it is asked whether the container still runs, in looks.
const ALIVE_EVERY: u32 = 5;

/// What is wanted of a log.
struct Wanted {
    follow: bool,
    timestamps: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    limit: Option<u64>,
    stream: String,
}

/// Answers a request for logs.
pub(super) fn answer(
    shared: &Arc<Shared>,
    namespace: &str,
    pod: &str,
    uid: &str,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refused> {
    let bad = |why: &str| Refused::new(StatusCode::BAD_REQUEST, why);
    let number = |key: &str| match query.get(key) {
        "" => Ok(None),
        text => text.parse::<u64>().map(Some).map_err(|_| bad(&format!("{key} is not a number"))),
    };
    let since_time = query.get("sinceTime").parse::<Timestamp>().ok();
    let now = shared.clock.now();
    let since = number("sinceSeconds")?.and_then(|s| i64::try_from(s).ok());
    let wanted = Wanted {
        follow: query.flag("follow"),
        timestamps: query.flag("timestamps"),
        tail: number("tailLines")?.and_then(|n| usize::try_from(n).ok()),
        since: since.map(|s| now - SignedDuration::from_secs(s)).or(since_time),
        limit: number("limitBytes")?,
        stream: query.get("stream").to_owned(),
    };
    let dir = shared.config.logs_dir.join(format!("{namespace}_{pod}_{uid}")).join(container);
    let attempt = find(&dir, query.flag("previous")).ok_or_else(|| {
        let which =
            if query.flag("previous") { "previous terminated container" } else { "container" };
        bad(&format!("{which} {container:?} in pod {pod:?} not found"))
    })?;
    let reader = Reader {
        shared: shared.clone(),
        uid: uid.to_owned(),
        container: container.to_owned(),
        path: dir.join(format!("{attempt}.log")),
        attempt,
        wanted,
        file: None,
        rest: Vec::new(),
        sent: 0,
        idle: 0,
        first: true,
    };
    let frames = stream::unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Some((Ok::<_, BodyError>(Frame::data(chunk)), reader))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let kind = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// The newest attempt that has a log, or the one before.
fn find(dir: &std::path::Path, previous: bool) -> Option<u32> {
    let mut attempts: Vec<u32> = std::fs::read_dir(dir)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse().ok())
        .collect();
    attempts.sort_unstable();
    attempts.into_iter().rev().nth(usize::from(previous))
}

/// Whether this attempt of a container runs. Another one may have taken its place since the last
/// look, and nothing more comes into this one's log.
fn runs(containers: &[Container], attempt: u32) -> bool {
    let running = ContainerState::ContainerRunning as i32;
    containers.iter().any(|found| {
        found.state == running && found.metadata.as_ref().is_some_and(|m| m.attempt == attempt)
    })
}

struct Reader {
    shared: Arc<Shared>,
    uid: String,
    container: String,
    path: PathBuf,
    attempt: u32,
    wanted: Wanted,
    file: Option<tokio::fs::File>,
    /// The start of a line that is not complete yet.
    rest: Vec<u8>,
    sent: u64,
    idle: u32,
    first: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.wanted.limit.is_some_and(|limit| self.sent >= limit) {
                return None;
            }
            let new = match self.read().await {
                Ok(new) => new,
                Err(error) => {
                    tracing::debug!(path = %self.path.display(), %error, "a log cannot be read");
                    return None;
                }
            };
            if new == 0 && !self.wait().await {
                return None;
            }
            let mut out = self.lines();
            if let Some(limit) = self.wanted.limit {
                let left = usize::try_from(limit - self.sent).unwrap_or(usize::MAX);
                out.truncate(left);
            }
            self.sent += out.len() as u64;
            if !out.is_empty() {
                return Some(out.into());
            }
        }
    }

    async fn read(&mut self) -> std::io::Result<usize> {
        if self.file.is_none() {
            let mut file = tokio::fs::File::open(&self.path).await?;
            if let Some(tail) = self.wanted.tail {
                let start = tail_start(&mut file, tail).await?;
                file.seek(SeekFrom::Start(start)).await?;
            }
            self.file = Some(file);
        }
        let file = self.file.as_mut().expect("opened just above");
        let mut buffer = vec![0; CHUNK];
        let count = file.read(&mut buffer).await?;
        self.rest.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    /// At the end of the file: false when nothing will come any more.
    async fn wait(&mut self) -> bool {
        if !self.wanted.follow {
            return false;
        }
        if self.idle.is_multiple_of(ALIVE_EVERY) && !self.first && !self.is_running().await {
            // What was written between the last look and the end is still to be read.
            self.wanted.follow = false;
            return true;
        }
        self.first = false;
        self.idle += 1;
        tokio::time::sleep(FOLLOW_PERIOD).await;
        true
    }

    async fn is_running(&self) -> bool {
        let selector = [(labels::POD_UID, &self.uid), (labels::CONTAINER, &self.container)];
        let selector = selector.into_iter().map(|(k, v)| (k.to_owned(), v.clone())).collect();
        let filter = ContainerFilter { label_selector: selector, ..Default::default() };
        let request = ListContainersRequest { filter: Some(filter) };
        match self.shared.runtime.list_containers(request).await {
            Ok(list) => runs(&list.containers, self.attempt),
            Err(_) => true,
        }
    }

    /// The complete lines that were read, as they are wanted.
    fn lines(&mut self) -> Vec<u8> {
        let Some(end) = self.rest.iter().rposition(|b| *b == b'\n') else { return Vec::new() };
        let mut out = Vec::new();
        for line in self.rest[..end].split(|b| *b == b'\n') {
            let Some(line) = logs::parse(line) else { continue };
            let early = self.wanted.since.is_some_and(|s| line.timestamp().is_some_and(|t| t < s));
            let other = match self.wanted.stream.as_str() {
                "Stdout" => line.stderr,
                "Stderr" => !line.stderr,
                _ => false,
            };
            if early || other {
                continue;
            }
            if self.wanted.timestamps {
                out.extend_from_slice(line.time.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(line.text);
            if !line.partial {
                out.push(b'\n');
            }
        }
        self.rest.drain(..=end);
        out
    }
}

/// Where the last `lines` lines of a file begin.
async fn tail_start(file: &mut tokio::fs::File, lines: usize) -> std::io::Result<u64> {
    let mut at = file.seek(SeekFrom::End(0)).await?;
    let mut found = 0;
    while at > 0 {
        let size = at.min(CHUNK as u64);
        at -= size;
        file.seek(SeekFrom::Start(at)).await?;
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(CHUNK)];
        file.read_exact(&mut buffer).await?;
        for (i, byte) in buffer.iter().enumerate().rev() {
            if *byte == b'\n' {
                found += 1;
                if found > lines {
                    return Ok(at + i as u64 + 1);
                }
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use longshore_cri::v1::ContainerMetadata;

    use super::*;

    #[test]
    fn a_container_that_was_restarted_runs_no_more() {
        let container = |attempt, state: ContainerState| Container {
            metadata: Some(ContainerMetadata { name: "a".to_owned(), attempt }),
            state: state as i32,
            ..Default::default()
        };
        let first = container(0, ContainerState::ContainerRunning);
        assert!(runs(std::slice::from_ref(&first), 0));
        let restarted = [
            container(1, ContainerState::ContainerRunning),
            container(0, ContainerState::ContainerExited),
        ];
        assert!(!runs(&restarted, 0));
        assert!(runs(&restarted, 1));
        assert!(!runs(&[], 0));
    }
}
