//! API services of versions that an older server had and this one has not.
//!
//! upstream: staging/src/k8s.io/kube-aggregator/pkg/controllers/autoregister (5A of its table)

use longshore_api::StatusError;

use super::{Aggregator, GROUP, PLURAL};
use crate::bootstrap;
use crate::endpoints::Api;

impl Aggregator {
    /// Removes the API services that a server once made for itself and that nothing is behind now.
    ///
    /// # Errors
    /// When one of them cannot be removed.
    pub async fn retire(&self, api: &Api) -> Result<(), StatusError> {
        let registry = &api.registry;
        registry.hub().fresh().await.map_err(StatusError::internal)?;
        let Some(served) = registry.table().any_version(GROUP, PLURAL).cloned() else {
            return Ok(());
        };
        for service in self.services().iter() {
            let own = service.label(bootstrap::AUTO_MANAGED) == Some("onstart");
            if !own || bootstrap::priorities(&service.group, &service.version).is_some() {
                continue;
            }
            tracing::info!(name = service.name(), "an API service that is not served any more");
            registry.remove(&served, service.name()).await?;
        }
        Ok(())
    }
}
