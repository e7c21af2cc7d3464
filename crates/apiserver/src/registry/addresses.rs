//! The objects that stand for the addresses of services, and the ranges that those come from.
//!
//! An address belongs to whoever made its object first, also between servers on one store. The
//! object is there before the service is, and goes when the service is not stored.
//!
//! upstream: pkg/registry/core/service/ipallocator/{ipallocator,cidrallocator}.go,
//! pkg/registry/core/service/ipallocator/controller/repairip.go

use std::net::Ipv4Addr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use longshore_api::field::{Error, Path};
use longshore_api::{Object, StatusError};
use longshore_base::TaskKind;
use longshore_store::{Op, Revision, Txn, TxnOutcome};
use serde_json::{Value, json};

use super::services::{Reservation, ServiceRanges, address_of};
use super::{CONFLICT_RETRIES_MAX, Own, Registry, Served, ServedTable, WriteContext};
use crate::cache::Hub;

const GROUP: &str = "networking.k8s.io";
const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";

/// A range of addresses: its network and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) network: u32,
    pub(super) prefix: u8,
}

impl Range {
    /// Reads `a.b.c.d/n`.
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| (1..=32).contains(prefix))?;
        let address: u32 = address.parse::<Ipv4Addr>().ok()?.into();
        Some(Self { network: address & (u32::MAX << (32 - u32::from(prefix))), prefix })
    }

    fn size(self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }

    /// Whether a service may have an address: it is none of those with a meaning of their own.
    pub(super) fn has(self, address: u32) -> bool {
        let offset = u64::from(address.wrapping_sub(self.network));
        offset > 0 && offset < self.size() - 1
    }

    /// The addresses for services that ask for none, from the offset `start` on. The lower part
    /// of the range is left to addresses chosen by people as long as the upper one lasts.
    pub(super) fn candidates(self, start: u64) -> impl Iterator<Item = u32> {
        let usable = self.size().saturating_sub(2);
        let reserved = (self.size() / 16).clamp(16, 256).min(usable / 2);
        let upper = usable - reserved;
        let first = u64::from(self.network) + 1;
        let turn = |count: u64| start.checked_rem(count).unwrap_or(0);
        let (start_upper, start_lower) = (turn(upper), turn(reserved));
        let upper = (0..upper).map(move |i| reserved + (start_upper + i) % upper);
        let lower = (0..reserved).map(move |i| (start_lower + i) % reserved);
        upper.chain(lower).filter_map(move |offset| u32::try_from(first + offset).ok())
    }
}

/// The ranges that addresses may come from now; none before the first is stored.
pub(super) fn ranges(table: &ServedTable) -> Vec<Range> {
    let Some(served) = table.any_version(GROUP, "servicecidrs") else { return Vec::new() };
    let (snapshot, _) = served.cache.snapshot();
    let mut ranges = Vec::new();
    for (_, entry) in snapshot.iter() {
        let object = entry.object();
        let conditions = object.list(&["status", "conditions"]);
        let ready = conditions.iter().find(|c| c["type"] == "Ready");
        if object.is_deleting() || ready.is_some_and(|c| c["status"] != "True") {
            continue;
        }
        let texts = object.list(&["spec", "cidrs"]).iter().filter_map(Value::as_str);
        ranges.extend(texts.filter_map(Range::parse));
    }
    ranges
}

/// Whether the object of an address is there.
pub(super) fn is_taken(table: &ServedTable, address: u32) -> bool {
    let name = Ipv4Addr::from(address).to_string();
    table.any_version(GROUP, "ipaddresses").is_some_and(|s| s.cache.get("", &name).is_some())
}

/// The object that stands for an address of a service.
fn stand_in(address: u32, service: &Object) -> Object {
    let value = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "IPAddress",
        "metadata": {
            "name": Ipv4Addr::from(address).to_string(),
            "labels": {FAMILY_LABEL: "IPv4", MANAGED_LABEL: MANAGER},
        },
        "spec": {"parentRef": {
            "resource": "services", "namespace": service.namespace(), "name": service.name(),
        }},
    });
    Object::from_value(value).expect("built as an object")
}

/// Removes objects at the revisions that they were made at, whatever becomes of the request.
pub(super) fn forget(hub: Arc<Hub>, made: Vec<(bytes::Bytes, u64)>) {
    longshore_base::spawn(TaskKind::PerItem, "service address", async move {
        for (key, revision) in made {
            let txn = Txn { key, expect: Revision(revision), op: Op::Delete };
            if let Err(error) = hub.store().txn(txn).await {
                tracing::warn!(%error, "an address stays without its service");
            }
        }
    });
}

impl Registry {
    /// Gives a new or changed service the addresses and ports it needs.
    pub(super) async fn take_service_parts(
        &self,
        ctx: &WriteContext<'_>,
        new: &mut Object,
        old: Option<&Object>,
    ) -> Result<Reservation, StatusError> {
        if !ServiceRanges::applies(ctx) {
            return Ok(Reservation::empty());
        }
        let asked = new.clone();
        for _ in 0..CONFLICT_RETRIES_MAX {
            let table = self.table().clone();
            let mut reserved = self.services.reserve(ctx, &table, new, old)?;
            let Some(address) = reserved.address() else { return Ok(reserved) };
            match self.claim(&table, address, new).await {
                Ok(Some(made)) => {
                    reserved.claimed(self.hub().clone(), made);
                    return Ok(reserved);
                }
                Ok(None) => return Ok(reserved),
                // Somebody else was faster.
                Err(error) if error.code == 409 => {
                    let ip = asked.str(&["spec", "clusterIP"]);
                    if !ip.is_empty() {
                        let ips = asked.list(&["spec", "clusterIPs"]).to_vec();
                        let why =
                            format!("failed to allocate IP {ip}: provided IP is already allocated");
                        let path = Path::new("spec").child("clusterIPs");
                        ctx.invalid(new, vec![Error::invalid(&path, ips, &why)])?;
                    }
                    self.hub().fresh().await.map_err(StatusError::internal)?;
                    new.clone_from(&asked);
                }
                Err(error) => return Err(error),
            }
        }
        Err(StatusError::internal("failed to allocate a serviceIP: others are always faster"))
    }

    /// Makes the object of an address; `None` when addresses are not served. Boxed: it is made
    /// like any object, by a creation within the service's.
    fn claim<'a>(
        &'a self,
        table: &'a ServedTable,
        address: u32,
        service: &'a Object,
    ) -> BoxFuture<'a, Result<Option<(bytes::Bytes, u64)>, StatusError>> {
        async move {
            let Some(served) = table.any_version(GROUP, "ipaddresses") else { return Ok(None) };
            let stored = self.write_address(served, stand_in(address, service)).await?;
            let Some(entry) = stored.entry else { return Ok(None) };
            self.hub().wait_for(entry.revision).await.map_err(StatusError::internal)?;
            Ok(Some((entry.key, entry.revision)))
        }
        .boxed()
    }

    async fn write_address(
        &self,
        served: &Served,
        object: Object,
    ) -> Result<super::Stored, StatusError> {
        let own = Own::default();
        self.create(&own.context(self, served), object).await
    }

    /// Removes the objects of addresses that a service no longer has.
    pub(super) async fn release_addresses(
        &self,
        ctx: &WriteContext<'_>,
        old: &Object,
        new: Option<&Object>,
    ) {
        if !ServiceRanges::applies(ctx) {
            return;
        }
        let Some(had) = address_of(old).filter(|had| new.and_then(address_of) != Some(*had)) else {
            return;
        };
        let Some(served) = self.table().any_version(GROUP, "ipaddresses").cloned() else { return };
        let hub = self.hub().clone();
        // The service is gone: its address goes even when nobody waits for the answer any more.
        let task = longshore_base::spawn(TaskKind::PerItem, "service address", async move {
            if let Err(error) = remove(&hub, &served, had).await {
                tracing::warn!(%error, "an address stays without its service");
            }
        });
        if let Err(error) = task.await {
            tracing::warn!(%error, "an address may stay without its service");
        }
    }

    /// Brings the objects of addresses in line with the services: makes those that are missing
    /// and removes those that nobody has. Called once before requests come.
    ///
    /// # Errors
    /// When one cannot be written.
    pub async fn repair_addresses(&self) -> Result<(), StatusError> {
        let table = self.table().clone();
        let (Some(addresses), Some(services)) =
            (table.any_version(GROUP, "ipaddresses"), table.any_version("", "services"))
        else {
            return Ok(());
        };
        let (snapshot, _) = services.cache.snapshot();
        for (_, entry) in snapshot.iter() {
            let service = entry.object();
            let missing = address_of(&service).filter(|address| !is_taken(&table, *address));
            if let Some(address) = missing {
                self.write_address(addresses, stand_in(address, &service)).await?;
            }
        }
        let (snapshot, _) = addresses.cache.snapshot();
        for (_, entry) in snapshot.iter() {
            let object = entry.object();
            if object.label(MANAGED_LABEL) != Some(MANAGER) {
                continue;
            }
            let parent = |key: &str| object.str(&["spec", "parentRef", key]).to_owned();
            let service = services.cache.get(&parent("namespace"), &parent("name"));
            let has = service
                .is_some_and(|entry| entry.object().str(&["spec", "clusterIP"]) == object.name());
            if let (false, Ok(address)) = (has, object.name().parse::<Ipv4Addr>()) {
                let removed = remove(self.hub(), addresses, address.into()).await;
                removed.map_err(StatusError::internal)?;
            }
        }
        Ok(())
    }
}

async fn remove(
    hub: &Hub,
    served: &Served,
    address: u32,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let name = Ipv4Addr::from(address).to_string();
    hub.fresh().await?;
    let Some(entry) = served.cache.get("", &name) else { return Ok(()) };
    let mut revision = entry.revision;
    for _ in 0..CONFLICT_RETRIES_MAX {
        let txn = Txn { key: entry.key.clone(), expect: Revision(revision), op: Op::Delete };
        match hub.store().txn(txn).await? {
            TxnOutcome::Conflict(Some(present)) => revision = present.mod_revision.0,
            TxnOutcome::Committed(_) | TxnOutcome::Conflict(None) => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ranges_have_all_but_their_ends() {
        let range = Range::parse("198.18.77.0/28").expect("a range");
        let at = |last: u8| u32::from(Ipv4Addr::new(198, 18, 77, last));
        assert!(!range.has(at(0)) && range.has(at(1)) && range.has(at(14)) && !range.has(at(15)));
        assert!(!range.has(at(16)) && !range.has(0));
        let all: BTreeSet<u32> = range.candidates(5).collect();
        assert_eq!(all, (at(1)..=at(14)).collect());
        assert_eq!(range.candidates(0).count(), 14);
        for bad in ["198.18.77.0", "fd00::/64", "1.2.3.4/0", "1.2.3.4/33"] {
            assert_eq!(Range::parse(bad), None, "{bad}");
        }
        for prefix in [31, 32] {
            let range = Range { network: 0, prefix };
            assert_eq!(range.candidates(3).count(), 0, "/{prefix} has no address to give");
        }
    }
}
