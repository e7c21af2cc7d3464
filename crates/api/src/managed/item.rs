//! The identity of items of lists.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/typed/helpers.go

use serde_json::Value;

use super::path::PathElement;
use super::schema::List;

/// What identifies an item of an associative list.
pub(super) fn identify(list: List, item: &Value) -> Result<PathElement, String> {
    if list.keys.is_empty() {
        return of_set(item);
    }
    let Value::Object(fields) = item else {
        let what = if item.is_null() { "a null element" } else { "non-map elements" };
        return Err(format!("associative list with keys may not have {what}"));
    };
    let mut keys: Vec<_> = list
        .keys
        .iter()
        .filter_map(|name| {
            let value = fields.get(name).cloned().or_else(|| list.key_default(name))?;
            Some((name.to_owned().into(), value))
        })
        .collect();
    if keys.is_empty() {
        let names: Vec<String> = list.keys.iter().map(|name| format!("{name:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    keys.sort_by(|(a, _), (b, _): &(super::path::Text, Value)| a.cmp(b));
    Ok(PathElement::Key(keys))
}

fn of_set(item: &Value) -> Result<PathElement, String> {
    let why = match item {
        Value::Object(_) => "associative list without keys has an element that's a map type",
        Value::Array(_) => "not supported: associative list with lists as elements",
        Value::Null => "associative list without keys has an element that's an explicit null",
        scalar => return Ok(PathElement::Value(scalar.clone())),
    };
    Err(why.to_owned())
}
