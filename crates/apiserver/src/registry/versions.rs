//! Objects in the versions of their resource: as they are stored, and as a request sees them.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/runtime/serializer/versioning

use std::borrow::Cow;

use longshore_api::{Gvk, Model, Object, StatusError, gvk};
use parking_lot::Mutex;

use super::{Served, WriteContext};
use crate::cache::Entry;

/// A stored object in the version of a resource that needs no webhook for it.
pub fn shown(served: &Served, mut object: Object) -> Object {
    let gvk = served.resource.gvk();
    if object.api_version() != gvk.api_version() {
        served.resource.strategy.from_storage(&mut object);
        object.set(&["apiVersion"], gvk.api_version());
        recast(&gvk, &mut object);
    }
    object
}

/// Stored objects in the version of a resource.
///
/// # Errors
/// When a webhook does not convert them.
pub async fn show_all(served: &Served, objects: Vec<Object>) -> Result<Vec<Object>, StatusError> {
    let Some(converter) = &served.converter else {
        return Ok(objects.into_iter().map(|object| shown(served, object)).collect());
    };
    let own = served.api_version.as_str();
    let other: Vec<bool> = objects.iter().map(|object| object.api_version() != own).collect();
    let mut objects = converter.convert(objects, own).await?;
    for (object, _) in objects.iter_mut().zip(other).filter(|(_, other)| *other) {
        served.resource.strategy.from_storage(object);
    }
    Ok(objects)
}

/// A stored object in the version of a resource.
///
/// # Errors
/// When a webhook does not convert it.
pub async fn show(served: &Served, object: Object) -> Result<Object, StatusError> {
    if served.converter.is_none() {
        return Ok(shown(served, object));
    }
    let mut objects = show_all(served, vec![object]).await?;
    objects.pop().ok_or_else(|| StatusError::internal("a conversion has lost an object"))
}

/// A changed object in the version of a resource, for one of many watches.
///
/// # Errors
/// When a webhook does not convert it.
pub async fn show_change(served: &Served, object: Object) -> Result<Object, StatusError> {
    match &served.converter {
        Some(converter) if object.api_version() != served.api_version => {
            let mut object = converter.convert_shared(object, &served.api_version).await?;
            served.resource.strategy.from_storage(&mut object);
            Ok(object)
        }
        _ => Ok(shown(served, object)),
    }
}

/// An object of one version of a resource in another one.
///
/// # Errors
/// When it cannot be converted.
pub async fn convert(
    from: &Served,
    to: &Served,
    mut object: Object,
) -> Result<Object, StatusError> {
    if to.converter.is_some() {
        return show(to, object).await;
    }
    from.resource.strategy.to_storage(&mut object);
    Ok(shown(to, object))
}

/// Gives a converted object what its new version always writes, and no more.
fn recast(kind: &Gvk, object: &mut Object) {
    let api_version = object.api_version().to_owned();
    let Some((group, version)) = gvk::split_api_version(&api_version) else { return };
    if let Some(model) = Model::built_in(group, version, &kind.kind) {
        model.recast(object);
    }
}

impl WriteContext<'_> {
    /// A stored object in the version of the request.
    pub(super) async fn native(&self, stored: Object) -> Result<Object, StatusError> {
        show(self.served, stored).await
    }

    /// An object of the request's version as it is stored.
    pub(super) async fn storage<'o>(
        &self,
        object: &'o Object,
    ) -> Result<Cow<'o, Object>, StatusError> {
        let strategy = &self.resource().strategy;
        if !strategy.converts() {
            return Ok(Cow::Borrowed(object));
        }
        let mut object = object.clone();
        if let (Some(converter), Some(custom)) = (&self.served.converter, &self.resource().custom) {
            let version = gvk::api_version(&self.resource().group, &custom.storage_version);
            let converted = converter.convert(vec![object], &version).await?.pop();
            object = converted
                .ok_or_else(|| StatusError::internal("a conversion has lost an object"))?;
        }
        let version = object.api_version().to_owned();
        strategy.to_storage(&mut object);
        if object.api_version() != version {
            recast(&self.resource().gvk(), &mut object);
        }
        Ok(Cow::Owned(object))
    }

    /// What a write answers: the object as it is read back. Only custom resources that are stored in
    /// another version lose something on the way. `entry` is the object as it was stored.
    pub(super) async fn answered(
        &self,
        object: Object,
        entry: Option<&Entry>,
    ) -> Result<Object, StatusError> {
        if self.resource().custom.is_none() || !self.resource().strategy.converts() {
            return Ok(object);
        }
        let version = object.resource_version().to_owned();
        let stored = match entry {
            Some(entry) => entry.object(),
            None => self.served.cache.as_read(self.storage(&object).await?.into_owned()),
        };
        let mut object = self.native(stored).await?;
        if !version.is_empty() {
            object.set(&["metadata", "resourceVersion"], version);
        }
        Ok(object)
    }

    /// Does something that asks for objects in other versions, which webhooks convert: as often as
    /// it takes until all that it asks for is there.
    pub(super) async fn with_conversions<T>(&self, act: impl Fn() -> T) -> T {
        let conversions = self.extras.conversions.filter(|_| self.served.converter.is_some());
        for _ in 0..ROUNDS_MAX {
            let outcome = act();
            let Some(conversions) = conversions else { return outcome };
            let missing = std::mem::take(&mut *conversions.missing.lock());
            if missing.is_empty() {
                return outcome;
            }
            for (object, to) in missing {
                let converted = self.in_version(&object, &to).await;
                conversions.known.lock().push((object, to, converted));
            }
        }
        act()
    }

    /// An object in another version; none when it cannot be converted.
    async fn in_version(&self, object: &Object, to: &str) -> Option<Object> {
        let converter = self.served.converter.as_ref()?;
        match converter.convert(vec![object.clone()], to).await {
            Ok(mut converted) => converted.pop(),
            Err(error) => {
                let (name, why) = (object.name(), &error.message);
                tracing::debug!(name, why, "the managers of another version are not compared");
                None
            }
        }
    }
}

/// How often something is done again that asks for more versions of objects.
const ROUNDS_MAX: usize = 16;

/// An object, the version that was wanted, and the object in it.
type Known = (Object, String, Option<Object>);

/// Objects of one request in the other versions that its managers know them in.
#[derive(Default)]
pub struct Conversions {
    known: Mutex<Vec<Known>>,
    missing: Mutex<Vec<(Object, String)>>,
}

impl Conversions {
    /// An object in another version, as far as it is known.
    pub(super) fn get(&self, object: &Object, to: &str) -> Option<Object> {
        if object.api_version() == to {
            return Some(object.clone());
        }
        let known = self.known.lock();
        if let Some((_, _, converted)) = known.iter().find(|(o, v, _)| v == to && o == object) {
            return converted.clone();
        }
        self.missing.lock().push((object.clone(), to.to_owned()));
        None
    }
}
