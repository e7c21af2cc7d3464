//! API services of versions that an older server had and this one has not.
//!
//! upstream: staging/src/k8s.io/kube-aggregator/pkg/controllers/autoregister (5A of its table)

use longshore_api::StatusError;
use parking_lot::Mutex;

use super::{Aggregator, GROUP, PLURAL};
use crate::admission::Extras;
use crate::auth::UserInfo;
use crate::bootstrap;
use crate::endpoints::Api;
use crate::registry::{DeleteOptions, WriteContext};

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
        let user = UserInfo::new("system:apiserver", &["system:masters"]);
        for service in self.services().iter() {
            let own = service.label(bootstrap::AUTO_MANAGED) == Some("onstart");
            if !own || bootstrap::priorities(&service.group, &service.version).is_some() {
                continue;
            }
            let warnings = Mutex::default();
            let ctx = WriteContext {
                served: &served,
                user: &user,
                now: registry.now(),
                namespace: "",
                subresource: "",
                manager: None,
                dry_run: false,
                warnings: &warnings,
                extras: Extras::default(),
            };
            tracing::info!(name = service.name(), "an API service that is not served any more");
            match registry.delete(&ctx, service.name(), &DeleteOptions::default()).await {
                Err(error) if error.code != 404 => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
