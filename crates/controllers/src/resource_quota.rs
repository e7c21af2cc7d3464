//! Quotas: what the objects of a namespace use.
//!
//! upstream: pkg/controller/resourcequota, pkg/quota/v1/evaluator/core

mod usage;

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_api::quantity::Quantity;
use longshore_client::Queue;
use longshore_client::resource::{RESOURCE_QUOTAS, Resource};
use longshore_client::workers;
use serde_json::{Map, Value, json};

use crate::common::{Key, follow, key_of};
use crate::{Context, pods};

/// How often usage is counted again although nothing was seen to change.
///
/// upstream: --resource-quota-sync-period
const AGAIN: Duration = Duration::from_secs(300);

pub(crate) fn start(ctx: Context) {
    let (queue, quotas) = (Queue::new(), ctx.caches.get(RESOURCE_QUOTAS));
    follow(&quotas, &queue);
    let mut caches = Vec::new();
    for of in usage::COUNTED {
        let cache = ctx.caches.get(of);
        let (queue, quotas) = (queue.clone(), quotas.clone());
        cache.on_change(move |change| {
            for quota in quotas.list_namespace(change.object().namespace()) {
                queue.add(key_of(&quota));
            }
        });
        caches.push((of, cache));
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
            let mut used: BTreeMap<String, Quantity> = BTreeMap::new();
            for (of, cache) in &caches {
                for object in cache.list_namespace(&key.0) {
                    if usage::in_scope(&quota, *of, &object) {
                        usage::add(&mut used, *of, &object);
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

/// The name under which objects of a resource are counted.
fn count_name(of: Resource) -> String {
    match of.group {
        "" => format!("count/{}", of.plural),
        group => format!("count/{}.{group}", of.plural),
    }
}
