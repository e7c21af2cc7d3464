//! Volumes and their sources.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidateVolumes

use std::collections::BTreeMap;

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::names;
use serde_json::Value;

use super::common::{dns_label, one_of, required};
use super::environment::{field_ref, resource_ref};
use super::options::Options;
use super::paths::{descending, local, mode, no_backsteps};
use super::spec::pull_policy;
use super::{claims, projected};
use crate::core::pods::resources::quantity;
use crate::core::pods::tree::{entries, flag, has, int, list, opt_text, part, text, texts};

/// The sources in the order in which they are looked at: the field, and the path of the error
/// when it comes second. Some paths are not the field's name, as upstream has them.
const SOURCES: [(&str, &str); 29] = [
    ("hostPath", "hostPath"),
    ("gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret"),
    ("nfs", "nfs"),
    ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd"),
    ("cinder", "cinder"),
    ("cephfs", "cephFS"),
    ("quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("configMap", "configMap"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("storageos", "storageos"),
    ("projected", "projected"),
    ("scaleIO", "scaleIO"),
    ("csi", "csi"),
    ("ephemeral", "ephemeral"),
    ("image", "image"),
];
/// Fields of the pod that a file may show.
const FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const ISCSI_NAME_MAX: usize = 64;
const DRIVER_NAME_MAX: usize = 63;

/// Checks the volumes and gives the good ones by name. The pod's name is known for pods only.
pub(super) fn volumes<'a>(
    spec: &'a Value,
    pod: Option<&str>,
    path: &Path,
    options: &Options,
    errors: &mut ErrorList,
) -> BTreeMap<&'a str, &'a Value> {
    let mut good = BTreeMap::new();
    let volumes = list(spec, "volumes");
    let pod = pod.filter(|pod| !pod.is_empty());
    let made: Vec<String> = volumes
        .iter()
        .filter(|v| has(v, "ephemeral"))
        .filter_map(|v| pod.map(|pod| format!("{pod}-{}", text(v, "name"))))
        .collect();
    for (i, volume) in volumes.iter().enumerate() {
        let at = path.index(i);
        let name = text(volume, "name");
        let before = errors.len();
        source(volume, pod, &at, options, errors);
        match name {
            "" => errors.push(Error::required(&at.child("name"), "")),
            name => dns_label(name, &at.child("name"), errors),
        }
        if good.contains_key(name) {
            errors.push(Error::duplicate(&at.child("name"), name));
        }
        if errors.len() == before {
            good.insert(name, volume);
        }
        let claim = part(volume, "persistentVolumeClaim").map_or("", |c| text(c, "claimName"));
        if !claim.is_empty() && made.iter().any(|m| m == claim) {
            let at = at.child("persistentVolumeClaim").child("claimName");
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.push(Error::invalid(&at, claim, detail));
        }
    }
    good
}

fn source(
    volume: &Value,
    pod: Option<&str>,
    path: &Path,
    options: &Options,
    errors: &mut ErrorList,
) {
    let mut found = false;
    if let Some(directory) = part(volume, "emptyDir") {
        found = true;
        if part(directory, "sizeLimit").is_some_and(|limit| quantity(limit).sign() < 0) {
            let at = path.child("emptyDir").child("sizeLimit");
            let detail = "SizeLimit field must be a valid resource quantity";
            errors.push(Error::forbidden(&at, detail));
        }
    }
    for (key, second) in SOURCES {
        let Some(source) = part(volume, key) else { continue };
        if found {
            let detail = "may not specify more than 1 volume type";
            errors.push(Error::forbidden(&path.child(second), detail));
        } else {
            found = true;
            one(key, source, volume, pod, path, options, errors);
        }
        if key == "iscsi" && has(source, "initiatorName") {
            let name = text(volume, "name");
            if name.len() + 1 + text(source, "targetPortal").len() > ISCSI_NAME_MAX {
                let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
                errors.push(Error::invalid(&path.child("name"), name, detail));
            }
        }
    }
    if !found {
        errors.push(Error::required(path, "must specify a volume type"));
    }
}

/// The texts that a source must have, for sources with no other rules.
fn required_texts(key: &str) -> &'static [&'static str] {
    match key {
        "persistentVolumeClaim" => &["claimName"],
        "glusterfs" => &["endpoints", "path"],
        "azureFile" => &["secretName", "shareName"],
        "vsphereVolume" => &["volumePath"],
        "photonPersistentDisk" => &["pdID"],
        "portworxVolume" | "cinder" => &["volumeID"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "gcePersistentDisk" => &["pdName"],
        "awsElasticBlockStore" => &["volumeID"],
        "nfs" => &["server", "path"],
        "gitRepo" => &["repository"],
        "flexVolume" => &["driver"],
        _ => &[],
    }
}

fn one(
    key: &str,
    source: &Value,
    volume: &Value,
    pod: Option<&str>,
    path: &Path,
    options: &Options,
    errors: &mut ErrorList,
) {
    let at = path.child(if key == "gcePersistentDisk" { "persistentDisk" } else { key });
    for key in required_texts(key) {
        required(text(source, key), &at.child(key), errors);
    }
    match key {
        "hostPath" => host_path(source, &at, errors),
        "gitRepo" => descending(text(source, "directory"), &at.child("directory"), errors),
        "gcePersistentDisk" | "awsElasticBlockStore" => partition(source, &at, errors),
        "secret" => keys(source, "secretName", &at, errors),
        "configMap" => keys(source, "name", &at, errors),
        "nfs" => {
            let file = text(source, "path");
            if !file.starts_with('/') {
                let detail = "must be an absolute path";
                errors.push(Error::invalid(&at.child("path"), file, detail));
            }
        }
        "iscsi" => iscsi(source, &at, errors),
        "flocker" => flocker(source, &at, errors),
        "rbd" => {
            monitors(source, &at, errors);
            required(text(source, "image"), &at.child("image"), errors);
        }
        "cephfs" => monitors(source, &at, errors),
        "cinder" => secret_name(source, &at, errors),
        "quobyte" => quobyte(source, &at, errors),
        "downwardAPI" => {
            let key = "defaultMode";
            mode(int(source, key), &at.child(key), errors);
            list(source, "items").iter().for_each(|file| downward(file, &at, errors));
        }
        "fc" => fibre_channel(source, &at, errors),
        "flexVolume" => flex(source, &at, errors),
        "azureDisk" => azure_disk(source, &at, errors),
        "storageos" => {
            match text(source, "volumeName") {
                "" => errors.push(Error::required(&at.child("volumeName"), "")),
                name => dns_label(name, &at.child("volumeName"), errors),
            }
            let namespace = text(source, "volumeNamespace");
            if !namespace.is_empty() {
                dns_label(namespace, &at.child("volumeNamespace"), errors);
            }
            secret_name(source, &at, errors);
        }
        "projected" => projected::source(source, &at, options, errors),
        "csi" => csi(source, &at, errors),
        "ephemeral" => ephemeral(source, volume, pod, path, errors),
        "image" => {
            if options.is_pod {
                required(text(source, "reference"), &at.child("reference"), errors);
            }
            pull_policy(text(source, "pullPolicy"), &at.child("pullPolicy"), errors);
        }
        _ => {}
    }
}

/// A source that pods and persistent volumes have in common.
pub(crate) fn shared_source(key: &str, source: &Value, path: &Path, errors: &mut ErrorList) {
    one(key, source, &Value::Null, None, path, &Options::default(), errors);
}

fn host_path(source: &Value, path: &Path, errors: &mut ErrorList) {
    let file = text(source, "path");
    if file.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
        return;
    }
    no_backsteps(file, &path.child("path"), errors);
    let kinds = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    if let Some(kind) = opt_text(source, "type") {
        one_of(kind, &kinds, &path.child("type"), errors);
    }
}

fn partition(source: &Value, path: &Path, errors: &mut ErrorList) {
    let partition = int(source, "partition").unwrap_or(0);
    if !(0..=255).contains(&partition) {
        let detail = "must be between 1 and 255, inclusive";
        errors.push(Error::invalid(&path.child("partition"), partition, detail));
    }
}

/// A secret or config map: its name, and the keys to show.
fn keys(source: &Value, name: &str, path: &Path, errors: &mut ErrorList) {
    required(text(source, name), &path.child(name), errors);
    mode(int(source, "defaultMode"), &path.child("defaultMode"), errors);
    for (i, item) in list(source, "items").iter().enumerate() {
        key_to_path(item, &path.child("items").index(i), errors);
    }
}

/// A key and the file that shows it.
pub(super) fn key_to_path(item: &Value, path: &Path, errors: &mut ErrorList) {
    required(text(item, "key"), &path.child("key"), errors);
    required(text(item, "path"), &path.child("path"), errors);
    local(text(item, "path"), &path.child("path"), errors);
    mode(int(item, "mode"), &path.child("mode"), errors);
}

/// A file that shows a field or resource of the pod.
pub(super) fn downward(file: &Value, path: &Path, errors: &mut ErrorList) {
    required(text(file, "path"), &path.child("path"), errors);
    local(text(file, "path"), &path.child("path"), errors);
    match (part(file, "fieldRef"), part(file, "resourceFieldRef")) {
        (Some(field), other) => {
            field_ref(field, &FIELDS, &path.child("fieldRef"), errors);
            if other.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(path, "resource", detail));
            }
        }
        (None, Some(resource)) => {
            resource_ref(resource, true, &path.child("resourceFieldRef"), errors);
        }
        (None, None) => {
            let detail = "one of fieldRef and resourceFieldRef is required";
            errors.push(Error::required(path, detail));
        }
    }
    mode(int(file, "mode"), &path.child("mode"), errors);
}

/// Whether the text is the name of an iSCSI node.
pub(crate) fn is_iscsi_name(name: &str) -> bool {
    let letters = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric());
    if let Some(rest) = name.strip_prefix("iqn.") {
        let bytes = rest.as_bytes();
        let digits = |range: std::ops::Range<usize>| {
            bytes.get(range).is_some_and(|d| d.iter().all(u8::is_ascii_digit))
        };
        let dated = digits(0..4) && bytes.get(4) == Some(&b'-') && digits(5..7);
        let Some((authority, own)) = rest.get(8..).and_then(|r| r.split_once(':')) else {
            return false;
        };
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        return dated
            && bytes.get(7) == Some(&b'.')
            && !authority.is_empty()
            && authority.bytes().all(word)
            && !own.is_empty()
            && !own.contains(|c: char| ",;*&$|".contains(c) || c.is_whitespace());
    }
    let long = |length: usize| name.len() == length && name.get(4..).is_some_and(letters);
    (name.starts_with("eui") && long(20)) || (name.starts_with("naa") && long(36))
}

fn iscsi_name(name: &str, path: &Path, errors: &mut ErrorList) {
    let known = ["iqn", "eui", "naa"].iter().any(|prefix| name.starts_with(prefix));
    if !known {
        let detail = "must be valid format starting with iqn, eui, or naa";
        errors.push(Error::invalid(path, name, detail));
    } else if !is_iscsi_name(name) {
        errors.push(Error::invalid(path, name, "must be valid format"));
    }
}

fn iscsi(source: &Value, path: &Path, errors: &mut ErrorList) {
    required(text(source, "targetPortal"), &path.child("targetPortal"), errors);
    match text(source, "iqn") {
        "" => errors.push(Error::required(&path.child("iqn"), "")),
        name => iscsi_name(name, &path.child("iqn"), errors),
    }
    let lun = int(source, "lun").unwrap_or(0);
    if !(0..=255).contains(&lun) {
        let detail = "must be between 0 and 255, inclusive";
        errors.push(Error::invalid(&path.child("lun"), lun, detail));
    }
    let chap = flag(source, "chapAuthDiscovery") || flag(source, "chapAuthSession");
    if chap && !has(source, "secretRef") {
        errors.push(Error::required(&path.child("secretRef"), ""));
    }
    if let Some(name) = opt_text(source, "initiatorName") {
        iscsi_name(name, &path.child("initiatorname"), errors);
    }
}

fn flocker(source: &Value, path: &Path, errors: &mut ErrorList) {
    let (name, uuid) = (text(source, "datasetName"), text(source, "datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.push(Error::required(path, "one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(Error::invalid(path, "resource", detail));
    }
    if name.contains('/') {
        errors.push(Error::invalid(&path.child("datasetName"), name, "must not contain '/'"));
    }
}

fn monitors(source: &Value, path: &Path, errors: &mut ErrorList) {
    if list(source, "monitors").is_empty() {
        errors.push(Error::required(&path.child("monitors"), ""));
    }
}

fn secret_name(source: &Value, path: &Path, errors: &mut ErrorList) {
    if let Some(secret) = part(source, "secretRef") {
        required(text(secret, "name"), &path.child("secretRef").child("name"), errors);
    }
}

fn quobyte(source: &Value, path: &Path, errors: &mut ErrorList) {
    let registry = text(source, "registry");
    let detail = "must be a host:port pair or multiple pairs separated by commas";
    if registry.is_empty() {
        errors.push(Error::required(&path.child("registry"), detail));
    } else if text(source, "tenant").len() >= 65 {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(Error::required(&path.child("tenant"), detail));
    } else {
        for pair in registry.split(',') {
            let good = match pair.strip_prefix('[') {
                Some(rest) => rest.split_once("]:").is_some_and(|(_, port)| !port.contains(':')),
                None => pair.matches(':').count() == 1,
            };
            if !good {
                errors.push(Error::invalid(&path.child("registry"), registry, detail));
            }
        }
    }
    required(text(source, "volume"), &path.child("volume"), errors);
}

fn fibre_channel(source: &Value, path: &Path, errors: &mut ErrorList) {
    let (names, ids) = (texts(source, "targetWWNs"), texts(source, "wwids"));
    let at = path.child("targetWWNs");
    if names.is_empty() && ids.is_empty() {
        let detail = "must specify either targetWWNs or wwids, but not both";
        errors.push(Error::required(&at, detail));
    }
    if !names.is_empty() && !ids.is_empty() {
        let detail = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(Error::invalid(&at, names.clone(), detail));
    }
    if names.is_empty() {
        return;
    }
    let at = path.child("lun");
    match int(source, "lun") {
        None => {
            let detail = "lun is required if targetWWNs is specified";
            errors.push(Error::required(&at, detail));
        }
        Some(lun) if !(0..=255).contains(&lun) => {
            errors.push(Error::invalid(&at, lun, "must be between 0 and 255, inclusive"));
        }
        Some(_) => {}
    }
}

fn flex(source: &Value, path: &Path, errors: &mut ErrorList) {
    for (key, _) in entries(source, "options") {
        let namespace = key.split_once('/').map_or(key.as_str(), |(namespace, _)| namespace);
        let namespace = format!(".{}", namespace.to_lowercase());
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(Error::invalid(&path.child("options").key(key), key.as_str(), detail));
        }
    }
}

fn azure_disk(source: &Value, path: &Path, errors: &mut ErrorList) {
    required(text(source, "diskName"), &path.child("diskName"), errors);
    let uri = text(source, "diskURI");
    required(uri, &path.child("diskURI"), errors);
    if let Some(mode) = opt_text(source, "cachingMode") {
        let modes = ["None", "ReadOnly", "ReadWrite"];
        one_of(mode, &modes, &path.child("cachingMode"), errors);
    }
    let Some(kind) = opt_text(source, "kind") else { return };
    one_of(kind, &["Dedicated", "Managed", "Shared"], &path.child("kind"), errors);
    let (start, form) = if kind == "Managed" {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        )
    };
    if !uri.starts_with(start) {
        errors.push(Error::not_supported(&path.child("diskURI"), uri, &[form]));
    }
}

fn csi(source: &Value, path: &Path, errors: &mut ErrorList) {
    let driver = text(source, "driver");
    let at = path.child("driver");
    if driver.is_empty() {
        errors.push(Error::required(&at, ""));
    } else {
        if driver.len() > DRIVER_NAME_MAX {
            errors.push(Error::too_long(&at, DRIVER_NAME_MAX));
        }
        let broken = names::is_dns1123_subdomain(&driver.to_lowercase());
        errors.extend(broken.iter().map(|m| Error::invalid(&at, driver, m)));
    }
    if let Some(secret) = part(source, "nodePublishSecretRef") {
        let name = text(secret, "name");
        if name.is_empty() {
            let at = path.child("nodePublishSecretRef").child("name");
            errors.push(Error::required(&at, ""));
        } else {
            let broken = names::is_dns1123_subdomain(name);
            let at = path.child("name");
            errors.extend(broken.iter().map(|m| Error::invalid(&at, name, m)));
        }
    }
}

fn ephemeral(
    source: &Value,
    volume: &Value,
    pod: Option<&str>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let at = path.child("ephemeral").child("volumeClaimTemplate");
    match part(source, "volumeClaimTemplate") {
        None => errors.push(Error::required(&at, "")),
        Some(template) => {
            claims::template_metadata(template, &at.child("metadata"), errors);
            let spec = template.get("spec").unwrap_or(&Value::Null);
            claims::claim_spec(spec, None, &at.child("spec"), errors);
        }
    }
    let name = text(volume, "name");
    if let Some(pod) = pod.filter(|_| !name.is_empty()) {
        let claim = format!("{pod}-{name}");
        for message in names::is_dns1123_subdomain(&claim) {
            let detail = format!("PVC name {claim:?}: {message}");
            errors.push(Error::invalid(&path.child("name"), name, &detail));
        }
    }
}
