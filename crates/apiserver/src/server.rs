//! Puts the API server together: caches over the store, the registry over the caches, the request
//! chain over the registry.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use longshore_api::{Gvr, Object, StatusError};
use longshore_base::rng::Rng;
use longshore_base::{Clock, Shutdown, TaskKind, readiness};
use longshore_client::{Client, Queue, Transport, workers};
use longshore_resources::Resource;
use longshore_store::Store;
use parking_lot::Mutex;
use serde_json::Value;

use crate::admission::{Admission, Tools, policies, webhook};
use crate::aggregate::{self, Aggregator, follow};
use crate::audit::Audit;
use crate::auth::{Authentication, Authorization, ClientCertificates, TokenIssuer, UserInfo};
use crate::body::Body;
use crate::bootstrap;
use crate::cache::{Entry, Hub, Interest, Pins, hub};
use crate::custom::{self, Definitions, convert};
use crate::endpoints::{Api, connect::Kubelets};
use crate::handler::{Caller, Handler};
use crate::limits::{Limits, WatchLimits, Watches};
use crate::metrics::Metrics;
use crate::nonresource::NonResource;
use crate::outbound;
use crate::reader::Reader;
use crate::registry::{
    Own, Registry, Served, ServedTable, ServiceRanges, UpdateOptions, WriteContext,
};
use crate::serve::{PeerInfo, Service};

/// What an API server is made of.
pub struct Config {
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// What is served.
    pub resources: Vec<Resource>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// Network and prefix length of service addresses.
    pub service_range: (Ipv4Addr, u8),
    /// Node ports of services.
    pub node_ports: RangeInclusive<u16>,
    /// The authorities that sign client certificates, and the proxies that speak for users.
    pub client_certificates: ClientCertificates,
    /// Issues and checks service-account tokens.
    pub tokens: Arc<TokenIssuer>,
    /// The way to kubelets.
    pub kubelets: Option<Kubelets>,
    /// `host:port` that clients reach the server at.
    pub address: String,
    /// The answer of `/version`.
    pub version: Value,
    /// Whether CBOR is served, too.
    pub cbor: bool,
    /// How many watches may be open.
    pub watches: WatchLimits,
    /// Where requests are written down; `None` when they are not.
    pub audit: Option<Arc<Audit>>,
}

/// A running API server without its listener.
pub struct Server {
    handler: Arc<Handler>,
    reader: Arc<dyn Reader>,
}

impl Server {
    /// Loads the store and starts to follow it. Writes and reads work when this returns.
    ///
    /// # Errors
    /// When the store cannot be read or holds damaged objects.
    pub async fn start(config: Config, shutdown: Shutdown) -> Result<Self, hub::Error> {
        let table = ServedTable::new(config.resources);
        let hub = Hub::load(config.store, table.caches()).await?;
        follow(hub.clone(), shutdown.clone());
        let (network, prefix) = config.service_range;
        let services = ServiceRanges::new(network, prefix, config.node_ports);
        if let Some(served) = table.any_version("", "services") {
            for (_, entry) in served.cache.snapshot().0.iter() {
                services.restore(&entry.object());
            }
        }
        let table = Arc::new(ArcSwap::from_pointee(table));
        let reader: Arc<dyn Reader> = Arc::new(CacheReader::new(hub.clone(), table.clone()));
        let outbound = outbound::Client::default();
        let front_proxy = config.client_certificates.front_proxy();
        let identity = front_proxy.and_then(|proxy| proxy.identity().cloned());
        let aggregator = Aggregator::new(&table.load(), reader.clone(), outbound.clone(), identity);
        let aggregator = Arc::new(aggregator);
        let authorization = Authorization::new(reader.clone(), crate::bootstrap::node_rules());
        let authorization = Arc::new(authorization);
        let tokens = config.tokens;
        let openid = (tokens.openid_configuration(&config.address), tokens.jwks().clone());
        let authentication =
            Authentication::new(config.client_certificates, tokens, reader.clone());
        let webhook_metrics = Arc::<webhook::Metrics>::default();
        let policy_metrics = Arc::<policies::Metrics>::default();
        let admission = Admission::new(&Tools {
            reader: reader.clone(),
            authorization: authorization.clone(),
            rng: config.rng.clone(),
            table: table.clone(),
            outbound: outbound.clone(),
            webhook_metrics: webhook_metrics.clone(),
            policy_metrics: policy_metrics.clone(),
        });
        let rng = config.rng.clone();
        let registry = Registry::new(
            hub,
            table,
            config.clock,
            config.rng,
            admission,
            authorization.clone(),
            services,
        );
        let watches = Watches::new(config.watches);
        let definitions = Definitions::new(&registry);
        let pins = Pins::default();
        let conversions = convert::Tools {
            outbound,
            reader: reader.clone(),
            rng: rng.clone(),
            metrics: Arc::default(),
        };
        let api = Api { registry, definitions, pins, watches, rng, cbor: config.cbor, conversions };
        let api = Arc::new(api);
        custom::start(api.clone(), shutdown.clone()).await?;
        aggregate::start(&api, &aggregator, &shutdown);
        let (ready, signal) = readiness::channel();
        ready.set();
        let nonresource = NonResource {
            address: config.address,
            version: config.version,
            checks: vec![("etcd", signal)],
            stopping: shutdown,
            openid: Some(openid),
            openapi: crate::openapi::Documents::default(),
        };
        let handler = Handler {
            api,
            aggregator,
            authentication,
            audit: config.audit,
            authorization,
            metrics: Metrics::default(),
            webhook_metrics,
            policy_metrics,
            kubelets: config.kubelets,
            reader: reader.clone(),
            nonresource,
            limits: Limits::default(),
        };
        Ok(Self { handler: Arc::new(handler), reader })
    }

    /// Makes the objects that every cluster starts with, and brings present ones up to date.
    ///
    /// # Errors
    /// When one of them cannot be written.
    pub async fn bootstrap(&self, objects: Vec<(Gvr, Object)>) -> Result<(), StatusError> {
        let writer = RegistryWriter { handler: self.handler.clone() };
        let (namespaces, rest): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|(gvr, _)| gvr.resource == "namespaces");
        // Namespaces first; all others side by side, so that they share commits.
        for group in [namespaces, rest] {
            let writes = group.iter().map(|(gvr, wanted)| bootstrap::ensure(&writer, gvr, wanted));
            futures_util::future::try_join_all(writes).await?;
        }
        self.handler.aggregator.retire(&self.handler.api).await?;
        self.handler.api.registry.repair_addresses().await
    }

    /// Keeps a default object, whatever happens to it.
    pub fn keep(&self, gvr: Gvr, object: Object, shutdown: &Shutdown) {
        let table = self.handler.api.registry.table();
        let Some(served) = table.any_version(&gvr.group, &gvr.resource) else { return };
        let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
        let interest = Interest { namespace, name, ..Interest::default() };
        let queue = Queue::new();
        let changed = queue.clone();
        // It may be missing, and nobody tells of that.
        queue.add(());
        follow::follow(served.cache.clone(), interest, shutdown, move |_| changed.add(()));
        let writer = Arc::new(RegistryWriter { handler: self.handler.clone() });
        workers::run("default objects", queue, 1, shutdown, move |()| {
            let (writer, gvr, wanted) = (writer.clone(), gvr.clone(), object.clone());
            async move {
                bootstrap::ensure(writer.as_ref(), &gvr, &wanted).await?;
                Ok(None)
            }
        });
    }

    /// The request chain.
    pub fn handler(&self) -> &Arc<Handler> {
        &self.handler
    }

    /// Reads of the caches.
    pub fn reader(&self) -> &Arc<dyn Reader> {
        &self.reader
    }

    /// A client inside this process with an identity of its own: the same chain, no connection.
    pub fn client(&self, user: UserInfo) -> Client {
        Client::new(Arc::new(InProcess { handler: self.handler.clone(), user: Arc::new(user) }))
    }
}

fn follow(hub: Arc<Hub>, shutdown: Shutdown) {
    longshore_base::spawn(TaskKind::Critical, "watch cache", async move {
        if let Err(error) = hub.run(shutdown.clone()).await {
            tracing::error!(%error, "the watch cache lost the store; the server stops");
            shutdown.cancel();
        }
    });
}

/// Requests from inside the process.
struct InProcess {
    handler: Arc<Handler>,
    user: Arc<UserInfo>,
}

impl Transport for InProcess {
    fn call(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, longshore_client::Error>> {
        let (handler, user) = (self.handler.clone(), self.user.clone());
        Box::pin(async move { Ok(handler.handle(request, Caller::InProcess(user)).await) })
    }
}

/// The chain behind the listener.
pub struct Network(pub Arc<Handler>);

impl Service for Network {
    fn call(&self, request: Request<Body>, peer: PeerInfo) -> BoxFuture<'static, Response<Body>> {
        Box::pin(self.0.clone().handle(request, Caller::Peer(peer)))
    }
}

/// Reads of the caches by resource name.
struct CacheReader {
    hub: Arc<Hub>,
    table: Arc<ArcSwap<ServedTable>>,
    /// Objects that were asked for, by key, with their revision: the namespace and the service
    /// account of every write.
    parsed: Mutex<HashMap<Bytes, (u64, Arc<Object>)>>,
}

/// Parsed objects that are kept, and how large they may be in bytes.
const PARSED_MAX: usize = 512;
const PARSED_BYTES_MAX: usize = 8 << 10;
/// Longer lists are not kept.
const PARSED_LIST_MAX: usize = 16;

impl CacheReader {
    fn new(hub: Arc<Hub>, table: Arc<ArcSwap<ServedTable>>) -> Self {
        Self { hub, table, parsed: Mutex::default() }
    }

    fn parsed(&self, entry: &Entry) -> Arc<Object> {
        if let Some((revision, object)) = self.parsed.lock().get(&entry.key)
            && *revision == entry.revision
        {
            return object.clone();
        }
        let object = Arc::new(entry.object());
        if entry.json_bytes_max() <= PARSED_BYTES_MAX {
            let mut parsed = self.parsed.lock();
            if parsed.len() >= PARSED_MAX {
                parsed.clear();
            }
            parsed.insert(entry.key.clone(), (entry.revision, object.clone()));
        }
        object
    }
}

impl Reader for CacheReader {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let table = self.table.load();
        let entry = table.any_version(group, resource)?.cache.get(namespace, name)?;
        Some(self.parsed(&entry))
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let table = self.table.load();
        let Some(served) = table.any_version(group, resource) else { return Vec::new() };
        let (snapshot, _) = served.cache.snapshot();
        let mut entries = crate::cache::range(&snapshot, namespace, None).map(|(_, entry)| entry);
        let first: Vec<_> = entries.by_ref().take(PARSED_LIST_MAX).collect();
        let rest = entries.map(|entry| Arc::new(entry.object()));
        first.into_iter().map(|entry| self.parsed(entry)).chain(rest).collect()
    }

    fn labelled(
        &self,
        (group, resource): (&str, &str),
        namespace: &str,
        (label, value): (&str, &str),
    ) -> Vec<Arc<Object>> {
        let table = self.table.load();
        let Some(served) = table.any_version(group, resource) else { return Vec::new() };
        let (snapshot, _) = served.cache.snapshot();
        // The others are not parsed.
        crate::cache::range(&snapshot, namespace, None)
            .filter(|(_, entry)| entry.label(label) == Some(value))
            .map(|(_, entry)| self.parsed(entry))
            .collect()
    }

    fn fresh(&self) -> BoxFuture<'_, Result<(), StatusError>> {
        let fresh = async { self.hub.fresh().await.map(drop).map_err(StatusError::internal) };
        fresh.boxed()
    }

    fn generation(&self, group: &str, resource: &str) -> u64 {
        let table = self.table.load();
        table.any_version(group, resource).map_or(0, |served| served.cache.snapshot().1)
    }
}

/// Writes default objects straight through the registry, as the API server itself.
struct RegistryWriter {
    handler: Arc<Handler>,
}

impl RegistryWriter {
    fn served(&self, gvr: &Gvr) -> Result<Arc<Served>, StatusError> {
        let table = self.handler.api.registry.table();
        table
            .get(&gvr.group, &gvr.version, &gvr.resource)
            .ok_or_else(|| StatusError::internal(format!("{gvr} is not served")))
    }

    async fn write(&self, gvr: &Gvr, object: Object, create: bool) -> Result<(), StatusError> {
        let served = self.served(gvr)?;
        let registry = &self.handler.api.registry;
        let own = Own::default();
        let (namespace, name) = (object.namespace().to_owned(), object.name().to_owned());
        let ctx = WriteContext { namespace: &namespace, ..own.context(registry, &served) };
        if create {
            return registry.create(&ctx, object).await.map(drop);
        }
        let change = move |_: Option<&Object>| Ok(object.clone());
        registry.update(&ctx, &name, UpdateOptions::default(), &change).await.map(drop)
    }
}

impl bootstrap::Writer for RegistryWriter {
    fn get<'a>(
        &'a self,
        gvr: &'a Gvr,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Object>, StatusError>> {
        Box::pin(async move {
            let served = self.served(gvr)?;
            Ok(served.cache.get(namespace, name).map(|entry| entry.object()))
        })
    }

    fn create<'a>(
        &'a self,
        gvr: &'a Gvr,
        object: Object,
    ) -> BoxFuture<'a, Result<(), StatusError>> {
        Box::pin(self.write(gvr, object, true))
    }

    fn update<'a>(
        &'a self,
        gvr: &'a Gvr,
        object: Object,
    ) -> BoxFuture<'a, Result<(), StatusError>> {
        Box::pin(self.write(gvr, object, false))
    }
}
