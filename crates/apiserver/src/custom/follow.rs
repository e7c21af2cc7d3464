//! Keeps the table of resources as the definitions say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use longshore_api::Object;
use longshore_client::Queue;
use longshore_resources::apiextensions::conditions::{self, is_true};
use longshore_resources::apiextensions::custom;
use serde_json::Value;

use super::convert::Converter;
use super::view::CustomView;
use super::{Definition, Definitions};
use crate::cache::{Change, Entry, Interest, Receiver, ResourceCache, View, hub};
use crate::endpoints::Api;
use crate::registry::{Registry, Served};

/// How long until the definitions are followed again that could not be.
const AGAIN: Duration = Duration::from_millis(100);

/// The version that is stored, if objects are served, and those that are served.
type Service = (Option<Arc<Served>>, Vec<Arc<Served>>);

/// The task that follows the definitions.
pub(super) struct Follower {
    api: Arc<Api>,
    /// Definitions whose status has to be looked at.
    queue: Queue<String>,
    /// Groups whose versions may have changed.
    groups: Queue<String>,
    changes: Option<Receiver>,
}

impl Follower {
    pub(super) fn new(api: Arc<Api>, queue: Queue<String>, groups: Queue<String>) -> Self {
        Self { api, queue, groups, changes: None }
    }

    fn definitions(&self) -> &Definitions {
        &self.api.definitions
    }

    fn registry(&self) -> &Registry {
        &self.api.registry
    }

    /// Serves what is defined now.
    ///
    /// # Errors
    /// When the objects of a definition cannot be read; the others are served.
    pub(super) async fn load(&mut self) -> Result<(), hub::Error> {
        self.changes = None;
        let Some(cache) = &self.definitions().cache else { return Ok(()) };
        let Ok((receiver, present, revision)) = cache.watch(None, Interest::default()) else {
            return Err(hub::Error::Stopped);
        };
        self.changes = Some(receiver);
        let mut outcome = Ok(());
        let mut gone: BTreeSet<String> =
            self.definitions().present.read().keys().cloned().collect();
        for entry in present.select(&Interest::default()) {
            gone.remove(entry.name());
            outcome = outcome.and(self.note(&entry).await);
        }
        for name in gone {
            self.forget(&name);
        }
        self.swap(revision);
        outcome
    }

    /// Follows the definitions for ever.
    pub(super) async fn run(mut self) {
        loop {
            let next = match &mut self.changes {
                Some(changes) => changes.next().await,
                None => {
                    tokio::time::sleep(AGAIN).await;
                    None
                }
            };
            let outcome = match next {
                Some((_, change)) => self.apply(change).await,
                // The changes came too fast; all of them are in what is there now.
                None => self.load().await,
            };
            if let Err(error) = outcome {
                // Its definition stays as it was served before.
                tracing::error!(%error, "a custom resource cannot be loaded");
            }
        }
    }

    async fn apply(&mut self, first: Arc<Change>) -> Result<(), hub::Error> {
        let mut revision = first.revision;
        let mut outcome = self.one(&first).await;
        while let Some((_, change)) = self.changes.as_mut().and_then(Receiver::try_next) {
            revision = change.revision;
            outcome = outcome.and(self.one(&change).await);
        }
        self.swap(revision);
        outcome
    }

    async fn one(&self, change: &Change) -> Result<(), hub::Error> {
        if change.deleted {
            self.forget(change.entry.name());
            return Ok(());
        }
        self.note(&change.entry).await
    }

    /// Lets a definition and the cache of its objects go.
    fn forget(&self, name: &str) {
        let removed = self.definitions().present.write().remove(name);
        let Some(definition) = removed else { return };
        if let Some(storage) = &definition.storage {
            self.registry().hub().remove(&storage.cache);
        }
        let group = definition.head.str(&["spec", "group"]);
        self.groups.add(group.to_owned());
        self.wake(group);
    }

    /// Names may be free for those of a group that lack some.
    fn wake(&self, group: &str) {
        for definition in self.definitions().of_group(group) {
            if conditions::wants_names(&definition.head) {
                self.queue.add(definition.name().to_owned());
            }
        }
    }

    async fn note(&self, entry: &Arc<Entry>) -> Result<(), hub::Error> {
        let object = entry.object();
        let name = object.name().to_owned();
        let mut before = self.definitions().get(&name);
        if before.as_ref().is_some_and(|before| before.head.uid() != object.uid()) {
            self.forget(&name);
            before = None;
        }
        let then = before.as_ref().map(|before| before.object());
        let (storage, served) = match (&before, &then) {
            (Some(before), Some(then)) if same_service(then, &object) => {
                (before.storage.clone(), before.served.clone())
            }
            _ => {
                let old = before.as_ref().and_then(|before| before.storage.as_ref());
                self.serve(&object, old.zip(then.as_ref())).await?
            }
        };
        let names = ["status", "acceptedNames"];
        let renamed = then.is_none_or(|then| then.get(&names) != object.get(&names));
        let head = without_schemas(object);
        let group = head.str(&["spec", "group"]).to_owned();
        let next = Definition { entry: entry.clone(), head, storage, served };
        self.definitions().present.write().insert(name.clone(), Arc::new(next));
        self.queue.add(name);
        self.groups.add(group.clone());
        if renamed {
            self.wake(&group);
        }
        Ok(())
    }

    /// How the objects of a definition are stored and served now. `old` is how they were stored, and
    /// the definition that said so.
    async fn serve(
        &self,
        object: &Object,
        old: Option<(&Arc<Served>, &Object)>,
    ) -> Result<Service, hub::Error> {
        let hub = self.registry().hub();
        let same = |path: &[&str]| old.is_some_and(|(_, then)| then.get(path) == object.get(path));
        let kind = custom::is_served(object).then(|| custom::serve(object));
        let kind = match kind {
            Some(Ok(kind)) if !self.overlaps(object) => kind,
            other => {
                if let Some(Err(why)) = other {
                    tracing::error!(definition = object.name(), why, "it cannot be served");
                }
                old.into_iter().for_each(|(storage, _)| hub.remove(&storage.cache));
                return Ok((None, Vec::new()));
            }
        };
        let group = object.str(&["spec", "group"]);
        let plural = object.str(&["status", "acceptedNames", "plural"]);
        let prefix = Bytes::from(format!("{}{group}/{plural}/", hub::ROOT));
        let view: Arc<dyn View> = Arc::new(CustomView(kind.stored));
        let cache = match old.map(|(storage, _)| &storage.cache) {
            Some(cache) if *cache.prefix() == prefix => {
                if !same(&["spec"]) {
                    cache.set_view(&view)?;
                }
                cache.clone()
            }
            _ => {
                let cache = Arc::new(ResourceCache::new(prefix, view));
                hub.add(&cache).await?;
                cache
            }
        };
        // One that stays keeps what it has converted: open watches share it with later ones.
        let converter = match old {
            Some((storage, _)) if same(&["spec", "conversion"]) => storage.converter.clone(),
            _ => Converter::of(object, &self.api.conversions),
        };
        let of = |resource| Served::converted(resource, cache.clone(), converter.clone());
        let served = kind.resources.into_iter().map(of).collect();
        Ok((Some(of(kind.storage)), served))
    }

    /// Whether its objects would be stored where those of a built-in resource are.
    ///
    /// upstream: controller/finalizer/crd_finalizer.go OverlappingBuiltInResources
    fn overlaps(&self, object: &Object) -> bool {
        let table = self.registry().table();
        let (group, plural) =
            (object.str(&["spec", "group"]), object.str(&["spec", "names", "plural"]));
        let built_in = table.any_version(group, plural);
        built_in.is_some_and(|served| served.resource.custom.is_none())
    }

    /// Puts what is defined into the table.
    fn swap(&self, revision: u64) {
        let mut served: Vec<Arc<Served>> = {
            let present = self.definitions().present.read();
            present.values().flat_map(|definition| definition.served.clone()).collect()
        };
        // Discovery tells the groups in the order of their names.
        served.sort_by(|a, b| a.resource.group.cmp(&b.resource.group));
        let table = self.registry().table().with_custom(served);
        self.registry().set_table(table);
        self.definitions().followed.send_replace(revision);
    }
}

/// A definition without the schemas of its versions.
fn without_schemas(mut definition: Object) -> Object {
    let versions = definition.get_mut(&["spec", "versions"]).and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten().filter_map(Value::as_object_mut) {
        version.remove("schema");
    }
    definition.remove(&["metadata", "managedFields"]);
    definition.remove(&["metadata", "annotations"]);
    definition
}

/// Whether two states of a definition are served in the same way.
fn same_service(a: &Object, b: &Object) -> bool {
    let paths: [&[&str]; 2] = [&["spec"], &["status", "acceptedNames"]];
    let conditions = ["NamesAccepted", "Established", "Terminating"];
    paths.iter().all(|path| a.get(path) == b.get(path))
        && conditions.iter().all(|kind| is_true(a, kind) == is_true(b, kind))
}
