//! Config maps.
//!
//! upstream: pkg/apis/core/validation/validation.go ValidateConfigMap

use jiff::Timestamp;
use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::{Object, names};
use serde_json::{Map, Value};

use super::pods::cells::{AGE, NAME, age};
use crate::strategy::{Context, MetadataRules, Strategy};
use crate::table::Column;

/// Most bytes of all values together.
pub(super) const DATA_BYTES_MAX: usize = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";

/// The rules of config maps.
pub(super) struct ConfigMaps;

impl Strategy for ConfigMaps {
    fn metadata_rules(&self) -> MetadataRules {
        MetadataRules::BOTH
    }

    fn validate_create(&self, object: &Object) -> ErrorList {
        rules(object)
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Object, old: &Object) -> ErrorList {
        let mut errors = frozen(new, old, &["data", "binaryData"]);
        errors.extend(rules(new));
        errors
    }

    fn columns(&self) -> Vec<Column> {
        let data = super::pods::cells::number("Data", "How many values it holds.");
        vec![NAME, Column { kind: "string", ..data }, AGE]
    }

    fn row(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let count = map(object, "data").len() + map(object, "binaryData").len();
        vec![object.name().into(), count.into(), age(object, now)]
    }
}

/// A map field; empty when absent.
pub(super) fn map<'a>(object: &'a Object, field: &str) -> &'a Map<String, Value> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    object.get(&[field]).and_then(Value::as_object).unwrap_or(&EMPTY)
}

/// What an object that was marked immutable may no longer change.
pub(super) fn frozen(new: &Object, old: &Object, fields: &[&str]) -> ErrorList {
    let mut errors = ErrorList::new();
    if !old.bool(&["immutable"]) {
        return errors;
    }
    if !new.bool(&["immutable"]) {
        errors.push(Error::forbidden(&Path::new("immutable"), FROZEN));
    }
    for field in fields {
        // Also nothing is another thing than an empty map.
        let emptied = new.is_given_empty(field) && old.get(&[field]).is_none();
        if emptied || map(new, field) != map(old, field) {
            errors.push(Error::forbidden(&Path::new(field), FROZEN));
        }
    }
    errors
}

/// The length of a value in bytes; base64 counts as what it stands for.
pub(super) fn size(value: &Value, base64: bool) -> usize {
    let text = value.as_str().unwrap_or("");
    if !base64 {
        return text.len();
    }
    let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

fn rules(object: &Object) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut total = 0;
    let binary = map(object, "binaryData");
    for (field, entries) in [("data", map(object, "data")), ("binaryData", binary)] {
        let path = Path::new(field);
        for (key, value) in entries {
            for why in names::is_config_map_key(key) {
                errors.push(Error::invalid(&path.key(key), key.as_str(), &why));
            }
            if field == "data" && binary.contains_key(key) {
                let why = "duplicate of key present in binaryData";
                errors.push(Error::invalid(&path.key(key), key.as_str(), why));
            }
            total += size(value, field == "binaryData");
        }
    }
    if total > DATA_BYTES_MAX {
        errors.push(Error::too_long(&Path::new(""), DATA_BYTES_MAX));
    }
    errors
}
