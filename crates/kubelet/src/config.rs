//! The settings of a node agent.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::eviction::signals::Threshold;

/// The settings of a node agent.
#[derive(Clone)]
pub struct Config {
    /// Name of the node.
    pub node_name: String,
    /// Address of the node.
    pub node_ip: Ipv4Addr,
    /// Where pods' volumes are kept.
    pub root_dir: PathBuf,
    /// Where the runtime writes pods' logs.
    pub logs_dir: PathBuf,
    /// The runtime's socket.
    pub runtime_socket: PathBuf,
    /// Where the runtime reads its network configuration from; nothing is written when `None`.
    pub cni_conf_dir: Option<PathBuf>,
    /// Control group below which those of the pods are made; empty is the top.
    pub cgroup_root: String,
    /// Service address of the cluster DNS.
    pub cluster_dns: Ipv4Addr,
    /// Domain of the cluster DNS.
    pub cluster_domain: String,
    /// Where the server for logs and streams listens; it does not block.
    pub listener: Arc<std::net::TcpListener>,
    /// Its port.
    pub port: u16,
    /// TLS of that server: it verifies the client certificates that there are.
    pub tls: Arc<rustls::ServerConfig>,
    /// When something has run out.
    pub eviction: Vec<Threshold>,
    /// Most pods on the node.
    pub max_pods: u32,
    /// The version that the node tells.
    pub version: String,
}
