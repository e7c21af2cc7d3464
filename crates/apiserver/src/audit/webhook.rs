//! Events for another server.
//!
//! upstream: staging/src/k8s.io/apiserver/plugin/pkg/audit/webhook/webhook.go,
//! staging/src/k8s.io/apiserver/pkg/util/webhook/webhook.go

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode};
use longshore_base::rng::Rng;
use serde_json::{Value, json};

use super::backend::Output;
use super::event::Event;
use crate::outbound::{self, Client, Target};

/// How often a batch is sent at most.
///
/// upstream: webhook.go DefaultRetryBackoffWithInitialDelay
const ATTEMPTS: u32 = 5;
/// How much longer each pause is than the one before.
const GROWTH: f64 = 1.5;
/// How much longer a pause is at most, by chance.
const JITTER: f64 = 0.2;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A server that takes events.
pub struct Webhook(Arc<Shared>);

struct Shared {
    client: Client,
    target: Target,
    path: String,
    token: Option<HeaderValue>,
    first_pause: Duration,
    rng: Arc<dyn Rng>,
}

impl Webhook {
    /// A server, with the path of events and the token for it. `first_pause` is how long it is until
    /// a batch is sent again.
    pub fn new(
        target: Target,
        path: String,
        token: Option<HeaderValue>,
        first_pause: Duration,
        rng: Arc<dyn Rng>,
    ) -> Self {
        let client = Client::default();
        Self(Arc::new(Shared { client, target, path, token, first_pause, rng }))
    }
}

impl Output for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn write(&self, events: Vec<Event>) -> BoxFuture<'static, Result<(), String>> {
        let shared = self.0.clone();
        Box::pin(async move {
            let items: Vec<Value> = events.into_iter().map(|event| event.0.into()).collect();
            let list = json!({
                "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items,
            });
            let body = Bytes::from(list.to_string());
            let mut pause = shared.first_pause;
            let mut last = String::new();
            for attempt in 1..=ATTEMPTS {
                match shared.send(body.clone()).await {
                    Ok(()) => return Ok(()),
                    Err(why) => last = why,
                }
                if attempt < ATTEMPTS {
                    tokio::time::sleep(shared.jittered(pause)).await;
                    pause = pause.mul_f64(GROWTH);
                }
            }
            Err(last)
        })
    }
}

impl Shared {
    fn jittered(&self, pause: Duration) -> Duration {
        // 32 random bits as a share of one.
        let share = f64::from(self.rng.u64() as u32) / f64::from(u32::MAX);
        pause.mul_f64(1.0 + JITTER * share)
    }

    async fn send(&self, body: Bytes) -> Result<(), String> {
        let mut request = Request::post(&self.path).body(body).map_err(|e| e.to_string())?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        let sending = async {
            let response = self.client.send_whole(&self.target, request).await;
            let (head, body) = response.map_err(|error| error.to_string())?.into_parts();
            let text = outbound::read(body).await.map_err(|error| error.to_string())?;
            Ok::<_, String>((head.status, text))
        };
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, sending).await;
        let (status, text) = answered.map_err(|_| "context deadline exceeded".to_owned())??;
        if (StatusCode::OK..=StatusCode::PARTIAL_CONTENT).contains(&status) {
            return Ok(());
        }
        Err(format!("{status}: {}", String::from_utf8_lossy(&text)))
    }
}
