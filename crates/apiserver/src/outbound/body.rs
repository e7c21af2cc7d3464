//! Bodies of answers that give their connection back when they have ended.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

use super::{Target, Turn};
use crate::body::{Body, BodyError};

/// What goes back to the pool.
pub(super) struct Back {
    pub(super) target: Target,
    pub(super) sender: SendRequest<Body>,
    pub(super) turn: Turn,
}

struct Returning {
    incoming: Incoming,
    back: Option<Back>,
}

/// A body that gives its connection back.
pub(super) fn returning(incoming: Incoming, back: Back) -> Body {
    Returning { incoming, back: Some(back) }.boxed_unsync()
}

impl Returning {
    fn give_back(&mut self) {
        if let Some(Back { target, sender, turn }) = self.back.take() {
            turn.pool.put(target, sender);
        }
    }
}

impl http_body::Body for Returning {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if frame.is_none() {
            self.give_back();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }
}
