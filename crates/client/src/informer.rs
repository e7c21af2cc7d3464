//! Shared caches: one copy of each resource that components follow.
//!
//! Invariant: a handler is called for every object that is there, and for every change after, in
//! order; what it is shown is already in the cache.
//!
//! upstream counterpart: staging/src/k8s.io/client-go/tools/cache

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use longshore_api::Object;
use longshore_base::{Shutdown, TaskKind};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::watch;

use crate::client::{Client, ListOptions};
use crate::error::Error;
use crate::resource::Resource;

/// Objects on one page of the first list.
const PAGE: usize = 500;
/// The first pause after a failed list or watch; each further failure doubles it.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A watch that ends sooner counts as a failure.
const WATCH_MIN: Duration = Duration::from_secs(1);
/// The longest event of a watch, in bytes.
const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a cache follows.
#[derive(Clone, Default)]
pub struct Options {
    /// `fieldSelector`.
    pub fields: String,
    /// `labelSelector`.
    pub labels: String,
    /// Cuts an object down to what the process needs.
    pub keep: Option<fn(&mut Object)>,
}

/// A change of one object.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object is new or changed.
    Applied {
        /// The state before.
        old: Option<Arc<Object>>,
        /// The state now.
        new: Arc<Object>,
    },
    /// The object is gone.
    Deleted(Arc<Object>),
}

impl Change {
    /// The newest known state.
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted(object) => object,
        }
    }
}

type Handler = Box<dyn Fn(&Change) + Send + Sync>;
type Key = (String, String);

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Arc<Object>>,
    by_owner: HashMap<String, BTreeSet<Key>>,
    /// Names of the objects that nothing controls, by namespace.
    orphans: HashMap<String, BTreeSet<String>>,
}

struct Shared {
    client: Client,
    of: Resource,
    options: Options,
    state: RwLock<State>,
    handlers: Mutex<Vec<Handler>>,
    /// The newest version seen; 0 before the first list.
    version: watch::Sender<u64>,
}

/// The shared cache of a resource. Cheap to clone.
#[derive(Clone)]
pub struct Informer {
    shared: Arc<Shared>,
}

impl Informer {
    /// An empty cache; [`Informer::run`] fills it.
    pub fn new(client: Client, of: Resource, options: Options) -> Self {
        let (version, _) = watch::channel(0);
        let shared = Shared {
            client,
            of,
            options,
            state: RwLock::default(),
            handlers: Mutex::default(),
            version,
        };
        Self { shared: Arc::new(shared) }
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.shared.state.read().objects.get(&key).cloned()
    }

    /// All objects.
    pub fn list(&self) -> Vec<Arc<Object>> {
        self.shared.state.read().objects.values().cloned().collect()
    }

    /// The objects of a namespace.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<Object>> {
        let state = self.shared.state.read();
        let start = (namespace.to_owned(), String::new());
        let range = state.objects.range(start..);
        range.take_while(|(key, _)| key.0 == namespace).map(|(_, o)| o.clone()).collect()
    }

    /// The objects that an object controls, by its uid.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<Object>> {
        let state = self.shared.state.read();
        let keys = state.by_owner.get(uid).into_iter().flatten();
        keys.filter_map(|key| state.objects.get(key).cloned()).collect()
    }

    /// The objects of a namespace that nothing controls.
    pub fn orphans(&self, namespace: &str) -> Vec<Arc<Object>> {
        let state = self.shared.state.read();
        let names = state.orphans.get(namespace).into_iter().flatten();
        let keys = names.map(|name| (namespace.to_owned(), name.clone()));
        keys.filter_map(|key| state.objects.get(&key).cloned()).collect()
    }

    /// Calls `handler` for every object that is there and for every later change. It runs inside
    /// the cache's task and must not block; usually it adds a key to a queue.
    pub fn on_change(&self, handler: impl Fn(&Change) + Send + Sync + 'static) {
        let mut handlers = self.shared.handlers.lock();
        for object in self.list() {
            handler(&Change::Applied { old: None, new: object });
        }
        handlers.push(Box::new(handler));
    }

    /// Waits until the cache has been filled.
    pub async fn synced(&self) {
        self.wait_for_version(1).await;
    }

    /// Whether the cache has been filled.
    pub fn is_synced(&self) -> bool {
        *self.shared.version.borrow() > 0
    }

    /// Waits until the cache holds what a write answered with, so that the next look sees it.
    pub async fn wait_for(&self, written: &Object) {
        if let Ok(version) = written.resource_version().parse() {
            self.wait_for_version(version).await;
        }
    }

    async fn wait_for_version(&self, version: u64) {
        let mut seen = self.shared.version.subscribe();
        if seen.wait_for(|at| *at >= version).await.is_err() {
            tracing::debug!("the cache has ended");
        }
    }

    /// Follows the server until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let mut pause = RETRY_MIN;
        while !shutdown.is_cancelled() {
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return,
                outcome = self.follow(&mut pause) => outcome,
            };
            if let Err(error) = outcome {
                tracing::debug!(resource = self.shared.of.plural, %error, "list and watch again");
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }

    /// Lists everything and then watches until the server has forgotten where we are.
    async fn follow(&self, pause: &mut Duration) -> Result<(), Error> {
        let mut version = self.fill().await?;
        *pause = RETRY_MIN;
        loop {
            let started = tokio::time::Instant::now();
            match self.watch(&mut version, pause).await {
                // A server that ends watches at once is not asked again at once.
                Ok(()) if started.elapsed() < WATCH_MIN => tokio::time::sleep(RETRY_MIN).await,
                Ok(()) => {}
                Err(error) if error.is_expired() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn fill(&self) -> Result<String, Error> {
        let shared = &self.shared;
        let mut options = ListOptions {
            labels: shared.options.labels.clone(),
            fields: shared.options.fields.clone(),
            limit: PAGE,
            ..ListOptions::default()
        };
        let mut found = BTreeMap::new();
        let version = loop {
            let list = shared.client.list(shared.of, "", &options).await?;
            for object in list.items {
                found.insert(key_of(&object), self.cut(object));
            }
            if list.continue_token.is_empty() {
                break list.resource_version;
            }
            options.continue_token = list.continue_token;
        };
        let gone: Vec<Key> = {
            let state = shared.state.read();
            state.objects.keys().filter(|key| !found.contains_key(*key)).cloned().collect()
        };
        for key in gone {
            self.remove(&key, None);
        }
        for object in found.into_values() {
            self.apply(object);
        }
        self.advance(&version);
        Ok(version)
    }

    async fn watch(&self, version: &mut String, pause: &mut Duration) -> Result<(), Error> {
        let shared = &self.shared;
        let options = ListOptions {
            labels: shared.options.labels.clone(),
            fields: shared.options.fields.clone(),
            resource_version: version.clone(),
            ..ListOptions::default()
        };
        let mut body = shared.client.watch(shared.of, "", &options).await?.into_body();
        *pause = RETRY_MIN;
        let mut buffer: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| Error::Transport(e.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            buffer.extend_from_slice(&data);
            let mut start = 0;
            while let Some(length) = buffer[start..].iter().position(|b| *b == b'\n') {
                let line = &buffer[start..start + length];
                start += length + 1;
                if !line.is_empty() {
                    *version = self.event(line)?;
                }
            }
            buffer.drain(..start);
            if buffer.len() > EVENT_BYTES_MAX {
                return Err(Error::Decode("an event is too large".into()));
            }
        }
        Ok(())
    }

    /// Applies one event; gives the version it was at.
    fn event(&self, line: &[u8]) -> Result<String, Error> {
        let mut event: Value =
            serde_json::from_slice(line).map_err(|e| Error::Decode(e.to_string()))?;
        let value = event["object"].take();
        let kind = event["type"].as_str().unwrap_or("");
        if kind == "ERROR" {
            let code = value["code"].as_u64().and_then(|c| u16::try_from(c).ok()).unwrap_or(500);
            return Err(longshore_api::StatusError::from_value(code, &value).into());
        }
        let object =
            Object::from_value(value).ok_or_else(|| Error::Decode("not an object".into()))?;
        let version = object.resource_version().to_owned();
        match kind {
            "BOOKMARK" => {}
            "DELETED" => {
                let key = key_of(&object);
                self.remove(&key, Some(self.cut(object)));
            }
            _ => self.apply(self.cut(object)),
        }
        self.advance(&version);
        Ok(version)
    }

    fn cut(&self, mut object: Object) -> Object {
        object.remove(&["metadata", "managedFields"]);
        if let Some(keep) = self.shared.options.keep {
            keep(&mut object);
        }
        object
    }

    fn apply(&self, object: Object) {
        let key = key_of(&object);
        let new = Arc::new(object);
        let handlers = self.shared.handlers.lock();
        let old = {
            let mut state = self.shared.state.write();
            let old = state.objects.insert(key.clone(), new.clone());
            let (before, after) = (old.as_deref().and_then(controller_uid), controller_uid(&new));
            if before != after || old.is_none() {
                if old.is_some() {
                    state.disown(before, &key);
                }
                state.own(after, key);
            }
            old
        };
        if old.as_ref().is_some_and(|old| old.resource_version() == new.resource_version()) {
            return;
        }
        let change = Change::Applied { old, new };
        handlers.iter().for_each(|handler| handler(&change));
    }

    fn remove(&self, key: &Key, last: Option<Object>) {
        let handlers = self.shared.handlers.lock();
        let old = {
            let mut state = self.shared.state.write();
            let Some(old) = state.objects.remove(key) else { return };
            state.disown(controller_uid(&old), key);
            old
        };
        let change = Change::Deleted(last.map_or(old, Arc::new));
        handlers.iter().for_each(|handler| handler(&change));
    }

    fn advance(&self, version: &str) {
        let Ok(version) = version.parse::<u64>() else { return };
        self.shared.version.send_if_modified(|at| {
            let newer = version > *at;
            if newer {
                *at = version;
            }
            newer
        });
    }
}

impl State {
    fn own(&mut self, controller: Option<&str>, key: Key) {
        match controller {
            Some(uid) => self.by_owner.entry(uid.to_owned()).or_default().insert(key),
            None => self.orphans.entry(key.0).or_default().insert(key.1),
        };
    }

    fn disown(&mut self, controller: Option<&str>, key: &Key) {
        match controller {
            Some(uid) => {
                if let Some(keys) = self.by_owner.get_mut(uid) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.by_owner.remove(uid);
                    }
                }
            }
            None => {
                if let Some(names) = self.orphans.get_mut(&key.0) {
                    names.remove(&key.1);
                    if names.is_empty() {
                        self.orphans.remove(&key.0);
                    }
                }
            }
        }
    }
}

fn key_of(object: &Object) -> Key {
    (object.namespace().to_owned(), object.name().to_owned())
}

/// The uid of the owner that controls an object.
pub fn controller_uid(object: &Object) -> Option<&str> {
    let owners = object.list(&["metadata", "ownerReferences"]);
    owners.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

/// One cache for each resource of a process, started when it is first asked for.
#[derive(Clone)]
pub struct Factory {
    client: Client,
    shutdown: Shutdown,
    made: Arc<Mutex<HashMap<Resource, Informer>>>,
}

impl Factory {
    /// Caches that are filled with this client's rights.
    pub fn new(client: Client, shutdown: Shutdown) -> Self {
        Self { client, shutdown, made: Arc::default() }
    }

    /// The cache of a resource.
    pub fn get(&self, of: Resource) -> Informer {
        self.with(of, None)
    }

    /// The cache of a resource whose objects are cut down; the first who asks decides how.
    pub fn get_trimmed(&self, of: Resource, keep: fn(&mut Object)) -> Informer {
        self.with(of, Some(keep))
    }

    fn with(&self, of: Resource, keep: Option<fn(&mut Object)>) -> Informer {
        let mut made = self.made.lock();
        if let Some(informer) = made.get(&of) {
            return informer.clone();
        }
        let options = Options { keep, ..Options::default() };
        let informer = Informer::new(self.client.clone(), of, options);
        let run = informer.clone().run(self.shutdown.clone());
        longshore_base::spawn(TaskKind::Critical, of.plural, run);
        made.insert(of, informer.clone());
        informer
    }
}
