//! Managed fields in the registry: every write records who changed which fields.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/{create,update,patch}.go

use std::sync::Arc;

use longshore_api::managed::{self, Filter, Versions};
use longshore_api::schema::Type;
use longshore_api::{Object, Reason, StatusError};
use serde_json::Value;

use super::{Registry, Served, ServedTable, WriteContext, rfc3339, shown};

/// The versions of a resource that are served.
pub struct ServedVersions<'a> {
    table: &'a ServedTable,
    served: &'a Served,
}

impl Versions for ServedVersions<'_> {
    fn convert(&self, object: &Object, api_version: &str) -> Option<(&'static Type, Object)> {
        // Kinds that are served in two groups are not converted from one to the other.
        let sibling = self.table.iter().find(|other| {
            Arc::ptr_eq(&other.cache, &self.served.cache)
                && other.resource.group == self.served.resource.group
                && other.api_version == api_version
        })?;
        let mut object = object.clone();
        self.served.resource.strategy.to_storage(&mut object);
        Some((sibling.ty?, shown(sibling, object)))
    }
}

impl Registry {
    /// Records what a write changes, in `new`; `live` is none when the object is made.
    pub(super) fn track(&self, ctx: &WriteContext<'_>, new: &mut Object, live: Option<&Object>) {
        let (Some(manager), Some(ty)) = (ctx.manager, ctx.served.ty) else { return };
        let table = self.table();
        let versions = ServedVersions { table: &table, served: ctx.served };
        let now = rfc3339(ctx.now);
        let write = managed::Write {
            ty,
            api_version: &ctx.served.api_version,
            subresource: ctx.subresource,
            manager,
            now: &now,
            filter: ctx.resource().strategy.written_fields(ctx.subresource),
            versions: &versions,
        };
        match live {
            Some(live) => managed::track(&write, live, new),
            None => managed::track(&write, &Object::default(), new),
        }
    }
}

/// Records the writer of an object that is answered and not stored.
pub fn track_unstored(ctx: &WriteContext<'_>, ty: Option<&'static Type>, object: &mut Object) {
    struct Alone;
    impl Versions for Alone {
        fn convert(&self, _: &Object, _: &str) -> Option<(&'static Type, Object)> {
            None
        }
    }
    let (Some(manager), Some(ty)) = (ctx.manager, ty) else { return };
    let (api_version, now) = (object.api_version().to_owned(), rfc3339(ctx.now));
    let write = managed::Write {
        ty,
        api_version: &api_version,
        subresource: ctx.subresource,
        manager,
        now: &now,
        filter: Filter::All,
        versions: &Alone,
    };
    managed::track(&write, &Object::default(), object);
}

/// Takes the times of managed fields back when nothing but them has changed, so that a write that
/// changes nothing stores nothing.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/fieldmanager/equality.go
pub(super) fn keep_times(new: &mut Object, old: &Object) {
    const PATH: [&str; 2] = ["metadata", "managedFields"];
    let (after, before) = (new.list(&PATH), old.list(&PATH));
    if after.len() != before.len() || after == before {
        return;
    }
    let timeless = |entry: &Value| {
        let mut entry = entry.clone();
        entry.as_object_mut().map(|fields| fields.remove("time"));
        entry
    };
    if !after.iter().zip(before).all(|(a, b)| timeless(a) == timeless(b)) {
        return;
    }
    let entries = before.to_vec();
    let written = std::mem::replace(new.get_mut(&PATH).unwrap_or(&mut Value::Null), entries.into());
    if without_version(new) != without_version(old) {
        new.set(&PATH, written);
    }
}

fn without_version(object: &Object) -> Object {
    let mut object = object.clone();
    object.remove(&["metadata", "resourceVersion"]);
    object
}

/// Makes an object that is too large for the store smaller by the managed fields, which are no
/// user's data; gives the error back when there are none.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/create.go isTooLargeError
pub(super) fn shrink(error: StatusError, object: &mut Object) -> Result<(), StatusError> {
    if error.reason != Reason::RequestEntityTooLarge {
        return Err(error);
    }
    object.remove(&["metadata", "managedFields"]).map(drop).ok_or(error)
}
