//! Addresses and ports of services: reserved while a write is under way, kept when it lands.
//!
//! upstream: pkg/registry/core/service/storage/alloc.go

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use longshore_api::field::{Error, Path};
use longshore_api::{Object, Reason, StatusError};
use longshore_resources::services;
use parking_lot::Mutex;
use serde_json::Value;

use super::addresses::{Range, forget, is_taken, ranges};
use super::{ServedTable, WriteContext};
use crate::cache::Hub;

/// The families of the cluster's ranges.
const FAMILIES: [&str; 1] = ["IPv4"];
/// The port before the first that a dry run shows in the place of an allocated one.
///
/// upstream: pkg/registry/core/service/portallocator/operation.go AllocateNext
const DRY_RUN_PORT: i64 = 32768;

/// The ranges that services get their addresses and ports from, and what is taken of them.
#[derive(Clone)]
pub struct ServiceRanges {
    /// The range that the server was started with.
    primary: Range,
    node_ports: std::ops::RangeInclusive<u16>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    /// Addresses whose objects are not there yet.
    addresses: BTreeSet<u32>,
    ports: BTreeSet<i64>,
    next_address: u64,
    next_port: i64,
}

/// What one write took; given back when the write does not land. A dry run takes nothing.
#[must_use = "a reservation that is not kept is given back"]
pub struct Reservation {
    taken: Arc<Mutex<Taken>>,
    dry_run: bool,
    address: Option<u32>,
    ports: Vec<i64>,
    /// The object of the address, where it is there.
    made: Option<(Arc<Hub>, (Bytes, u64))>,
}

impl Reservation {
    /// Of a write that needs nothing.
    pub(super) fn empty() -> Self {
        let (taken, address, ports) = (Arc::default(), None, Vec::new());
        Self { taken, dry_run: true, address, ports, made: None }
    }

    /// The address that a real write took.
    pub(super) fn address(&self) -> Option<u32> {
        self.address.filter(|_| !self.dry_run)
    }

    /// The address has its object now.
    pub(super) fn claimed(&mut self, hub: Arc<Hub>, made: (Bytes, u64)) {
        self.made = Some((hub, made));
    }

    /// The write landed.
    pub fn keep(mut self) {
        self.ports.clear();
        self.made = None;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.dry_run {
            return;
        }
        let mut taken = self.taken.lock();
        // From now on its object tells that it is taken.
        if let Some(address) = self.address {
            taken.addresses.remove(&address);
        }
        for port in &self.ports {
            taken.ports.remove(port);
        }
        drop(taken);
        if let Some((hub, made)) = self.made.take() {
            forget(hub, vec![made]);
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
        let primary = Range { network: network.into(), prefix };
        Self { primary, node_ports, taken: Arc::default() }
    }

    /// Takes the ports that a stored service has; called for every service at start.
    pub fn restore(&self, service: &Object) {
        self.taken.lock().ports.extend(ports_of(service));
    }

    pub(super) fn applies(ctx: &WriteContext<'_>) -> bool {
        ctx.resource().group.is_empty()
            && ctx.resource().plural == "services"
            && ctx.subresource.is_empty()
    }

    /// Gives a new or changed service the addresses and ports it needs.
    pub(super) fn reserve(
        &self,
        ctx: &WriteContext<'_>,
        table: &ServedTable,
        new: &mut Object,
        old: Option<&Object>,
    ) -> Result<Reservation, StatusError> {
        let mut reservation = Reservation::empty();
        reservation.taken = self.taken.clone();
        reservation.dry_run = ctx.dry_run;
        let errors = services::settle(new, old, &FAMILIES);
        ctx.invalid(new, errors)?;
        if let Err(error) = self.reserve_address(table, new, old, &mut reservation) {
            ctx.invalid(new, vec![error])?;
        }
        self.reserve_ports(ctx, new, old, &mut reservation)?;
        self.reserve_health_port(new, old, &mut reservation)?;
        Ok(reservation)
    }

    /// Gives back the ports that a changed service no longer has.
    pub fn release_changed(&self, ctx: &WriteContext<'_>, new: &Object, old: &Object) {
        if !Self::applies(ctx) {
            return;
        }
        let mut taken = self.taken.lock();
        let kept = ports_of(new);
        for port in ports_of(old).difference(&kept) {
            taken.ports.remove(port);
        }
    }

    /// Gives back the ports that a deleted service had.
    pub fn release(&self, ctx: &WriteContext<'_>, service: &Object) {
        if !Self::applies(ctx) {
            return;
        }
        let mut taken = self.taken.lock();
        for port in ports_of(service) {
            taken.ports.remove(&port);
        }
    }

    /// upstream: pkg/registry/core/service/storage/alloc.go allocClusterIPs, updateClusterIPs
    fn reserve_address(
        &self,
        table: &ServedTable,
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
        let mut ranges = ranges(table);
        if ranges.is_empty() {
            ranges.push(self.primary);
        }
        // Services that ask for none get an address of the first range as long as it lasts.
        ranges.sort_by_key(|range| *range != self.primary);
        let mut taken = self.taken.lock();
        let is_taken =
            |taken: &Taken, address| taken.addresses.contains(&address) || is_taken(table, address);
        let address = match address_of(new) {
            Some(address) if !ranges.iter().any(|range| range.has(address)) => {
                if !reservation.dry_run {
                    return refused("the provided network does not match the current range");
                }
                let range =
                    format!("{}/{}", Ipv4Addr::from(self.primary.network), self.primary.prefix);
                return refused(&format!(
                    "the provided IP ({asked}) is not in the valid range. The range of valid IPs is {range}"
                ));
            }
            // A dry run does not look at what is taken.
            Some(address) if !reservation.dry_run && is_taken(&taken, address) => {
                return refused("provided IP is already allocated");
            }
            Some(address) => address,
            None if !asked.is_empty() => return Ok(()), // not an IPv4 address: validation says so
            None if reservation.dry_run => self.primary.network,
            None => {
                let start = taken.next_address;
                let mut free = ranges.iter().flat_map(|range| range.candidates(start));
                let Some(address) = free.find(|address| !is_taken(&taken, *address)) else {
                    let detail = "failed to allocate a serviceIP: range is full";
                    return Err(Error::internal(&path, detail));
                };
                taken.next_address = start.wrapping_add(1);
                address
            }
        };
        if !reservation.dry_run {
            taken.addresses.insert(address);
        }
        reservation.address = Some(address);
        drop(taken);
        set_address(new, Ipv4Addr::from(address));
        Ok(())
    }

    /// upstream: pkg/registry/core/service/storage/alloc.go txnAllocNodePorts, txnUpdateNodePorts
    fn reserve_ports(
        &self,
        ctx: &WriteContext<'_>,
        new: &mut Object,
        old: Option<&Object>,
        reservation: &mut Reservation,
    ) -> Result<(), StatusError> {
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
                ctx.invalid(new, vec![Error::invalid(&at, port, &why)])
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

pub(super) fn address_of(service: &Object) -> Option<u32> {
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
