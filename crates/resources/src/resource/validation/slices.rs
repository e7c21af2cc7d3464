//! The rules of slices: the devices that a driver offers.
//!
//! upstream: pkg/apis/resource/validation/validation.go ValidateResourceSlice

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{gostruct, names};
use serde_json::Value;

use super::capacity::{capacity, device_key};
use super::{EFFECTS, binding, items, name_of, set};
use crate::core::persistentvolumes::validation::driver_name;
use crate::core::pods::tree::{
    entries, flag, has, int, list, opt_text, or_null, part, text, texts,
};
use crate::core::pods::validation::affinity::node_selector;
use crate::core::pods::validation::common::{
    dns_label, dns_subdomain, each, immutable, qualified_name, required, required_one_of,
};

const POOL_NAME_MAX: usize = 253;
const DEVICES_MAX: usize = 128;
/// With taints or counters.
const RICH_DEVICES_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
const COUNTERS_MAX: usize = 32;
const CONSUMPTIONS_MAX: usize = 2;
const TAINTS_MAX: usize = 16;
const PROPERTIES_MAX: usize = 32;
const VALUE_MAX: usize = 64;
/// Longest key that messages show: a domain, a slash and an identifier.
const KEY_SHOWN_MAX: usize = 63 + 1 + 32;
const LABEL_MAX: usize = 63;

/// A new or changed slice.
pub(in crate::resource) fn slice(spec: &Value, old: Option<&Value>, errors: &mut ErrorList) {
    let path = Path::new("spec");
    driver_name(text(spec, "driver"), &path.child("driver"), errors);
    let null = Value::Null;
    let pool = part(spec, "pool").unwrap_or(&null);
    pool_rules(pool, &path.child("pool"), errors);
    if let Some(old) = old {
        let before = part(old, "pool").unwrap_or(&null);
        let at = path.child("pool").child("name");
        immutable(pool.get("name"), before.get("name"), &at, errors);
        for key in ["driver", "nodeName"] {
            immutable(spec.get(key), old.get(key), &path.child(key), errors);
        }
    }
    where_it_is(spec, &path, errors);
    if has(spec, "sharedCounters") && has(spec, "devices") {
        let why = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(Error::invalid(&path, "", why));
    }
    let devices = list(spec, "devices");
    let rich = |d: &Value| !list(d, "taints").is_empty() || !list(d, "consumesCounters").is_empty();
    let max = if devices.iter().any(rich) { RICH_DEVICES_MAX } else { DEVICES_MAX };
    let each_on_its_own = flag(spec, "perDeviceNodeSelection");
    set(devices, max, &name_of, &path.child("devices"), errors, &mut |item, path, errors| {
        let same = |old: &&Value| text(old, "name") == text(item, "name");
        let before = old.and_then(|old| list(old, "devices").iter().find(same));
        device(item, before, each_on_its_own, path, errors);
    });
    let at = path.child("sharedCounters");
    let sets = list(spec, "sharedCounters");
    set(sets, COUNTER_SETS_MAX, &name_of, &at, errors, &mut |item, path, errors| {
        counters(item, "name", path, errors);
    });
}

/// The name of a pool: subdomains with slashes between them.
pub(super) fn pool_name(name: &str, path: &Path, errors: &mut ErrorList) {
    required(name, path, errors);
    if name.len() > POOL_NAME_MAX {
        errors.push(Error::too_long(path, POOL_NAME_MAX));
    }
    if !name.is_empty() {
        name.split('/').for_each(|part| dns_subdomain(part, path, errors));
    }
}

fn pool_rules(pool: &Value, path: &Path, errors: &mut ErrorList) {
    pool_name(text(pool, "name"), &path.child("name"), errors);
    let count = int(pool, "resourceSliceCount").unwrap_or(0);
    if count <= 0 {
        let at = path.child("resourceSliceCount");
        errors.push(Error::invalid(&at, count, "must be greater than zero"));
    }
    let generation = int(pool, "generation").unwrap_or(0);
    if generation < 0 {
        let why = "must be greater than or equal to zero";
        errors.push(Error::invalid(&path.child("generation"), generation, why));
    }
}

/// A flag that may be true or absent; tells whether it is true.
fn only_true(owner: &Value, key: &str, path: &Path, errors: &mut ErrorList) -> bool {
    match part(owner, key).and_then(Value::as_bool) {
        Some(false) => {
            let why = "must be either unset or set to true";
            errors.push(Error::invalid(&path.child(key), false, why));
            false
        }
        given => given.unwrap_or(false),
    }
}

fn where_it_is(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let mut set = Vec::new();
    match opt_text(spec, "nodeName") {
        Some("") => {
            let why = "must be either unset or set to a non-empty string";
            errors.push(Error::invalid(&path.child("nodeName"), "", why));
        }
        Some(name) => {
            set.push("`nodeName`");
            dns_subdomain(name, &path.child("nodeName"), errors);
        }
        None => {}
    }
    if let Some(selector) = part(spec, "nodeSelector") {
        set.push("`nodeSelector`");
        let at = path.child("nodeSelector");
        node_selector(selector, false, &at, errors);
        if list(selector, "nodeSelectorTerms").len() != 1 {
            let at = at.child("nodeSelectorTerms");
            let why = "must have exactly one node selector term";
            errors.push(Error::invalid(&at, or_null(selector, "nodeSelectorTerms"), why));
        }
    }
    for (key, shown) in
        [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")]
    {
        if only_true(spec, key, path, errors) {
            set.push(shown);
        }
    }
    let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errors.push(Error::required(path, why)),
        1 => {}
        _ => {
            let why = format!("{why}, but multiple fields are set");
            errors.push(Error::invalid(path, format!("{{{}}}", set.join(", ")), &why));
        }
    }
}

/// A set of counters, or what a device takes of one.
fn counters(owner: &Value, name_key: &str, path: &Path, errors: &mut ErrorList) {
    let name = text(owner, name_key);
    let at = path.child(name_key);
    required(name, &at, errors);
    if !name.is_empty() {
        dns_label(name, &at, errors);
    }
    let at = path.child("counters");
    map(owner, "counters", COUNTERS_MAX, LABEL_MAX, &at, errors, dns_label, &mut |_, _, _| {});
    if entries(owner, "counters").next().is_none() {
        errors.push(Error::required(&at, ""));
    }
}

type KeyRule = fn(&str, &Path, &mut ErrorList);

/// The keys and values of a map; errors of keys are told at the map itself.
#[expect(clippy::too_many_arguments, reason = "one call says all of a map")]
fn map(
    owner: &Value,
    key: &str,
    max: usize,
    shown_max: usize,
    path: &Path,
    errors: &mut ErrorList,
    key_rule: KeyRule,
    rule: &mut dyn FnMut(&Value, &Path, &mut ErrorList),
) {
    let count = entries(owner, key).count();
    if count > max {
        errors.push(Error::too_many(path, count, max));
        return;
    }
    for (name, value) in entries(owner, key) {
        key_rule(name, path, errors);
        rule(value, &path.key(&shortened(name, shown_max)), errors);
    }
}

/// A text with its middle left out when it is long.
fn shortened(text: &str, max: usize) -> String {
    if text.len() <= max || !text.is_ascii() {
        return text.to_owned();
    }
    let rest = max - 3;
    format!("{}...{}", &text[..rest.div_ceil(2)], &text[text.len() - rest / 2..])
}

fn device(
    device: &Value,
    before: Option<&Value>,
    on_its_own: bool,
    path: &Path,
    errors: &mut ErrorList,
) {
    dns_label(text(device, "name"), &path.child("name"), errors);
    let count = entries(device, "attributes").count() + entries(device, "capacity").count();
    if count > PROPERTIES_MAX {
        let why = format!(
            "the total number of attributes and capacities must not exceed {PROPERTIES_MAX}"
        );
        errors.push(Error::invalid(path, count, &why));
    }
    let none = usize::MAX;
    let at = path.child("attributes");
    map(device, "attributes", none, KEY_SHOWN_MAX, &at, errors, device_key, &mut attribute);
    let shared = flag(device, "allowMultipleAllocations");
    let at = path.child("capacity");
    map(device, "capacity", none, KEY_SHOWN_MAX, &at, errors, device_key, &mut |v, p, e| {
        capacity(v, shared, p, e);
    });
    let taints = list(device, "taints");
    if before.is_none_or(|before| list(before, "taints") != taints) {
        items(taints, TAINTS_MAX, &path.child("taints"), errors, &mut taint);
    }
    let at = path.child("consumesCounters");
    let consumed = list(device, "consumesCounters");
    let key = |item: &Value| text(item, "counterSet").to_owned();
    set(consumed, CONSUMPTIONS_MAX, &key, &at, errors, &mut |item, path, errors| {
        counters(item, "counterSet", path, errors);
    });
    let located = ["nodeName", "nodeSelector", "allNodes"].iter().any(|key| has(device, key));
    if on_its_own {
        location(device, path, errors);
    } else if located {
        let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
        errors.push(Error::invalid_text(path, "null", why));
    }
    binding(device, path, errors);
}

fn location(device: &Value, path: &Path, errors: &mut ErrorList) {
    let mut set = Vec::new();
    match opt_text(device, "nodeName") {
        Some("") => {
            errors.push(Error::invalid(&path.child("nodeName"), "", "must not be empty"));
        }
        Some(name) => {
            set.push("`nodeName`");
            dns_subdomain(name, &path.child("nodeName"), errors);
        }
        None => {}
    }
    if let Some(selector) = part(device, "nodeSelector") {
        set.push("`nodeSelector`");
        node_selector(selector, false, &path.child("nodeSelector"), errors);
    }
    if only_true(device, "allNodes", path, errors) {
        set.push("`allNodes`");
    }
    let why = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match set.len() {
        0 => errors.push(Error::required(path, why)),
        1 => {}
        _ => errors.push(Error::invalid(path, format!("{{{}}}", set.join(", ")), why)),
    }
}

fn taint(taint: &Value, path: &Path, errors: &mut ErrorList) {
    qualified_name(text(taint, "key"), &path.child("key"), errors);
    let value = text(taint, "value");
    each(value, &path.child("value"), &names::is_valid_label_value(value), errors);
    required_one_of(text(taint, "effect"), &EFFECTS, &path.child("effect"), errors);
}

fn attribute(attribute: &Value, path: &Path, errors: &mut ErrorList) {
    let kinds = ["bool", "int", "string", "version", "bools", "ints", "strings", "versions"];
    let given = kinds.iter().filter(|kind| has(attribute, kind)).count();
    let long = |text: &str, at: &Path, errors: &mut ErrorList| {
        if text.len() > VALUE_MAX {
            errors.push(Error::too_long(at, VALUE_MAX));
        }
    };
    let version = |text: &str, at: &Path, errors: &mut ErrorList| {
        if !is_semantic_version(text) {
            let why = "must be a string compatible with semver.org spec 2.0.0";
            errors.push(Error::invalid(at, text, why));
        }
        long(text, at, errors);
    };
    if let Some(text) = opt_text(attribute, "string") {
        long(text, &path.child("string"), errors);
    }
    if let Some(text) = opt_text(attribute, "version") {
        version(text, &path.child("version"), errors);
    }
    for key in kinds.iter().filter(|kind| kind.ends_with('s') && has(attribute, kind)) {
        let at = path.child(key);
        if list(attribute, key).is_empty() {
            let why = "must not be empty if specified";
            errors.push(Error::invalid_text(&at, "[]", why));
        }
        for (i, text) in texts(attribute, key).into_iter().enumerate() {
            match *key {
                "strings" => long(text, &at.index(i), errors),
                "versions" => version(text, &at.index(i), errors),
                _ => {}
            }
        }
    }
    match given {
        0 => errors.push(Error::invalid(path, "", "exactly one value must be specified")),
        1 => {}
        _ => {
            let shown = gostruct::print("resource/v1.DeviceAttribute", attribute);
            errors.push(Error::invalid_text(path, &shown, "exactly one value must be specified"));
        }
    }
}

/// Whether a text is a version as semver.org has them.
fn is_semantic_version(text: &str) -> bool {
    let (rest, build) = text.split_once('+').map_or((text, None), |(a, b)| (a, Some(b)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(a, b)| (a, Some(b)));
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let digits = |w: &str| w.bytes().all(|b| b.is_ascii_digit());
    let number = |w: &str| !w.is_empty() && digits(w) && (w == "0" || !w.starts_with('0'));
    let core: Vec<&str> = core.split('.').collect();
    core.len() == 3
        && core.into_iter().all(number)
        && pre.is_none_or(|pre| pre.split('.').all(|w| word(w) && (!digits(w) || number(w))))
        && build.is_none_or(|build| build.split('.').all(word))
}
