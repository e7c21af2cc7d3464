//! Tells definitions what became of them.

use std::collections::HashSet;
use std::sync::Arc;

use longshore_api::{Object, StatusError};
use longshore_base::Shutdown;
use longshore_client::Queue;
use longshore_client::workers::Outcome;
use longshore_resources::apiextensions::conditions::{self, Taken};
use parking_lot::Mutex;

use super::{Definition, GROUP, PLURAL};
use crate::endpoints::Api;

/// Works on one definition at a time.
pub(super) struct Worker {
    pub(super) api: Arc<Api>,
    pub(super) queue: Queue<String>,
    pub(super) shutdown: Shutdown,
    /// Definitions whose last objects are waited for.
    pub(super) waiting: Arc<Mutex<HashSet<String>>>,
    naming: tokio::sync::Mutex<()>,
}

impl Worker {
    pub(super) fn new(api: Arc<Api>, queue: Queue<String>, shutdown: Shutdown) -> Self {
        let (waiting, naming) = Default::default();
        Self { api, queue, shutdown, waiting, naming }
    }

    /// Takes a definition one step further. The change that this makes brings it here again.
    pub(super) async fn sync(&self, name: &str) -> Outcome {
        let Some(mut definition) = self.api.definitions.get(name) else { return Ok(None) };
        if conditions::is_ending(&definition.head) {
            return self.end(&definition).await;
        }
        // What a definition gets depends on what the others have: names are given one by one.
        let mut naming = None;
        if conditions::wants_names(&definition.head) {
            naming = Some(self.naming.lock().await);
            match self.api.definitions.get(name) {
                Some(present) => definition = present,
                None => return Ok(None),
            }
        }
        let object = definition.object();
        let mut taken = Taken::default();
        if naming.is_some() {
            for other in self.api.definitions.of_group(object.str(&["spec", "group"])) {
                taken.add(&other.head);
            }
        }
        let now = self.api.registry.now();
        let Some(next) = conditions::next(&object, &taken, definition.storage.is_some(), now)
        else {
            return Ok(None);
        };
        self.write(&definition, next).await?;
        if naming.is_some() {
            // The next one sees these names as given.
            let applied = self.api.registry.hub().fresh().await;
            applied.map_err(StatusError::internal)?;
            self.api.definitions.settled().await;
        }
        Ok(None)
    }

    /// Writes the next state of a definition, unless it has changed since; then it comes again.
    pub(super) async fn write(&self, definition: &Definition, next: Object) -> Outcome {
        let registry = &self.api.registry;
        let Some(served) = registry.table().any_version(GROUP, PLURAL).cloned() else {
            return Ok(None);
        };
        registry.write_status(&served, &definition.head, &next).await?;
        Ok(None)
    }
}
