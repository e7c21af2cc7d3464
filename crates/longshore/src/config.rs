//! The settings of a server: defaults, then the file, then the command line.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use longshore_kubelet::eviction::signals::{self, Threshold};
use serde_json::Value;

use crate::audit::AuditConfig;
use crate::cli::ServerArguments;

/// The version of the Kubernetes API that is served.
pub const API_LEVEL: &str = "v1.36.2";

/// The components that `--disable` knows besides single controllers.
const COMPONENTS: [&str; 5] = ["controllers", "scheduler", "kubelet", "proxy", "dns"];

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("--config {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A value is wrong.
    #[error("--{flag} {value:?} {why}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and what would be right.
        why: String,
    },
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Network {
    /// The address this far into the network.
    pub fn nth(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) + n)
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        let size = 1u64 << (32 - u32::from(self.prefix));
        let offset = u64::from(u32::from(address)).checked_sub(u64::from(u32::from(self.address)));
        offset.is_some_and(|offset| offset < size)
    }
}

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Where all state is kept.
    pub data_dir: PathBuf,
    /// Address and port of the API server.
    pub listen: SocketAddr,
    /// Address that nodes and pods reach this server at.
    pub advertise: Ipv4Addr,
    /// Network of service addresses.
    pub service_network: Network,
    /// Ports of NodePort services.
    pub node_ports: RangeInclusive<u16>,
    /// Network of pod addresses.
    pub cluster_network: Network,
    /// Domain of the cluster DNS.
    pub cluster_domain: String,
    /// Service address of the cluster DNS.
    pub cluster_dns: Ipv4Addr,
    /// Name of this machine.
    pub host_name: String,
    /// Name of this node.
    pub node_name: String,
    /// Path of the container runtime's socket.
    pub runtime_socket: PathBuf,
    /// Directory of the runtime's CNI configuration.
    pub cni_conf_dir: PathBuf,
    /// Control group below which those of the pods are made; empty is the top.
    pub cgroup_root: String,
    /// Port of the node agent.
    pub kubelet_port: u16,
    /// When the node has too little of something.
    pub eviction_hard: Vec<Threshold>,
    /// Whether the API is also served as CBOR.
    pub cbor: bool,
    /// What does not run.
    pub disable: BTreeSet<String>,
    /// Log filter.
    pub log: String,
    /// The audit log.
    pub audit: AuditConfig,
}

impl ServerConfig {
    /// The settings that follow from a command line.
    ///
    /// # Errors
    /// When the file cannot be read, or a value is wrong.
    pub fn resolve(mut arguments: ServerArguments) -> Result<Self, Error> {
        if let Some(path) = arguments.config.clone() {
            let path = path.display().to_string();
            let wrong = |why: String| Error::File { path: path.clone(), why };
            let bytes = std::fs::read(&path).map_err(|e| wrong(e.to_string()))?;
            // The first line says where; the others show the text.
            let first = |e: String| e.lines().next().unwrap_or("").to_owned();
            let file = longshore_api::yaml::decode(&bytes);
            let file = file.map_err(|e| wrong(first(e.to_string())))?;
            merge(&mut arguments, &file).map_err(wrong)?;
        }
        Self::check(arguments)
    }

    fn check(a: ServerArguments) -> Result<Self, Error> {
        let bind: IpAddr =
            parse("bind-address", a.bind_address, "0.0.0.0", "is not an IP address")?;
        let advertise = match a.advertise_address {
            Some(text) => parse("advertise-address", Some(text), "", "is not an IPv4 address")?,
            None => own_address(),
        };
        let service_network =
            network("service-cluster-ip-range", a.service_cluster_ip_range, "10.96.0.0/16")?;
        let cluster_network = network("cluster-cidr", a.cluster_cidr, "10.244.0.0/16")?;
        let dns_default = service_network.nth(10).to_string();
        let cluster_dns: Ipv4Addr =
            parse("cluster-dns", a.cluster_dns, &dns_default, "is not an IPv4 address")?;
        if !service_network.contains(cluster_dns) {
            return Err(Error::Value {
                flag: "cluster-dns",
                value: cluster_dns.to_string(),
                why: format!("is not in the service network {service_network}"),
            });
        }
        let apart = |one: Network, other: Network| {
            !one.contains(other.address) && !other.contains(one.address)
        };
        if !apart(service_network, cluster_network) {
            return Err(Error::Value {
                flag: "cluster-cidr",
                value: cluster_network.to_string(),
                why: format!("overlaps the service network {service_network}"),
            });
        }
        let log = a.log.unwrap_or("info".into());
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&log) {
            let why = format!("is not a log filter such as info: {error}");
            return Err(Error::Value { flag: "log", value: log, why });
        }
        let endpoint =
            a.container_runtime_endpoint.unwrap_or("unix:///run/containerd/containerd.sock".into());
        let runtime_socket = socket("container-runtime-endpoint", &endpoint)?;
        let host_name = host_name();
        let node_name = a.node_name.map(|name| name.to_lowercase());
        Ok(Self {
            data_dir: a.data_dir.unwrap_or("/var/lib/longshore".into()),
            listen: SocketAddr::new(bind, a.secure_port.unwrap_or(6443)),
            advertise,
            service_network,
            node_ports: port_range(a.service_node_port_range)?,
            cluster_network,
            cluster_domain: subdomain("cluster-domain", a.cluster_domain, "cluster.local")?,
            cluster_dns,
            node_name: subdomain("node-name", node_name, &host_name)?,
            host_name,
            runtime_socket,
            cni_conf_dir: a.cni_conf_dir.unwrap_or("/etc/cni/net.d".into()),
            cgroup_root: cgroup_root(a.cgroup_root)?,
            kubelet_port: a.kubelet_port.unwrap_or(10250),
            eviction_hard: thresholds(a.eviction_hard)?,
            cbor: serves_cbor(a.feature_gates.unwrap_or_default())?,
            disable: disabled(a.disable.unwrap_or_default())?,
            log,
            audit: AuditConfig::check(a.audit)?,
        })
    }

    /// Whether a component or controller runs.
    pub fn runs(&self, name: &str) -> bool {
        !self.disable.contains(name)
    }
}

fn thresholds(given: Option<String>) -> Result<Vec<Threshold>, Error> {
    let value = given.unwrap_or_else(|| signals::DEFAULT.to_owned());
    signals::parse(&value).map_err(|why| Error::Value { flag: "eviction-hard", value, why })
}

/// The feature gates; there is one.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/features/kube_features.go
fn serves_cbor(gates: Vec<String>) -> Result<bool, Error> {
    let mut on = false;
    for gate in gates {
        on = match gate.trim().split_once('=') {
            Some(("CBORServingAndStorage", "true")) => true,
            Some(("CBORServingAndStorage", "false")) => false,
            _ => {
                return Err(Error::Value {
                    flag: "feature-gates",
                    value: gate,
                    why: "is not known; choose CBORServingAndStorage=true or =false".into(),
                });
            }
        };
    }
    Ok(on)
}

fn disabled(names: Vec<String>) -> Result<BTreeSet<String>, Error> {
    let mut known: BTreeSet<String> = COMPONENTS.iter().map(|c| (*c).to_owned()).collect();
    known.extend(crate::control_plane::controller_names());
    for name in &names {
        if !known.contains(name) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            return Err(Error::Value {
                flag: "disable",
                value: name.clone(),
                why: format!("is not known; choose from {}", known.join(", ")),
            });
        }
    }
    Ok(names.into_iter().collect())
}

fn parse<T: std::str::FromStr>(
    flag: &'static str,
    given: Option<String>,
    default: &str,
    why: &str,
) -> Result<T, Error> {
    let value = given.unwrap_or_else(|| default.to_owned());
    value.parse().map_err(|_| Error::Value { flag, value: value.clone(), why: why.to_owned() })
}

/// A name with dots, such as those of nodes and domains.
fn subdomain(flag: &'static str, given: Option<String>, default: &str) -> Result<String, Error> {
    let value = given.unwrap_or_else(|| default.to_lowercase());
    match longshore_api::names::is_dns1123_subdomain(&value).first() {
        Some(why) => Err(Error::Value { flag, value, why: why.clone() }),
        None => Ok(value),
    }
}

/// The path of the local socket that an endpoint names.
fn socket(flag: &'static str, endpoint: &str) -> Result<PathBuf, Error> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if !path.is_empty() && !path.contains("://") {
        return Ok(path.into());
    }
    let why = "is not a socket such as unix:///run/containerd/containerd.sock".to_owned();
    Err(Error::Value { flag, value: endpoint.to_owned(), why })
}

fn network(flag: &'static str, given: Option<String>, default: &str) -> Result<Network, Error> {
    let value = given.unwrap_or_else(|| default.to_owned());
    let wrong = || Error::Value {
        flag,
        value: value.clone(),
        why: format!("is not an IPv4 network such as {default}"),
    };
    let (address, prefix) = value.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if !(8..=28).contains(&prefix) {
        return Err(wrong());
    }
    let mask = u32::MAX << (32 - u32::from(prefix));
    Ok(Network { address: Ipv4Addr::from(u32::from(address) & mask), prefix })
}

fn cgroup_root(given: Option<String>) -> Result<String, Error> {
    let value = given.unwrap_or_default();
    let parts = value.trim_matches('/').split('/');
    let wrong = !value.is_empty() && !value.starts_with('/')
        || parts.clone().any(|part| part == "." || part == "..");
    if wrong {
        let why = "is not a path such as /nodes/one".to_owned();
        return Err(Error::Value { flag: "cgroup-root", value, why });
    }
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    Ok(parts.iter().map(|part| format!("/{part}")).collect())
}

fn port_range(given: Option<String>) -> Result<RangeInclusive<u16>, Error> {
    let value = given.unwrap_or_else(|| "30000-32767".to_owned());
    let range = value.split_once('-').and_then(|(from, to)| {
        let (from, to): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
        (from > 0 && from < to).then_some(from..=to)
    });
    range.ok_or_else(|| Error::Value {
        flag: "service-node-port-range",
        value: value.clone(),
        why: "is not a range such as 30000-32767".into(),
    })
}

/// Takes from the file what the command line does not say.
fn merge(a: &mut ServerArguments, file: &Value) -> Result<(), String> {
    let Value::Object(fields) = file else {
        return Err("is not a list of settings such as \"secure-port: 6443\"".into());
    };
    for (key, value) in fields {
        let text = || match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(format!("{key}: {other} is not a text")),
        };
        let path = || text().map(PathBuf::from);
        let number = || text()?.parse::<u16>().map_err(|_| format!("{key}: {value} is not a port"));
        match key.as_str() {
            "data-dir" => keep(&mut a.data_dir, path()?),
            "bind-address" => keep(&mut a.bind_address, text()?),
            "secure-port" => keep(&mut a.secure_port, number()?),
            "advertise-address" => keep(&mut a.advertise_address, text()?),
            "service-cluster-ip-range" => keep(&mut a.service_cluster_ip_range, text()?),
            "service-node-port-range" => keep(&mut a.service_node_port_range, text()?),
            "cluster-cidr" => keep(&mut a.cluster_cidr, text()?),
            "cluster-domain" => keep(&mut a.cluster_domain, text()?),
            "cluster-dns" => keep(&mut a.cluster_dns, text()?),
            "node-name" => keep(&mut a.node_name, text()?),
            "container-runtime-endpoint" => keep(&mut a.container_runtime_endpoint, text()?),
            "cni-conf-dir" => keep(&mut a.cni_conf_dir, path()?),
            "cgroup-root" => keep(&mut a.cgroup_root, text()?),
            "kubelet-port" => keep(&mut a.kubelet_port, number()?),
            "eviction-hard" => keep(&mut a.eviction_hard, text()?),
            "log" => keep(&mut a.log, text()?),
            "disable" => keep(&mut a.disable, words(key, value)?),
            "feature-gates" => keep(&mut a.feature_gates, words(key, value)?),
            other if a.audit.slot(other).is_some() => {
                let text = match value {
                    Value::Bool(on) => on.to_string(),
                    _ => text()?,
                };
                a.audit.slot(other).into_iter().for_each(|slot| keep(slot, text.clone()));
            }
            other => {
                let why = "is not known; longshore server --help lists them";
                return Err(format!("the setting {other:?} {why}"));
            }
        }
    }
    Ok(())
}

/// What the command line says stays.
fn keep<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}

/// A list, or a text with commas.
fn words(key: &str, value: &Value) -> Result<Vec<String>, String> {
    let wrong = || format!("{key}: {value} is not a list of names");
    match value {
        Value::Array(list) => {
            list.iter().map(|word| word.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Value::String(text) => Ok(text.split(',').map(str::to_owned).collect()),
        _ => Err(wrong()),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// The address of the default route's interface: connecting a datagram socket sends nothing.
fn own_address() -> Ipv4Addr {
    let found = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    match found.map(|address| address.ip()) {
        Ok(IpAddr::V4(address)) if !address.is_unspecified() => address,
        _ => Ipv4Addr::LOCALHOST,
    }
}
