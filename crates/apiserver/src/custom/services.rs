//! The API services of the groups that definitions make: each of their served versions has one.
//!
//! upstream: pkg/controlplane/controller/crdregistration/crdregistration_controller.go,
//! kube-aggregator/pkg/controllers/autoregister

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_api::{Object, StatusError};
use longshore_client::Error;
use longshore_client::workers::Outcome;
use serde_json::{Value, json};

use crate::bootstrap::AUTO_MANAGED;
use crate::cache::ResourceCache;
use crate::endpoints::Api;
use crate::registry::{Own, Served, UpdateOptions};

const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";
/// How custom groups stand among others, and their versions among each other.
const PRIORITIES: (i64, i64) = (1000, 100);

/// What the API service of a custom version says.
fn spec(group: &str, version: &str) -> Value {
    json!({
        "group": group, "version": version,
        "groupPriorityMinimum": PRIORITIES.0, "versionPriority": PRIORITIES.1,
    })
}

/// Keeps the API services of one group at a time.
pub(super) struct Registrar {
    api: Arc<Api>,
}

impl Registrar {
    pub(super) fn new(api: Arc<Api>) -> Self {
        Self { api }
    }

    /// The cache of the API services; none where there are none.
    pub(super) fn cache(&self) -> Option<Arc<ResourceCache>> {
        let table = self.api.registry.table();
        table.any_version(GROUP, PLURAL).map(|served| served.cache.clone())
    }

    /// The groups that have API services of this kind now.
    pub(super) fn groups(&self) -> Vec<String> {
        let Some(served) = self.api.registry.table().any_version(GROUP, PLURAL).cloned() else {
            return Vec::new();
        };
        let (present, _) = served.cache.snapshot();
        let managed = present.iter().filter(|(_, entry)| entry.label(AUTO_MANAGED) == Some("true"));
        managed.map(|(_, entry)| entry.object().str(&["spec", "group"]).to_owned()).collect()
    }

    /// Makes the API services of a group what its definitions say.
    pub(super) async fn sync(&self, group: &str) -> Outcome {
        let registry = &self.api.registry;
        let Some(served) = registry.table().any_version(GROUP, PLURAL).cloned() else {
            return Ok(None);
        };
        registry.hub().fresh().await.map_err(StatusError::internal)?;
        let wanted = self.served_versions(group);
        let (present, _) = served.cache.snapshot();
        // Their names are those of version and group.
        let own = present.iter().map(|(_, entry)| entry).filter_map(|entry| {
            let (version, of) = entry.name().split_once('.')?;
            let managed = of == group && entry.label(AUTO_MANAGED) == Some("true");
            managed.then_some((version, entry.name()))
        });
        for (version, name) in own {
            if !wanted.contains(version) {
                registry.remove(&served, name).await?;
            }
        }
        for version in &wanted {
            let name = format!("{version}.{group}");
            let spec = spec(group, version);
            match served.cache.get("", &name) {
                None => self.add(&served, &name, spec).await?,
                // What somebody else made under this name stays as it is.
                Some(entry) if entry.label(AUTO_MANAGED) != Some("true") => {}
                Some(entry) if entry.object().get(&["spec"]) == Some(&spec) => {}
                Some(_) => self.restore(&served, &name, spec).await?,
            }
        }
        Ok(None)
    }

    fn served_versions(&self, group: &str) -> BTreeSet<String> {
        let definitions = self.api.definitions.of_group(group);
        let versions = definitions.iter().flat_map(|d| d.head.list(&["spec", "versions"]));
        let served = versions.filter(|version| version["served"] == true);
        served.filter_map(|version| version["name"].as_str().map(str::to_owned)).collect()
    }

    async fn add(&self, served: &Served, name: &str, spec: Value) -> Result<(), Error> {
        let object = Object::from_value(json!({
            "apiVersion": served.api_version, "kind": "APIService",
            "metadata": {"name": name, "labels": {AUTO_MANAGED: "true"}}, "spec": spec,
        }));
        let (registry, own) = (&self.api.registry, Own::default());
        match registry.create(&own.context(registry, served), object.unwrap_or_default()).await {
            Err(error) if error.code != 409 => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Takes back what somebody has changed.
    async fn restore(&self, served: &Served, name: &str, spec: Value) -> Result<(), Error> {
        let (registry, own) = (&self.api.registry, Own::default());
        let ctx = own.context(registry, served);
        let change = |present: Option<&Object>| {
            let mut next = present.cloned().unwrap_or_default();
            next.set(&["spec"], spec.clone());
            Ok(next)
        };
        match registry.update(&ctx, name, UpdateOptions::default(), &change).await {
            Err(error) if !matches!(error.code, 404 | 409) => Err(error.into()),
            _ => Ok(()),
        }
    }
}
