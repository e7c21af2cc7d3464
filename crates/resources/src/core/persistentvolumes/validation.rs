//! What a persistent volume must be like.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidatePersistentVolumeSpec and
//! ValidatePersistentVolumeUpdate

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{Object, gostruct, names};
use serde_json::Value;

use crate::core::pods::resources::quantity;
use crate::core::pods::tree::{
    drop_field, entries, flag, has, int, opt_text, part, part_mut, text, texts,
};
use crate::core::pods::validation::affinity::node_selector;
use crate::core::pods::validation::common::{
    dns_label, dns_subdomain, each, immutable, one_of, required,
};
use crate::core::pods::validation::paths::no_backsteps;
use crate::core::pods::validation::volumes;

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// Kinds of volumes in the order in which they are checked: the field, and its name in the
/// message about a second kind.
const SOURCES: [(&str, &str); 22] = [
    ("hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("nfs", "nfs"),
    ("rbd", "rbd"),
    ("quobyte", "quobyte"),
    ("cephfs", "cephFS"),
    ("iscsi", "iscsi"),
    ("cinder", "cinder"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO"),
    ("local", "local"),
    ("storageos", "storageos"),
    ("csi", "csi"),
];
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
/// Kinds of volumes that take mount options.
const MOUNTED: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "csi",
];
/// Kinds of volumes that no longer work: the field, its name in warnings, and the releases in
/// which they were deprecated and removed.
const GONE: [(&str, &str, &str, &str); 6] = [
    ("cephfs", "cephfs", "v1.28", "v1.31"),
    ("photonPersistentDisk", "photonPersistentDisk", "v1.11", "v1.16"),
    ("scaleIO", "scaleIO", "v1.16", "v1.22"),
    ("storageos", "storageOS", "v1.22", "v1.25"),
    ("glusterfs", "glusterfs", "v1.25", "v1.26"),
    ("rbd", "rbd", "v1.28", "v1.31"),
];
const DRIVER_NAME_MAX: usize = 63;
const ISCSI_NAME_MAX: usize = 64;

fn spec_of(object: &Object) -> &Value {
    object.get(&["spec"]).unwrap_or(&Value::Null)
}

/// A new volume.
pub(super) fn volume(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = spec_of(object);
    volume_spec(spec, object.name(), false, &Path::new("spec"), &mut errors);
    let mounted = MOUNTED.iter().any(|key| has(spec, key));
    if object.annotation(MOUNT_OPTIONS).is_some() && !mounted {
        let path = Path::new("metadata").child("annotations").child(MOUNT_OPTIONS);
        let why = "may not specify mount options for this volume type";
        errors.push(Error::forbidden(&path, why));
    }
    errors
}

/// A changed volume.
pub(super) fn update(new: &Object, old: &Object) -> ErrorList {
    let mut errors = volume(new);
    let (spec, before) = (spec_of(new), spec_of(old));
    volume_spec(spec, new.name(), false, &Path::new("spec"), &mut errors);
    let mut compared = spec.clone();
    let secret = "controllerExpandSecretRef";
    if part(before, "csi").is_some_and(|csi| !has(csi, secret)) && has(&compared, "csi") {
        drop_field(part_mut(&mut compared, "csi"), secret);
    }
    if SOURCES.iter().any(|(key, _)| part(&compared, key) != part(before, key)) {
        let path = Path::new("spec").child("persistentvolumesource");
        let changes = gostruct::difference("core/v1.PersistentVolumeSource", before, &compared);
        let why = format!("spec.persistentvolumesource is immutable after creation\n{changes}");
        errors.push(Error::forbidden(&path, &why));
    }
    let mode = "volumeMode";
    immutable(spec.get(mode), before.get(mode), &Path::new(mode), &mut errors);
    if let Some(affinity) = part(before, "nodeAffinity") {
        let path = Path::new("nodeAffinity");
        let now = part(spec, "nodeAffinity");
        if !now.is_some_and(|now| same_but_for_new_labels(now, affinity)) {
            let shown = now.map_or_else(
                || "null".to_owned(),
                |now| gostruct::print("core/v1.VolumeNodeAffinity", now),
            );
            let why = "field is immutable, except for updating from beta label to GA";
            errors.push(Error::invalid_text(&path, &shown, why));
        }
    }
    let class = "volumeAttributesClassName";
    if has(before, class) && !has(spec, class) {
        let path = Path::new("spec").child(class);
        errors.push(Error::forbidden(&path, "update from non-nil value to nil is forbidden"));
    }
    errors
}

/// Labels of nodes that have got new names: the old one and the new one.
///
/// upstream: pkg/apis/core/validation/validation.go betaToGALabel
const RENAMED_LABELS: [(&str, &str); 5] = [
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
];

/// Whether a choice of nodes is as before, but for new names of labels.
fn same_but_for_new_labels(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(now), Value::Object(before)) => {
            let keys = now.keys().chain(before.keys().filter(|k| !now.contains_key(*k)));
            let of = |fields: &serde_json::Map<String, Value>, key: &str| {
                let value = fields.get(key).cloned().unwrap_or(Value::Null);
                // Nothing and an empty list are the same.
                if value.as_array().is_some_and(Vec::is_empty) { Value::Null } else { value }
            };
            keys.into_iter().all(|key| {
                let (now, before) = (of(now, key), of(before, key));
                // upstream looks the new name up in a map: what has none may become nothing
                let new_name = || {
                    let mut names = RENAMED_LABELS.iter();
                    names.find(|(old, _)| before == *old).map_or("", |(_, new)| new)
                };
                let renamed = key == "key" && now.as_str().unwrap_or("") == new_name();
                renamed || same_but_for_new_labels(&now, &before)
            })
        }
        (Value::Array(now), Value::Array(before)) => {
            now.len() == before.len()
                && now.iter().zip(before).all(|(now, old)| same_but_for_new_labels(now, old))
        }
        _ => new == old,
    }
}

/// The spec of a volume, of its own or `inline` in an attachment.
pub(crate) fn volume_spec(
    spec: &Value,
    name: &str,
    inline: bool,
    path: &Path,
    errors: &mut ErrorList,
) {
    if inline {
        inline_rules(spec, path, errors);
    }
    access_modes(spec, path, errors);
    if !inline {
        capacity(spec, &path.child("capacity"), errors);
        let policy = text(spec, "persistentVolumeReclaimPolicy");
        if !policy.is_empty() {
            let at = path.child("persistentVolumeReclaimPolicy");
            one_of(policy, &["Delete", "Recycle", "Retain"], &at, errors);
        }
        if let Some(affinity) = part(spec, "nodeAffinity") {
            let at = path.child("nodeAffinity").child("required");
            match part(affinity, "required") {
                Some(selector) => node_selector(selector, false, &at, errors),
                None => {
                    errors.push(Error::required(&at, "must specify required node constraints"));
                }
            }
        }
    }
    sources(spec, name, path, errors);
    let recycled = text(spec, "persistentVolumeReclaimPolicy") == "Recycle";
    let root = part(spec, "hostPath").is_some_and(|h| is_root(text(h, "path")));
    if root && recycled {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(Error::forbidden(&path.child("persistentVolumeReclaimPolicy"), why));
    }
    if inline {
        return;
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        dns_subdomain(class, &path.child("storageClassName"), errors);
    }
    if let Some(mode) = opt_text(spec, "volumeMode") {
        one_of(mode, &["Block", "Filesystem"], &path.child("volumeMode"), errors);
    }
    attributes_class(spec, path, errors);
}

fn attributes_class(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(class) = opt_text(spec, "volumeAttributesClassName") else { return };
    let at = path.child("volumeAttributesClassName");
    if class.is_empty() {
        errors.push(Error::required(&at, "an empty string is disallowed"));
    } else {
        dns_subdomain(class, &at, errors);
    }
    if !has(spec, "csi") {
        let why = "has to be specified when using volumeAttributesClassName";
        errors.push(Error::required(&path.child("csi"), why));
    }
}

/// Whether a path comes down to the root.
fn is_root(path: &str) -> bool {
    let mut depth = 0_usize;
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    path.starts_with('/') && depth == 0
}

fn inline_rules(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let why = "may not be specified in the context of inline volumes";
    for key in ["claimRef", "nodeAffinity"] {
        if has(spec, key) {
            errors.push(Error::forbidden(&path.child(key), why));
        }
    }
    if entries(spec, "capacity").next().is_some() {
        errors.push(Error::forbidden(&path.child("capacity"), why));
    }
    if !has(spec, "csi") {
        let why = "has to be specified in the context of inline volumes";
        errors.push(Error::required(&path.child("csi"), why));
    }
    if !text(spec, "storageClassName").is_empty() {
        errors.push(Error::forbidden(&path.child("storageClassName"), why));
    }
    if !matches!(text(spec, "persistentVolumeReclaimPolicy"), "" | "Retain") {
        let why = "may only be Retain in the context of inline volumes";
        errors.push(Error::forbidden(&path.child("persistentVolumeReclaimPolicy"), why));
    }
    if opt_text(spec, "volumeMode").is_some_and(|mode| mode != "Filesystem") {
        let why =
            "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.push(Error::forbidden(&path.child("volumeMode"), why));
    }
}

fn access_modes(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let modes = texts(spec, "accessModes");
    let at = path.child("accessModes");
    if modes.is_empty() {
        errors.push(Error::required(&at, ""));
    }
    modes.iter().for_each(|mode| one_of(mode, &MODES, &at, errors));
    let single = modes.contains(&"ReadWriteOncePod");
    let others = modes.iter().any(|mode| *mode != "ReadWriteOncePod" && MODES.contains(mode));
    if single && others {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(Error::forbidden(&at, why));
    }
}

fn capacity(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let count = entries(spec, "capacity").count();
    if count == 0 {
        errors.push(Error::required(path, ""));
    }
    let storage = entries(spec, "capacity").any(|(name, _)| name == "storage");
    if !storage || count > 1 {
        let value = part(spec, "capacity").cloned().unwrap_or(Value::Null);
        errors.push(Error::not_supported(path, value, &["storage"]));
    }
    for (name, value) in entries(spec, "capacity") {
        let amount = quantity(value);
        if amount.value() < 0 {
            let why = "must be a valid resource quantity";
            errors.push(Error::invalid(&path.key(name), amount.value(), why));
        }
        if amount.sign() <= 0 {
            let why = "must be greater than zero";
            errors.push(Error::invalid(&path.key(name), amount.to_string(), why));
        }
    }
}

fn sources(spec: &Value, name: &str, path: &Path, errors: &mut ErrorList) {
    let mut found = false;
    for (key, second) in SOURCES {
        let Some(source) = part(spec, key) else { continue };
        if found && key != "flexVolume" {
            let why = "may not specify more than 1 volume type";
            errors.push(Error::forbidden(&path.child(second), why));
            continue;
        }
        found = true;
        one(key, source, name, path, errors);
        if key == "local" && !has(spec, "nodeAffinity") {
            let why = "Local volume requires node affinity";
            errors.push(Error::required(&path.child("nodeAffinity"), why));
        }
    }
    if !found {
        errors.push(Error::required(path, "must specify a volume type"));
    }
}

fn one(key: &str, source: &Value, name: &str, path: &Path, errors: &mut ErrorList) {
    let at = path.child(key);
    match key {
        "iscsi" => return iscsi(source, name, &at, errors),
        "csi" => return csi(source, &at, errors),
        "local" => {
            required(text(source, "path"), &at.child("path"), errors);
            return no_backsteps(text(source, "path"), &at.child("path"), errors);
        }
        _ => volumes::shared_source(key, source, path, errors),
    }
    match key {
        "glusterfs" => {
            let at = at.child("endpointsNamespace");
            match opt_text(source, "endpointsNamespace") {
                Some("") => {
                    let why = "if the endpointnamespace is set, it must be a valid namespace name";
                    errors.push(Error::invalid(&at, "", why));
                }
                Some(namespace) => dns_label(namespace, &at, errors),
                None => {}
            }
        }
        "cinder" | "storageos" => {
            if let Some(secret) = part(source, "secretRef") {
                let at = at.child("secretRef").child("namespace");
                required(text(secret, "namespace"), &at, errors);
            }
        }
        "azureFile" => {
            if let Some(namespace) = opt_text(source, "secretNamespace") {
                required(namespace, &at.child("secretNamespace"), errors);
            }
        }
        _ => {}
    }
}

fn iscsi(source: &Value, name: &str, path: &Path, errors: &mut ErrorList) {
    let portal = text(source, "targetPortal");
    required(portal, &path.child("targetPortal"), errors);
    let initiator = opt_text(source, "initiatorName");
    if initiator.is_some() && name.len() + 1 + portal.len() > ISCSI_NAME_MAX {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.push(Error::invalid(&path.child("targetportal"), portal, why));
    }
    let mut check = |name: &str, key: &str| {
        if !volumes::is_iscsi_name(name) {
            errors.push(Error::invalid(&path.child(key), name, "must be valid format"));
        }
    };
    let iqn = text(source, "iqn");
    if !iqn.is_empty() {
        check(iqn, "iqn");
    }
    if let Some(name) = initiator {
        check(name, "initiatorname");
    }
    required(iqn, &path.child("iqn"), errors);
    let lun = int(source, "lun").unwrap_or(0);
    if !(0..=255).contains(&lun) {
        let why = "must be between 0 and 255, inclusive";
        errors.push(Error::invalid(&path.child("lun"), lun, why));
    }
    let chap = flag(source, "chapAuthDiscovery") || flag(source, "chapAuthSession");
    match part(source, "secretRef") {
        None if chap => errors.push(Error::required(&path.child("secretRef"), "")),
        None => {}
        Some(secret) => {
            required(text(secret, "name"), &path.child("secretRef").child("name"), errors);
        }
    }
}

/// The name of a storage driver.
pub(crate) fn driver_name(driver: &str, path: &Path, errors: &mut ErrorList) {
    if driver.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    if driver.len() > DRIVER_NAME_MAX {
        errors.push(Error::too_long(path, DRIVER_NAME_MAX));
    }
    each(driver, path, &names::is_dns1123_subdomain(&driver.to_lowercase()), errors);
}

fn csi(source: &Value, path: &Path, errors: &mut ErrorList) {
    driver_name(text(source, "driver"), &path.child("driver"), errors);
    required(text(source, "volumeHandle"), &path.child("volumeHandle"), errors);
    let secrets = [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ];
    for key in secrets {
        let Some(secret) = part(source, key) else { continue };
        let at = path.child(key);
        match text(secret, "name") {
            "" => errors.push(Error::required(&at.child("name"), "")),
            name => dns_subdomain(name, &at.child("name"), errors),
        }
        match text(secret, "namespace") {
            "" => errors.push(Error::required(&at.child("namespace"), "")),
            namespace => dns_label(namespace, &at.child("namespace"), errors),
        }
    }
}

/// Advice on volumes.
///
/// upstream: pkg/api/persistentvolume/util.go GetWarningsForPersistentVolume
pub(super) fn warnings(object: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    let old = [
        (super::CLASS, "deprecated since v1.8; use \"storageClassName\" attribute instead"),
        (MOUNT_OPTIONS, "deprecated since v1.31; use \"mountOptions\" attribute instead"),
    ];
    for (key, advice) in old {
        if object.annotation(key).is_some() {
            warnings.push(format!("metadata.annotations[{key}]: {advice}"));
        }
    }
    let spec = spec_of(object);
    if text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    for (key, shown, from, to) in GONE {
        if has(spec, key) {
            warnings.push(format!("spec.{shown}: deprecated in {from}, non-functional in {to}+"));
        }
    }
    warnings
}
