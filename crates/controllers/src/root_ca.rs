//! Every namespace has the cluster's certificate authority in the config map `kube-root-ca.crt`.
//!
//! upstream: pkg/controller/certificates/rootcacertpublisher/publisher.go

use longshore_client::Queue;
use longshore_client::resource::{CONFIG_MAPS, NAMESPACES};
use longshore_client::workers;
use serde_json::json;

use crate::Context;
use crate::common::{Key, follow};

const NAME: &str = "kube-root-ca.crt";
const NOTE: &str = "kubernetes.io/description";
const NOTE_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

pub(crate) fn start(ctx: Context) {
    let queue = Queue::new();
    let (namespaces, maps) = (ctx.caches.get(NAMESPACES), ctx.caches.get(CONFIG_MAPS));
    follow(&namespaces, &queue);
    let again = queue.clone();
    maps.on_change(move |change| {
        if change.object().name() == NAME {
            again.add((String::new(), change.object().namespace().to_owned()));
        }
    });
    let shutdown = ctx.shutdown.clone();
    let name = "root-ca-certificate-publisher-controller";
    workers::run(name, queue, 1, &shutdown, move |(_, name): Key| {
        let (ctx, namespaces, maps) = (ctx.clone(), namespaces.clone(), maps.clone());
        async move {
            maps.synced().await;
            let Some(namespace) = namespaces.get("", &name) else { return Ok(None) };
            if namespace.is_deleting() {
                return Ok(None);
            }
            let data = json!({ "ca.crt": ctx.config.ca_pem });
            let Some(present) = maps.get(&name, NAME) else {
                let map = json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "data": data,
                    "metadata": { "name": NAME, "namespace": name, "annotations": { NOTE: NOTE_TEXT } },
                });
                return match ctx.client.create(CONFIG_MAPS, &map).await {
                    Err(e) if e.is_already_exists() || e.is_namespace_terminating() => Ok(None),
                    outcome => outcome.map(|_| None),
                };
            };
            if present.get(&["data"]) == Some(&data) {
                return Ok(None);
            }
            let mut changed = (*present).clone();
            changed.set(&["data"], data);
            changed.set(&["metadata", "annotations", NOTE], NOTE_TEXT);
            ctx.client.update(CONFIG_MAPS, &changed).await.map(|_| None)
        }
    });
}
