//! Cluster roles that gather the rules of others, chosen by label.
//!
//! upstream: pkg/controller/clusterroleaggregation

use longshore_api::selector::LabelSelector;
use longshore_client::resource::CLUSTER_ROLES;
use longshore_client::{Queue, workers};
use serde_json::Value;

use crate::Context;
use crate::common::{Key, gone_is_fine, key_of};

pub(crate) fn start(ctx: Context) {
    let (queue, roles) = (Queue::new(), ctx.caches.get(CLUSTER_ROLES));
    // Any role may be part of any that gathers.
    let (again, all) = (queue.clone(), roles.clone());
    roles.on_change(move |_| {
        for role in all.list().iter().filter(|role| role.get(&["aggregationRule"]).is_some()) {
            again.add(key_of(role));
        }
    });
    let shutdown = ctx.shutdown.clone();
    workers::run("clusterrole-aggregation-controller", queue, 1, &shutdown, move |key: Key| {
        let (ctx, roles) = (ctx.clone(), roles.clone());
        async move {
            roles.synced().await;
            let Some(role) = roles.get("", &key.1) else { return Ok(None) };
            let mut rules: Vec<Value> = Vec::new();
            for selector in role.list(&["aggregationRule", "clusterRoleSelectors"]) {
                let Ok(selector) = LabelSelector::from_value(selector) else { return Ok(None) };
                let parts = roles.list();
                let parts = parts.iter().filter(|part| {
                    part.name() != role.name() && selector.matches_map(part.labels())
                });
                for rule in parts.flat_map(|part| part.list(&["rules"])) {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
            }
            if role.get(&["aggregationRule"]).is_none() || role.list(&["rules"]) == rules {
                return Ok(None);
            }
            let mut changed = (*role).clone();
            changed.set(&["rules"], rules);
            let written = ctx.client.update(CLUSTER_ROLES, &changed).await;
            if let Some(written) = gone_is_fine(written)? {
                roles.wait_for(&written).await;
            }
            Ok(None)
        }
    });
}
