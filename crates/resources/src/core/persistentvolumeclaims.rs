//! Claims of persistent volumes.
//!
//! upstream: pkg/registry/core/persistentvolumeclaim/strategy.go,
//! pkg/apis/core/validation/validation.go ValidatePersistentVolumeClaim

use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{Object, gostruct, names};
use serde_json::{Value, json};

use super::persistentvolumes::{CLASS, class, modes, or_unset, phase};
use super::pods::cells::{AGE, NAME, age, text_column, wide};
use super::pods::defaults::{round_list, round_resources};
use super::pods::resources::quantity;
use super::pods::tree::{
    drop_field, entries, fill, fill_always, has, opt_text, or_null, part, part_mut, text, texts,
};
use super::pods::validation::claims::claim_spec;
use super::pods::validation::common::{IMMUTABLE, immutable};
use crate::plain::keep;
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

const ATTRIBUTES: &str = "volumeAttributesClassName";
const RESIZES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizePending",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
];

/// The rules of claims.
pub(super) struct PersistentVolumeClaims;

impl Strategy for PersistentVolumeClaims {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn default(&self, object: &mut Object) {
        if object.str(&["status", "phase"]).is_empty() {
            object.set(&["status", "phase"], "Pending");
        }
        for key in ["capacity", "allocatedResources"] {
            round_list(object.get_mut(&["status", key]));
        }
        if let Some(spec) = object.get_mut(&["spec"]) {
            fill(spec, "volumeMode", "Filesystem");
            round_resources(spec);
        }
    }

    fn prepare_create(&self, _ctx: &Context<'_>, object: &mut Object) {
        object.set(&["status"], json!({"phase": "Pending"}));
        if let Some(spec) = object.get_mut(&["spec"]) {
            sources(spec, None);
        }
    }

    fn prepare_update(&self, ctx: &Context<'_>, new: &mut Object, old: &Object) {
        if ctx.subresource == "status" {
            keep(new, old, "spec");
            return;
        }
        keep(new, old, "status");
        if let Some(spec) = new.get_mut(&["spec"]) {
            sources(spec, old.get(&["spec"]));
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        claim_spec(spec_of(object), None, &Path::new("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        if ctx.subresource == "status" {
            return status(new);
        }
        let mut errors = ErrorList::new();
        claim_spec(spec_of(new), old.get(&["spec"]), &Path::new("spec"), &mut errors);
        update(new, old, &mut errors);
        errors
    }

    fn warnings(&self, object: &Object, _old: Option<&Object>) -> Vec<String> {
        let mut warnings = Vec::new();
        if object.annotation(CLASS).is_some() {
            warnings.push(format!(
                "metadata.annotations[{CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
            ));
        }
        for key in ["requests", "limits"] {
            let Some(storage) = object.get(&["spec", "resources", key, "storage"]) else {
                continue;
            };
            let amount = quantity(storage);
            if amount.milli_value() % 1000 != 0 {
                warnings.push(format!(
                    "spec.resources.{key}[storage]: fractional byte value {:?} is invalid, must be an integer",
                    amount.to_string()
                ));
            }
        }
        warnings
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Status", "Its phase."),
            text_column("Volume", "The volume it is bound to."),
            text_column("Capacity", "How much the volume holds."),
            text_column("Access Modes", "How the volume can be mounted."),
            text_column("StorageClass", "Its storage class."),
            text_column("VolumeAttributesClass", "Its class of attributes."),
            AGE,
            wide("VolumeMode", "File system or block device."),
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let spec = spec_of(object);
        let volume = text(spec, "volumeName");
        let (mut capacity, mut access) = (String::new(), String::new());
        if !volume.is_empty() {
            let null = Value::Null;
            let status = object.get(&["status"]).unwrap_or(&null);
            access = modes(&texts(status, "accessModes"));
            let storage = status.get("capacity").map_or(Value::Null, |c| or_null(c, "storage"));
            capacity = quantity(&storage).to_string();
        }
        vec![
            object.name().into(),
            phase(object),
            volume.into(),
            capacity.into(),
            access.into(),
            class(object),
            or_unset(spec, ATTRIBUTES),
            age(object, now),
            or_unset(spec, "volumeMode"),
        ]
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

fn spec_of(object: &Object) -> &Value {
    object.get(&["spec"]).unwrap_or(&Value::Null)
}

/// Makes the two fields that name a source of data agree, and drops sources that old clients
/// never got.
///
/// upstream: pkg/api/persistentvolumeclaim/util.go NormalizeDataSources,
/// EnforceDataSourceBackwardsCompatibility
fn sources(spec: &mut Value, old: Option<&Value>) {
    let (source, reference) = ("dataSource", "dataSourceRef");
    let foreign = part(spec, reference).is_some_and(|r| !text(r, "namespace").is_empty());
    if foreign && !old.is_some_and(|old| has(old, reference)) {
        drop_field(spec, reference);
    }
    let in_use = old.is_some_and(|old| has(old, source) || has(old, reference));
    if !in_use && !has(spec, reference) {
        let known = part(spec, source).is_some_and(|s| {
            matches!(
                (text(s, "kind"), text(s, "apiGroup")),
                ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
            )
        });
        if !known {
            drop_field(spec, source);
        }
    }
    match (part(spec, source).cloned(), part(spec, reference).cloned()) {
        (Some(found), None) => fill_always(spec, reference, found),
        (None, Some(found)) if text(&found, "namespace").is_empty() => {
            let mut found = found;
            drop_field(&mut found, "namespace");
            fill_always(spec, source, found);
        }
        _ => {}
    }
}

fn storage(spec: &Value) -> longshore_api::quantity::Quantity {
    let requests = part(spec, "resources").and_then(|r| part(r, "requests"));
    quantity(&requests.map_or(Value::Null, |r| or_null(r, "storage")))
}

fn update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (mut spec, mut before) = (spec_of(new).clone(), spec_of(old).clone());
    sources(&mut before, Some(spec_of(old)));
    if text(&before, "volumeName").is_empty() {
        copy(&mut before, &spec, "volumeName");
    }
    storage_class(new, old, &mut spec, &before, errors);
    if new.str(&["status", "phase"]) == "Bound" {
        if part(&spec, "resources").is_some_and(|r| has(r, "requests")) {
            let old = part(&before, "resources").and_then(|r| part(r, "requests"));
            let old = old.map_or(Value::Null, |r| or_null(r, "storage"));
            fill_always(part_mut(part_mut(&mut spec, "resources"), "requests"), "storage", old);
        }
        copy(&mut spec, &before, ATTRIBUTES);
    }
    if !same_amounts(&spec, &before) {
        let changes = gostruct::difference("core/v1.PersistentVolumeClaimSpec", &before, &spec);
        let why = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n{changes}"
        );
        errors.push(Error::forbidden(&Path::new("spec"), &why));
    }
    let size = storage(spec_of(new));
    let capacity = old.get(&["status", "capacity", "storage"]).cloned().unwrap_or(Value::Null);
    if size < storage(spec_of(old)) && size <= quantity(&capacity) {
        let path = Path::new("spec").child("resources").child("requests").child("storage");
        errors.push(Error::forbidden(&path, "field can not be less than status.capacity"));
    }
    let mode = "volumeMode";
    immutable(spec_of(new).get(mode), before.get(mode), &Path::new(mode), errors);
    attributes(new, old, errors);
}

/// Whether two specs are the same, whatever words tell their amounts.
fn same_amounts(new: &Value, old: &Value) -> bool {
    let mut agreed = new.clone();
    for key in ["requests", "limits"] {
        let amounts = agreed.get_mut("resources").and_then(|resources| resources.get_mut(key));
        for (name, amount) in amounts.and_then(Value::as_object_mut).into_iter().flatten() {
            let before = part(old, "resources").and_then(|r| part(r, key)?.get(name));
            if let Some(before) = before.filter(|before| quantity(before) == quantity(amount)) {
                amount.clone_from(before);
            }
        }
    }
    agreed == *old
}

fn copy(to: &mut Value, from: &Value, key: &str) {
    match part(from, key) {
        Some(value) => fill_always(to, key, value.clone()),
        None => drop_field(to, key),
    }
}

/// The class may move from the annotation to the field, and may be given once.
fn storage_class(
    new: &Object,
    old: &Object,
    spec: &mut Value,
    before: &Value,
    errors: &mut ErrorList,
) {
    let key = "storageClassName";
    let (annotation, old_annotation) = (new.annotation(CLASS), old.annotation(CLASS));
    let class = opt_text(spec, key).map(str::to_owned);
    let unset = !has(before, key);
    let moved = old_annotation.is_some()
        && unset
        && class.as_deref() == old_annotation
        && (annotation.is_none() || annotation == old_annotation);
    if moved {
        drop_field(spec, key);
        return;
    }
    if annotation.unwrap_or("") != old_annotation.unwrap_or("") {
        let path = Path::new("metadata").child("annotations").child(CLASS);
        errors.push(Error::invalid(&path, annotation.unwrap_or(""), IMMUTABLE));
    }
    let given = class.is_some() && (old_annotation.is_none() || old_annotation == class.as_deref());
    if unset && given {
        drop_field(spec, key);
    }
}

fn attributes(new: &Object, old: &Object, errors: &mut ErrorList) {
    let current = old.get(&["status", "currentVolumeAttributesClassName"]);
    let (class, before) = (opt_text(spec_of(new), ATTRIBUTES), opt_text(spec_of(old), ATTRIBUTES));
    if class == before || current.is_none_or(Value::is_null) {
        return;
    }
    let to = match class {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return,
    };
    let why = format!(
        "update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil"
    );
    errors.push(Error::forbidden(&Path::new("spec").child(ATTRIBUTES), &why));
}

fn status(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    if object.list(&["spec", "accessModes"]).is_empty() {
        errors.push(Error::required(&Path::new("Spec").child("accessModes"), ""));
    }
    let null = Value::Null;
    let status = object.get(&["status"]).unwrap_or(&null);
    let path = Path::new("status");
    amounts(status, "capacity", &path, &mut errors);
    let at = path.child("allocatedResourceStatuses");
    for (key, value) in entries(status, "allocatedResourceStatuses") {
        resource_key(key, &at, &mut errors);
        if !RESIZES.contains(&value.as_str().unwrap_or("")) {
            let mut all = RESIZES;
            all.sort_unstable();
            errors.push(Error::not_supported(&at, key.as_str(), &all));
        }
    }
    for (key, _) in entries(status, "allocatedResources") {
        resource_key(key, &path.child("allocatedResources"), &mut errors);
    }
    amounts(status, "allocatedResources", &path, &mut errors);
    errors
}

fn amounts(status: &Value, key: &str, path: &Path, errors: &mut ErrorList) {
    for (name, value) in entries(status, key) {
        let amount = quantity(value).value();
        if amount < 0 {
            let why = "must be a valid resource quantity";
            errors.push(Error::invalid(&path.child(key).key(name), amount, why));
        }
    }
}

fn resource_key(key: &str, path: &Path, errors: &mut ErrorList) {
    let broken = names::is_qualified_name(key);
    errors.extend(broken.iter().map(|why| Error::invalid(path, key, why)));
    let native = !key.contains('/') || key.contains("kubernetes.io/");
    if broken.is_empty() && native && key != "storage" {
        errors.push(Error::not_supported(path, key, &["storage"]));
    }
}
