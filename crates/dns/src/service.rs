//! The service through which pods reach the name server, under the names that tools look for.

use std::time::Duration;

use longshore_api::Object;
use longshore_base::{Shutdown, TaskKind};
use longshore_client::resource::{ENDPOINT_SLICES, Resource, SERVICES};
use longshore_client::{Client, Error, Factory};
use serde_json::{Value, json};

use crate::Config;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
/// How long until the next attempt after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// Makes the service and its slice, and brings them up to date.
pub(crate) fn keep(
    client: Client,
    _caches: &Factory,
    config: &Config,
    port: u16,
    shutdown: &Shutdown,
) {
    let wanted = [(SERVICES, service(config, port)), (ENDPOINT_SLICES, slice(config, port))];
    let shutdown = shutdown.clone();
    longshore_base::spawn(TaskKind::Critical, "dns service", async move {
        for (of, object) in wanted {
            while let Err(error) = ensure(&client, of, &object).await {
                tracing::warn!(%error, "the DNS service cannot be written yet");
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        }
    });
}

fn metadata(extra: Value) -> Value {
    let mut labels = json!({
        "k8s-app": NAME, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
    });
    for (key, value) in extra.as_object().into_iter().flatten() {
        labels[key] = value.clone();
    }
    json!({ "name": NAME, "namespace": NAMESPACE, "labels": labels })
}

fn service(config: &Config, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(json!({})),
        "spec": {
            "clusterIP": config.cluster_dns.to_string(),
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": port },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": port },
            ],
        },
    })
}

fn slice(config: &Config, port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": metadata(json!({ "kubernetes.io/service-name": NAME })),
        "endpoints": [{
            "addresses": [config.node_ip.to_string()],
            "conditions": { "ready": true, "serving": true, "terminating": false },
        }],
        "ports": [
            { "name": "dns", "port": port, "protocol": "UDP" },
            { "name": "dns-tcp", "port": port, "protocol": "TCP" },
        ],
    })
}

async fn ensure(client: &Client, of: Resource, wanted: &Value) -> Result<(), Error> {
    let Some(present) = client.find(of, NAMESPACE, NAME).await? else {
        return match client.create(of, wanted).await {
            Err(error) if error.is_already_exists() => Ok(()),
            outcome => outcome.map(drop),
        };
    };
    let mut changed: Object = present.clone();
    for path in [&["spec", "ports"][..], &["endpoints"], &["ports"]] {
        let value = path.iter().try_fold(wanted, |at, step| at.get(*step));
        if let Some(value) = value {
            changed.set(path, value.clone());
        }
    }
    if changed == present { Ok(()) } else { client.update(of, &changed).await.map(drop) }
}
