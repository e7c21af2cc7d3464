//! How much is done at one time: running reads and writes, bodies on their way in, open watches.
//!
//! A write takes its turn when its body is there: clients that send slowly hold up nobody but
//! themselves.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/server/filters/maxinflight.go

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use http::header::{HeaderValue, RETRY_AFTER};
use http::{Method, Response};
use http_body_util::BodyExt as _;
use longshore_api::StatusError;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::body::Body;
use crate::endpoints::{body, respond};

/// Requests that read and may run at the same time.
///
/// upstream: --max-requests-inflight
const READS_MAX: usize = 400;
/// Requests that write and may run at the same time.
///
/// upstream: --max-mutating-requests-inflight
const WRITES_MAX: usize = 200;
/// Requests that may wait for their turn; more get 429.
const WAITING_MAX: usize = 10_000;
/// Bodies that may be on their way in at the same time; more get 429.
const BODIES_MAX: usize = 10_000;
/// Bytes of all bodies that are held at one time, on their way in and while their requests wait
/// and run; more get 429.
const BODIES_BYTES_MAX: usize = 512 << 20;

/// How many watches may be open.
#[derive(Clone, Copy, Debug)]
pub struct WatchLimits {
    /// Of one user.
    pub per_user: usize,
    /// Of all users.
    pub total: usize,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self { per_user: 32_768, total: 131_072 }
    }
}

/// What is said to requests that find no room.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/server/filters/maxinflight.go tooManyRequests
pub fn too_many_requests() -> Response<Body> {
    let mut response = respond::text(429, "Too many requests, please try again later.\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// There is no room for a request.
#[derive(Clone, Copy, Debug)]
pub struct Busy;

/// How many requests run and wait.
pub struct Limits {
    reads: Semaphore,
    writes: Semaphore,
    bodies: Semaphore,
    waiting: AtomicUsize,
    body_bytes: Arc<AtomicUsize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reads: Semaphore::new(READS_MAX),
            writes: Semaphore::new(WRITES_MAX),
            bodies: Semaphore::new(BODIES_MAX),
            waiting: AtomicUsize::new(0),
            body_bytes: Arc::default(),
        }
    }
}

/// Whether a method only reads.
pub fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

impl Limits {
    /// Waits for a turn to run.
    ///
    /// # Errors
    /// When too many wait already.
    pub async fn enter(&self, method: &Method) -> Result<SemaphorePermit<'_>, Busy> {
        let semaphore = if reads(method) { &self.reads } else { &self.writes };
        if let Ok(permit) = semaphore.try_acquire() {
            return Ok(permit);
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Busy);
        }
        let waiting = Counted(&self.waiting);
        let permit = semaphore.acquire().await.expect("the semaphores are never closed");
        drop(waiting);
        Ok(permit)
    }

    /// Reads a whole body before its request takes its turn.
    ///
    /// # Errors
    /// The outer one when there is no room for it, the inner one when it is too large or breaks
    /// off.
    pub async fn receive(&self, mut body: Body) -> Result<Result<Held, StatusError>, Busy> {
        let _one = self.bodies.try_acquire().map_err(|_| Busy)?;
        let mut held = Held { bytes: Bytes::new(), size: 0, total: self.body_bytes.clone() };
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Ok(Err(body::broken(&*error))),
            };
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > body::BODY_BYTES_MAX {
                body::drain(body).await;
                return Ok(Err(body::too_large()));
            }
            held.grow(data.len())?;
            bytes.extend_from_slice(&data);
        }
        held.bytes = bytes.freeze();
        Ok(Ok(held))
    }
}

/// A body in memory; counted until it is dropped.
pub struct Held {
    /// The whole body.
    pub bytes: Bytes,
    size: usize,
    total: Arc<AtomicUsize>,
}

impl Held {
    fn grow(&mut self, more: usize) -> Result<(), Busy> {
        self.size += more;
        let before = self.total.fetch_add(more, Ordering::Relaxed);
        if before + more > BODIES_BYTES_MAX { Err(Busy) } else { Ok(()) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// Counts one waiting request; also when it is dropped while it waits.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The open watches of every user.
pub struct Watches {
    limits: WatchLimits,
    open: Arc<Mutex<HashMap<String, usize>>>,
    total: Arc<AtomicUsize>,
}

/// The place of one open watch.
pub struct WatchPlace {
    user: String,
    open: Arc<Mutex<HashMap<String, usize>>>,
    total: Arc<AtomicUsize>,
}

impl Watches {
    /// No open watches.
    pub fn new(limits: WatchLimits) -> Self {
        Self { limits, open: Arc::default(), total: Arc::default() }
    }

    /// Takes a place for a watch of a user.
    ///
    /// # Errors
    /// When the user, or all users together, have too many.
    pub fn enter(&self, user: &str) -> Result<WatchPlace, Busy> {
        let mut open = self.open.lock();
        let own = open.get(user).copied().unwrap_or(0);
        if own >= self.limits.per_user || self.total.load(Ordering::Relaxed) >= self.limits.total {
            return Err(Busy);
        }
        open.insert(user.to_owned(), own + 1);
        self.total.fetch_add(1, Ordering::Relaxed);
        let (open, total) = (self.open.clone(), self.total.clone());
        Ok(WatchPlace { user: user.to_owned(), open, total })
    }
}

impl Drop for WatchPlace {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        match open.get_mut(&self.user) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(open.remove(&self.user)),
        }
        self.total.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::full;

    #[test]
    fn watches_are_counted_for_each_user_and_for_all() {
        let watches = Watches::new(WatchLimits { per_user: 2, total: 3 });
        let first = watches.enter("a").expect("room");
        let _second = watches.enter("a").expect("room");
        assert!(watches.enter("a").is_err(), "a has two");
        let _third = watches.enter("b").expect("b has none");
        assert!(watches.enter("c").is_err(), "there are three");
        drop(first);
        assert!(watches.enter("a").is_ok(), "one was closed");
    }

    #[tokio::test]
    async fn bodies_are_counted_while_they_are_held() {
        let limits = Limits::default();
        let held = limits.receive(full("abc")).await.expect("room").expect("a body");
        assert_eq!(&held.bytes[..], b"abc");
        assert_eq!(limits.body_bytes.load(Ordering::Relaxed), 3);
        drop(held);
        assert_eq!(limits.body_bytes.load(Ordering::Relaxed), 0);
        let large = full(vec![b' '; body::BODY_BYTES_MAX + 1]);
        assert!(limits.receive(large).await.expect("room").is_err(), "it is too large");
        assert_eq!(limits.body_bytes.load(Ordering::Relaxed), 0);
        limits.body_bytes.store(BODIES_BYTES_MAX, Ordering::Relaxed);
        assert!(limits.receive(full("x")).await.is_err(), "there is no room");
    }
}
