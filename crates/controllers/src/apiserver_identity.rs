//! The lease in `kube-system` that says that this API server lives, and the end of those of dead ones.
//!
//! Its renewals also keep the version of the store moving, which clients with old continue tokens count on.
//!
//! upstream: pkg/controlplane/apiserver/server.go, pkg/controlplane/controller/apiserverleasegc

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore_api::Object;
use longshore_client::resource::LEASES;
use longshore_client::{Error, ListOptions, Queue, workers};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::Context;
use crate::common::gone_is_fine;

/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How often leases of dead servers are looked for.
const COLLECT_EVERY: Duration = Duration::from_secs(3600);
/// How long a lease is good for, in seconds.
const LEASE_SECONDS: i64 = 3600;
const NAMESPACE: &str = "kube-system";
const COMPONENT_LABEL: &str = "apiserver.kubernetes.io/identity";
const COMPONENT: &str = "kube-apiserver";

/// Who an API server is.
#[derive(Clone, Debug)]
pub struct ApiServerIdentity {
    /// The name of its machine.
    pub host_name: String,
    /// A random uuid of this start.
    pub instance: String,
}

impl ApiServerIdentity {
    /// The name of its lease: the same at each start on this machine.
    ///
    /// upstream: staging/src/k8s.io/apiserver/pkg/server/config.go `NewConfig`
    fn lease_name(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.host_name.as_str(), COMPONENT] {
            hash.update(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            hash.update(part);
        }
        format!("apiserver-{}", base32(&hash.finalize()[..16]))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Task {
    /// Removes what an earlier start left: it is another server to those who talk to servers.
    TakeOver,
    Renew,
    Collect,
}

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    queue.add(Task::TakeOver);
    queue.add(Task::Collect);
    let (shutdown, more) = (ctx.shutdown.clone(), queue.clone());
    workers::run("kube-apiserver-identity-lease-controller", queue, 1, &shutdown, move |task| {
        let (ctx, more) = (ctx.clone(), more.clone());
        async move {
            match task {
                Task::TakeOver => {
                    let name = ctx.config.api_identity.lease_name();
                    gone_is_fine(ctx.client.delete(LEASES, NAMESPACE, &name, json!({})).await)?;
                    more.add(Task::Renew);
                    Ok(None)
                }
                Task::Renew => renew(&ctx).await.map(|()| Some(RENEW_EVERY)),
                Task::Collect => collect(&ctx).await.map(|()| Some(COLLECT_EVERY)),
            }
        }
    });
}

/// Makes or renews this server's lease.
async fn renew(ctx: &Context) -> Result<(), Error> {
    let identity = &ctx.config.api_identity;
    let name = identity.lease_name();
    let holder = format!("{name}_{}", identity.instance);
    let now = ctx.clock.now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let Some(mut lease) = ctx.client.find(LEASES, NAMESPACE, &name).await? else {
        let lease = json!({
            "apiVersion": LEASES.api_version(), "kind": LEASES.kind,
            "metadata": {
                "name": name, "namespace": NAMESPACE,
                "labels": {
                    COMPONENT_LABEL: COMPONENT, "kubernetes.io/hostname": identity.host_name,
                },
            },
            "spec": {
                "holderIdentity": holder, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now,
            },
        });
        return ctx.client.create(LEASES, &lease).await.map(drop);
    };
    lease.set(&["metadata", "labels", COMPONENT_LABEL], COMPONENT);
    lease.set(&["metadata", "labels", "kubernetes.io/hostname"], identity.host_name.as_str());
    lease.set(&["spec", "holderIdentity"], holder);
    lease.set(&["spec", "leaseDurationSeconds"], LEASE_SECONDS);
    lease.set(&["spec", "renewTime"], now);
    ctx.client.update(LEASES, &lease).await.map(drop)
}

/// Deletes the leases that nobody renews any more.
async fn collect(ctx: &Context) -> Result<(), Error> {
    let options =
        ListOptions { labels: format!("{COMPONENT_LABEL}={COMPONENT}"), ..ListOptions::default() };
    for lease in ctx.client.list(LEASES, NAMESPACE, &options).await?.items {
        if expired(&lease, ctx.clock.now()) {
            // A renewal since the list was made keeps it.
            let options = json!({
                "preconditions": { "resourceVersion": lease.str(&["metadata", "resourceVersion"]) },
            });
            let deleted = ctx.client.delete(LEASES, NAMESPACE, lease.name(), options).await;
            gone_is_fine(deleted)?;
        }
    }
    Ok(())
}

/// A lease without times is none of a server.
fn expired(lease: &Object, now: Timestamp) -> bool {
    let renewed = lease.str(&["spec", "renewTime"]).parse::<Timestamp>().ok();
    let seconds = lease.int(&["spec", "leaseDurationSeconds"]);
    let end = renewed.zip(seconds).and_then(|(renewed, seconds)| {
        renewed.checked_add(SignedDuration::from_secs(seconds)).ok()
    });
    end.is_none_or(|end| end < now)
}

/// RFC 4648 in lower case and without padding.
fn base32(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let (mut text, mut bits, mut count) = (String::new(), 0u32, 0);
    let mut push = |bits: u32| text.push(char::from(DIGITS[(bits & 31) as usize]));
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            push(bits >> count);
        }
    }
    if count > 0 {
        push(bits << (5 - count));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_that_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "my"), ("fo", "mzxq"), ("foobar", "mzxw6ytboi"), ("fooba", "mzxw6ytb")]
        {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn leases_expire_when_nobody_renews_them() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().expect("a time");
        let lease = |spec| Object::from_value(json!({ "spec": spec })).expect("an object");
        for (spec, gone) in [
            (json!({}), true),
            (json!({ "renewTime": "2026-01-01T11:59:59.000000Z" }), true),
            (json!({ "leaseDurationSeconds": 3600 }), true),
            (
                json!({ "renewTime": "2026-01-01T11:30:00.000000Z", "leaseDurationSeconds": 3600 }),
                false,
            ),
            (
                json!({ "renewTime": "2026-01-01T10:30:00.000000Z", "leaseDurationSeconds": 3600 }),
                true,
            ),
        ] {
            assert_eq!(expired(&lease(spec.clone()), now), gone, "{spec}");
        }
    }
}
