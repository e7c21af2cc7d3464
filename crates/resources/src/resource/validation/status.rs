//! The rules of what was allocated to a claim and of the state of its devices.
//!
//! upstream: pkg/apis/resource/validation/validation.go validateResourceClaimStatusUpdate

use std::collections::BTreeSet;
use std::net::IpAddr;

use longshore_api::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::{
    CONFIGURATIONS_MAX, Requests, configuration, items, known_requests, own, request_name,
    request_names, set,
};
use crate::core::persistentvolumes::validation::driver_name;
use crate::core::pods::tree::{int, list, part, text};
use crate::core::pods::validation::affinity::node_selector;
use crate::core::pods::validation::common::{
    dns_label, immutable, qualified_name, required, required_one_of,
};

const CONSUMERS_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
const CONDITIONS_MAX: usize = 8;
const ADDRESSES_MAX: usize = 16;
const INTERFACE_BYTES_MAX: usize = 256;
const HARDWARE_BYTES_MAX: usize = 128;
const DATA_BYTES_MAX: usize = 10 * 1024;
const REASON_BYTES_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 32 * 1024;

/// Driver, pool and device, and which share of it.
pub(in crate::resource) type DeviceId<'a> = [&'a str; 4];

/// The device that a result of an allocation or a device's status is about.
pub(in crate::resource) fn device_id(item: &Value) -> DeviceId<'_> {
    ["driver", "pool", "device", "shareID"].map(|key| text(item, key))
}

/// The devices of an allocation.
pub(in crate::resource) fn allocated(status: &Value) -> BTreeSet<DeviceId<'_>> {
    let devices = part(status, "allocation").and_then(|allocation| part(allocation, "devices"));
    devices.map(|devices| list(devices, "results")).unwrap_or(&[]).iter().map(device_id).collect()
}

fn shown(id: DeviceId<'_>) -> String {
    let [driver, pool, device, share] = id.map(Value::from);
    format!(r#"{{"Driver":{driver},"Pool":{pool},"Device":{device},"ShareID":{share}}}"#)
}

/// Checks the state of a claim that asks for what `spec` says.
pub(in crate::resource) fn status(
    new: &Value,
    old: &Value,
    spec: &Value,
    deleting: bool,
    path: &Path,
    errors: &mut ErrorList,
) {
    let consumers = list(new, "reservedFor");
    let at = path.child("reservedFor");
    let uid = |item: &Value| text(item, "uid").to_owned();
    set(consumers, CONSUMERS_MAX, &uid, &at, errors, &mut |consumer, path, errors| {
        for key in ["resource", "name", "uid"] {
            required(text(consumer, key), &path.child(key), errors);
        }
    });
    let there = allocated(new);
    let mut seen = BTreeSet::new();
    for (i, device) in list(new, "devices").iter().enumerate() {
        let at = path.child("devices").index(i);
        let id = device_id(device);
        device_status(device, &at, errors);
        if !there.contains(&id) {
            let why = "must be an allocated device in the claim";
            errors.push(Error::invalid_text(&at, &shown(id), why));
        }
        if !seen.insert(id) {
            errors.push(Error::duplicate_text(&at, &shown(id)));
        }
    }
    let (allocation, before) = (part(new, "allocation"), part(old, "allocation"));
    if !consumers.is_empty() {
        let known = list(old, "reservedFor");
        if allocation.is_none() {
            let why = "may not be specified when `allocated` is not set";
            errors.push(Error::forbidden(&at, why));
        } else if deleting && consumers.iter().any(|consumer| !known.contains(consumer)) {
            let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(Error::forbidden(&at, why));
        }
    }
    let at = path.child("allocation");
    match (allocation, before) {
        (Some(_), Some(_)) => immutable(allocation, before, &at, errors),
        (Some(allocation), None) => result(allocation, &known_requests(spec), &at, errors),
        _ => {}
    }
}

fn result(allocation: &Value, known: &Requests<'_>, path: &Path, errors: &mut ErrorList) {
    let null = Value::Null;
    let devices = part(allocation, "devices").unwrap_or(&null);
    let at = path.child("devices");
    let results = list(devices, "results");
    items(results, RESULTS_MAX, &at.child("results"), errors, &mut |item, path, errors| {
        request_name(text(item, "request"), known, &path.child("request"), errors);
        names_of(item, path, errors);
        super::binding(item, path, errors);
    });
    let configured = list(devices, "config");
    let max = 2 * CONFIGURATIONS_MAX;
    items(configured, max, &at.child("config"), errors, &mut |item, path, errors| {
        let sources = ["FromClaim", "FromClass"];
        required_one_of(text(item, "source"), &sources, &path.child("source"), errors);
        request_names(item, known, path, errors);
        configuration(item, path, errors);
    });
    if let Some(selector) = part(allocation, "nodeSelector") {
        node_selector(selector, false, &path.child("nodeSelector"), errors);
    }
}

/// Names of driver, pool and device.
fn names_of(item: &Value, path: &Path, errors: &mut ErrorList) {
    driver_name(text(item, "driver"), &path.child("driver"), errors);
    super::slices::pool_name(text(item, "pool"), &path.child("pool"), errors);
    dns_label(text(item, "device"), &path.child("device"), errors);
}

fn device_status(device: &Value, path: &Path, errors: &mut ErrorList) {
    names_of(device, path, errors);
    let at = path.child("conditions");
    let all = list(device, "conditions");
    if all.len() > CONDITIONS_MAX {
        errors.push(Error::too_many(&at, all.len(), CONDITIONS_MAX));
    }
    conditions(all, &at, errors);
    if let Some(data) = part(device, "data") {
        let at = path.child("data");
        if data.to_string().len() > DATA_BYTES_MAX {
            errors.push(Error::too_long(&at, DATA_BYTES_MAX));
        } else if !data.is_object() {
            let why = "must be a valid JSON object";
            errors.push(Error::invalid(&at, "<value omitted>", why));
        }
    }
    let Some(network) = part(device, "networkData") else { return };
    let path = path.child("networkData");
    for (key, max) in
        [("interfaceName", INTERFACE_BYTES_MAX), ("hardwareAddress", HARDWARE_BYTES_MAX)]
    {
        if text(network, key).len() > max {
            errors.push(Error::too_long(&path.child(key), max));
        }
    }
    let at = path.child("ips");
    set(list(network, "ips"), ADDRESSES_MAX, &own, &at, errors, &mut |item, path, errors| {
        interface_address(item.as_str().unwrap_or(""), path, errors);
    });
}

/// An address with the length of its network.
///
/// upstream: staging/src/k8s.io/apimachinery/pkg/util/validation/ip.go IsValidInterfaceAddress
fn interface_address(value: &str, path: &Path, errors: &mut ErrorList) {
    let parts = value.split_once('/').and_then(|(address, length)| {
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let plain = length.bytes().all(|b| b.is_ascii_digit());
        let length = length.parse::<u8>().ok().filter(|length| plain && *length <= longest)?;
        Some((address, length))
    });
    let Some((address, length)) = parts else {
        let why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
        errors.push(Error::invalid(path, value, why));
        return;
    };
    let wanted = format!("{address}/{length}");
    if wanted != value {
        let why = format!("must be in canonical form ({wanted:?})");
        errors.push(Error::invalid(path, value, &why));
    }
}

/// upstream: staging/src/k8s.io/apimachinery/pkg/apis/meta/v1/validation/validation.go
/// ValidateConditions
fn conditions(all: &[Value], path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (i, condition) in all.iter().enumerate() {
        let at = path.index(i);
        let kind = text(condition, "type");
        if !seen.insert(kind) {
            errors.push(Error::duplicate(&at.child("type"), kind));
        }
        if kind.is_empty() {
            errors.push(Error::required(&at.child("type"), ""));
        } else {
            qualified_name(kind, &at.child("type"), errors);
        }
        let states = ["False", "True", "Unknown"];
        let status = text(condition, "status");
        if !states.contains(&status) {
            errors.push(Error::not_supported(&at.child("status"), status, &states));
        }
        let generation = int(condition, "observedGeneration").unwrap_or(0);
        if generation < 0 {
            let why = "must be greater than or equal to zero";
            errors.push(Error::invalid(&at.child("observedGeneration"), generation, why));
        }
        if text(condition, "lastTransitionTime").is_empty() {
            errors.push(Error::required(&at.child("lastTransitionTime"), ""));
        }
        let (reason, at_reason) = (text(condition, "reason"), at.child("reason"));
        if reason.is_empty() {
            errors.push(Error::required(&at_reason, ""));
        } else {
            if !is_reason(reason) {
                let why = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
                errors.push(Error::invalid(&at_reason, reason, why));
            }
            if reason.len() > REASON_BYTES_MAX {
                errors.push(Error::too_long(&at_reason, REASON_BYTES_MAX));
            }
        }
        if text(condition, "message").len() > MESSAGE_BYTES_MAX {
            errors.push(Error::too_long(&at.child("message"), MESSAGE_BYTES_MAX));
        }
    }
}

fn is_reason(reason: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    reason.starts_with(|c: char| c.is_ascii_alphabetic())
        && reason.ends_with(word)
        && reason.chars().all(|c| word(c) || matches!(c, ',' | ':'))
}
