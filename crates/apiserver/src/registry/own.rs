//! What the API server writes by itself.

use longshore_api::{Object, StatusError};
use parking_lot::Mutex;

use super::{DeleteOptions, Registry, Served, UpdateOptions, WriteContext};
use crate::admission::Extras;
use crate::auth::UserInfo;

/// The name of the field manager.
const MANAGER: &str = "kube-apiserver";

/// The API server as the one who writes.
pub struct Own {
    user: UserInfo,
    warnings: Mutex<Vec<String>>,
}

impl Default for Own {
    fn default() -> Self {
        let user = UserInfo::new("system:apiserver", &["system:masters"]);
        Self { user, warnings: Mutex::default() }
    }
}

impl Own {
    /// A write of an object that is in no namespace.
    pub fn context<'a>(&'a self, registry: &Registry, served: &'a Served) -> WriteContext<'a> {
        WriteContext {
            served,
            user: &self.user,
            now: registry.now(),
            namespace: "",
            subresource: "",
            manager: Some(MANAGER),
            dry_run: false,
            warnings: &self.warnings,
            extras: Extras::default(),
        }
    }
}

impl Registry {
    /// Writes the next status of an object that is in no namespace. False when it has changed since
    /// it was seen, or is gone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn write_status(
        &self,
        served: &Served,
        seen: &Object,
        next: &Object,
    ) -> Result<bool, StatusError> {
        let own = Own::default();
        let ctx = WriteContext { subresource: "status", ..own.context(self, served) };
        let (group, plural) = (&served.resource.group, &served.resource.plural);
        let (name, version) = (seen.name(), seen.resource_version());
        let change = |present: Option<&Object>| match present {
            Some(present) if present.resource_version() == version => Ok(next.clone()),
            Some(_) => Err(StatusError::conflict(group, plural, name, "it has changed")),
            None => Err(StatusError::not_found(group, plural, name)),
        };
        match self.update(&ctx, name, UpdateOptions::default(), &change).await {
            Err(error) if matches!(error.code, 404 | 409) => Ok(false),
            outcome => outcome.map(|_| true),
        }
    }

    /// Removes an object that is in no namespace, if it is there.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self, served: &Served, name: &str) -> Result<(), StatusError> {
        let own = Own::default();
        let ctx = own.context(self, served);
        match self.delete(&ctx, name, &DeleteOptions::default()).await {
            Err(error) if error.code != 404 => Err(error),
            _ => Ok(()),
        }
    }
}
