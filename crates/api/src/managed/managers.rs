//! The managers of an object's fields: `metadata.managedFields`, read and written.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/util/managedfields/internal/managedfields.go

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::codec;
use super::set::Set;

/// The only form of field sets there is.
const FIELDS_TYPE: &str = "FieldsV1";

/// How a manager writes. The order is that of the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Any other write.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who a manager is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagerId {
    /// The name.
    pub name: String,
    /// How it writes.
    pub operation: Operation,
    /// The version it updates in; empty for appliers, which have one entry for all versions.
    pub api_version: String,
    /// The subresource it writes through; empty for none.
    pub subresource: String,
}

/// What a manager manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The fields.
    pub set: Set,
    /// The version that the fields are of.
    pub api_version: String,
    /// When they were last written (RFC 3339), if that is known.
    pub time: Option<String>,
}

/// All managers of an object.
pub type Managers = BTreeMap<ManagerId, Entry>;

fn text<'a>(entry: &'a Value, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or("")
}

/// Reads `metadata.managedFields`.
///
/// # Errors
/// When an entry is not as the API says.
pub fn decode(entries: &[Value]) -> Result<Managers, String> {
    let mut managers = Managers::new();
    for (index, entry) in entries.iter().enumerate() {
        let operation = match text(entry, "operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        let api_version = text(entry, "apiVersion").to_owned();
        if api_version.is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match text(entry, "fieldsType") {
            FIELDS_TYPE => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
            other => {
                return Err(format!(
                    "invalid fieldsType {other:?} in managed fields entry {index}"
                ));
            }
        }
        let set = codec::decode(entry.get("fieldsV1").unwrap_or(&Value::Null))
            .map_err(|why| format!("error decoding versioned set: error decoding set: {why}"))?;
        let id = ManagerId {
            name: text(entry, "manager").to_owned(),
            operation,
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => api_version.clone(),
            },
            subresource: text(entry, "subresource").to_owned(),
        };
        let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
        managers.insert(id, Entry { set, api_version, time });
    }
    Ok(managers)
}

/// Writes `metadata.managedFields`; none when there are no managers.
pub fn encode(managers: &Managers) -> Option<Value> {
    if managers.is_empty() {
        return None;
    }
    let mut sorted: Vec<(&ManagerId, &Entry)> = managers.iter().collect();
    sorted.sort_by_key(|(id, entry)| {
        let time = entry.time.as_deref().unwrap_or("");
        (id.operation, time, &id.name, &entry.api_version, &id.subresource)
    });
    Some(sorted.into_iter().map(|(id, entry)| written(id, entry)).collect())
}

fn written(id: &ManagerId, entry: &Entry) -> Value {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    if !id.name.is_empty() {
        put("manager", id.name.as_str().into());
    }
    put("operation", id.operation.name().into());
    put("apiVersion", entry.api_version.as_str().into());
    if let Some(time) = &entry.time {
        put("time", time.as_str().into());
    }
    put("fieldsType", FIELDS_TYPE.into());
    put("fieldsV1", codec::encode(&entry.set));
    if !id.subresource.is_empty() {
        put("subresource", id.subresource.as_str().into());
    }
    Value::Object(fields)
}

/// Whether a list of entries asks to forget all managers: it is empty, or its only entry is.
pub fn asks_to_forget(entries: &[Value]) -> bool {
    match entries {
        [] => true,
        [Value::Object(only)] => only.values().all(Value::is_null),
        _ => false,
    }
}
