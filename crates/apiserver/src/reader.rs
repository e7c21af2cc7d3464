//! What filters and admission may read: the objects in the watch caches, never the store.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use longshore_api::{Object, StatusError};

/// Reads present objects from memory.
pub trait Reader: Send + Sync + 'static {
    /// One object of a resource (any served version's name), or `None`.
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>>;

    /// All objects of a resource in a namespace; `""` means every namespace.
    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>>;

    /// The objects of a resource in a namespace that have a label with a value.
    fn labelled(
        &self,
        (group, resource): (&str, &str),
        namespace: &str,
        (label, value): (&str, &str),
    ) -> Vec<Arc<Object>> {
        let mut all = self.list(group, resource, namespace);
        all.retain(|object| object.label(label) == Some(value));
        all
    }

    /// Waits until everything that is stored now is read.
    ///
    /// # Errors
    /// When the store does not say how far it is.
    fn fresh(&self) -> BoxFuture<'_, Result<(), StatusError>>;

    /// A number that grows whenever an object of the resource changes; for compiled caches.
    fn generation(&self, group: &str, resource: &str) -> u64;
}

/// One object of a resource; `None` only when it is not stored. Who has just made something refers to
/// it at once, and what is in memory may lag behind.
///
/// # Errors
/// When the store does not say how far it is.
pub async fn find(
    reader: &dyn Reader,
    (group, resource): (&str, &str),
    namespace: &str,
    name: &str,
) -> Result<Option<Arc<Object>>, StatusError> {
    if let Some(object) = reader.get(group, resource, namespace, name) {
        return Ok(Some(object));
    }
    reader.fresh().await?;
    Ok(reader.get(group, resource, namespace, name))
}
