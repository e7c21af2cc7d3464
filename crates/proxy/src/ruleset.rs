//! From service ports to chains, maps and sets. Pure.
//!
//! How a packet goes: a nat hook looks up its destination in `service-ips` (or its port in
//! `service-nodeports` when it is for this machine), the verdict leads to the chain of the service
//! port, that one chooses the chain of an endpoint, and there the destination is changed. What
//! found no way is refused by the filter hooks, which look into the `no-endpoint-` maps.
//!
//! Invariant: a chain with a map of its own is never changed, because a packet that is in it while the rules change
//! would find the map empty (the kernel asks for the generation of rules and of elements one after the other). Such a
//! chain is named by its rules, and others go to a new one. A set is never defined anew: its name tells its definition.
//!
//! upstream: pkg/proxy/nftables/proxier.go

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::Config;
use crate::service::{Endpoint, Protocol, ServicePort, Usable};

/// Longest name that is used as it is; longer ones end in a hash.
const NAME_MAX: usize = 120;
/// Bit of the packet mark that asks for masquerade.
pub const MASQUERADE: &str = "0x4000";

/// A list of rules, on a hook or called by other chains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The hook of a base chain.
    pub hook: Option<&'static str>,
    /// In order.
    pub rules: Vec<String>,
}

/// A named set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// `set` or `map`.
    pub kind: &'static str,
    /// Type and flags.
    pub definition: String,
    /// Keys, and verdicts for maps.
    pub elements: BTreeMap<String, String>,
}

/// Who a UDP packet was sent to before its destination was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// An address and port of a service.
    Address(Ipv4Addr, u16),
    /// A port of the node.
    NodePort(u16),
}

/// All rules of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// By name.
    pub chains: BTreeMap<String, Chain>,
    /// By name.
    pub sets: BTreeMap<String, Set>,
    /// Whether any service has a node port.
    pub node_ports: bool,
    /// The endpoints of UDP services: their flows must be forgotten when an endpoint goes.
    pub udp: BTreeMap<Origin, BTreeSet<Ipv4Addr>>,
}

/// Makes the rules for a node in `zone`.
pub fn compile(config: &Config, ports: &[ServicePort], zone: &str) -> Ruleset {
    let mut rules = base();
    rules.node_ports = ports.iter().any(|p| p.node_port != 0);
    for port in ports {
        let usable = port.usable(&config.node_name, zone);
        rules.service(config, port, &usable);
    }
    rules
}

fn base() -> Ruleset {
    let mut rules = Ruleset::default();
    let by_ip = "type ipv4_addr . inet_proto . inet_service : verdict ;";
    let by_port = "type inet_proto . inet_service : verdict ;";
    rules.set("cluster-ips", "set", "type ipv4_addr ;");
    for name in ["service-ips", "no-endpoint-services", "firewall-ips"] {
        rules.set(name, "map", by_ip);
    }
    for name in ["service-nodeports", "no-endpoint-nodeports"] {
        rules.set(name, "map", by_port);
    }
    let new = |chain: &str| format!("ct state new jump {chain}");
    let check = ["service-endpoints-check", "cluster-ips-check"].map(new);
    let [services, cluster] = check;
    let (firewall, node_port) = (new("firewall-check"), new("nodeport-endpoints-check"));
    let before_dnat = "type filter hook prerouting priority -110 ;";
    rules.base("filter-prerouting", before_dnat, &[&firewall]);
    rules.base("filter-input", "type filter hook input priority 0 ;", &[&node_port, &services]);
    rules.base("filter-forward", "type filter hook forward priority 0 ;", &[&services, &cluster]);
    rules.base("filter-output-pre-dnat", "type filter hook output priority -110 ;", &[&firewall]);
    rules.base(
        "filter-output",
        "type filter hook output priority 0 ;",
        &[&node_port, &services, &cluster],
    );
    rules.base("nat-prerouting", "type nat hook prerouting priority -100 ;", &["jump services"]);
    rules.base("nat-output", "type nat hook output priority -100 ;", &["jump services"]);
    rules.base(
        "nat-postrouting",
        "type nat hook postrouting priority 100 ;",
        &["jump masquerading"],
    );
    // Node ports on 127.0.0.1 need loopback addresses to be routed; then nothing but this keeps
    // packets with such addresses from coming in. It must be seen before addresses are changed back.
    rules.base(
        "loopback-guard",
        "type filter hook prerouting priority -300 ;",
        &[
            "iifname != \"lo\" ip daddr 127.0.0.0/8 drop",
            "iifname != \"lo\" ip saddr 127.0.0.0/8 drop",
        ],
    );
    let ip_key = "ip daddr . meta l4proto . th dport vmap";
    let port_key = "fib daddr type local meta l4proto . th dport vmap";
    rules.chain(
        "services",
        vec![format!("{ip_key} @service-ips"), format!("{port_key} @service-nodeports")],
    );
    rules.chain("service-endpoints-check", vec![format!("{ip_key} @no-endpoint-services")]);
    rules.chain("nodeport-endpoints-check", vec![format!("{port_key} @no-endpoint-nodeports")]);
    rules.chain("firewall-check", vec![format!("{ip_key} @firewall-ips")]);
    rules.chain("cluster-ips-check", vec!["ip daddr @cluster-ips reject".to_owned()]);
    rules.chain("reject-chain", vec!["reject".to_owned()]);
    rules.chain("mark-for-masquerade", vec![format!("meta mark set meta mark or {MASQUERADE}")]);
    rules.chain(
        "masquerading",
        vec![
            format!("meta mark and {MASQUERADE} == 0 return"),
            format!("meta mark set meta mark xor {MASQUERADE}"),
            "masquerade fully-random".to_owned(),
        ],
    );
    rules
}

impl Ruleset {
    fn set(&mut self, name: &str, kind: &'static str, definition: &str) {
        let set = Set { kind, definition: definition.to_owned(), elements: BTreeMap::new() };
        self.sets.insert(name.to_owned(), set);
    }

    fn base(&mut self, name: &str, hook: &'static str, rules: &[&str]) {
        let rules = rules.iter().map(|&rule| rule.to_owned()).collect();
        self.chains.insert(name.to_owned(), Chain { hook: Some(hook), rules });
    }

    fn chain(&mut self, name: &str, rules: Vec<String>) {
        self.chains.insert(name.to_owned(), Chain { hook: None, rules });
    }

    /// The first service that claims a key has it.
    fn element(&mut self, set: &str, key: String, verdict: &str) {
        let set = self.sets.get_mut(set).expect("only sets of base() are named");
        set.elements.entry(key).or_insert_with(|| verdict.to_owned());
    }

    fn service(&mut self, config: &Config, port: &ServicePort, usable: &Usable) {
        self.element("cluster-ips", port.cluster_ip.to_string(), "");
        for ip in &port.balancer_ips {
            self.firewall(config, port, *ip);
        }
        let internal = if port.internal_local { &usable.local } else { &usable.cluster };
        let external = if port.external_local { &usable.local } else { &usable.cluster };
        let refusal = if usable.any { "drop" } else { "goto reject-chain" };
        if internal.is_empty() {
            self.refuse_address(port, port.cluster_ip, refusal);
        } else {
            let chain = policy_chain(port, port.internal_local);
            self.element("service-ips", key(port.cluster_ip, port), &format!("goto {chain}"));
            self.origin(port, Origin::Address(port.cluster_ip, port.port), internal);
        }
        self.external(config, port, usable, external, refusal);
        self.policy_chains(config, port, usable);
    }

    /// The ways in from outside: node port, external addresses, load balancer addresses.
    fn external(
        &mut self,
        config: &Config,
        port: &ServicePort,
        usable: &Usable,
        endpoints: &[Endpoint],
        refusal: &str,
    ) {
        let addresses: Vec<Ipv4Addr> =
            port.external_ips.iter().chain(&port.balancer_ips).copied().collect();
        if endpoints.is_empty() {
            for ip in &addresses {
                self.refuse_address(port, *ip, refusal);
            }
            if port.node_port != 0 {
                let key = format!("{} . {}", port.protocol, port.node_port);
                self.element("no-endpoint-nodeports", key, refusal);
            }
        }
        if !port.is_external() || (endpoints.is_empty() && usable.cluster.is_empty()) {
            return;
        }
        let chain = name("external", &port.name);
        let verdict = format!("goto {chain}");
        // Connections that stay on the node may still leave it when they come from this node.
        let reached = if usable.cluster.is_empty() { endpoints } else { &usable.cluster };
        for ip in addresses {
            self.element("service-ips", key(ip, port), &verdict);
            self.origin(port, Origin::Address(ip, port.port), reached);
        }
        if port.node_port != 0 {
            let key = format!("{} . {}", port.protocol, port.node_port);
            self.element("service-nodeports", key, &verdict);
            self.origin(port, Origin::NodePort(port.node_port), reached);
        }
        let cluster = policy_chain(port, false);
        let mut rules = Vec::new();
        if !port.external_local {
            rules.push("jump mark-for-masquerade".to_owned());
            rules.push(format!("goto {cluster}"));
        } else {
            if !usable.cluster.is_empty() {
                rules.push(format!("ip saddr {} goto {cluster}", network(config)));
                rules.push("fib saddr type local jump mark-for-masquerade".to_owned());
                rules.push(format!("fib saddr type local goto {cluster}"));
            }
            if !endpoints.is_empty() {
                rules.push(format!("goto {}", policy_chain(port, true)));
            }
        }
        self.chain(&chain, rules);
    }

    fn policy_chains(&mut self, config: &Config, port: &ServicePort, usable: &Usable) {
        let mut reached: BTreeMap<(Ipv4Addr, u16), &Endpoint> = BTreeMap::new();
        for (local, endpoints) in [(false, &usable.cluster), (true, &usable.local)] {
            if endpoints.is_empty() {
                continue;
            }
            let mut rules = Vec::new();
            if port.internal_local == local {
                rules.push(format!(
                    "ip daddr {} {} dport {} ip saddr != {} jump mark-for-masquerade",
                    port.cluster_ip,
                    port.protocol,
                    port.port,
                    network(config)
                ));
            }
            rules.push(format!("goto {}", self.choice(port, endpoints)));
            self.chain(&policy_chain(port, local), rules);
            reached.extend(endpoints.iter().map(|e| ((e.address, e.port), e)));
        }
        for endpoint in reached.into_values() {
            self.endpoint(port, endpoint);
        }
    }

    /// The chain that sends a connection to the endpoint of its client, else to any.
    fn choice(&mut self, port: &ServicePort, endpoints: &[Endpoint]) -> String {
        let chains: Vec<String> =
            endpoints.iter().map(|e| endpoint_name("endpoint", port, e)).collect();
        if let [only] = chains.as_slice() {
            return only.clone();
        }
        let mut rules = Vec::new();
        if let Some(seconds) = port.affinity {
            for (endpoint, chain) in endpoints.iter().zip(&chains) {
                let set = affinity_name(seconds, port, endpoint);
                rules.push(format!("ip saddr @{set} goto {chain}"));
            }
        }
        let ways: Vec<String> =
            chains.iter().enumerate().map(|(i, chain)| format!("{i} : goto {chain}")).collect();
        let (count, ways) = (chains.len(), ways.join(", "));
        rules.push(format!("numgen random mod {count} vmap {{ {ways} }}"));
        let name = hashed(&name("choice", &port.name), &rules.concat());
        self.chain(&name, rules);
        name
    }

    fn endpoint(&mut self, port: &ServicePort, endpoint: &Endpoint) {
        let Endpoint { address, port: number, .. } = endpoint;
        // A pod that is sent back to itself would answer itself directly.
        let mut rules = vec![format!("ip saddr {address} jump mark-for-masquerade")];
        if let Some(seconds) = port.affinity {
            let set = affinity_name(seconds, port, endpoint);
            let definition =
                format!("type ipv4_addr ; flags dynamic,timeout ; timeout {seconds}s ;");
            self.set(&set, "set", &definition);
            rules.push(format!("update @{set} {{ ip saddr }}"));
        }
        rules.push(format!("meta l4proto {} dnat to {address}:{number}", port.protocol));
        self.chain(&endpoint_name("endpoint", port, endpoint), rules);
    }

    /// Load balancer addresses take connections only from the networks that the service names.
    fn firewall(&mut self, config: &Config, port: &ServicePort, ip: Ipv4Addr) {
        if port.source_ranges.is_empty() {
            return;
        }
        let chain = name("firewall", &port.name);
        self.element("firewall-ips", key(ip, port), &format!("goto {chain}"));
        let mut allowed = port.source_ranges.clone();
        if allowed.iter().any(|range| contains(range, config.node_ip)) {
            // The node reaches a load balancer address with that very address as source.
            allowed.extend(port.balancer_ips.iter().map(Ipv4Addr::to_string));
        }
        let rules = allowed.iter().map(|range| format!("ip saddr {range} return"));
        let rules = rules.chain(["drop".to_owned()]).collect();
        self.chain(&chain, rules);
    }

    fn refuse_address(&mut self, port: &ServicePort, ip: Ipv4Addr, verdict: &str) {
        self.element("no-endpoint-services", key(ip, port), verdict);
    }

    fn origin(&mut self, port: &ServicePort, origin: Origin, endpoints: &[Endpoint]) {
        if port.protocol == Protocol::Udp {
            let known = self.udp.entry(origin).or_default();
            known.extend(endpoints.iter().map(|e| e.address));
        }
    }
}

fn policy_chain(port: &ServicePort, local: bool) -> String {
    name(if local { "local" } else { "service" }, &port.name)
}

fn endpoint_name(kind: &str, port: &ServicePort, endpoint: &Endpoint) -> String {
    name(kind, &format!("{}__{}/{}", port.name, endpoint.address, endpoint.port))
}

fn affinity_name(seconds: i64, port: &ServicePort, endpoint: &Endpoint) -> String {
    endpoint_name(&format!("affinity-{seconds}s"), port, endpoint)
}

fn key(ip: Ipv4Addr, port: &ServicePort) -> String {
    format!("{ip} . {} . {}", port.protocol, port.port)
}

fn network(config: &Config) -> String {
    format!("{}/{}", config.cluster_network.0, config.cluster_network.1)
}

fn contains(range: &str, ip: Ipv4Addr) -> bool {
    let Some((base, prefix)) = range.split_once('/') else { return false };
    let (Ok(base), Ok(prefix)) = (base.parse::<Ipv4Addr>(), prefix.parse::<u32>()) else {
        return false;
    };
    let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
    base.to_bits() & mask == ip.to_bits() & mask
}

/// A name that the kernel takes; nft allows 128 bytes.
fn name(kind: &str, of: &str) -> String {
    let full = format!("{kind}-{of}");
    if full.len() <= NAME_MAX { full } else { hashed(&full, &full) }
}

/// A name that ends in a hash of a text, and as much before it as there is room for.
fn hashed(name: &str, of: &str) -> String {
    // FNV-1a: short, stable, and the names before it are already close to unique.
    let hash = of.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{}-{hash:016x}", &name[..name.len().min(NAME_MAX - 17)])
}
