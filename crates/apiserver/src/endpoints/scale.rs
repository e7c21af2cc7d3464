//! The `scale` subresource of workloads: one small kind in front of every kind that counts pods.
//!
//! upstream: pkg/registry/apps/deployment/storage/storage.go ScaleREST

use http::{HeaderMap, Response};
use longshore_api::managed::scale::{Replicas, SCALE_VERSION};
use longshore_api::managed::{self, Filter, OneVersion, Write};
use longshore_api::patch::gotext::quote;
use longshore_api::{Object, StatusError, schema};
use longshore_resources::ScalePaths;
use longshore_resources::apiextensions::custom::scale as custom;
use longshore_resources::autoscaling::scale::{apply_scale, to_scale, validate_scale};
use parking_lot::Mutex;

use super::options::WriteOptions;
use super::patch::Patch;
use super::{Call, apply, body, read, write};
use crate::admission::Facade;
use crate::body::Body;
use crate::registry::{StorageConflict, UpdateOptions, rfc3339};

const MANAGED_FIELDS: [&str; 2] = ["metadata", "managedFields"];

/// Where the numbers of a custom resource stand; none for built-in ones.
fn custom_paths(call: &Call) -> Option<&ScalePaths> {
    call.served.resource.custom.as_ref()?.scale.as_ref()
}

/// The scale of an object, and whether its wanted number is there.
fn scale_of(call: &Call, object: &Object) -> Result<(Object, bool), StatusError> {
    match custom_paths(call) {
        Some(paths) => custom::to_scale(paths, object)
            .map_err(|why| StatusError::new(longshore_api::Reason::Unknown, why)),
        None => Ok((Object::from_value(to_scale(object)).unwrap_or_default(), true)),
    }
}

/// What upstream tells of a body that is no scale: of custom resources always the same.
fn undecoded(call: &Call, error: StatusError) -> StatusError {
    if call.served.resource.custom.is_none() || error.code != 400 {
        return error;
    }
    StatusError::bad_request(
        "no kind is registered for the type v1.Scale in scheme \"k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go:781\"",
    )
}

/// Answers GET.
pub async fn get(call: &Call) -> Result<Response<Body>, StatusError> {
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let entry = call.api.registry.get(&call.served, namespace, name).await?;
    let (scale, found) = scale_of(call, &call.shown(&entry).await?)?;
    if let Some(paths) = custom_paths(call).filter(|_| !found) {
        let path = quote(&paths.spec_replicas);
        return Err(StatusError::internal(format!(
            "the spec replicas field {path} does not exist"
        )));
    }
    Ok(read::object(call, 200, scale))
}

/// Answers PUT and PATCH.
pub async fn write(
    call: &Call,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, StatusError> {
    let bytes = body::read(body).await?;
    let want = write::kind_of(call);
    let put = call.info.verb == "update";
    let apply = apply::is_apply(headers, call.api.cbor) && !put;
    let options = match (put, apply) {
        (true, _) => WriteOptions::of(&call.info, "UpdateOptions")?,
        (_, true) => WriteOptions::of_apply(&call.info)?,
        _ => WriteOptions::of(&call.info, "PatchOptions")?,
    };
    let warnings = Mutex::new(Vec::new());
    let wanted = if put {
        let warnings = &mut warnings.lock();
        let decoded = body::decode(headers, &bytes, &want, options.validation, warnings);
        let mut scale = decoded.map_err(|error| undecoded(call, error))?;
        call.write_context(options.dry_run).check_namespace(&mut scale)?;
        write::check_name(call, &mut scale)?;
        Wanted::Scale(scale)
    } else if apply {
        Wanted::Config(apply::Config::decode(call, headers, &bytes)?)
    } else {
        Wanted::Patch(Patch::from_request(call, headers, &bytes))
    };
    let managers = Managers::of(call);
    let change = |old: Option<&Object>| {
        let Some(old) = old else { return Err(not_found(call)) };
        let before = managers.scale_of(old)?;
        let scale = match &wanted {
            Wanted::Scale(scale) => managers.tracked(&before, scale.clone()),
            Wanted::Patch(patch) => {
                let patch = patch.as_ref().map_err(Clone::clone)?;
                let warnings = &mut warnings.lock();
                let mut scale = patch.apply(&before, &want, options.validation, warnings)?;
                write::check_name(call, &mut scale)?;
                call.write_context(options.dry_run).check_namespace(&mut scale)?;
                managers.tracked(&before, scale)
            }
            Wanted::Config(config) => {
                let mut scale = managers.apply(&before, config)?;
                config.check(options.validation, &mut warnings.lock())?;
                call.write_context(options.dry_run).check_namespace(&mut scale)?;
                write::check_name(call, &mut scale)?;
                scale
            }
        };
        let mut new = old.clone();
        match custom_paths(call) {
            // The object's own rules check the number.
            Some(paths) => {
                custom::apply_scale(paths, &mut new, &scale)?;
                check_uid(call, &scale, old, put)?;
            }
            None => {
                let errors = validate_scale(&scale);
                if !errors.is_empty() {
                    let name = &call.info.name;
                    return Err(StatusError::invalid("autoscaling", "Scale", name, &errors));
                }
                check_uid(call, &scale, old, put)?;
                apply_scale(&mut new, &scale);
            }
        }
        managers.put_back(&mut new, &scale)?;
        Ok(new)
    };
    let facade = AsScale { call, managers: &managers };
    let mut ctx = call.write_context(options.dry_run);
    ctx.extras.facade = Some(&facade);
    // Its managed fields come out of those of the scale.
    ctx.manager = None;
    let update = UpdateOptions::default();
    let stored = call.api.registry.update(&ctx, &call.info.name, update, &change).await?;
    call.warnings.lock().extend(warnings.into_inner());
    let (scale, _) =
        scale_of(call, &stored.object).map_err(|error| StatusError::bad_request(error.message))?;
    Ok(read::object(call, 200, scale))
}

/// How admission sees a workload of which the scale is written.
struct AsScale<'a> {
    call: &'a Call,
    managers: &'a Managers<'a>,
}

impl Facade for AsScale<'_> {
    fn show(&self, object: &Object) -> Result<Object, StatusError> {
        self.managers.scale_of(object)
    }

    fn take(&self, object: &mut Object, scale: &Object) -> Result<(), StatusError> {
        match custom_paths(self.call) {
            Some(paths) => custom::apply_scale(paths, object, scale)?,
            None => {
                let errors = validate_scale(scale);
                if !errors.is_empty() {
                    let name = &self.call.info.name;
                    return Err(StatusError::invalid("autoscaling", "Scale", name, &errors));
                }
                apply_scale(object, scale);
            }
        }
        Ok(())
    }
}

enum Wanted {
    Scale(Object),
    Patch(Result<Patch, StatusError>),
    Config(apply::Config),
}

/// The managers of a workload as its scale has them.
struct Managers<'a> {
    call: &'a Call,
    replicas: Replicas<'a>,
    now: String,
}

impl<'a> Managers<'a> {
    fn of(call: &'a Call) -> Self {
        let (path, versions) = match &call.served.resource.custom {
            Some(custom) => (
                custom.scale.as_ref().map(custom::replicas_path).unwrap_or_default(),
                custom.scaled_versions.iter().map(String::as_str).collect(),
            ),
            None => (
                vec!["spec", "replicas"],
                match &*call.served.resource.group {
                    "" => vec!["v1"],
                    _ => vec!["apps/v1", "apps/v1beta2", "apps/v1beta1", "extensions/v1beta1"],
                },
            ),
        };
        let replicas = Replicas { api_version: &call.served.api_version, path, versions };
        Self { call, replicas, now: rfc3339(call.now) }
    }

    /// The scale of a workload with its managed fields.
    fn scale_of(&self, object: &Object) -> Result<Object, StatusError> {
        let (mut scale, found) = scale_of(self.call, object)?;
        if !found {
            scale.set(&["spec", "replicas"], custom::ABSENT);
        }
        let entries = self.replicas.to_scale(object.list(&MANAGED_FIELDS));
        if let Some(entries) = entries.map_err(StatusError::internal)? {
            scale.set(&MANAGED_FIELDS, entries);
        }
        Ok(scale)
    }

    fn as_write<T>(&self, act: impl FnOnce(&Write<'_>) -> T) -> Option<T> {
        let ty = schema::kind("autoscaling", "v1", "Scale")?;
        Some(act(&Write {
            ty: ty.into(),
            api_version: SCALE_VERSION,
            subresource: "scale",
            manager: &self.call.manager,
            now: &self.now,
            filter: Filter::All,
            versions: &OneVersion,
        }))
    }

    fn tracked(&self, before: &Object, mut scale: Object) -> Object {
        self.as_write(|write| managed::track(write, before, &mut scale));
        scale
    }

    fn apply(&self, before: &Object, config: &apply::Config) -> Result<Object, StatusError> {
        let custom = self.call.served.resource.custom.is_some();
        let unmanaged = before.list(&MANAGED_FIELDS).is_empty();
        // Upstream fails before it looks for conflicts when nobody manages the scale.
        let (value, force) = (config.value(), config.force() || (custom && unmanaged));
        let applied = self
            .as_write(|write| managed::apply(write, "Scale", before, value, force))
            .unwrap_or_else(|| Err(StatusError::internal("scales have no schema")))?;
        if custom {
            self.refuse(before, &applied)?;
        }
        Ok(applied)
    }

    /// The converter of custom resources knows no scales, so upstream fails when a configuration
    /// changes one.
    ///
    /// upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/conversion/converter.go
    fn refuse(&self, before: &Object, applied: &Object) -> Result<(), StatusError> {
        let unmanaged = before.list(&MANAGED_FIELDS).is_empty();
        if !unmanaged && without_managers(before) == without_managers(applied) {
            return Ok(());
        }
        let (what, name) = if unmanaged {
            ("create manager for existing fields: failed to convert live object", "")
        } else {
            ("convert new object", self.call.info.name.as_str())
        };
        let message = format!(
            "failed to {what} (/{name}; {SCALE_VERSION}, Kind=Scale) to proper version: request to convert CR to an invalid group/version: {SCALE_VERSION}"
        );
        Err(StatusError::new(longshore_api::Reason::Unknown, message))
    }

    /// Gives the workload the managed fields that those of its scale make.
    fn put_back(&self, object: &mut Object, scale: &Object) -> Result<(), StatusError> {
        let entries =
            self.replicas.to_parent(object.list(&MANAGED_FIELDS), scale.list(&MANAGED_FIELDS));
        match entries.map_err(StatusError::internal)? {
            Some(entries) => object.set(&MANAGED_FIELDS, entries),
            None => drop(object.remove(&MANAGED_FIELDS)),
        }
        Ok(())
    }
}

fn without_managers(object: &Object) -> Object {
    let mut object = object.clone();
    object.remove(&MANAGED_FIELDS);
    object
}

/// upstream: pkg/registry/apps/deployment/storage/storage.go scaleUpdatedObjectInfo
fn check_uid(call: &Call, scale: &Object, workload: &Object, put: bool) -> Result<(), StatusError> {
    if scale.uid().is_empty() || scale.uid() == workload.uid() {
        return Ok(());
    }
    let resource = &call.served.resource;
    if !put {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            scale.uid(),
            workload.uid()
        );
        let plural = format!("{}/scale", resource.plural);
        return Err(StatusError::conflict(&resource.group, &plural, &call.info.name, &why));
    }
    let name = &call.info.name;
    let key = call.served.cache.key(&call.info.namespace, name);
    let (wanted, has) = (scale.uid(), workload.uid());
    let conflict = StorageConflict { key: &key, what: "UID", wanted, has };
    Err(conflict.of(&resource.group, &resource.plural, name))
}

fn not_found(call: &Call) -> StatusError {
    let resource = &call.served.resource;
    StatusError::not_found(&resource.group, &resource.plural, &call.info.name)
}
