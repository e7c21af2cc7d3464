//! The service `kubernetes` in the namespace `default`: how pods reach the API server.
//!
//! upstream: pkg/controlplane/controller/kubernetesservice/controller.go

use longshore_api::Object;
use longshore_client::resource::{ENDPOINT_SLICES, ENDPOINTS, Resource, SERVICES};
use longshore_client::workers;
use longshore_client::{Client, Error, Informer, Queue};
use serde_json::{Value, json};

use crate::Context;
use crate::common::Key;

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";

pub(crate) fn start(ctx: Context) {
    let queue: Queue<Key> = Queue::new();
    let caches = [SERVICES, ENDPOINTS, ENDPOINT_SLICES].map(|of| (of, ctx.caches.get(of)));
    for (_, informer) in &caches {
        let queue = queue.clone();
        informer.on_change(move |change| {
            let object = change.object();
            if object.namespace() == NAMESPACE && object.name() == NAME {
                queue.add((NAMESPACE.to_owned(), NAME.to_owned()));
            }
        });
    }
    queue.add((NAMESPACE.to_owned(), NAME.to_owned()));
    let shutdown = ctx.shutdown.clone();
    workers::run("kubernetes-service-controller", queue, 1, &shutdown, move |_| {
        let (ctx, caches) = (ctx.clone(), caches.clone());
        async move {
            for (of, informer) in &caches {
                informer.synced().await;
                ensure(&ctx.client, *of, informer, wanted(&ctx, *of)).await?;
            }
            Ok(None)
        }
    });
}

fn wanted(ctx: &Context, of: Resource) -> Value {
    let (address, port) = ctx.config.api_address;
    let address = address.to_string();
    let mut object = json!({
        "apiVersion": of.api_version(), "kind": of.kind,
        "metadata": { "name": NAME, "namespace": NAMESPACE },
    });
    match of.kind {
        "Service" => {
            object["metadata"]["labels"] =
                json!({ "component": "apiserver", "provider": "kubernetes" });
            object["spec"] = json!({
                "type": "ClusterIP", "sessionAffinity": "None",
                "clusterIP": ctx.config.api_service_ip.to_string(),
                "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": port }],
            });
        }
        "Endpoints" => {
            object["metadata"]["labels"] =
                json!({ "endpointslice.kubernetes.io/skip-mirror": "true" });
            object["subsets"] = json!([{
                "addresses": [{ "ip": address }],
                "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
            }]);
        }
        _ => {
            object["metadata"]["labels"] = json!({ "kubernetes.io/service-name": NAME });
            object["addressType"] = "IPv4".into();
            object["endpoints"] =
                json!([{ "addresses": [address], "conditions": { "ready": true } }]);
            object["ports"] = json!([{ "name": "https", "port": port, "protocol": "TCP" }]);
        }
    }
    object
}

/// Makes a missing object, and restores what somebody changed of what we set.
async fn ensure(
    client: &Client,
    of: Resource,
    informer: &Informer,
    wanted: Value,
) -> Result<(), Error> {
    let Some(present) = informer.get(NAMESPACE, NAME) else {
        return match client.create(of, &wanted).await {
            Err(error) if error.is_already_exists() => Ok(()),
            outcome => outcome.map(drop),
        };
    };
    let mut changed = present.as_ref().clone().into_value();
    for field in ["spec", "subsets", "endpoints", "ports"] {
        if let Some(value) = wanted.get(field) {
            overlay(&mut changed[field], value);
        }
    }
    let changed = Object::from_value(changed).expect("it was an object");
    if changed == *present {
        return Ok(());
    }
    client.update(of, &changed).await.map(drop)
}

/// Sets the wanted fields and leaves the others.
fn overlay(present: &mut Value, wanted: &Value) {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => {
            for (key, value) in wanted {
                overlay(present.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(present), Value::Array(wanted)) if present.len() == wanted.len() => {
            present.iter_mut().zip(wanted).for_each(|(p, w)| overlay(p, w));
        }
        (present, wanted) => *present = wanted.clone(),
    }
}
