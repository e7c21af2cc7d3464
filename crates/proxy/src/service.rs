//! What the API says about services and their endpoints, as far as the rules need it.
//!
//! upstream: pkg/proxy/serviceport.go, pkg/proxy/endpointslicecache.go, pkg/proxy/topology.go

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_api::Object;
use serde_json::Value;

const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How long a client stays with its endpoint when the service does not say.
const AFFINITY_SECONDS: i64 = 10800;

/// A transport protocol that services can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Where connections can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address of the pod.
    pub address: Ipv4Addr,
    /// The port on that address.
    pub port: u16,
    /// It takes connections and is not ending.
    pub ready: bool,
    /// It takes connections, though it may be ending.
    pub serving: bool,
    /// Its pod is being deleted.
    pub terminating: bool,
    /// It is on this node.
    pub local: bool,
    zones: Vec<String>,
    nodes: Vec<String>,
}

/// One port of one service, with its endpoints.
#[derive(Clone, Debug)]
pub struct ServicePort {
    /// `namespace/service/protocol/port name`: unique.
    pub name: String,
    /// The transport.
    pub protocol: Protocol,
    /// The address inside the cluster.
    pub cluster_ip: Ipv4Addr,
    /// The port on the cluster address, external addresses and load balancer addresses.
    pub port: u16,
    /// The port on every address of the node; 0 is none.
    pub node_port: u16,
    /// Addresses that the administrator routes to the node.
    pub external_ips: Vec<Ipv4Addr>,
    /// Addresses of the load balancer.
    pub balancer_ips: Vec<Ipv4Addr>,
    /// Who may use the load balancer addresses; empty is everybody.
    pub source_ranges: Vec<String>,
    /// Connections from inside stay on this node.
    pub internal_local: bool,
    /// Connections from outside stay on this node.
    pub external_local: bool,
    /// Seconds that a client stays with its endpoint.
    pub affinity: Option<i64>,
    /// All endpoints, sorted by address and port.
    pub endpoints: Vec<Endpoint>,
}

/// The endpoints that connections are sent to.
#[derive(Debug, Default)]
pub struct Usable {
    /// For connections that may go anywhere.
    pub cluster: Vec<Endpoint>,
    /// For connections that stay on the node.
    pub local: Vec<Endpoint>,
    /// Whether there is any in the cluster.
    pub any: bool,
}

impl ServicePort {
    /// Whether the service can be reached from outside the cluster.
    pub fn is_external(&self) -> bool {
        self.node_port != 0 || !self.external_ips.is_empty() || !self.balancer_ips.is_empty()
    }

    /// Whether some connections may go to any node. Those from this node and its pods to an
    /// external address always may.
    fn uses_cluster(&self) -> bool {
        !self.internal_local || self.is_external()
    }

    fn uses_local(&self) -> bool {
        self.internal_local || (self.external_local && self.is_external())
    }

    /// Chooses among the endpoints: ready ones, or ending ones that still serve when there is no
    /// ready one, each for the whole cluster and for this node.
    pub fn usable(&self, node: &str, zone: &str) -> Usable {
        let mut usable = Usable::default();
        let all = &self.endpoints;
        let pick = |keep: &dyn Fn(&Endpoint) -> bool| -> Vec<Endpoint> {
            all.iter().filter(|e| keep(e)).cloned().collect()
        };
        let ending = |e: &Endpoint| e.serving && e.terminating;
        if self.uses_cluster() {
            let near = self.topology(node, zone);
            usable.cluster = pick(&|e| e.ready && near.allows(e, node, zone));
            if usable.cluster.is_empty() {
                usable.cluster = pick(&ending);
            }
        }
        if self.uses_local() {
            usable.local = pick(&|e| e.local && e.ready);
            if usable.local.is_empty() {
                usable.local = pick(&|e| e.local && ending(e));
            }
        }
        usable.any = all.iter().any(|e| e.ready || ending(e));
        usable
    }

    fn topology(&self, node: &str, zone: &str) -> Topology {
        let ready: Vec<&Endpoint> = self.endpoints.iter().filter(|e| e.ready).collect();
        let hinted = |of: &dyn Fn(&Endpoint) -> &[String], own: &str| {
            ready.iter().all(|e| !of(e).is_empty())
                && ready.iter().any(|e| of(e).iter().any(|n| n == own))
        };
        if hinted(&|e| &e.nodes, node) {
            Topology::SameNode
        } else if hinted(&|e| &e.zones, zone) {
            Topology::SameZone
        } else {
            Topology::Anywhere
        }
    }
}

enum Topology {
    Anywhere,
    SameZone,
    SameNode,
}

impl Topology {
    fn allows(&self, endpoint: &Endpoint, node: &str, zone: &str) -> bool {
        match self {
            Self::Anywhere => true,
            Self::SameZone => endpoint.zones.iter().any(|z| z == zone),
            Self::SameNode => endpoint.nodes.iter().any(|n| n == node),
        }
    }
}

/// Reads all services that have a cluster address, sorted by name.
pub fn read(services: &[Arc<Object>], slices: &[Arc<Object>], node: &str) -> Vec<ServicePort> {
    let mut by_service: BTreeMap<(&str, &str), Vec<&Object>> = BTreeMap::new();
    for slice in slices {
        let usable = slice.str(&["addressType"]) == "IPv4"
            && slice.label(PROXY_NAME).is_none()
            && slice.label(HEADLESS).is_none();
        if let Some(service) = slice.label(SERVICE_NAME).filter(|_| usable) {
            by_service.entry((slice.namespace(), service)).or_default().push(slice);
        }
    }
    let mut ports = Vec::new();
    for service in services {
        let key = (service.namespace(), service.name());
        let slices = by_service.get(&key).map_or(&[][..], Vec::as_slice);
        read_service(service, slices, node, &mut ports);
    }
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    ports
}

fn read_service(service: &Object, slices: &[&Object], node: &str, into: &mut Vec<ServicePort>) {
    let kind = service.str(&["spec", "type"]);
    if kind == "ExternalName" || service.label(PROXY_NAME).is_some() {
        return;
    }
    let own = service.str(&["spec", "clusterIP"]).parse().ok();
    let all = service.list(&["spec", "clusterIPs"]);
    let Some(cluster_ip) = own.or_else(|| addresses(all).first().copied()) else { return };
    let affinity = (service.str(&["spec", "sessionAffinity"]) == "ClientIP").then(|| {
        let path = ["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"];
        service.int(&path).unwrap_or(AFFINITY_SECONDS)
    });
    let outside = matches!(kind, "NodePort" | "LoadBalancer");
    for port in service.list(&["spec", "ports"]) {
        let Some(protocol) = Protocol::parse(port["protocol"].as_str()) else { continue };
        let Some(number) = number(&port["port"]) else { continue };
        let port_name = port["name"].as_str().unwrap_or("");
        into.push(ServicePort {
            name: format!("{}/{}/{protocol}/{port_name}", service.namespace(), service.name()),
            protocol,
            cluster_ip,
            port: number,
            node_port: number_or_none(&port["nodePort"], outside),
            external_ips: addresses(service.list(&["spec", "externalIPs"])),
            balancer_ips: balancer(service),
            source_ranges: ranges(service),
            internal_local: service.str(&["spec", "internalTrafficPolicy"]) == "Local",
            external_local: service.str(&["spec", "externalTrafficPolicy"]) == "Local",
            affinity,
            endpoints: read_endpoints(slices, port_name, protocol, node),
        });
    }
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
}

fn number_or_none(value: &Value, wanted: bool) -> u16 {
    number(value).filter(|_| wanted).unwrap_or(0)
}

/// The IPv4 addresses among texts.
fn addresses(values: &[Value]) -> Vec<Ipv4Addr> {
    values.iter().filter_map(Value::as_str).filter_map(|ip| ip.parse().ok()).collect()
}

/// The addresses for which the node itself plays load balancer.
fn balancer(service: &Object) -> Vec<Ipv4Addr> {
    if service.str(&["spec", "type"]) != "LoadBalancer" {
        return Vec::new();
    }
    let entries = service.list(&["status", "loadBalancer", "ingress"]).iter();
    let entries = entries.filter(|e| e["ipMode"].as_str().is_none_or(|mode| mode == "VIP"));
    entries.filter_map(|e| e["ip"].as_str()?.parse().ok()).collect()
}

/// The IPv4 networks that may use the load balancer; empty is everybody.
fn ranges(service: &Object) -> Vec<String> {
    let given = service.list(&["spec", "loadBalancerSourceRanges"]).iter();
    let texts = given.filter_map(Value::as_str).map(str::trim);
    let is_v4 = |text: &str| {
        text.split_once('/').is_some_and(|(ip, prefix)| {
            ip.parse::<Ipv4Addr>().is_ok() && prefix.parse::<u8>().is_ok_and(|p| p <= 32)
        })
    };
    texts.filter(|text| is_v4(text)).map(str::to_owned).collect()
}

fn read_endpoints(slices: &[&Object], name: &str, protocol: Protocol, node: &str) -> Vec<Endpoint> {
    let mut found: BTreeMap<(Ipv4Addr, u16), Endpoint> = BTreeMap::new();
    for slice in slices {
        let same = |p: &&Value| {
            p["name"].as_str().unwrap_or("") == name
                && Protocol::parse(p["protocol"].as_str()) == Some(protocol)
        };
        for port in slice.list(&["ports"]).iter().filter(same) {
            let Some(port) = number(&port["port"]) else { continue };
            for value in slice.list(&["endpoints"]) {
                let Some(endpoint) = read_endpoint(value, port, node) else { continue };
                let key = (endpoint.address, port);
                // An address can be in two slices while it moves; the ready one is newer.
                if endpoint.ready || !found.get(&key).is_some_and(|e| e.ready) {
                    found.insert(key, endpoint);
                }
            }
        }
    }
    found.into_values().collect()
}

fn read_endpoint(value: &Value, port: u16, node: &str) -> Option<Endpoint> {
    // All addresses of an endpoint are the same pod; the first stands for it.
    let address = value["addresses"].get(0)?.as_str()?.parse().ok()?;
    let conditions = &value["conditions"];
    let hint = |kind: &str| -> Vec<String> {
        let hints = value["hints"][kind].as_array().map_or(&[][..], Vec::as_slice);
        hints.iter().filter_map(|h| h["name"].as_str()).map(str::to_owned).collect()
    };
    Some(Endpoint {
        address,
        port,
        ready: conditions["ready"].as_bool().unwrap_or(true),
        serving: conditions["serving"].as_bool().unwrap_or(true),
        terminating: conditions["terminating"].as_bool().unwrap_or(false),
        local: value["nodeName"].as_str() == Some(node),
        zones: hint("forZones"),
        nodes: hint("forNodes"),
    })
}
