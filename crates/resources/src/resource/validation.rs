//! The rules of claims of devices and of device classes.
//!
//! upstream: pkg/apis/resource/validation/validation.go

pub(super) mod capacity;
pub(super) mod slices;
pub(super) mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::names;
use serde_json::Value;

use crate::core::persistentvolumes::validation::driver_name;
use crate::core::pods::tree::{int, list, opt_text, or_null, part, text, texts};
use crate::core::pods::validation::common::{
    dns_label, dns_subdomain, each, one_of, qualified_name, required, required_one_of,
};
use crate::core::pods::validation::compute::is_extended;
use crate::rules::device;

const REQUESTS_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
const CONFIGURATIONS_MAX: usize = 32;
const SELECTORS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
const PARAMETERS_BYTES_MAX: usize = 10 * 1024;
const IDENTIFIER_MAX: usize = 32;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];
const NO_REQUEST: &str = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// Checks the items of a list; a list that is too long is not looked into.
fn items<'a>(
    all: &'a [Value],
    max: usize,
    path: &Path,
    errors: &mut ErrorList,
    rule: &mut dyn FnMut(&'a Value, &Path, &mut ErrorList),
) {
    if all.len() > max {
        errors.push(Error::too_many(path, all.len(), max));
        return;
    }
    for (i, item) in all.iter().enumerate() {
        rule(item, &path.index(i), errors);
    }
}

/// As [`items`]; no two may have the same key.
fn set<'a>(
    all: &'a [Value],
    max: usize,
    key: &dyn Fn(&Value) -> String,
    path: &Path,
    errors: &mut ErrorList,
    rule: &mut dyn FnMut(&'a Value, &Path, &mut ErrorList),
) {
    items(all, max, path, errors, rule);
    if all.len() > max {
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, item) in all.iter().enumerate() {
        let key = key(item);
        if !seen.insert(key.clone()) {
            errors.push(Error::duplicate(&path.index(i), key));
        }
    }
}

fn name_of(item: &Value) -> String {
    text(item, "name").to_owned()
}

fn own(item: &Value) -> String {
    item.as_str().unwrap_or("").to_owned()
}

/// Names of requests with those of their alternatives.
type Requests<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// What a claim asks for.
pub(super) fn claim(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let null = Value::Null;
    let devices = part(spec, "devices").unwrap_or(&null);
    let path = path.child("devices");
    let requests = list(devices, "requests");
    let known = known_requests(spec);
    set(requests, REQUESTS_MAX, &name_of, &path.child("requests"), errors, &mut request);
    let at = path.child("constraints");
    items(list(devices, "constraints"), CONSTRAINTS_MAX, &at, errors, &mut |item, path, errors| {
        constraint(item, &known, path, errors);
    });
    let at = path.child("config");
    items(list(devices, "config"), CONFIGURATIONS_MAX, &at, errors, &mut |item, path, errors| {
        request_names(item, &known, path, errors);
        configuration(item, path, errors);
    });
}

fn known_requests(spec: &Value) -> Requests<'_> {
    let requests = part(spec, "devices").map(|devices| list(devices, "requests")).unwrap_or(&[]);
    let known = requests.iter().map(|request| {
        let alternatives = list(request, "firstAvailable").iter().map(|a| text(a, "name"));
        (text(request, "name"), alternatives.collect())
    });
    known.collect()
}

/// What a class of devices asks of them.
pub(super) fn class(spec: &Value, path: &Path, errors: &mut ErrorList) {
    selectors(spec, path, errors);
    let at = path.child("config");
    items(list(spec, "config"), CONFIGURATIONS_MAX, &at, errors, &mut configuration);
    if let Some(name) = opt_text(spec, "extendedResourceName").filter(|name| !is_extended(name)) {
        let why = "must be a valid extended resource name";
        errors.push(Error::invalid(&path.child("extendedResourceName"), name, why));
    }
}

fn request(request: &Value, path: &Path, errors: &mut ErrorList) {
    dns_label(text(request, "name"), &path.child("name"), errors);
    let alternatives = list(request, "firstAvailable");
    match (part(request, "exactly"), alternatives.is_empty()) {
        (None, true) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required";
            errors.push(Error::required(path, why));
        }
        (Some(_), false) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(Error::invalid_text(path, "null", why));
        }
        (None, false) => {
            let at = path.child("firstAvailable");
            set(
                alternatives,
                ALTERNATIVES_MAX,
                &name_of,
                &at,
                errors,
                &mut |item, path, errors| {
                    dns_label(text(item, "name"), &path.child("name"), errors);
                    asked(item, path, errors);
                },
            );
        }
        (Some(exactly), true) => asked(exactly, &path.child("exactly"), errors),
    }
}

/// Class, selectors, number and tolerations of what is asked for.
fn asked(request: &Value, path: &Path, errors: &mut ErrorList) {
    let class = text(request, "deviceClassName");
    let at = path.child("deviceClassName");
    required(class, &at, errors);
    if !class.is_empty() {
        dns_subdomain(class, &at, errors);
    }
    selectors(request, path, errors);
    let count = int(request, "count").unwrap_or(0);
    let at = path.child("count");
    match text(request, "allocationMode") {
        "All" if count != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            errors.push(Error::invalid(&at, count, why));
        }
        "ExactCount" if count <= 0 => {
            errors.push(Error::invalid(&at, count, "must be greater than zero"));
        }
        mode => one_of(mode, &["All", "ExactCount"], &path.child("allocationMode"), errors),
    }
    for (i, toleration) in list(request, "tolerations").iter().enumerate() {
        tolerates(toleration, &path.child("tolerations").index(i), errors);
    }
}

fn tolerates(toleration: &Value, path: &Path, errors: &mut ErrorList) {
    let (key, value) = (text(toleration, "key"), text(toleration, "value"));
    if !key.is_empty() {
        qualified_name(key, &path.child("key"), errors);
    }
    let at = path.child("value");
    match text(toleration, "operator") {
        "Exists" => {
            if !value.is_empty() {
                let why = "must be empty for operator `Exists`";
                errors.push(Error::invalid(&at, value, why));
            }
        }
        "Equal" => each(value, &at, &names::is_valid_label_value(value), errors),
        operator => {
            required_one_of(operator, &["Equal", "Exists"], &path.child("operator"), errors);
        }
    }
    let effect = text(toleration, "effect");
    if !effect.is_empty() {
        one_of(effect, &EFFECTS, &path.child("effect"), errors);
    }
}

fn selectors(owner: &Value, path: &Path, errors: &mut ErrorList) {
    let at = path.child("selectors");
    items(list(owner, "selectors"), SELECTORS_MAX, &at, errors, &mut |selector, path, errors| {
        let path = path.child("cel");
        match part(selector, "cel") {
            None => errors.push(Error::required(&path, "")),
            Some(cel) if text(cel, "expression").len() > EXPRESSION_BYTES_MAX => {
                errors.push(Error::too_long(&path.child("expression"), EXPRESSION_BYTES_MAX));
            }
            Some(cel) => {
                device::check(text(cel, "expression"), &path.child("expression"), errors);
            }
        }
    });
}

fn constraint(constraint: &Value, known: &Requests<'_>, path: &Path, errors: &mut ErrorList) {
    request_names(constraint, known, path, errors);
    for key in ["matchAttribute", "distinctAttribute"] {
        if let Some(name) = opt_text(constraint, key) {
            let at = path.child(key);
            capacity::device_key(name, &at, errors);
            if !name.contains('/') {
                let why = "a fully qualified name must be a domain and a name separated by a slash";
                errors.push(Error::invalid(&at, name, why));
            }
            return;
        }
    }
    let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
    errors.push(Error::required(path, why));
}

fn request_names(owner: &Value, known: &Requests<'_>, path: &Path, errors: &mut ErrorList) {
    let at = path.child("requests");
    set(list(owner, "requests"), REQUESTS_MAX, &own, &at, errors, &mut |item, path, errors| {
        request_name(item.as_str().unwrap_or(""), known, path, errors);
    });
}

fn request_name(name: &str, known: &Requests<'_>, path: &Path, errors: &mut ErrorList) {
    let mut segments = name.split('/');
    let (first, second, more) = (segments.next(), segments.next(), segments.next());
    if more.is_some() {
        errors.push(Error::invalid(path, name, NO_REQUEST));
        return;
    }
    let first = first.unwrap_or("");
    dns_label(first, path, errors);
    if let Some(second) = second {
        dns_label(second, path, errors);
    }
    let found = known.get(first).is_some_and(|subs| second.is_none_or(|s| subs.contains(s)));
    if !found {
        errors.push(Error::invalid(path, name, NO_REQUEST));
    }
}

fn configuration(configuration: &Value, path: &Path, errors: &mut ErrorList) {
    let path = path.child("opaque");
    let Some(opaque) = part(configuration, "opaque") else {
        errors.push(Error::required(&path, ""));
        return;
    };
    driver_name(text(opaque, "driver"), &path.child("driver"), errors);
    let at = path.child("parameters");
    let parameters = or_null(opaque, "parameters");
    match &parameters {
        Value::Null => errors.push(Error::required(&at, "")),
        value if value.to_string().len() > PARAMETERS_BYTES_MAX => {
            errors.push(Error::too_long(&at, PARAMETERS_BYTES_MAX));
        }
        Value::Object(_) => {}
        _ => {
            let why = "must be a valid JSON object";
            errors.push(Error::invalid(&at, "<value omitted>", why));
        }
    }
}

/// Conditions that bind a device, and those that tell that it cannot be bound.
fn binding(owner: &Value, path: &Path, errors: &mut ErrorList) {
    const CONDITIONS_MAX: usize = 4;
    let keys = ["bindingConditions", "bindingFailureConditions"];
    let [good, bad] = keys.map(|key| texts(owner, key));
    for key in keys {
        let at = path.child(key);
        items(list(owner, key), CONDITIONS_MAX, &at, errors, &mut |item, path, errors| {
            qualified_name(item.as_str().unwrap_or(""), path, errors);
        });
    }
    for (key, all) in [(keys[0], &good), (keys[1], &bad)] {
        let mut seen = BTreeSet::new();
        for (i, name) in all.iter().enumerate() {
            let at = path.child(key).index(i);
            if !seen.insert(name) {
                errors.push(Error::duplicate(&at, *name));
            }
            if key == keys[1] && good.contains(name) {
                let why = "bindingFailureConditions must not overlap with bindingConditions";
                errors.push(Error::invalid(&at, *name, why));
            }
        }
    }
    for (needed, key, other) in [(good.is_empty(), keys[0], &bad), (bad.is_empty(), keys[1], &good)]
    {
        if needed && !other.is_empty() {
            let user = if key == keys[0] { keys[1] } else { keys[0] };
            let why = format!("{key} are required to use {user}");
            errors.push(Error::invalid(&path.child(key), or_null(owner, key), &why));
        }
    }
}
