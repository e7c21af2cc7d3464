//! Names and amounts of what devices have.
//!
//! upstream: pkg/apis/resource/validation/validation.go validateQualifiedName, validateRequestPolicy

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::quantity::Quantity;
use serde_json::Value;

use super::{IDENTIFIER_MAX, set};
use crate::core::persistentvolumes::validation::driver_name;
use crate::core::pods::resources::quantity;
use crate::core::pods::tree::{has, list, or_null, part};

const OPTIONS_MAX: usize = 10;

/// The name of an attribute or capacity: an identifier, after a domain or alone.
pub(super) fn device_key(name: &str, path: &Path, errors: &mut ErrorList) {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [id] => identifier(id, path, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.push(Error::invalid(path, "", "the domain must not be empty"));
            } else {
                driver_name(domain, path, errors);
            }
            if id.is_empty() {
                errors.push(Error::invalid(path, "", "the name must not be empty"));
            } else {
                identifier(id, path, errors);
            }
        }
        // Upstream does not look at names of more parts.
        _ => {}
    }
}

fn identifier(id: &str, path: &Path, errors: &mut ErrorList) {
    if id.len() > IDENTIFIER_MAX {
        errors.push(Error::too_long(path, IDENTIFIER_MAX));
    }
    let mut letters = id.bytes();
    let first = letters.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || !letters.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        let why = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
        errors.push(Error::invalid(path, id, why));
    }
}

/// One capacity of a device; only `shared` devices may give away parts of it.
pub(super) fn capacity(capacity: &Value, shared: bool, path: &Path, errors: &mut ErrorList) {
    let Some(policy) = part(capacity, "requestPolicy") else { return };
    let path = path.child("requestPolicy");
    if !shared {
        errors.push(Error::forbidden(&path, "allowMultipleAllocations must be true"));
        return;
    }
    let values = list(policy, "validValues");
    let range = part(policy, "validRange");
    let key = match (values.is_empty(), range) {
        (false, Some(_)) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.push(Error::forbidden(&path, why));
            return;
        }
        (true, None) => return,
        (false, None) => "validValues",
        (true, Some(_)) => "validRange",
    };
    if !has(policy, "default") {
        let why = format!("required when {key} is defined");
        errors.push(Error::required(&path.child("default"), &why));
        return;
    }
    let most = quantity(&or_null(capacity, "value"));
    let default = quantity(&or_null(policy, "default"));
    match range {
        None => options(values, default, most, &path.child(key), errors),
        Some(range) => span(range, default, most, &path.child(key), errors),
    }
}

fn options(
    values: &[Value],
    default: Quantity,
    most: Quantity,
    path: &Path,
    errors: &mut ErrorList,
) {
    for (i, pair) in values.windows(2).enumerate() {
        let (one, next) = (quantity(&pair[0]), quantity(&pair[1]));
        if one > next {
            let why = "values must be sorted in ascending order";
            errors.push(Error::invalid(&path.index(i + 1), next.to_string(), why));
        }
    }
    let mut found = false;
    let key = |value: &Value| quantity(value).value().to_string();
    set(values, OPTIONS_MAX, &key, path, errors, &mut |item, path, errors| {
        let option = quantity(item);
        if option > most {
            let why = format!("option is larger than capacity value: {most}");
            errors.push(Error::invalid(path, option.to_string(), &why));
        }
        found |= option == default;
    });
    if !found {
        let why = "default value is not valid according to the requestPolicy";
        errors.push(Error::invalid(path, default.to_string(), why));
    }
}

fn span(range: &Value, default: Quantity, most: Quantity, path: &Path, errors: &mut ErrorList) {
    let of = |key: &str| part(range, key).map(quantity);
    let at = path.child("min");
    let Some(min) = of("min") else {
        errors.push(Error::required(&at, "required when validRange is defined"));
        return;
    };
    let mut bad = |wrong: bool, at: &Path, value: Quantity, why: String| {
        if wrong {
            errors.push(Error::invalid(at, value.to_string(), &why));
        }
    };
    bad(min > most, &at, min, format!("min is larger than capacity value: {most}"));
    bad(default < min, &at, default, format!("default is less than min: {min}"));
    let max = of("max");
    if let Some(max) = max {
        let at = path.child("max");
        bad(min > max, &at, min, format!("min is larger than max: {max}"));
        bad(max > most, &at, max, format!("max is larger than capacity value: {most}"));
        bad(default > max, &at, default, format!("default is more than max: {max}"));
    }
    if let Some(step) = of("step") {
        let at = path.child("step");
        let sum = min.plus(step);
        let why = format!("one step {sum} is larger than capacity value: {most}");
        bad(sum > most, &at, step, why);
        for value in [Some(default), max].into_iter().flatten() {
            let whole = value.value().wrapping_sub(min.value()).checked_rem(step.value());
            let why = format!("value is not a multiple of a given step ({step}) from ({min})");
            bad(whole != Some(0), &at, value, why);
        }
    }
}
