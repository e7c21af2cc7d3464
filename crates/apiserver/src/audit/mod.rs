//! The audit log: what was asked of the server, by whom, and what was answered.
//!
//! One filter of the request chain makes the events of a request: [`Audit::begin`] once it is known
//! who asks, [`Trail::finish`] when there is an answer. How much is written down is the policy's
//! choice alone.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/audit, pkg/endpoints/filters/audit.go

mod backend;
mod event;
mod log;
mod metrics;
mod policy;
mod trail;
mod webhook;

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use longshore_base::{Clock, Shutdown};
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::request_info::RequestInfo;

pub use backend::{Batch, Mode, Output, Truncate};
pub use event::{Event, Received};
pub use log::{Format, Log, Rotation};
pub use policy::{Level, Policy, Stage};
pub use trail::{End, Slot, Trail};
pub use webhook::Webhook;

use backend::Backend;

/// Where the events of a server go.
pub struct Audit {
    policy: Policy,
    clock: Arc<dyn Clock>,
    metrics: Arc<metrics::Metrics>,
    backends: Vec<Backend>,
    stop: Shutdown,
    tasks: TaskTracker,
}

/// An output with the way to it.
pub struct Way {
    /// What takes the events.
    pub output: Arc<dyn Output>,
    /// How they get there.
    pub mode: Mode,
    /// How large they may be; `None` for any size.
    pub truncate: Option<Truncate>,
}

impl Audit {
    /// Events of requests that a policy chooses, for some outputs.
    pub fn new(policy: Policy, ways: Vec<Way>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let metrics = Arc::<metrics::Metrics>::default();
        let (stop, tasks) = (Shutdown::new(), TaskTracker::new());
        let backend = |way: Way| {
            let metrics = metrics.clone();
            Backend::new(way.output, way.mode, way.truncate, metrics, &stop, &tasks)
        };
        let backends = ways.into_iter().map(backend).collect();
        Arc::new(Self { policy, clock, metrics, backends, stop, tasks })
    }

    /// The trail of a request; none for one that is not written down.
    pub fn begin(self: &Arc<Self>, received: &Received<'_>) -> Option<Arc<Trail>> {
        let chosen = self.policy.choose(received.attributes);
        self.metrics.level(chosen.level);
        if chosen.level == Level::None {
            return None;
        }
        let event = Mutex::new(Event::new(received, chosen.level));
        Some(Arc::new(Trail { audit: self.clone(), chosen: chosen.clone(), event }))
    }

    /// Sends an event; false when the request must not go on.
    async fn send(&self, event: Event) -> bool {
        self.metrics.event();
        let mut goes_on = true;
        for backend in &self.backends {
            goes_on &= backend.take(event.clone()).await;
        }
        goes_on
    }

    /// The metrics in the Prometheus text format.
    pub fn render_metrics(&self) -> String {
        self.metrics.render()
    }

    /// Sends what still waits, once no request runs any more.
    pub async fn stopped(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What a request that failed to say who it is has tried.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/filters/authn_audit.go getAuthMethods
pub fn attempted(headers: &HeaderMap, info: &RequestInfo, certificates: usize) -> String {
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scheme =
        authorization.unwrap_or("").trim().split_once(' ').map_or("", |(scheme, _)| scheme);
    let mut methods = Vec::new();
    for known in ["basic", "bearer"] {
        if scheme.eq_ignore_ascii_case(known) {
            methods.push(known);
        }
    }
    if !info.param("access_token").trim().is_empty() {
        methods.push("access_token");
    }
    if certificates > 0 {
        methods.push("x509");
    }
    if methods.is_empty() {
        return "Authentication failed, no credentials provided".to_owned();
    }
    format!("Authentication failed, attempted: {}", methods.join(", "))
}
