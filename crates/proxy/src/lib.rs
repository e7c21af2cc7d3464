//! The service proxy: keeps the packet rules of the node in step with services and endpoints.
//!
//! upstream: pkg/proxy/nftables

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use longshore_base::{Shutdown, TaskKind};
use longshore_client::resource::{ENDPOINT_SLICES, NODES, SERVICES};
use longshore_client::{Factory, Informer};
use longshore_linux::nft::{Error, Nft, SystemNft};
use tokio::sync::{Notify, mpsc};

pub mod conntrack;
pub mod render;
pub mod ruleset;
pub mod service;

use ruleset::Ruleset;

/// Pause after an application, so that a burst of changes becomes one.
const SPACING: Duration = Duration::from_millis(20);
/// How often is looked whether the rules are there still: whoever loads rules of their own may have
/// flushed all others.
const RENEW: Duration = Duration::from_secs(60);
/// First pause after a failure; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest pause after failures.
const RETRY_MAX: Duration = Duration::from_secs(30);
const ZONE: &str = "topology.kubernetes.io/zone";
const ROUTE_LOCALNET: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";

/// What the proxy knows about its node and cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this node: endpoints on it are local.
    pub node_name: String,
    /// The address of this node.
    pub node_ip: Ipv4Addr,
    /// Base address and prefix length of the pod network; what comes from elsewhere to a cluster
    /// address is masqueraded.
    pub cluster_network: (Ipv4Addr, u8),
    /// The ports that services can have on nodes.
    pub node_ports: RangeInclusive<u16>,
}

/// Starts the proxy; it runs until shutdown and leaves its rules in place, so that connections go
/// on while the process is replaced. See [`cleanup`].
pub fn start(config: Config, caches: &Factory, shutdown: &Shutdown) {
    start_with(config, caches, Arc::new(SystemNft::default()), shutdown);
}

/// As [`start`], with another way to apply rules.
pub fn start_with(config: Config, caches: &Factory, nft: Arc<dyn Nft>, shutdown: &Shutdown) {
    let proxy = Proxy {
        config,
        services: caches.get(SERVICES),
        slices: caches.get(ENDPOINT_SLICES),
        nodes: caches.get(NODES),
        nft,
        changed: Arc::new(Notify::new()),
        flows: conntrack::start(shutdown),
    };
    for cache in [&proxy.services, &proxy.slices] {
        let changed = proxy.changed.clone();
        cache.on_change(move |_| changed.notify_one());
    }
    let (changed, own) = (proxy.changed.clone(), proxy.config.node_name.clone());
    proxy.nodes.on_change(move |change| {
        if change.object().name() == own {
            changed.notify_one();
        }
    });
    let shutdown = shutdown.clone();
    longshore_base::spawn(TaskKind::Critical, "proxy", async move {
        shutdown.run_until_cancelled(proxy.run()).await;
    });
}

/// Deletes all rules of the proxy.
pub fn cleanup() -> Result<(), Error> {
    SystemNft::default().apply(&render::nothing())
}

struct Proxy {
    config: Config,
    services: Informer,
    slices: Informer,
    nodes: Informer,
    nft: Arc<dyn Nft>,
    changed: Arc<Notify>,
    flows: mpsc::Sender<Vec<conntrack::Stale>>,
}

impl Proxy {
    async fn run(self) {
        for cache in [&self.services, &self.slices, &self.nodes] {
            cache.synced().await;
        }
        // `None` while it is not known what the kernel holds.
        let mut applied: Option<Ruleset> = None;
        let mut retry = RETRY_MIN;
        loop {
            let wanted = self.wanted();
            match self.apply(applied.as_ref(), &wanted).await {
                Ok(()) => {
                    applied = self.kept(wanted).await;
                    retry = RETRY_MIN;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot apply the service rules");
                    applied = None;
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Waits until something changes; `None` when meanwhile somebody took the rules away.
    async fn kept(&self, rules: Ruleset) -> Option<Ruleset> {
        tokio::time::sleep(SPACING).await;
        while tokio::time::timeout(RENEW, self.changed.notified()).await.is_err() {
            if let Err(error) = self.run_nft(vec![render::renew(&rules)]).await {
                tracing::warn!(%error, "the service rules are gone, they are made anew");
                return None;
            }
        }
        Some(rules)
    }

    async fn run_nft(&self, texts: Vec<String>) -> Result<(), Error> {
        let nft = self.nft.clone();
        let work = move || texts.iter().try_for_each(|text| nft.apply(text));
        let work = tokio::task::spawn_blocking(work);
        work.await.map_err(|error| Error::Run(std::io::Error::other(error)))?
    }

    fn wanted(&self) -> Ruleset {
        let node = self.nodes.get("", &self.config.node_name);
        let zone = node.as_ref().and_then(|node| node.label(ZONE)).unwrap_or("");
        let (services, slices) = (self.services.list(), self.slices.list());
        let ports = service::read(&services, &slices, &self.config.node_name);
        ruleset::compile(&self.config, &ports, zone)
    }

    async fn apply(&self, old: Option<&Ruleset>, new: &Ruleset) -> Result<(), Error> {
        let texts = match old {
            Some(old) => render::change(old, new),
            None => vec![render::whole(new)],
        };
        if !texts.is_empty() {
            self.run_nft(texts).await?;
            tracing::debug!(chains = new.chains.len(), "service rules applied");
        }
        let nothing = Ruleset::default();
        let old = old.unwrap_or(&nothing);
        if new.node_ports && !old.node_ports {
            route_localnet().await;
        }
        let stale = conntrack::stale(old, new);
        if !stale.is_empty() && self.flows.try_send(stale).is_err() {
            tracing::debug!("too many flows to forget; they end by their own timeout");
        }
        Ok(())
    }
}

/// Lets node ports work on 127.0.0.1. Comes after the rules, which hold the guard that this needs.
async fn route_localnet() {
    if let Err(error) = tokio::fs::write(ROUTE_LOCALNET, "1\n").await {
        tracing::warn!(%error, "node ports will not work on 127.0.0.1");
    }
}

#[cfg(test)]
mod tests;
