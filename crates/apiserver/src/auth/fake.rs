//! A reader over objects that a test lists.

use std::future::ready;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use longshore_api::{Object, StatusError};
use parking_lot::Mutex;
use serde_json::Value;

use crate::reader::Reader;

/// Group, resource and object.
type Held = (String, String, Arc<Object>);

#[derive(Default)]
pub(crate) struct FakeReader(Mutex<(u64, Vec<Held>)>, Mutex<Vec<(String, String, Value)>>);

impl FakeReader {
    pub(crate) fn put(&self, group: &str, resource: &str, object: Value) {
        let object = Arc::new(Object::from_value(object).expect("an object"));
        let mut all = self.0.lock();
        all.0 += 1;
        all.1.retain(|(g, r, o)| {
            !(g == group
                && r == resource
                && o.name() == object.name()
                && o.namespace() == object.namespace())
        });
        all.1.push((group.to_owned(), resource.to_owned(), object));
    }

    /// Stores an object that is not read yet.
    pub(crate) fn put_unread(&self, group: &str, resource: &str, object: Value) {
        self.1.lock().push((group.to_owned(), resource.to_owned(), object));
    }

    pub(crate) fn remove(&self, resource: &str, name: &str) {
        let mut all = self.0.lock();
        all.0 += 1;
        all.1.retain(|(_, r, o)| !(r == resource && o.name() == name));
    }
}

impl Reader for FakeReader {
    fn get(&self, group: &str, resource: &str, ns: &str, name: &str) -> Option<Arc<Object>> {
        self.list(group, resource, ns).into_iter().find(|o| o.name() == name && o.namespace() == ns)
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let all = self.0.lock();
        let of = all.1.iter().filter(|(g, r, o)| {
            g == group && r == resource && (namespace.is_empty() || o.namespace() == namespace)
        });
        of.map(|(_, _, o)| o.clone()).collect()
    }

    fn fresh(&self) -> BoxFuture<'_, Result<(), StatusError>> {
        for (group, resource, object) in std::mem::take(&mut *self.1.lock()) {
            self.put(&group, &resource, object);
        }
        ready(Ok(())).boxed()
    }

    fn generation(&self, _group: &str, _resource: &str) -> u64 {
        self.0.lock().0
    }
}
