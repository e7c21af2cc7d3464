//! Quotas: what the objects of a namespace use.
//!
//! upstream: pkg/controller/resourcequota, pkg/quota/v1/evaluator/core

use std::time::Duration;

use longshore_client::Queue;
use longshore_client::resource::{
    CONFIG_MAPS, CRON_JOBS, DEPLOYMENTS, JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, REPLICA_SETS,
    REPLICATION_CONTROLLERS, RESOURCE_QUOTAS, Resource, SECRETS, SERVICES, STATEFUL_SETS,
};
use longshore_client::workers;
use longshore_resources::amounts::{Amounts, add};
use longshore_resources::quota::Counted;
use serde_json::{Map, Value, json};

use crate::common::{Key, follow, key_of};
use crate::{Context, pods};

/// How often usage is counted again although nothing was seen to change.
///
/// upstream: --resource-quota-sync-period
const AGAIN: Duration = Duration::from_secs(300);

/// The resources that quotas count.
const COUNTED: [Resource; 12] = [
    CONFIG_MAPS,
    CRON_JOBS,
    DEPLOYMENTS,
    JOBS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    RESOURCE_QUOTAS,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
];

pub(crate) fn start(ctx: Context) {
    let (queue, quotas) = (Queue::new(), ctx.caches.get(RESOURCE_QUOTAS));
    follow(&quotas, &queue);
    let mut caches = Vec::new();
    for of in COUNTED {
        let Some(counted) = Counted::of(of.group, of.plural) else { continue };
        let cache = ctx.caches.get(of);
        let (queue, quotas) = (queue.clone(), quotas.clone());
        cache.on_change(move |change| {
            for quota in quotas.list_namespace(change.object().namespace()) {
                queue.add(key_of(&quota));
            }
        });
        caches.push((counted, cache));
    }
    let shutdown = ctx.shutdown.clone();
    workers::run("resourcequota-controller", queue, 2, &shutdown, move |key: Key| {
        let (ctx, quotas, caches) = (ctx.clone(), quotas.clone(), caches.clone());
        async move {
            for (_, cache) in &caches {
                cache.synced().await;
            }
            let Some(quota) = quotas.get(&key.0, &key.1) else { return Ok(None) };
            let empty = Map::new();
            let hard = quota.get(&["spec", "hard"]).and_then(Value::as_object).unwrap_or(&empty);
            let mut used = Amounts::new();
            for (counted, cache) in &caches {
                for object in cache.list_namespace(&key.0) {
                    if counted.in_scope(&quota, &object) {
                        add(&mut used, &counted.usage(&object));
                    }
                }
            }
            let used: Map<String, Value> = hard
                .keys()
                .map(|name| {
                    let amount = used.get(name).map_or("0".to_owned(), ToString::to_string);
                    (name.clone(), amount.into())
                })
                .collect();
            let mut status = json!({});
            if !hard.is_empty() {
                status = json!({ "hard": hard, "used": used });
            }
            pods::write_status(&ctx, &quotas, RESOURCE_QUOTAS, &quota, status).await?;
            Ok(Some(AGAIN))
        }
    });
}
