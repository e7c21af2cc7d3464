//! The table of all served resources, swapped as a whole when definitions change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use longshore_api::Model;
use longshore_api::managed::Typing;
use longshore_resources::Resource;

use crate::cache::{ResourceCache, hub, view};
use crate::custom::convert::Converter;

/// A resource with the cache it is served from.
pub struct Served {
    /// The resource's description.
    pub resource: Arc<Resource>,
    /// Its objects.
    pub cache: Arc<ResourceCache>,
    /// The `apiVersion` of its objects.
    pub api_version: String,
    /// Converts its objects; none where the `apiVersion` is all that differs, or where the resource
    /// itself knows how.
    pub converter: Option<Arc<Converter>>,
}

impl Served {
    /// A resource that is served from a cache.
    pub fn new(resource: Resource, cache: Arc<ResourceCache>) -> Arc<Self> {
        Self::converted(resource, cache, None)
    }

    /// A resource whose objects a webhook converts.
    pub fn converted(
        resource: Resource,
        cache: Arc<ResourceCache>,
        converter: Option<Arc<Converter>>,
    ) -> Arc<Self> {
        let api_version = resource.gvk().api_version();
        Arc::new(Self { resource: Arc::new(resource), cache, api_version, converter })
    }

    /// What server-side apply knows of its objects; none for kinds without a schema.
    pub fn typing(&self) -> Option<Typing<'_>> {
        self.resource.model.as_ref().map(Model::typing)
    }
}

/// All served resources.
#[derive(Default)]
pub struct ServedTable {
    /// By resource, in the order of the table; few groups and versions have the same name.
    by_name: HashMap<String, Vec<Arc<Served>>>,
    in_order: Vec<Arc<Served>>,
}

impl ServedTable {
    /// Builds the table and one cache for each storage location.
    ///
    /// # Panics
    /// When two resources have the same name: the table is wrong.
    pub fn new(resources: Vec<Resource>) -> Self {
        let mut caches: BTreeMap<String, Arc<ResourceCache>> = BTreeMap::new();
        let mut table = Self::default();
        for resource in resources {
            let prefix = format!("{}{}/", hub::ROOT, resource.storage);
            let strategy = resource.strategy.clone();
            let cache = caches.entry(prefix.clone()).or_insert_with(|| {
                let view = Arc::new(view::Plain::new(strategy));
                Arc::new(ResourceCache::new(Bytes::from(prefix), view))
            });
            let gvr = resource.gvr();
            let added = table.add(Served::new(resource, cache.clone()));
            assert!(added, "{gvr} is in the table twice");
        }
        table
    }

    /// The same built-in resources, and these custom ones behind them. What has the name of
    /// a resource that is there already is left out.
    pub fn with_custom(&self, custom: impl IntoIterator<Item = Arc<Served>>) -> Self {
        let built_in = self.iter().filter(|served| served.resource.custom.is_none()).cloned();
        let mut table = Self::default();
        for served in built_in.chain(custom) {
            table.add(served);
        }
        table
    }

    fn add(&mut self, served: Arc<Served>) -> bool {
        let resource = &served.resource;
        if self.find(&resource.group, &resource.version, &resource.plural).is_some() {
            return false;
        }
        let same_name = self.by_name.entry(resource.plural.to_string()).or_default();
        same_name.push(served.clone());
        self.in_order.push(served);
        true
    }

    /// One resource.
    pub fn get(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Served>> {
        self.find(group, version, resource).cloned()
    }

    fn find(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Served>> {
        let mut same_name = self.by_name.get(resource)?.iter();
        same_name.find(|s| s.resource.version == version && s.resource.group == group)
    }

    /// One resource in whatever version it is served first.
    pub fn any_version(&self, group: &str, resource: &str) -> Option<&Arc<Served>> {
        self.by_name.get(resource)?.iter().find(|served| served.resource.group == group)
    }

    /// All resources in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.in_order.iter()
    }

    /// The distinct caches.
    pub fn caches(&self) -> Vec<Arc<ResourceCache>> {
        let mut caches: Vec<Arc<ResourceCache>> = Vec::new();
        for served in self.iter().filter(|s| !s.resource.storage.is_empty()) {
            if !caches.iter().any(|c| Arc::ptr_eq(c, &served.cache)) {
                caches.push(served.cache.clone());
            }
        }
        caches
    }
}
