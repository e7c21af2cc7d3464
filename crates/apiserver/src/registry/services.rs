//! Addresses and ports of services: reserved while a write is under way, kept when it lands.
//!
//! upstream: pkg/registry/core/service/storage/alloc.go

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_api::field::{Error, Path};
use longshore_api::{Object, Reason, StatusError};
use longshore_resources::services;
use parking_lot::Mutex;
use serde_json::Value;

use super::WriteContext;

/// The families of the cluster's ranges.
const FAMILIES: [&str; 1] = ["IPv4"];
/// The port before the first that a dry run shows in the place of an allocated one.
///
/// upstream: pkg/registry/core/service/portallocator/operation.go AllocateNext
const DRY_RUN_PORT: i64 = 32768;

/// The ranges that services get their addresses and ports from, and what is taken of them.
#[derive(Clone)]
pub struct ServiceRanges {
    network: u32,
    prefix: u8,
    node_ports: std::ops::RangeInclusive<u16>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    addresses: BTreeSet<u32>,
    ports: BTreeSet<i64>,
    next_address: u32,
    next_port: i64,
}

/// What one write took; given back when the write does not land. A dry run takes nothing.
#[must_use = "a reservation that is not kept is given back"]
pub struct Reservation {
    taken: Arc<Mutex<Taken>>,
    dry_run: bool,
    addresses: Vec<u32>,
    ports: Vec<i64>,
}

impl Reservation {
    /// The write landed.
    pub fn keep(mut self) {
        self.addresses.clear();
        self.ports.clear();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.dry_run {
            return;
        }
        let mut taken = self.taken.lock();
        for address in &self.addresses {
            taken.addresses.remove(address);
        }
        for port in &self.ports {
            taken.ports.remove(port);
        }
    }
}

/// Why a port on the nodes cannot be had.
enum PortError {
    /// The one asked for: the index of the service's port, the node port and the reason.
    Refused(usize, i64, String),
    /// All are taken.
    Full,
    /// The service names one twice for the same protocol.
    Twice(String),
}

impl ServiceRanges {
    /// Ranges with nothing taken.
    pub fn new(network: Ipv4Addr, prefix: u8, node_ports: std::ops::RangeInclusive<u16>) -> Self {
        Self { network: network.into(), prefix, node_ports, taken: Arc::default() }
    }

    /// Takes what a stored service has; called for every service at start.
    pub fn restore(&self, service: &Object) {
        let mut taken = self.taken.lock();
        if let Some(address) = address_of(service) {
            taken.addresses.insert(address);
        }
        taken.ports.extend(ports_of(service));
    }

    fn applies(ctx: &WriteContext<'_>) -> bool {
        ctx.resource().group.is_empty()
            && ctx.resource().plural == "services"
            && ctx.subresource.is_empty()
    }

    /// Gives a new or changed service the addresses and ports it needs.
    pub fn reserve(
        &self,
        ctx: &WriteContext<'_>,
        new: &mut Object,
        old: Option<&Object>,
    ) -> Result<Reservation, StatusError> {
        let mut reservation = Reservation {
            taken: self.taken.clone(),
            dry_run: ctx.dry_run,
            addresses: Vec::new(),
            ports: Vec::new(),
        };
        if !Self::applies(ctx) {
            return Ok(reservation);
        }
        let errors = services::settle(new, old, &FAMILIES);
        ctx.invalid(new.name(), errors)?;
        if let Err(error) = self.reserve_address(new, old, &mut reservation) {
            ctx.invalid(new.name(), vec![error])?;
        }
        self.reserve_ports(ctx, new, old, &mut reservation)?;
        self.reserve_health_port(new, old, &mut reservation)?;
        Ok(reservation)
    }

    /// Gives back what a changed service no longer has.
    pub fn release_changed(&self, ctx: &WriteContext<'_>, new: &Object, old: &Object) {
        if !Self::applies(ctx) {
            return;
        }
        let mut taken = self.taken.lock();
        let (kept, had) = (address_of(new), address_of(old));
        if had != kept
            && let Some(address) = had
        {
            taken.addresses.remove(&address);
        }
        let kept = ports_of(new);
        for port in ports_of(old).difference(&kept) {
            taken.ports.remove(port);
        }
    }

    /// Gives back what a deleted service had.
    pub fn release(&self, ctx: &WriteContext<'_>, service: &Object) {
        if !Self::applies(ctx) {
            return;
        }
        let mut taken = self.taken.lock();
        if let Some(address) = address_of(service) {
            taken.addresses.remove(&address);
        }
        for port in ports_of(service) {
            taken.ports.remove(&port);
        }
    }

    /// upstream: pkg/registry/core/service/storage/alloc.go allocClusterIPs, updateClusterIPs
    fn reserve_address(
        &self,
        new: &mut Object,
        old: Option<&Object>,
        reservation: &mut Reservation,
    ) -> Result<(), Error> {
        let external = |service: &Object| service.str(&["spec", "type"]) == "ExternalName";
        let asked = new.str(&["spec", "clusterIP"]).to_owned();
        let had_address = old.is_some_and(|old| !external(old));
        if external(new) || asked == "None" || had_address {
            return Ok(());
        }
        let path = Path::new("spec").child("clusterIPs");
        let refused = |why: &str| {
            let ips = new.list(&["spec", "clusterIPs"]).to_vec();
            let detail = format!("failed to allocate IP {asked}: {why}");
            Err(Error::invalid(&path, ips, &detail))
        };
        let mut taken = self.taken.lock();
        let address = match address_of(new) {
            Some(address) if !self.contains(address) => {
                let range = format!("{}/{}", Ipv4Addr::from(self.network), self.prefix);
                return refused(&format!(
                    "the provided IP ({asked}) is not in the valid range. The range of valid IPs is {range}"
                ));
            }
            // A dry run does not look at what is taken.
            Some(address) if !reservation.dry_run && taken.addresses.contains(&address) => {
                return refused("provided IP is already allocated");
            }
            Some(address) => address,
            None if !asked.is_empty() => return Ok(()), // not an IPv4 address: validation says so
            None if reservation.dry_run => self.network,
            None => match self.free_address(&mut taken) {
                Some(address) => address,
                None => {
                    let detail = "failed to allocate a serviceIP: range is full";
                    return Err(Error::internal(&path, detail));
                }
            },
        };
        if !reservation.dry_run {
            taken.addresses.insert(address);
            reservation.addresses.push(address);
        }
        drop(taken);
        set_address(new, Ipv4Addr::from(address));
        Ok(())
    }

    fn contains(&self, address: u32) -> bool {
        let size = 1u32 << (32 - u32::from(self.prefix.min(31)));
        address > self.network && address < self.network + (size - 1)
    }

    fn free_address(&self, taken: &mut Taken) -> Option<u32> {
        let size = 1u32 << (32 - u32::from(self.prefix.min(31)));
        // upstream: the lower part of the range is kept for addresses chosen by people.
        let reserved = (size / 16).clamp(16, 256).min(size / 2);
        let count = size - 2;
        (0..count)
            .map(|i| (taken.next_address + i) % count)
            .map(|i| self.network + 1 + (i + reserved) % count)
            .find(|address| !taken.addresses.contains(address))
            .inspect(|address| {
                taken.next_address = (address - self.network).wrapping_sub(reserved) % count;
            })
    }

    /// upstream: pkg/registry/core/service/storage/alloc.go txnAllocNodePorts, txnUpdateNodePorts
    fn reserve_ports(
        &self,
        ctx: &WriteContext<'_>,
        new: &mut Object,
        old: Option<&Object>,
        reservation: &mut Reservation,
    ) -> Result<(), StatusError> {
        let name = new.name().to_owned();
        let kind = new.str(&["spec", "type"]).to_owned();
        if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            return Ok(());
        }
        let allocates = kind == "NodePort"
            || new.get(&["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false));
        let Some(Value::Array(ports)) = new.get_mut(&["spec", "ports"]) else { return Ok(()) };
        let result = match old {
            None => self.new_ports(ports, allocates, reservation),
            Some(old) => self.changed_ports(ports, allocates, &node_ports_of(old), reservation),
        };
        match result {
            Ok(()) => Ok(()),
            Err(PortError::Refused(index, port, why)) => {
                let at = Path::new("spec").child("ports").index(index).child("nodePort");
                ctx.invalid(&name, vec![Error::invalid(&at, port, &why)])
            }
            Err(PortError::Full) => {
                Err(StatusError::internal("failed to allocate a nodePort: range is full"))
            }
            Err(PortError::Twice(why)) => Err(StatusError::new(Reason::Unknown, why)),
        }
    }

    /// upstream: initNodePorts: one node port serves all ports of the same number.
    fn new_ports(
        &self,
        ports: &mut [Value],
        allocates: bool,
        reservation: &mut Reservation,
    ) -> Result<(), PortError> {
        let mut shared: BTreeMap<i64, i64> = BTreeMap::new();
        let number = |port: &Value| port["port"].as_i64().unwrap_or(0);
        for i in 0..ports.len() {
            let (own, given) = (number(&ports[i]), node_port(&ports[i]));
            if given == 0 && !allocates {
                continue;
            }
            let wished = |ports: &[Value]| {
                let same = ports.iter().filter(|p| number(p) == own).map(node_port);
                same.into_iter().find(|port| *port != 0)
            };
            let port = match shared.get(&own) {
                Some(port) if given == 0 || given == *port => *port,
                Some(_) => self.take_for(i, given, reservation)?,
                None => {
                    let port = match wished(ports) {
                        Some(port) => self.take_for(i, port, reservation)?,
                        None => self.take_any(reservation).ok_or(PortError::Full)?,
                    };
                    shared.insert(own, port);
                    port
                }
            };
            ports[i]["nodePort"] = port.into();
        }
        Ok(())
    }

    /// upstream: updateNodePorts
    fn changed_ports(
        &self,
        ports: &mut [Value],
        allocates: bool,
        had: &BTreeSet<i64>,
        reservation: &mut Reservation,
    ) -> Result<(), PortError> {
        let mut taken: BTreeSet<i64> = BTreeSet::new();
        let mut seen: BTreeSet<(String, i64)> = BTreeSet::new();
        for (i, port) in ports.iter_mut().enumerate() {
            let number = match node_port(port) {
                0 if !allocates => continue,
                0 => self.take_any(reservation).ok_or(PortError::Full)?,
                given => {
                    if !had.contains(&given) && taken.insert(given) {
                        self.take_for(i, given, reservation)?;
                    }
                    given
                }
            };
            port["nodePort"] = number.into();
            let protocol = port["protocol"].as_str().unwrap_or("").to_owned();
            if !seen.insert((protocol.clone(), number)) {
                let why = format!("duplicate nodePort: {{{protocol} {number}}}");
                return Err(PortError::Twice(why));
            }
        }
        Ok(())
    }

    fn take_for(
        &self,
        index: usize,
        port: i64,
        reservation: &mut Reservation,
    ) -> Result<i64, PortError> {
        let taken = self.take(port, reservation);
        taken.map(|()| port).map_err(|why| PortError::Refused(index, port, why))
    }

    /// upstream: pkg/registry/core/service/storage/alloc.go allocHealthCheckNodePort
    fn reserve_health_port(
        &self,
        new: &mut Object,
        old: Option<&Object>,
        reservation: &mut Reservation,
    ) -> Result<(), StatusError> {
        let needs = |service: &Object| {
            service.str(&["spec", "type"]) == "LoadBalancer"
                && service.str(&["spec", "externalTrafficPolicy"]) == "Local"
        };
        if !needs(new) || old.is_some_and(needs) {
            return Ok(());
        }
        let path = ["spec", "healthCheckNodePort"];
        let given = new.int(&path).unwrap_or(0);
        if given != 0 {
            return self.take(given, reservation).map_err(|why| {
                StatusError::internal(format!(
                    "failed to allocate requested HealthCheck NodePort {given}: {why}"
                ))
            });
        }
        let port = self.take_any(reservation).ok_or_else(|| {
            StatusError::internal("failed to allocate a HealthCheck NodePort 0: range is full")
        })?;
        new.set(&path, port);
        Ok(())
    }

    /// Takes a port that was asked for. A dry run does not look at the range.
    fn take(&self, port: i64, reservation: &mut Reservation) -> Result<(), String> {
        let mut taken = self.taken.lock();
        let known = u16::try_from(port).is_ok_and(|port| self.node_ports.contains(&port));
        if !reservation.dry_run && !known {
            let range = format!("{}-{}", self.node_ports.start(), self.node_ports.end());
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {range}"
            ));
        }
        if taken.ports.contains(&port) || reservation.ports.contains(&port) {
            return Err("provided port is already allocated".to_owned());
        }
        if !reservation.dry_run {
            taken.ports.insert(port);
        }
        reservation.ports.push(port);
        Ok(())
    }

    fn take_any(&self, reservation: &mut Reservation) -> Option<i64> {
        if reservation.dry_run {
            let last = reservation.ports.iter().max().copied().unwrap_or(DRY_RUN_PORT);
            let port = last + 1;
            reservation.ports.push(port);
            return Some(port);
        }
        let mut taken = self.taken.lock();
        let (start, end) = (*self.node_ports.start(), *self.node_ports.end());
        let (start, count) = (i64::from(start), i64::from(end) - i64::from(start) + 1);
        // upstream: the first ports of the range are kept for ports chosen by people.
        let reserved = (count / 32).clamp(16, 128).min(count / 2);
        let next = taken.next_port;
        let port = (0..count)
            .map(|i| start + ((next + i) % count + reserved) % count)
            .find(|port| !taken.ports.contains(port))?;
        taken.next_port = (port - start + count - reserved) % count;
        taken.ports.insert(port);
        reservation.ports.push(port);
        Some(port)
    }
}

fn set_address(service: &mut Object, address: Ipv4Addr) {
    service.set(&["spec", "clusterIP"], address.to_string());
    service.set(&["spec", "clusterIPs"], vec![Value::from(address.to_string())]);
}

fn address_of(service: &Object) -> Option<u32> {
    service.str(&["spec", "clusterIP"]).parse::<Ipv4Addr>().ok().map(u32::from)
}

fn node_port(port: &Value) -> i64 {
    port["nodePort"].as_i64().unwrap_or(0)
}

fn node_ports_of(service: &Object) -> BTreeSet<i64> {
    let ports = service.list(&["spec", "ports"]).iter().map(node_port);
    ports.filter(|port| *port != 0).collect()
}

/// All ports on the nodes, with that for health checks.
fn ports_of(service: &Object) -> BTreeSet<i64> {
    let mut ports = node_ports_of(service);
    let health = service.int(&["spec", "healthCheckNodePort"]);
    ports.extend(health.filter(|port| *port != 0));
    ports
}
