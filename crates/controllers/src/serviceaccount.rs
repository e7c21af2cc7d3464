//! Every namespace has the service account `default`.
//!
//! upstream: pkg/controller/serviceaccount/serviceaccounts_controller.go

use longshore_client::Queue;
use longshore_client::resource::{NAMESPACES, SERVICE_ACCOUNTS};
use longshore_client::workers;
use serde_json::json;

use crate::Context;
use crate::common::{Key, follow};

const NAME: &str = "default";

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (namespaces, accounts) = (ctx.caches.get(NAMESPACES), ctx.caches.get(SERVICE_ACCOUNTS));
    follow(&namespaces, &queue);
    let again = queue.clone();
    accounts.on_change(move |change| {
        again.add((String::new(), change.object().namespace().to_owned()));
    });
    let shutdown = ctx.shutdown.clone();
    workers::run("serviceaccount-controller", queue, 1, &shutdown, move |(_, name): Key| {
        let (ctx, namespaces, accounts) = (ctx.clone(), namespaces.clone(), accounts.clone());
        async move {
            accounts.synced().await;
            let Some(namespace) = namespaces.get("", &name) else { return Ok(None) };
            if namespace.is_deleting() || accounts.get(&name, NAME).is_some() {
                return Ok(None);
            }
            let account = json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "name": NAME, "namespace": name },
            });
            match ctx.client.create(SERVICE_ACCOUNTS, &account).await {
                Err(e) if e.is_already_exists() || e.is_namespace_terminating() => Ok(None),
                outcome => outcome.map(|_| None),
            }
        }
    });
}
