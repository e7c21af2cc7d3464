//! Short ways to look at the parts of an object. Objects are normalised before strategies see
//! them, so a value of another type than expected counts as absent.

use serde_json::{Map, Value};

/// The string field; empty when absent.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

/// The string field, when it is there.
pub(crate) fn opt_text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// The integer field.
pub(crate) fn int(value: &Value, key: &str) -> Option<i64> {
    value.get(key).and_then(Value::as_i64)
}

/// The boolean field; false when absent.
pub(crate) fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The items of a list field; none when absent.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings of a list field.
pub(crate) fn texts<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    list(value, key).iter().map(|v| v.as_str().unwrap_or("")).collect()
}

/// The entries of a map field; none when absent.
pub(crate) fn entries<'a>(
    value: &'a Value,
    key: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    value.get(key).and_then(Value::as_object).into_iter().flatten()
}

/// The field, when it is there and not null.
pub(crate) fn part<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    value.get(key).filter(|v| !v.is_null())
}

/// Whether the field is there and not null.
pub(crate) fn has(value: &Value, key: &str) -> bool {
    part(value, key).is_some()
}

/// The field or null, for messages that print it.
pub(crate) fn or_null(value: &Value, key: &str) -> Value {
    value.get(key).cloned().unwrap_or(Value::Null)
}

/// Fills an absent field.
pub(crate) fn fill(value: &mut Value, key: &str, default: impl Into<Value>) {
    let Some(fields) = value.as_object_mut() else { return };
    let absent = fields.get(key).is_none_or(Value::is_null);
    if absent {
        fields.insert(key.to_owned(), default.into());
    }
}

/// Fills a string field that is absent or empty.
pub(crate) fn fill_text(value: &mut Value, key: &str, default: &str) {
    if text(value, key).is_empty() {
        fill_always(value, key, default);
    }
}

/// Fills an integer field that is absent or zero.
pub(crate) fn fill_int(value: &mut Value, key: &str, default: i64) {
    if int(value, key).unwrap_or(0) == 0 {
        fill_always(value, key, default);
    }
}

/// Sets a field of an object.
pub(crate) fn fill_always(value: &mut Value, key: &str, new: impl Into<Value>) {
    if let Some(fields) = value.as_object_mut() {
        fields.insert(key.to_owned(), new.into());
    }
}

/// Removes a field of an object.
pub(crate) fn drop_field(value: &mut Value, key: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove(key);
    }
}

/// The items of a list field, to change them.
pub(crate) fn list_mut<'a>(value: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The struct field, made when absent.
pub(crate) fn part_mut<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let fields = value.as_object_mut().expect("made an object just above");
    let part = fields.entry(key.to_owned()).or_insert_with(|| Value::Object(Map::new()));
    if part.is_null() {
        *part = Value::Object(Map::new());
    }
    part
}
