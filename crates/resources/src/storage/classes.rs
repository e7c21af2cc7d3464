//! Storage classes and classes of volume attributes.
//!
//! upstream: pkg/apis/storage/validation/validation.go

use std::collections::BTreeMap;

use jiff::Timestamp;
use longshore_api::Object;
use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use crate::core::pods::cells::{AGE, NAME, age, text_column};
use crate::core::pods::tree::{list, text, texts};
use crate::core::pods::validation::common::{immutable, one_of, qualified_name};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// Most parameters, and most bytes of all together.
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
/// Annotations that make a class the default one.
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// The rules of storage classes.
pub(super) struct StorageClasses;

impl Strategy for StorageClasses {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn default(&self, object: &mut Object) {
        for (key, value) in [("reclaimPolicy", "Delete"), ("volumeBindingMode", "Immediate")] {
            if object.get(&[key]).is_none() {
                object.set(&[key], value);
            }
        }
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        provisioner(object, "provisioner", &mut errors);
        parameters(object, true, &mut errors);
        let policy = object.str(&["reclaimPolicy"]);
        if !policy.is_empty() {
            one_of(policy, &["Delete", "Retain"], &Path::new("reclaimPolicy"), &mut errors);
        }
        let modes = ["Immediate", "WaitForFirstConsumer"];
        let mode = object.str(&["volumeBindingMode"]);
        one_of(mode, &modes, &Path::new("volumeBindingMode"), &mut errors);
        topologies(object, &mut errors);
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = self.validate_create(new);
        for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            immutable(new.get(&[key]), old.get(&[key]), &Path::new(key), &mut errors);
        }
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            text_column("Provisioner", "Who makes the volumes."),
            text_column("ReclaimPolicy", "What becomes of released volumes."),
            text_column("VolumeBindingMode", "When claims are bound."),
            text_column("AllowVolumeExpansion", "Whether claims can grow."),
            AGE,
        ]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let mut name = object.name().to_owned();
        if DEFAULT.iter().any(|key| object.annotation(key) == Some("true")) {
            name.push_str(" (default)");
        }
        vec![
            name.into(),
            object.str(&["provisioner"]).into(),
            object.str(&["reclaimPolicy"]).into(),
            object.str(&["volumeBindingMode"]).into(),
            object.bool(&["allowVolumeExpansion"]).into(),
            age(object, now),
        ]
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

fn provisioner(object: &Object, key: &str, errors: &mut ErrorList) {
    match object.str(&[key]) {
        "" => errors.push(Error::required(&Path::new(key), "")),
        name => {
            qualified_name(&name.to_lowercase(), &Path::new(key), errors);
        }
    }
}

fn parameters(object: &Object, may_lack: bool, errors: &mut ErrorList) {
    let path = Path::new("parameters");
    let parameters = object.get(&["parameters"]).and_then(Value::as_object);
    let count = parameters.map_or(0, serde_json::Map::len);
    if count > PARAMETERS_MAX {
        errors.push(Error::too_long(&path, PARAMETERS_MAX));
        return;
    }
    let mut size = 0;
    for (key, value) in parameters.into_iter().flatten() {
        if key.is_empty() {
            errors.push(Error::invalid(&path, "", "field can not be empty."));
        }
        size += key.len() + value.as_str().unwrap_or("").len();
    }
    if size > PARAMETERS_BYTES_MAX {
        errors.push(Error::too_long(&path, PARAMETERS_BYTES_MAX));
    }
    if count == 0 && !may_lack {
        errors.push(Error::required(&path, "must contain at least one key/value pair"));
    }
}

fn topologies(object: &Object, errors: &mut ErrorList) {
    let path = Path::new("allowedTopologies");
    // upstream starts with an empty term for each given one, so that none may be empty
    let mut seen: Vec<BTreeMap<&str, Vec<&str>>> =
        vec![BTreeMap::new(); object.list(&["allowedTopologies"]).len()];
    for (i, term) in object.list(&["allowedTopologies"]).iter().enumerate() {
        let at = path.index(i).child("matchLabelExpressions");
        let mut expressions = BTreeMap::new();
        for (i, expression) in list(term, "matchLabelExpressions").iter().enumerate() {
            let at = at.index(i);
            let mut values = texts(expression, "values");
            if values.is_empty() {
                errors.push(Error::required(&at.child("values"), ""));
            }
            for (i, value) in values.iter().enumerate() {
                if values[..i].contains(value) {
                    errors.push(Error::duplicate(&at.child("values").index(i), *value));
                }
            }
            let key = text(expression, "key");
            qualified_name(key, &at.child("key"), errors);
            values.sort_unstable();
            values.dedup();
            if expressions.insert(key, values).is_some() {
                errors.push(Error::duplicate(&at.child("key"), key));
            }
        }
        for _ in seen.iter().filter(|other| **other == expressions) {
            errors.push(Error::duplicate(&at, ""));
        }
        seen.push(expressions);
    }
}

/// The rules of classes of volume attributes.
pub(super) struct VolumeAttributesClasses;

impl Strategy for VolumeAttributesClasses {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        provisioner(object, "driverName", &mut errors);
        parameters(object, false, &mut errors);
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = ErrorList::new();
        for key in ["driverName", "parameters"] {
            if new.get(&[key]) != old.get(&[key]) {
                let why = format!("updates to {key} are forbidden.");
                errors.push(Error::forbidden(&Path::new(key), &why));
            }
        }
        errors.extend(self.validate_create(new));
        errors
    }

    fn columns(&self) -> Vec<Column> {
        vec![NAME, text_column("DriverName", "The storage driver."), AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), object.str(&["driverName"]).into(), age(object, now)]
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}
