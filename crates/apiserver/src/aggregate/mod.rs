//! Aggregation: API services whose versions are served by other servers. Requests are passed on to
//! them, they are asked whether they are there and what they serve, and what they tell of
//! themselves becomes part of what this server tells.
//!
//! Invariant: whether a path is passed on follows from the API services in the cache, never from
//! what another server has said.
//!
//! upstream: staging/src/k8s.io/kube-aggregator

mod available;
mod discovery;
pub(crate) mod follow;
mod metrics;
mod openapi;
mod proxy;
mod retire;
mod services;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use longshore_base::Shutdown;
use longshore_client::{Queue, workers};
use parking_lot::Mutex;
use serde_json::Value;

use crate::auth::UserInfo;
use crate::cache::{Entry, Interest, ResourceCache};
use crate::endpoints::Api;
use crate::outbound::tls::Identity;
use crate::outbound::{self, CallError, Client};
use crate::reader::Reader;
use crate::registry::ServedTable;

pub use discovery::Told;
pub use proxy::Passing;
pub use services::{ApiService, Remote, Table};

/// The group of API services.
const GROUP: &str = "apiregistration.k8s.io";
/// The resource of API services.
const PLURAL: &str = "apiservices";

/// What is known of other servers.
pub struct Aggregator {
    /// The cache of the API services; none where there are none.
    cache: Option<Arc<ResourceCache>>,
    reader: Arc<dyn Reader>,
    client: Client,
    identity: Option<Identity>,
    table: ArcSwap<Table>,
    compiling: Mutex<()>,
    discovery: discovery::Documents,
    specs: openapi::Specs,
    metrics: metrics::Metrics,
}

/// The whole answer of another server.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn header(&self, name: http::header::HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

impl Aggregator {
    /// Nothing is asked yet. `identity` is what this server shows to others.
    pub fn new(
        table: &ServedTable,
        reader: Arc<dyn Reader>,
        client: Client,
        identity: Option<Identity>,
    ) -> Self {
        let served = table.any_version(GROUP, PLURAL);
        Self {
            cache: served.map(|served| served.cache.clone()),
            reader,
            client,
            identity,
            table: ArcSwap::default(),
            compiling: Mutex::default(),
            discovery: discovery::Documents::default(),
            specs: openapi::Specs::default(),
            metrics: metrics::Metrics::default(),
        }
    }

    /// The API services of now.
    pub fn services(&self) -> Arc<Table> {
        let present = self.table.load_full();
        let Some(cache) = self.cache.as_ref().filter(|c| c.revision() != present.revision) else {
            return present;
        };
        let _compiling = self.compiling.lock();
        let present = self.table.load_full();
        if cache.revision() == present.revision {
            return present;
        }
        let table = Arc::new(Table::new(cache, &present, self.identity.as_ref()));
        self.table.store(table.clone());
        table
    }

    /// What other servers serve, in the order in which clients should prefer it.
    pub fn told(&self) -> Vec<Told> {
        self.discovery.told(&self.services())
    }

    /// The API service whose server answers a path; `None` for what is answered here.
    pub fn holder(&self, path: &str, table: &ServedTable) -> Option<Arc<ApiService>> {
        let services = self.services();
        services.remote().next()?;
        match path.strip_prefix("/openapi/v3/") {
            Some(path) => self.specs.holder(path, &services, |path| is_served_here(path, table)),
            None => services.route(path).cloned(),
        }
    }

    /// Where the OpenAPI documents of other servers are, by path.
    pub fn spec_paths(&self, table: &ServedTable) -> BTreeMap<String, String> {
        self.specs.paths(&self.services(), |path| is_served_here(path, table))
    }

    /// An OpenAPI document that was made of an older one of another server, with its hash.
    pub fn made_spec(&self, path: &str) -> Option<(Bytes, String)> {
        self.specs.made(path, &self.services())
    }

    /// The OpenAPI documents of version 2 of other servers, each with the path that counts of it.
    pub fn whole_specs(&self) -> Vec<(String, Arc<Value>)> {
        self.specs.whole(&self.services())
    }

    /// A number that grows when an OpenAPI document of another server changes.
    pub fn spec_generation(&self) -> u64 {
        self.specs.generation()
    }

    /// The metrics in the Prometheus text format.
    pub fn render_metrics(&self) -> String {
        self.metrics.render()
    }

    /// Asks a server for a document.
    async fn ask(
        &self,
        remote: &Remote,
        path: &str,
        user: &UserInfo,
        extra: &[(http::header::HeaderName, &str)],
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        let mut request = Request::get(path).body(crate::body::full("")).map_err(other)?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in extra {
            headers.insert(name, HeaderValue::from_str(value).map_err(other)?);
        }
        proxy::tell_user(headers, user).map_err(CallError::Other)?;
        let target = remote.target(self.reader.as_ref())?;
        let asking = async {
            let (head, body) = self.client.send(&target, request).await?.into_parts();
            let body = outbound::read(body).await?;
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(timeout, asking).await.map_err(|_| CallError::Deadline)?
    }
}

/// Whether there is something here that a path such as `apis/GROUP` or `apis/GROUP/VERSION` tells of.
fn is_served_here(path: &str, table: &ServedTable) -> bool {
    let mut segments = path.split('/').skip(1);
    let (group, version) = (segments.next(), segments.next());
    table.iter().any(|served| {
        let own = &served.resource;
        group.is_none_or(|group| own.group == group)
            && version.is_none_or(|version| own.version == version)
    })
}

fn other(error: impl std::fmt::Display) -> CallError {
    CallError::Other(error.to_string())
}

/// Follows the API services from now on: whether their servers are there, and what they serve.
pub fn start(api: &Arc<Api>, aggregator: &Arc<Aggregator>, shutdown: &Shutdown) {
    let Some(cache) = &aggregator.cache else { return };
    available::start(api.clone(), aggregator.clone(), shutdown);
    look(
        cache,
        aggregator,
        "api-service-discovery",
        discovery::WORKERS,
        shutdown,
        |all, name| async move { all.discover(&name).await },
    );
    look(
        cache,
        aggregator,
        "api-service-openapi",
        openapi::WORKERS,
        shutdown,
        |all, name| async move { all.learn(&name).await },
    );
}

/// Looks at each API service that is there, again when it changes or goes, and after the time that
/// the look itself tells.
fn look<F: Future<Output = Option<Duration>> + Send + 'static>(
    cache: &Arc<ResourceCache>,
    aggregator: &Arc<Aggregator>,
    task: &'static str,
    workers: usize,
    shutdown: &Shutdown,
    at: fn(Arc<Aggregator>, String) -> F,
) {
    let (queue, aggregator) = (Queue::new(), aggregator.clone());
    let changed = queue.clone();
    let told = move |entry: &Entry| changed.add(entry.name().to_owned());
    follow::follow(cache.clone(), Interest::default(), shutdown, told);
    workers::run(task, queue, workers, shutdown, move |name| {
        let look = at(aggregator.clone(), name);
        async move { Ok(look.await) }
    });
}
