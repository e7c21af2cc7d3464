//! Where containers see volumes.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidateVolumeMounts, ValidateVolumeDevices

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::common::{one_of, required};
use super::paths::{descending, no_backsteps};
use crate::core::pods::tree::{flag, has, list, opt_text, part, text};

/// Volumes as directories.
pub(super) fn mounts(
    container: &Value,
    volumes: &BTreeMap<&str, &Value>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let devices = list(container, "volumeDevices");
    let mut seen = BTreeSet::new();
    for (i, mount) in list(container, "volumeMounts").iter().enumerate() {
        let at = path.index(i);
        let (name, target) = (text(mount, "name"), text(mount, "mountPath"));
        required(name, &at.child("name"), errors);
        if !volumes.contains_key(name) {
            errors.push(Error::not_found(&at.child("name"), name));
        }
        required(target, &at.child("mountPath"), errors);
        if !seen.insert(target) {
            errors.push(Error::invalid(&at.child("mountPath"), target, "must be unique"));
        }
        if devices.iter().any(|d| text(d, "name") == name) {
            let detail = "must not already exist in volumeDevices";
            errors.push(Error::invalid(&at.child("name"), name, detail));
        }
        if devices.iter().any(|d| text(d, "devicePath") == target) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.push(Error::invalid(&at.child("mountPath"), target, detail));
        }
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        if !sub.is_empty() {
            descending(sub, &path.child("subPath"), errors);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.push(Error::invalid(&at.child("subPathExpr"), expression, detail));
            }
            descending(expression, &path.child("subPathExpr"), errors);
        }
        propagation(mount, container, &path.child("mountPropagation"), errors);
        recursive_read_only(mount, &path.child("recursiveReadOnly"), errors);
    }
}

fn propagation(mount: &Value, container: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(mode) = opt_text(mount, "mountPropagation") else { return };
    one_of(mode, &["Bidirectional", "HostToContainer", "None"], path, errors);
    let privileged = part(container, "securityContext").is_some_and(|s| flag(s, "privileged"));
    if mode == "Bidirectional" && !privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        errors.push(Error::forbidden(path, detail));
    }
}

fn recursive_read_only(mount: &Value, path: &Path, errors: &mut ErrorList) {
    match opt_text(mount, "recursiveReadOnly") {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !flag(mount, "readOnly") {
                let detail = "may only be specified when readOnly is true";
                errors.push(Error::forbidden(path, detail));
            }
            if opt_text(mount, "mountPropagation").is_some_and(|mode| mode != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(Error::forbidden(path, detail));
            }
        }
        Some(other) => {
            let set = ["Disabled", "Enabled", "IfPossible"];
            errors.push(Error::not_supported(path, other, &set));
        }
    }
}

/// Volumes as block devices.
pub(super) fn devices(
    container: &Value,
    volumes: &BTreeMap<&str, &Value>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let mounts = list(container, "volumeMounts");
    let (mut paths, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in list(container, "volumeDevices").iter().enumerate() {
        let at = path.index(i);
        let (name, target) = (text(device, "name"), text(device, "devicePath"));
        let (name_at, target_at) = (at.child("name"), at.child("devicePath"));
        required(name, &name_at, errors);
        if seen.contains(name) {
            errors.push(Error::invalid(&name_at, name, "must be unique"));
        }
        match volumes.get(name) {
            None => errors.push(Error::not_found(&name_at, name)),
            Some(volume) if !has(volume, "persistentVolumeClaim") && !has(volume, "ephemeral") => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Error::invalid(&name_at, name, detail));
            }
            Some(_) => {}
        }
        required(target, &target_at, errors);
        if paths.contains(target) {
            errors.push(Error::invalid(&target_at, target, "must be unique"));
        }
        let mut steps = ErrorList::new();
        no_backsteps(target, path, &mut steps);
        if steps.is_empty() {
            paths.insert(target);
        } else {
            let detail = "can not contain backsteps ('..')";
            errors.push(Error::invalid(&target_at, target, detail));
        }
        if mounts.iter().any(|m| text(m, "name") == name) {
            let detail = "must not already exist in volumeMounts";
            errors.push(Error::invalid(&name_at, name, detail));
        }
        if mounts.iter().any(|m| text(m, "mountPath") == target) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(Error::invalid(&target_at, target, detail));
        }
        if !name.is_empty() {
            seen.insert(name);
        }
    }
}
