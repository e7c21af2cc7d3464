//! The cluster's name server: it knows services and pods, and passes other names on.
//!
//! upstream: the Kubernetes DNS specification 1.1; CoreDNS' plugins kubernetes and forward

mod forward;
mod records;
mod server;
mod service;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use longshore_base::Shutdown;
use longshore_client::resource::{ENDPOINT_SLICES, SERVICES};
use longshore_client::{Client, Factory};

/// The settings of a name server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens, UDP and TCP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Domain of the cluster.
    pub cluster_domain: String,
    /// Address of the service through which pods ask.
    pub cluster_dns: Ipv4Addr,
    /// Address of the node, where the service leads.
    pub node_ip: Ipv4Addr,
}

/// Why the name server cannot start.
#[derive(Debug, thiserror::Error)]
#[error("the cluster DNS cannot listen on {address}: {source}")]
pub struct Error {
    address: SocketAddr,
    source: std::io::Error,
}

/// Starts the name server, and keeps the service that leads to it; gives the address it listens on.
///
/// # Errors
/// When the address is taken.
pub async fn start(
    config: Config,
    client: Client,
    caches: &Factory,
    shutdown: &Shutdown,
) -> Result<SocketAddr, Error> {
    let failed = |source| Error { address: config.listen, source };
    let zone = Arc::new(records::Zone::new(
        &config.cluster_domain,
        caches.get(SERVICES),
        caches.get(ENDPOINT_SLICES),
    ));
    let server = server::Server::new(zone, forward::Forward::from_host());
    let address = server.start(config.listen, shutdown).await.map_err(failed)?;
    service::keep(client, caches, &config, address.port(), shutdown);
    Ok(address)
}
