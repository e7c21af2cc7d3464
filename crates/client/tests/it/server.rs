//! A server that gives prepared answers, one after the other, and notes what was asked.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use longshore_client::transport::full;
use longshore_client::{Body, Error, Transport};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A prepared answer.
pub enum Answer {
    /// A status code and a JSON body.
    Json(u16, Value),
    /// A status code and a text.
    Text(u16, &'static str),
    /// A watch: events come through the channel, its end ends the body.
    Watch(mpsc::UnboundedReceiver<Value>),
    /// The connection breaks.
    Broken,
}

/// The server. When it has no answer left it never answers.
#[derive(Clone, Default)]
pub struct Server {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Server {
    /// Adds an answer.
    pub fn will(&self, answer: Answer) {
        self.answers.lock().push_back(answer);
    }

    /// Adds a watch; gives the end that sends its events.
    pub fn will_watch(&self) -> mpsc::UnboundedSender<Value> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.will(Answer::Watch(receiver));
        sender
    }

    /// What was asked, in order, and when.
    pub fn asked(&self) -> Vec<(String, Instant)> {
        self.asked.lock().clone()
    }
}

impl Transport for Server {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Error>> {
        self.asked.lock().push((request.uri().to_string(), Instant::now()));
        let answer = self.answers.lock().pop_front();
        async move {
            let (code, body) = match answer {
                None => std::future::pending().await,
                Some(Answer::Broken) => return Err(Error::Transport("broken".into())),
                Some(Answer::Json(code, value)) => (code, full(value.to_string())),
                Some(Answer::Text(code, text)) => (code, full(text)),
                Some(Answer::Watch(events)) => (200, watch(events)),
            };
            Ok(Response::builder().status(code).body(body).expect("a status and a body"))
        }
        .boxed()
    }
}

fn watch(events: mpsc::UnboundedReceiver<Value>) -> Body {
    let frames = stream::unfold(events, |mut events| async {
        let event = events.recv().await?;
        Some((event, events))
    });
    // A frame is no line: cut each event in two to show that the reader does not care.
    let frames = frames.flat_map(|event| {
        let line = format!("{event}\n").into_bytes();
        let (first, second) = line.split_at(line.len() / 2);
        let parts = [Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)];
        stream::iter(parts.map(|part| Ok(Frame::data(part))))
    });
    StreamBody::new(frames).boxed_unsync()
}
