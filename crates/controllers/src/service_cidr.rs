//! The ranges of service addresses: the first one, which ones are ready, and which may go.
//!
//! upstream: pkg/controlplane/controller/defaultservicecidr, pkg/controller/servicecidrs

use std::net::IpAddr;
use std::time::Duration;

use longshore_api::Object;
use longshore_client::client::Patch;
use longshore_client::resource::{IP_ADDRESSES, SERVICE_CIDRS};
use longshore_client::{Error, Informer, Queue, workers};
use serde_json::{Value, json};

use crate::Context;
use crate::common::{Key, gone_is_fine, key_of, rfc3339};

const DEFAULT: &str = "kubernetes";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
/// How long a range stays after the decision that it may go, so that every allocator has seen it.
///
/// upstream: pkg/controller/servicecidrs/servicecidrs_controller.go deletionGracePeriod
const GRACE: Duration = Duration::from_secs(10);

/// Keeps the range that the server was started with.
pub(crate) fn start_default(ctx: Context) {
    let queue = Queue::new();
    let ranges = ctx.caches.get(SERVICE_CIDRS);
    let changed = queue.clone();
    ranges.on_change(move |change| {
        if change.object().name() == DEFAULT {
            changed.add(key_of(change.object()));
        }
    });
    queue.add((String::new(), DEFAULT.to_owned()));
    let shutdown = ctx.shutdown.clone();
    workers::run("kubernetes-service-cidr-controller", queue, 1, &shutdown, move |_: Key| {
        let (ctx, ranges) = (ctx.clone(), ranges.clone());
        async move {
            ranges.synced().await;
            let (address, prefix) = ctx.config.service_network;
            let cidrs = json!([format!("{address}/{prefix}")]);
            let Some(range) = ranges.get("", DEFAULT) else {
                let object = json!({
                    "apiVersion": SERVICE_CIDRS.api_version(), "kind": SERVICE_CIDRS.kind,
                    "metadata": { "name": DEFAULT }, "spec": { "cidrs": cidrs },
                });
                return match ctx.client.create(SERVICE_CIDRS, &object).await {
                    Err(error) if error.is_already_exists() => Ok(None),
                    outcome => outcome.map(|_| None),
                };
            };
            let own = range.get(&["spec", "cidrs"]) == Some(&cidrs);
            let told = ready(&range).is_some_and(|c| c["status"] != "Unknown");
            if own && !told && !range.is_deleting() {
                let message = "Kubernetes default Service CIDR is ready";
                tell(&ctx, &ranges, &range, ("True", "", message)).await?;
            }
            Ok(None)
        }
    });
}

/// Tells which ranges are ready, and keeps those that have addresses in use.
pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (ranges, addresses) = (ctx.caches.get(SERVICE_CIDRS), ctx.caches.get(IP_ADDRESSES));
    // A range may go because of another one.
    let (again, all) = (queue.clone(), ranges.clone());
    ranges.on_change(move |change| {
        again.add(key_of(change.object()));
        all.list().iter().filter(|range| range.is_deleting()).for_each(|r| again.add(key_of(r)));
    });
    let (again, all) = (queue.clone(), ranges.clone());
    addresses.on_change(move |_| {
        all.list().iter().filter(|range| range.is_deleting()).for_each(|r| again.add(key_of(r)));
    });
    let shutdown = ctx.shutdown.clone();
    workers::run("service-cidr-controller", queue, 1, &shutdown, move |key: Key| {
        let (ctx, ranges, addresses) = (ctx.clone(), ranges.clone(), addresses.clone());
        async move {
            ranges.synced().await;
            addresses.synced().await;
            let Some(range) = ranges.get("", &key.1) else { return Ok(None) };
            sync(&ctx, &ranges, &addresses, &range).await
        }
    });
}

async fn sync(
    ctx: &Context,
    ranges: &Informer,
    addresses: &Informer,
    range: &Object,
) -> Result<Option<Duration>, Error> {
    let held = range.finalizers().contains(&FINALIZER);
    if !range.is_deleting() {
        if !held {
            let patch = json!({ "metadata": { "finalizers": [FINALIZER] } });
            patched(ctx, range, patch).await?;
        }
        let message = "Kubernetes Service CIDR is ready";
        tell(ctx, ranges, range, ("True", "", message)).await?;
        return Ok(None);
    }
    if !may_go(range, ranges, addresses) {
        let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        tell(ctx, ranges, range, ("False", "Terminating", message)).await?;
        return Ok(None);
    }
    let deleted = range.str(&["metadata", "deletionTimestamp"]).parse::<jiff::Timestamp>();
    let since = deleted.map_or(GRACE, |at| {
        Duration::try_from(ctx.clock.now().duration_since(at)).unwrap_or(Duration::ZERO)
    });
    if let Some(left) = GRACE.checked_sub(since).filter(|left| !left.is_zero()) {
        return Ok(Some(left));
    }
    if held {
        let patch = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": [FINALIZER] } });
        patched(ctx, range, patch).await?;
    }
    Ok(None)
}

async fn patched(ctx: &Context, range: &Object, patch: Value) -> Result<(), Error> {
    let patch = Patch::Strategic(patch);
    let outcome = ctx.client.patch(SERVICE_CIDRS, "", range.name(), "", &patch).await;
    gone_is_fine(outcome).map(drop)
}

fn ready(range: &Object) -> Option<&Value> {
    range.list(&["status", "conditions"]).iter().find(|c| c["type"] == "Ready")
}

/// Sets the condition `Ready` when it is not what it should be.
async fn tell(
    ctx: &Context,
    ranges: &Informer,
    range: &Object,
    (status, reason, message): (&str, &str, &str),
) -> Result<(), Error> {
    let mut condition = json!({
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": rfc3339(ctx.clock.now()),
    });
    let mut conditions = range.list(&["status", "conditions"]).to_vec();
    match conditions.iter_mut().find(|c| c["type"] == "Ready") {
        Some(present) => {
            if present["status"] == status {
                condition["lastTransitionTime"] = present["lastTransitionTime"].clone();
            }
            if *present == condition {
                return Ok(());
            }
            *present = condition;
        }
        None => conditions.push(condition),
    }
    let mut changed = range.clone();
    changed.set(&["status", "conditions"], conditions);
    // Somebody else may have written meanwhile; the newest state is looked at again.
    let written = ctx.client.update_status(SERVICE_CIDRS, &changed).await;
    if let Some(written) = gone_is_fine(written)? {
        ranges.wait_for(&written).await;
    }
    Ok(())
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cidr {
    network: u128,
    prefix: u32,
    six: bool,
}

impl Cidr {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        Some(Self::of(address.parse().ok()?, prefix.parse().ok()?))
    }

    fn of(address: IpAddr, prefix: u32) -> Self {
        let (bits, six) = bits_of(address);
        let prefix = if six { prefix } else { prefix + 96 };
        Self { network: bits & mask(prefix), prefix, six }
    }

    fn contains(self, other: Self) -> bool {
        self.six == other.six
            && self.prefix <= other.prefix
            && other.network & mask(self.prefix) == self.network
    }
}

fn bits_of(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(four) => (u128::from(u32::from(four)), false),
        IpAddr::V6(six) => (six.into(), true),
    }
}

fn mask(prefix: u32) -> u128 {
    u128::MAX.checked_shl(128 - prefix.min(128)).unwrap_or(0)
}

fn cidrs(range: &Object) -> impl Iterator<Item = Cidr> {
    range.list(&["spec", "cidrs"]).iter().filter_map(Value::as_str).filter_map(Cidr::parse)
}

/// Whether every address that is in use is in another range, too.
///
/// upstream: pkg/controller/servicecidrs/servicecidrs_controller.go canDeleteCIDR
fn may_go(range: &Object, ranges: &Informer, addresses: &Informer) -> bool {
    let all = ranges.list();
    let others: Vec<Cidr> = all
        .iter()
        .filter(|other| other.name() != range.name() && !other.is_deleting())
        .flat_map(|other| cidrs(other).collect::<Vec<_>>())
        .collect();
    let covered = |cidr: Cidr| others.iter().any(|other| other.contains(cidr));
    let own: Vec<Cidr> = cidrs(range).collect();
    if own.iter().all(|cidr| covered(*cidr)) {
        return true;
    }
    let list = addresses.list();
    let mut used = list
        .iter()
        .filter(|address| address.label(MANAGED_LABEL) == Some("ipallocator.k8s.io"))
        .filter_map(|address| address.name().parse::<IpAddr>().ok())
        .map(|address| Cidr::of(address, if address.is_ipv6() { 128 } else { 32 }))
        .filter(|address| own.iter().any(|cidr| cidr.contains(*address)));
    used.all(covered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_narrower_ones_of_their_family() {
        let cidr = |text: &str| Cidr::parse(text).expect("a range");
        assert!(cidr("10.0.0.0/8").contains(cidr("10.96.0.0/16")));
        assert!(cidr("10.96.0.0/16").contains(cidr("10.96.0.0/16")));
        assert!(!cidr("10.96.0.0/16").contains(cidr("10.97.0.0/16")));
        assert!(!cidr("10.96.0.0/16").contains(cidr("10.0.0.0/8")));
        assert!(cidr("fd00::/8").contains(cidr("fd00:1::/64")));
        assert!(!cidr("::/0").contains(cidr("0.0.0.0/0")));
        assert!(cidr("0.0.0.0/0").contains(cidr("1.2.3.4/32")));
    }
}
