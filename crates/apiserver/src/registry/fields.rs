//! Managed fields in the registry: every write records who changed which fields.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/{create,update,patch}.go

use std::sync::Arc;

use longshore_api::managed::{self, Filter, OneVersion, Typing, Versions};
use longshore_api::schema::Type;
use longshore_api::{Object, StatusError};
use serde_json::{Map, Value};

use crate::auth;

use super::{Conversions, Registry, Served, ServedTable, TOO_LARGE, WriteContext, rfc3339, shown};

/// The versions of a resource that are served.
pub struct ServedVersions<'a> {
    table: &'a ServedTable,
    served: &'a Served,
    conversions: Option<&'a Conversions>,
}

impl ServedVersions<'_> {
    /// The resource in another version. Kinds that are served in two groups are not converted
    /// from one to the other.
    fn sibling(&self, api_version: &str) -> Option<&Served> {
        let sibling = self.table.iter().find(|other| {
            Arc::ptr_eq(&other.cache, &self.served.cache)
                && other.resource.group == self.served.resource.group
                && other.api_version == api_version
        });
        sibling.map(|served| &**served)
    }
}

impl Versions for ServedVersions<'_> {
    fn ty(&self, api_version: &str) -> Option<Typing<'_>> {
        self.sibling(api_version)?.typing()
    }

    fn convert(&self, object: &Object, from: &str, to: &str) -> Option<Object> {
        let (from, to) = (self.sibling(from)?, self.sibling(to)?);
        let mut object = object.clone();
        if let Some(conversions) = self.conversions.filter(|_| to.converter.is_some()) {
            object.set(&["apiVersion"], from.api_version.as_str());
            return conversions.get(&object, &to.api_version);
        }
        if to.resource.custom.is_some() {
            // What a version does not know is not lost on the way to another one.
            object.set(&["apiVersion"], to.api_version.as_str());
            return Some(object);
        }
        from.resource.strategy.to_storage(&mut object);
        Some(shown(to, object))
    }
}

impl Registry {
    /// Records what a write changes, in `new`; `live` is none when the object is made.
    pub(super) fn track(&self, ctx: &WriteContext<'_>, new: &mut Object, live: Option<&Object>) {
        self.as_write(ctx, |write| match live {
            Some(live) => managed::track(write, live, new),
            None => managed::track(write, &Object::default(), new),
        });
    }

    /// Applies a configuration to the live object, which is empty when it is to be made.
    ///
    /// # Errors
    /// See [`managed::apply`].
    pub fn apply(
        &self,
        ctx: &WriteContext<'_>,
        live: &Object,
        config: &Value,
        force: bool,
    ) -> Result<Object, StatusError> {
        let kind = &ctx.resource().kind;
        self.as_write(ctx, |write| managed::apply(write, kind, live, config, force))
            .unwrap_or_else(|| Err(StatusError::internal(format!("{kind} has no schema"))))
    }

    /// Does something as the write that a context tells of; none when it is not tracked.
    fn as_write<T>(
        &self,
        ctx: &WriteContext<'_>,
        act: impl FnOnce(&managed::Write<'_>) -> T,
    ) -> Option<T> {
        let (Some(manager), Some(ty)) = (ctx.manager, ctx.served.typing()) else { return None };
        let table = self.table();
        let conversions = ctx.extras.conversions;
        let versions = ServedVersions { table: &table, served: ctx.served, conversions };
        let now = rfc3339(ctx.now);
        Some(act(&managed::Write {
            ty,
            api_version: &ctx.served.api_version,
            subresource: ctx.subresource,
            manager,
            now: &now,
            filter: ctx.resource().strategy.written_fields(ctx.subresource),
            versions: &versions,
        }))
    }

    /// Who changes or applies an object that does not exist needs the right to create it.
    ///
    /// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/update.go withAuthorization
    pub(super) fn check_may_create(
        &self,
        ctx: &WriteContext<'_>,
        name: &str,
    ) -> Result<(), StatusError> {
        let resource = ctx.resource();
        let path = format!("{}/{}/{name}", resource.gvr().prefix(), resource.plural);
        let attributes = auth::Attributes {
            user: ctx.user,
            verb: "create",
            group: &resource.group,
            version: &resource.version,
            resource: &resource.plural,
            subresource: ctx.subresource,
            namespace: ctx.namespace,
            name,
            field_selector: "",
            path: &path,
            resource_request: true,
        };
        match self.authorization.authorize(&attributes) {
            auth::Decision::Allow(_) => Ok(()),
            auth::Decision::Deny(reason) | auth::Decision::NoOpinion(reason) => {
                Err(auth::forbidden(&attributes, &reason))
            }
        }
    }
}

/// Records the writer of an object that is answered and not stored.
pub fn track_unstored(ctx: &WriteContext<'_>, ty: Option<&'static Type>, object: &mut Object) {
    let (Some(manager), Some(ty)) = (ctx.manager, ty) else { return };
    let (api_version, now) = (object.api_version().to_owned(), rfc3339(ctx.now));
    let write = managed::Write {
        ty: ty.into(),
        api_version: &api_version,
        subresource: ctx.subresource,
        manager,
        now: &now,
        filter: Filter::All,
        versions: &OneVersion,
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
    if same_but_versions(new.root(), old.root()) {
        let entries = before.to_vec();
        new.set(&PATH, entries);
    }
}

/// Whether two objects differ at most in the resource version and the managed fields.
fn same_but_versions(new: &Map<String, Value>, old: &Map<String, Value>) -> bool {
    new.len() == old.len()
        && new.iter().zip(old).all(|((key, a), (other, b))| {
            let same = || match (a, b) {
                (Value::Object(a), Value::Object(b)) if key == "metadata" => same_metadata(a, b),
                _ => a == b,
            };
            key == other && same()
        })
}

fn same_metadata(new: &Map<String, Value>, old: &Map<String, Value>) -> bool {
    let counts =
        |(key, _): &(&String, &Value)| !matches!(key.as_str(), "resourceVersion" | "managedFields");
    new.iter().filter(counts).eq(old.iter().filter(counts))
}

/// Makes an object that is too large for the store smaller by the managed fields, which are no
/// user's data; gives the error back when there are none.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/create.go isTooLargeError
pub(super) fn shrink(error: StatusError, object: &mut Object) -> Result<(), StatusError> {
    if error.message != TOO_LARGE {
        return Err(error);
    }
    object.remove(&["metadata", "managedFields"]).map(drop).ok_or(error)
}
