//! Custom resources: keeps the table of resources as the definitions say, tells them what became of
//! them, and deletes the objects of those that go.
//!
//! One task follows the definitions and swaps the table; another writes their status, always after
//! the table has what they say. Whether a definition is good was decided when it was written.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/{apiserver,controller}

pub mod convert;
mod follow;
mod instances;
mod services;
mod status;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_api::Object;
use longshore_base::{Shutdown, TaskKind};
use longshore_client::{Queue, workers};
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::aggregate::follow::follow;
use crate::cache::{Entry, Interest, ResourceCache, hub};
use crate::registry::{Registry, Served};

/// The group of definitions.
const GROUP: &str = "apiextensions.k8s.io";
/// The resource of definitions.
const PLURAL: &str = "customresourcedefinitions";

/// Definitions that are worked on side by side.
const WORKERS: usize = 8;

/// The longest time that a request waits until the table is what the definitions say.
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// What the definitions of custom resources say, and how far the table has followed them.
pub struct Definitions {
    /// The cache of the definitions; none where there are none.
    cache: Option<Arc<ResourceCache>>,
    /// The revision of the newest definition that is in the table.
    followed: watch::Sender<u64>,
    present: RwLock<BTreeMap<String, Arc<Definition>>>,
}

/// One definition as it was last read, and what is made of it.
struct Definition {
    /// All of it, as bytes that the cache has anyway: as a tree, schemas are many times as large.
    entry: Arc<Entry>,
    /// What is asked for all the time: all but the schemas.
    head: Object,
    /// The version that its objects are stored in, while it is served.
    storage: Option<Arc<Served>>,
    /// Its versions.
    served: Vec<Arc<Served>>,
}

impl Definitions {
    /// Nothing is followed yet.
    pub fn new(registry: &Registry) -> Self {
        let served = registry.table().any_version(GROUP, PLURAL).cloned();
        let cache = served.map(|served| served.cache.clone());
        let (followed, _) = watch::channel(0);
        Self { cache, followed, present: RwLock::default() }
    }

    /// Waits until the table is what the definitions say that are there now.
    pub async fn settled(&self) {
        let Some(cache) = &self.cache else { return };
        let wanted = cache.revision();
        if *self.followed.borrow() >= wanted {
            return;
        }
        let mut followed = self.followed.subscribe();
        let reached = followed.wait_for(|revision| *revision >= wanted);
        if tokio::time::timeout(SETTLE_MAX, reached).await.is_err() {
            tracing::warn!(revision = wanted, "the resources lag behind their definitions");
        }
    }

    fn get(&self, name: &str) -> Option<Arc<Definition>> {
        self.present.read().get(name).cloned()
    }

    /// All definitions of a group, by name.
    fn of_group(&self, group: &str) -> Vec<Arc<Definition>> {
        let present = self.present.read();
        let own = present.values().filter(|other| other.head.str(&["spec", "group"]) == group);
        own.cloned().collect()
    }
}

impl Definition {
    /// The whole definition.
    fn object(&self) -> Object {
        self.entry.object()
    }

    fn name(&self) -> &str {
        self.entry.name()
    }
}

/// Serves the custom resources that are defined, and follows the definitions from then on.
///
/// # Errors
/// When stored objects cannot be read.
pub async fn start(api: Arc<crate::endpoints::Api>, shutdown: Shutdown) -> Result<(), hub::Error> {
    if api.definitions.cache.is_none() {
        return Ok(());
    }
    let (queue, groups) = (Queue::new(), Queue::new());
    let mut follower = follow::Follower::new(api.clone(), queue.clone(), groups.clone());
    follower.load().await?;
    let stop = shutdown.clone();
    longshore_base::spawn(TaskKind::Critical, "custom resources", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follower.run() => {}
        }
    });
    let registrar = Arc::new(services::Registrar::new(api.clone()));
    registrar.groups().into_iter().for_each(|group| groups.add(group));
    if let Some(cache) = registrar.cache() {
        let groups = groups.clone();
        // Their names are those of version and group.
        follow(cache, Interest::default(), &shutdown, move |entry| {
            if let Some((_, group)) = entry.name().split_once('.') {
                groups.add(group.to_owned());
            }
        });
    }
    workers::run("custom-api-services", groups, 1, &shutdown, move |group: String| {
        let registrar = registrar.clone();
        async move { registrar.sync(&group).await }
    });
    let worker = Arc::new(status::Worker::new(api, queue.clone(), shutdown.clone()));
    workers::run("custom-resource-definitions", queue, WORKERS, &shutdown, move |name: String| {
        let worker = worker.clone();
        async move { worker.sync(&name).await }
    });
    Ok(())
}
