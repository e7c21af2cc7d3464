//! Puts the small writes of a connection together. HTTP/2 writes and flushes each frame of data by
//! itself; without this each would become a TLS record and a system call of its own.
//!
//! What a connection writes while it is polled waits here; whoever polls it sends it afterwards
//! through the [`Outlet`]. A flush in between does nothing, until the connection has ended and its
//! stream belongs to somebody else.
//!
//! Each answer that has something to write wakes the connection, which would run before the other
//! answers do. So it lets them go first, where that was seen to bring more to send at once: on a
//! connection with many watches it does, on one that asks and waits it only costs.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What waits at most; more is sent at once.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// Writes that are longer are not copied: they go on by themselves.
const COPIED_BYTES_MAX: usize = 8 << 10;
/// Memory that an idle connection keeps.
const KEPT_BYTES_MAX: usize = 4 << 10;

struct Shared<S> {
    io: S,
    waiting: Vec<u8>,
    /// How much of `waiting` has been written.
    written: usize,
    flushed: bool,
    /// Whether flushes are left to the outlet.
    gathers: bool,
}

/// The connection's end of a stream.
pub struct Gather<S>(Arc<Mutex<Shared<S>>>);

/// One send in so many lets others go first although the last time it brought nothing.
const TRY_EVERY: u32 = 32;

/// The end of whoever polls the connection.
pub struct Outlet<S> {
    shared: Arc<Mutex<Shared<S>>>,
    /// What waited when the others were let go first.
    before: Option<usize>,
    /// Whether that brought more to send.
    helps: bool,
    sends: u32,
}

/// Divides a stream into the end that a connection uses and the end that sends what it wrote.
pub fn gather<S>(io: S) -> (Gather<S>, Outlet<S>) {
    let shared = Shared { io, waiting: Vec::new(), written: 0, flushed: true, gathers: true };
    let shared = Arc::new(Mutex::new(shared));
    let outlet = Outlet { shared: shared.clone(), before: None, helps: true, sends: 0 };
    (Gather(shared), outlet)
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Writes and flushes what waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            let rest = &self.waiting[self.written..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.written = 0;
        self.waiting.clear();
        self.waiting.shrink_to(KEPT_BYTES_MAX);
        if !self.flushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = buffers.iter().map(|buffer| buffer.len()).sum();
        let copied = self.gathers && count <= COPIED_BYTES_MAX;
        if !copied || self.waiting.len() + count > WAITING_BYTES_MAX {
            ready!(self.poll_send(cx))?;
        }
        self.flushed = false;
        if !copied {
            return Pin::new(&mut self.io).poll_write_vectored(cx, buffers);
        }
        buffers.iter().for_each(|buffer| self.waiting.extend_from_slice(buffer));
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncWrite + Unpin> Outlet<S> {
    /// Sends what waits; or wakes the task behind all that are ready, to send then.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.lock();
        let waiting = shared.waiting.len();
        if let Some(before) = self.before.take() {
            self.helps = waiting > before;
        } else if waiting > 0 && shared.written == 0 {
            self.sends = self.sends.wrapping_add(1);
            if self.helps || self.sends.is_multiple_of(TRY_EVERY) {
                self.before = Some(waiting);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        shared.poll_send(cx)
    }

    /// From now on the other end sends for itself; what waits is sent now, as far as it goes.
    pub fn let_go(&mut self, cx: &mut Context<'_>) {
        let mut shared = self.shared.lock();
        shared.gathers = false;
        // What is left, or what failed, comes up when the other end writes.
        if shared.poll_send(cx).is_pending() {
            tracing::trace!("a connection has ended before all was sent");
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().io).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_write(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.lock();
        if shared.gathers { Poll::Ready(Ok(())) } else { shared.poll_send(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.lock();
        ready!(shared.poll_send(cx))?;
        Pin::new(&mut shared.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn small_writes_wait_and_keep_their_order() {
        let (io, mut peer) = tokio::io::duplex(1 << 20);
        let (mut inner, mut outlet) = gather(io);
        let mut want = Vec::new();
        for length in [10, 3000, COPIED_BYTES_MAX + 1, 1, COPIED_BYTES_MAX, 2] {
            let piece = vec![length as u8; length];
            inner.write_all(&piece).await.expect("it is taken");
            inner.flush().await.expect("it is taken");
            want.extend(piece);
        }
        let mut got = vec![0; 3010 + COPIED_BYTES_MAX + 1];
        peer.read_exact(&mut got).await.expect("a long write sends what is before it");
        let more = tokio::time::timeout(std::time::Duration::ZERO, peer.read_u8()).await;
        assert!(more.is_err(), "the rest waits");
        poll_fn(|cx| outlet.poll_send(cx)).await.expect("it is sent");
        let mut rest = vec![0; want.len() - got.len()];
        peer.read_exact(&mut rest).await.expect("all of it");
        got.extend(rest);
        assert_eq!(got, want);
        let let_go = poll_fn(|cx| {
            outlet.let_go(cx);
            Poll::Ready(())
        });
        let_go.await;
        inner.write_all(b"end").await.expect("it is taken");
        inner.shutdown().await.expect("it ends");
        let mut end = Vec::new();
        peer.read_to_end(&mut end).await.expect("the end");
        assert_eq!(end, b"end");
    }

    #[tokio::test]
    async fn what_waits_is_limited() {
        let (io, mut peer) = tokio::io::duplex(100);
        let (mut inner, mut outlet) = gather(io);
        let piece = vec![7; 5000];
        let mut count = 0;
        let full = poll_fn(|cx| {
            while let Poll::Ready(written) = Pin::new(&mut inner).poll_write(cx, &piece) {
                count += written.expect("it is taken");
            }
            Poll::Ready(count)
        });
        let full = full.await;
        assert!(full <= WAITING_BYTES_MAX && full > WAITING_BYTES_MAX - 5000, "{full}");
        let mut got = vec![0; full];
        let (sent, read) =
            tokio::join!(poll_fn(|cx| outlet.poll_send(cx)), peer.read_exact(&mut got));
        sent.expect("it is sent");
        read.expect("all of it");
        assert_eq!(got, vec![7; full]);
    }

    /// How often a send of one byte lets others go first.
    async fn deferred(
        inner: &mut Gather<tokio::io::DuplexStream>,
        outlet: &mut Outlet<tokio::io::DuplexStream>,
        others_write: bool,
    ) -> usize {
        let mut count = 0;
        for _ in 0..2 * TRY_EVERY {
            inner.write_all(b"a").await.expect("it is taken");
            if poll_fn(|cx| Poll::Ready(outlet.poll_send(cx))).await.is_pending() {
                count += 1;
                if others_write {
                    inner.write_all(b"b").await.expect("it is taken");
                }
                poll_fn(|cx| outlet.poll_send(cx)).await.expect("it is sent");
            }
        }
        count
    }

    #[tokio::test]
    async fn others_go_first_where_that_brings_more() {
        let (io, _peer) = tokio::io::duplex(1 << 20);
        let (mut inner, mut outlet) = gather(io);
        let all = 2 * TRY_EVERY as usize;
        assert_eq!(deferred(&mut inner, &mut outlet, true).await, all);
        assert!(deferred(&mut inner, &mut outlet, false).await <= 3, "it gives up soon");
        assert!(deferred(&mut inner, &mut outlet, true).await > all / 2, "and tries again");
    }
}
