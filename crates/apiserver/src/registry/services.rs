//! Addresses and ports of services: reserved while a write is under way, kept when it lands.
//!
//! upstream: pkg/registry/core/service/storage/alloc.go

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_api::field::{Error, Path};
use longshore_api::{Object, StatusError};
use parking_lot::Mutex;
use serde_json::Value;

use super::WriteContext;

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
    /// Port and protocol.
    ports: BTreeSet<(u16, String)>,
    next_address: u32,
    next_port: u16,
}

/// What one write took; given back when the write does not land.
#[must_use = "a reservation that is not kept is given back"]
pub struct Reservation {
    taken: Arc<Mutex<Taken>>,
    addresses: Vec<u32>,
    ports: Vec<(u16, String)>,
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
        let mut taken = self.taken.lock();
        for address in &self.addresses {
            taken.addresses.remove(address);
        }
        for port in &self.ports {
            taken.ports.remove(port);
        }
    }
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
        taken.ports.extend(node_ports_of(service));
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
        let mut reservation =
            Reservation { taken: self.taken.clone(), addresses: Vec::new(), ports: Vec::new() };
        if Self::applies(ctx) {
            let mut errors = Vec::new();
            self.reserve_address(new, old, &mut reservation, &mut errors);
            self.reserve_ports(new, old, &mut reservation, &mut errors);
            ctx.invalid(new.name(), errors)?;
        }
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
        let kept = node_ports_of(new);
        for port in node_ports_of(old).difference(&kept) {
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
        for port in node_ports_of(service) {
            taken.ports.remove(&port);
        }
    }

    fn reserve_address(
        &self,
        new: &mut Object,
        old: Option<&Object>,
        reservation: &mut Reservation,
        errors: &mut Vec<Error>,
    ) {
        let external = new.str(&["spec", "type"]) == "ExternalName";
        if external {
            return;
        }
        if new.str(&["spec", "clusterIP"]).is_empty()
            && let Some(old) = old.and_then(address_of)
        {
            set_address(new, Ipv4Addr::from(old));
        }
        let wanted = address_of(new);
        if wanted.is_some() && wanted == old.and_then(address_of) {
            return;
        }
        let asked = new.str(&["spec", "clusterIP"]).to_owned();
        if asked == "None" {
            new.set(&["spec", "clusterIPs"], vec![Value::from("None")]);
            return;
        }
        let mut taken = self.taken.lock();
        let path = Path::new("spec").child("clusterIPs").index(0);
        let address = match wanted {
            Some(address) if !self.contains(address) => {
                let range = format!("{}/{}", Ipv4Addr::from(self.network), self.prefix);
                let detail = format!(
                    "failed to allocate IP {asked}: the provided IP ({asked}) is not in the valid range. The range of valid IPs is {range}"
                );
                errors.push(Error::invalid(&path, vec![Value::from(asked)], &detail));
                return;
            }
            Some(address) if taken.addresses.contains(&address) => {
                let detail =
                    format!("failed to allocate IP {asked}: provided IP is already allocated");
                errors.push(Error::invalid(&path, vec![Value::from(asked)], &detail));
                return;
            }
            Some(address) => address,
            None if !asked.is_empty() => return, // not an IPv4 address: validation says so
            None => match self.free_address(&mut taken) {
                Some(address) => address,
                None => {
                    let detail = "failed to allocate a serviceIP: range is full";
                    errors.push(Error::internal(&path, detail));
                    return;
                }
            },
        };
        taken.addresses.insert(address);
        reservation.addresses.push(address);
        set_address(new, Ipv4Addr::from(address));
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

    fn reserve_ports(
        &self,
        new: &mut Object,
        old: Option<&Object>,
        reservation: &mut Reservation,
        errors: &mut Vec<Error>,
    ) {
        let kind = new.str(&["spec", "type"]).to_owned();
        let balancer = kind == "LoadBalancer"
            && new.get(&["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false));
        let wants = kind == "NodePort" || balancer;
        let mut had: BTreeSet<(u16, String)> = old.map(node_ports_of).unwrap_or_default();
        let Some(Value::Array(ports)) = new.get_mut(&["spec", "ports"]) else { return };
        let mut taken = self.taken.lock();
        for (i, port) in ports.iter_mut().enumerate() {
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
            let given = port["nodePort"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or(0);
            if !wants {
                continue;
            }
            let path = Path::new("spec").child("ports").index(i).child("nodePort");
            let number = if given != 0 {
                if had.remove(&(given, protocol.clone())) {
                    continue;
                }
                if !self.node_ports.contains(&given) {
                    let range = format!("{}-{}", self.node_ports.start(), self.node_ports.end());
                    let detail = format!(
                        "provided port is not in the valid range. The range of valid ports is {range}"
                    );
                    errors.push(Error::invalid(&path, given, &detail));
                    continue;
                }
                if taken.ports.contains(&(given, protocol.clone())) {
                    errors.push(Error::invalid(&path, given, "provided port is already allocated"));
                    continue;
                }
                given
            } else if let Some(port) = self.free_port(&mut taken, &protocol) {
                port
            } else {
                errors.push(Error::internal(&path, "failed to allocate a nodePort: range is full"));
                continue;
            };
            taken.ports.insert((number, protocol.clone()));
            reservation.ports.push((number, protocol));
            port["nodePort"] = number.into();
        }
    }

    fn free_port(&self, taken: &mut Taken, protocol: &str) -> Option<u16> {
        let (start, end) = (*self.node_ports.start(), *self.node_ports.end());
        let count = end - start + 1;
        // upstream: the first ports of the range are kept for ports chosen by people.
        let reserved = (count / 32).clamp(16, 128).min(count / 2);
        (0..count)
            .map(|i| start + ((taken.next_port + i) % count + reserved) % count)
            .find(|port| !taken.ports.contains(&(*port, protocol.to_owned())))
            .inspect(|port| taken.next_port = (port - start + count - reserved) % count)
    }
}

fn set_address(service: &mut Object, address: Ipv4Addr) {
    service.set(&["spec", "clusterIP"], address.to_string());
    service.set(&["spec", "clusterIPs"], vec![Value::from(address.to_string())]);
}

fn address_of(service: &Object) -> Option<u32> {
    service.str(&["spec", "clusterIP"]).parse::<Ipv4Addr>().ok().map(u32::from)
}

fn node_ports_of(service: &Object) -> BTreeSet<(u16, String)> {
    service
        .list(&["spec", "ports"])
        .iter()
        .filter_map(|port| {
            let number = u16::try_from(port["nodePort"].as_u64()?).ok().filter(|p| *p != 0)?;
            Some((number, port["protocol"].as_str().unwrap_or("TCP").to_owned()))
        })
        .collect()
}
