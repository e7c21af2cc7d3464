//! What plugins read beside pods and nodes, from caches that hold only what they need.

use std::sync::Arc;

use longshore_api::Object;
use longshore_client::resource::{
    CSI_NODES, NAMESPACES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, POD_DISRUPTION_BUDGETS,
    REPLICA_SETS, REPLICATION_CONTROLLERS, SERVICES, STATEFUL_SETS, STORAGE_CLASSES,
};
use longshore_client::{Factory, Informer};
use serde_json::{Map, Value};

/// The caches.
#[derive(Clone)]
pub(crate) struct Listers {
    pub(crate) namespaces: Informer,
    pub(crate) services: Informer,
    /// The kinds whose pods spread by default, by the kind of owner.
    pub(crate) workloads: [(&'static str, Informer); 3],
    pub(crate) claims: Informer,
    pub(crate) volumes: Informer,
    pub(crate) classes: Informer,
    pub(crate) csi_nodes: Informer,
    pub(crate) budgets: Informer,
}

/// Leaves the name, the labels and the selector.
fn keep_selector(object: &mut Object) {
    let selector = object.get(&["spec", "selector"]).cloned();
    object.remove(&["spec"]);
    object.remove(&["status"]);
    object.remove(&["metadata", "annotations"]);
    if let Some(selector) = selector {
        object.set(&["spec", "selector"], selector);
    }
}

impl Listers {
    /// Caches of a process.
    pub(crate) fn new(caches: &Factory) -> Self {
        let trimmed = |of| caches.get_trimmed(of, keep_selector);
        Self {
            namespaces: caches.get(NAMESPACES),
            services: trimmed(SERVICES),
            workloads: [
                ("ReplicaSet", trimmed(REPLICA_SETS)),
                ("StatefulSet", trimmed(STATEFUL_SETS)),
                ("ReplicationController", trimmed(REPLICATION_CONTROLLERS)),
            ],
            claims: caches.get(PERSISTENT_VOLUME_CLAIMS),
            volumes: caches.get(PERSISTENT_VOLUMES),
            classes: caches.get(STORAGE_CLASSES),
            csi_nodes: caches.get(CSI_NODES),
            budgets: caches.get(POD_DISRUPTION_BUDGETS),
        }
    }

    /// Waits until all are filled.
    pub(crate) async fn synced(&self) {
        let workloads = self.workloads.iter().map(|(_, cache)| cache);
        let others = [
            &self.namespaces,
            &self.services,
            &self.claims,
            &self.volumes,
            &self.classes,
            &self.csi_nodes,
            &self.budgets,
        ];
        for cache in workloads.chain(others) {
            cache.synced().await;
        }
    }

    /// A namespace, for its labels.
    pub(crate) fn namespace(&self, name: &str) -> Option<Arc<Object>> {
        self.namespaces.get("", name)
    }
}

/// The labels of a namespace that was looked up.
pub(crate) fn labels(namespace: Option<&Arc<Object>>) -> Option<&Map<String, Value>> {
    namespace.and_then(|namespace| namespace.labels())
}

#[cfg(test)]
impl Listers {
    /// Caches that stay empty.
    pub(crate) fn empty() -> Self {
        use longshore_client::transport::{Body, Transport};
        use longshore_client::{Client, Error};

        struct Nowhere;
        impl Transport for Nowhere {
            fn call(
                &self,
                _request: http::Request<Body>,
            ) -> futures_util::future::BoxFuture<'static, Result<http::Response<Body>, Error>>
            {
                Box::pin(async { Err(Error::Transport("nowhere".into())) })
            }
        }
        let client = Client::new(Arc::new(Nowhere));
        let cache = |of| Informer::new(client.clone(), of, Default::default());
        Self {
            namespaces: cache(NAMESPACES),
            services: cache(SERVICES),
            workloads: [
                ("ReplicaSet", cache(REPLICA_SETS)),
                ("StatefulSet", cache(STATEFUL_SETS)),
                ("ReplicationController", cache(REPLICATION_CONTROLLERS)),
            ],
            claims: cache(PERSISTENT_VOLUME_CLAIMS),
            volumes: cache(PERSISTENT_VOLUMES),
            classes: cache(STORAGE_CLASSES),
            csi_nodes: cache(CSI_NODES),
            budgets: cache(POD_DISRUPTION_BUDGETS),
        }
    }
}
