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
}

/// What happens to an object of a followed kind.
pub(crate) enum Event<'a> {
    /// It changed.
    Change(&'a Change),
    /// Its kind is followed no longer, or in another version; it may be there as before.
    Left(&'a Object),
}

/// Is told the place of a kind and what happens to an object.
pub(crate) type Handler = Arc<dyn Fn(usize, Event<'_>) + Send + Sync>;

/// All kinds that are followed, each at a place that no other ever gets.
#[derive(Clone)]
pub(crate) struct Kinds {
    all: Arc<RwLock<All>>,
    /// The places of custom kinds by the name of their definition.
    defined: Arc<Mutex<BTreeMap<String, usize>>>,
    client: Client,
    keep: fn(&mut Object),
    handler: Handler,
    shutdown: Shutdown,
}

#[derive(Default)]
struct All {
    next: usize,
    kinds: BTreeMap<usize, Kind>,
}

impl Kinds {
    /// Follows kinds and tells the handler what happens to their objects.
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
        follow_definitions(client, shutdown, move |name, made| follower.define(name, made));
        kinds
    }

    /// The kind at a place.
    pub fn at(&self, place: usize) -> Option<Kind> {
        self.all.read().kinds.get(&place).cloned()
    }

    /// Waits until the caches of all kinds have been filled.
    pub async fn synced(&self) {
        let unfilled: Vec<Kind> = {
            let all = self.all.read();
            all.kinds.values().filter(|kind| !kind.cache.is_synced()).cloned().collect()
        };
        for kind in unfilled {
            kind.synced().await;
        }
    }

    /// The place of a kind.
    pub fn find(&self, group: &str, kind: &str) -> Option<usize> {
        let all = self.all.read();
        let is_it = |of: &Resource| of.group == group && of.kind == kind;
        all.kinds.iter().find(|(_, kind)| is_it(&kind.of)).map(|(place, _)| *place)
    }

    fn add(&self, of: Resource) -> usize {
        let mut all = self.all.write();
        let (place, handler) = (all.next, self.handler.clone());
        all.next += 1;
        let note = move |change: &Change| handler(place, Event::Change(change));
        let kind = Kind::follow(&self.client, of, Some(self.keep), &self.shutdown, note);
        all.kinds.insert(place, kind);
        place
    }

    fn define(&self, definition: &str, made: Made) {
        let mut defined = self.defined.lock();
        let place = defined.get(definition).copied();
        let present = place.and_then(|place| self.at(place));
        if present.as_ref().map(|kind| kind.of) == made.resource() {
            return;
        }
        defined.remove(definition);
        if let Some(of) = made.resource() {
            defined.insert(definition.to_owned(), self.add(of));
        }
        if let (Some(place), Some(kind)) = (place, present) {
            self.leave(place, &kind, made == Made::Gone);
        }
    }

    /// Follows a kind no longer. When its definition is `gone`, so are its objects, whether the
    /// cache has been told of it or not.
    fn leave(&self, place: usize, kind: &Kind, gone: bool) {
        kind.stop();
        self.all.write().kinds.remove(&place);
        for object in kind.cache.list() {
            if gone {
                (self.handler)(place, Event::Change(&Change::Deleted(object)));
            } else {
                (self.handler)(place, Event::Left(&object));
            }
        }
    }
}

/// What a definition of a custom resource makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// A resource that is served.
    Served(Resource),
    /// Nothing that is served now.
    Nothing,
    /// It was deleted with all of its objects.
    Gone,
}

impl Made {
    /// The resource that is served.
    pub fn resource(self) -> Option<Resource> {
        match self {
            Self::Served(of) => Some(of),
            Self::Nothing | Self::Gone => None,
        }
    }
}

/// Calls `handler` with the name of each definition of a custom resource and what it makes.
pub(crate) fn follow_definitions(
    client: &Client,
    shutdown: &Shutdown,
    handler: impl Fn(&str, Made) + Send + Sync + 'static,
) {
    let options = Options { keep: Some(only_names), ..Options::default() };
    let definitions = Informer::new(client.clone(), CUSTOM_RESOURCE_DEFINITIONS, options);
    definitions.on_change(move |change| match change {
        Change::Applied { new, .. } => {
            handler(new.name(), resource_of(new).map_or(Made::Nothing, Made::Served));
        }
        Change::Deleted(gone) => handler(gone.name(), Made::Gone),
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
    use futures_util::future::BoxFuture;
    use longshore_client::{Body, Error, Transport};
    use serde_json::json;

    use super::*;

    /// A server that never answers.
    struct Silent;

    impl Transport for Silent {
        fn call(
            &self,
            _: http::Request<Body>,
        ) -> BoxFuture<'static, Result<http::Response<Body>, Error>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn kinds_that_go_are_let_go() {
        let shutdown = Shutdown::new();
        let client = Client::new(Arc::new(Silent));
        let kinds = Kinds::follow(&client, &[], |_| {}, &shutdown, |_| Arc::new(|_, _| {}));
        let of = |version: &str| {
            let of = Resource::named("example.com", version, "widgets", "Widget");
            Made::Served(of.expect("few names"))
        };
        let mut places = Vec::new();
        for made in [of("v1"), of("v1"), of("v2"), Made::Nothing, of("v2"), Made::Gone, of("v1")] {
            kinds.define("widgets.example.com", made);
            places.push(kinds.find("example.com", "Widget"));
            assert!(kinds.all.read().kinds.len() <= 1);
        }
        // No place is given twice: what is queued for a kind that went must not mean another.
        assert_eq!(places, [Some(0), Some(0), Some(1), None, Some(2), None, Some(3)]);
        shutdown.cancel();
    }

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
