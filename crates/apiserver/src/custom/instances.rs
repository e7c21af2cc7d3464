//! The end of a definition: its objects are deleted, and when the last is gone it goes, too.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/controller/finalizer/crd_finalizer.go

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use longshore_api::StatusError;
use longshore_base::TaskKind;
use longshore_client::Error;
use longshore_client::workers::Outcome;
use longshore_resources::apiextensions::conditions;

use super::Definition;
use super::status::Worker;
use crate::cache::{Entry, Interest, ResourceCache};
use crate::registry::{DeleteOptions, Own, Served, WriteContext};

/// Objects that are deleted at the same time.
const DELETIONS: usize = 64;

impl Worker {
    /// Takes the end of a definition one step further.
    pub(super) async fn end(&self, definition: &Definition) -> Outcome {
        let now = self.api.registry.now();
        let object = definition.object();
        let mut next = object.clone();
        conditions::deleting(&mut next, now);
        if next != object {
            return self.write(definition, next).await;
        }
        // There can be objects as soon as it is served, established or not.
        let storage = definition.storage.as_ref();
        if let Some(storage) = storage {
            storage.cache.seal().await;
            self.api.registry.hub().fresh().await.map_err(StatusError::internal)?;
            self.delete_all(storage).await?;
            if self.wait_for_the_last(definition.name(), &storage.cache).await? {
                return Ok(None);
            }
        }
        conditions::ended(&mut next, storage.is_some(), now);
        self.write(definition, next).await
    }

    /// Deletes every object that is not being deleted already.
    async fn delete_all(&self, served: &Served) -> Result<(), Error> {
        let (snapshot, _) = served.cache.snapshot();
        let entries: Vec<Arc<Entry>> = snapshot.iter().map(|(_, entry)| entry.clone()).collect();
        let mut deletions = stream::iter(entries)
            .filter(|entry| std::future::ready(!entry.object().is_deleting()))
            .map(|entry| async move { self.delete(served, &entry).await })
            .buffer_unordered(DELETIONS);
        while let Some(outcome) = deletions.next().await {
            outcome?;
        }
        Ok(())
    }

    async fn delete(&self, served: &Served, entry: &Entry) -> Result<(), StatusError> {
        let registry = &self.api.registry;
        let own = Own::default();
        let ctx = WriteContext {
            namespace: entry.namespace(),
            manager: None,
            ..own.context(registry, served)
        };
        let options = DeleteOptions { admitted: true, ..DeleteOptions::default() };
        match registry.delete(&ctx, entry.name(), &options).await {
            Err(error) if error.code != 404 => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether objects are left; then the definition comes again when they are gone.
    async fn wait_for_the_last(
        &self,
        name: &str,
        cache: &Arc<ResourceCache>,
    ) -> Result<bool, Error> {
        let fresh = self.api.registry.hub().fresh().await;
        fresh.map_err(StatusError::internal)?;
        let Ok((mut changes, ..)) = cache.watch(None, Interest::default()) else {
            return Err(StatusError::internal("too many watches are open").into());
        };
        // What goes from here on is told.
        if cache.snapshot().0.is_empty() {
            return Ok(false);
        }
        if !self.waiting.lock().insert(name.to_owned()) {
            return Ok(true);
        }
        let (name, queue, waiting) = (name.to_owned(), self.queue.clone(), self.waiting.clone());
        let (cache, shutdown) = (cache.clone(), self.shutdown.clone());
        longshore_base::spawn(TaskKind::PerItem, "last custom resources", async move {
            let empty = async {
                // What comes too fast ends the watch; then the definition looks itself.
                while !cache.snapshot().0.is_empty() && changes.next().await.is_some() {}
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = empty => {}
            }
            waiting.lock().remove(&name);
            queue.add(name);
        });
        Ok(true)
    }
}
