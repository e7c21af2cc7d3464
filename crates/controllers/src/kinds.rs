//! The kinds that controllers of all objects look after: the built-in ones, and those that
//! definitions make, which come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::Object;
use longshore_base::{Shutdown, TaskKind};
use longshore_client::informer::{Change, Options};
use longshore_client::resource::{CUSTOM_RESOURCE_DEFINITIONS, Resource};
use longshore_client::{Client, Informer};
use parking_lot::{Mutex, RwLock};

/// A kind that is followed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Kind {
    /// Its resource.
    pub of: Resource,
    /// Its objects, or what is needed of them.
    pub cache: Informer,
    stop: Shutdown,
}

impl Kind {
    /// A kind whose cache somebody else runs.
    pub fn shared(of: Resource, cache: Informer, shutdown: &Shutdown) -> Self {
        Self { of, cache, stop: shutdown.clone() }
    }

    /// Starts to follow a kind, until it is stopped.
    pub fn follow(
        client: &Client,
        of: Resource,
        keep: Option<fn(&mut Object)>,
        shutdown: &Shutdown,
        handler: impl Fn(&Change) + Send + Sync + 'static,
    ) -> Self {
        let options = Options { keep, ..Options::default() };
        let cache = Informer::new(client.clone(), of, options);
        let stop = shutdown.child_token();
        cache.on_change(handler);
        let run = cache.clone().run(stop.clone());
        longshore_base::spawn(TaskKind::Critical, "cache of a kind", run);
        Self { of, cache, stop }
    }

    /// Follows it no longer.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the cache has been filled or the kind is gone.
    pub async fn synced(&self) {
        tokio::select! {
            () = self.cache.synced() => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }
}

/// Is told the place of a kind and the change of an object.
pub(crate) type Handler = Arc<dyn Fn(usize, &Change) + Send + Sync>;

/// All kinds that were ever followed, each at a place that stays its own.
#[derive(Clone)]
pub(crate) struct Kinds {
    all: Arc<RwLock<Vec<Kind>>>,
    /// The places of custom kinds by the name of their definition.
    defined: Arc<Mutex<BTreeMap<String, usize>>>,
    client: Client,
    keep: fn(&mut Object),
    handler: Handler,
    shutdown: Shutdown,
}

impl Kinds {
    /// Follows kinds and tells `handler` the place of the kind and the change of an object.
    pub fn follow(
        client: &Client,
        built_in: &[Resource],
        keep: fn(&mut Object),
        shutdown: &Shutdown,
        make_handler: impl FnOnce(&Self) -> Handler,
    ) -> Self {
        let mut kinds = Self {
            all: Arc::default(),
            defined: Arc::default(),
            client: client.clone(),
            keep,
            handler: Arc::new(|_, _| {}),
            shutdown: shutdown.clone(),
        };
        kinds.handler = make_handler(&kinds);
        for of in built_in {
            kinds.add(*of);
        }
        let follower = kinds.clone();
        follow_definitions(client, shutdown, move |name, of| follower.define(name, of));
        kinds
    }

    /// The kind at a place.
    pub fn at(&self, place: usize) -> Option<Kind> {
        self.all.read().get(place).filter(|kind| !kind.is_stopped()).cloned()
    }

    /// The kinds that are there now.
    pub fn present(&self) -> Vec<Kind> {
        self.all.read().iter().filter(|kind| !kind.is_stopped()).cloned().collect()
    }

    /// The place of a kind.
    pub fn find(&self, group: &str, kind: &str) -> Option<usize> {
        let all = self.all.read();
        all.iter().position(|k| !k.is_stopped() && k.of.group == group && k.of.kind == kind)
    }

    fn add(&self, of: Resource) -> usize {
        let mut all = self.all.write();
        let (place, handler) = (all.len(), self.handler.clone());
        let note = move |change: &Change| handler(place, change);
        all.push(Kind::follow(&self.client, of, Some(self.keep), &self.shutdown, note));
        place
    }

    fn define(&self, definition: &str, of: Option<Resource>) {
        let mut defined = self.defined.lock();
        let place = defined.get(definition).copied();
        let present = place.and_then(|place| self.at(place));
        if present.as_ref().map(|kind| kind.of) == of {
            return;
        }
        defined.remove(definition);
        present.iter().for_each(Kind::stop);
        if let Some(of) = of {
            defined.insert(definition.to_owned(), self.add(of));
        }
    }
}

/// Calls `handler` with the name of each definition of a custom resource and what it makes; none
/// when its objects are not served, or not any more.
pub(crate) fn follow_definitions(
    client: &Client,
    shutdown: &Shutdown,
    handler: impl Fn(&str, Option<Resource>) + Send + Sync + 'static,
) {
    let options = Options { keep: Some(only_names), ..Options::default() };
    let definitions = Informer::new(client.clone(), CUSTOM_RESOURCE_DEFINITIONS, options);
    definitions.on_change(move |change| match change {
        Change::Applied { new, .. } => handler(new.name(), resource_of(new)),
        Change::Deleted(gone) => handler(gone.name(), None),
    });
    let run = definitions.run(shutdown.clone());
    longshore_base::spawn(TaskKind::Critical, "custom kinds", run);
}

/// What is needed of a definition.
fn only_names(definition: &mut Object) {
    definition.root_mut().retain(|key, _| key != "apiVersion" && key != "kind");
    let versions = definition.get_mut(&["spec", "versions"]).and_then(|v| v.as_array_mut());
    for version in versions.into_iter().flatten().filter_map(|version| version.as_object_mut()) {
        version.retain(|key, _| matches!(key.as_str(), "name" | "served" | "storage"));
    }
}

/// The resource that a definition makes, in a version that is served: that of the storage, or else
/// the first.
fn resource_of(definition: &Object) -> Option<Resource> {
    let conditions = definition.list(&["status", "conditions"]).iter();
    let established = conditions
        .filter(|condition| condition["type"] == "Established")
        .any(|condition| condition["status"] == "True");
    if !established {
        return None;
    }
    let served = || {
        let versions = definition.list(&["spec", "versions"]).iter();
        versions.filter(|version| version["served"] == true)
    };
    let version = served().find(|version| version["storage"] == true).or_else(|| served().next());
    Resource::named(
        definition.str(&["spec", "group"]),
        version?["name"].as_str()?,
        definition.str(&["status", "acceptedNames", "plural"]),
        definition.str(&["status", "acceptedNames", "kind"]),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_names_the_version_that_is_served_and_stored() {
        let mut definition = Object::from_value(json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "versions": [
                {"name": "v1", "served": true, "storage": false, "schema": {}},
                {"name": "v2", "served": true, "storage": true},
            ]},
            "status": {
                "acceptedNames": {"plural": "widgets", "kind": "Widget"},
                "conditions": [{"type": "Established", "status": "True"}],
            },
        }))
        .expect("an object");
        only_names(&mut definition);
        assert!(definition.list(&["spec", "versions"])[0].get("schema").is_none());
        let of = resource_of(&definition).expect("it is established");
        assert_eq!((of.version, of.plural, of.kind), ("v2", "widgets", "Widget"));
        definition.set(&["spec", "versions"], json!([{"name": "v1", "served": true}]));
        assert_eq!(resource_of(&definition).expect("served").version, "v1");
        definition.set(&["status", "conditions"], json!([]));
        assert_eq!(resource_of(&definition), None);
    }
}
