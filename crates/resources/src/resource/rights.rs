//! What of a claim of devices only those may write who have more than the right to write claims.
//!
//! upstream: pkg/registry/resource/resourceclaim/strategy.go, pkg/registry/resource/utils.go

use std::collections::BTreeSet;

use longshore_api::field::Path;
use serde_json::Value;

use crate::core::pods::tree::{list, part, text, texts};

/// Where a claim asks for all of a device's rights first; they are for marked namespaces only.
pub fn asks_for_admin(spec: &Value, status: &Value) -> Option<Path> {
    let flagged = |item: Option<&Value>| {
        item.is_some_and(|item| part(item, "adminAccess").and_then(Value::as_bool) == Some(true))
    };
    let null = Value::Null;
    let devices = part(spec, "devices").unwrap_or(&null);
    let asked = list(devices, "requests").iter().position(|r| flagged(part(r, "exactly")));
    if let Some(i) = asked {
        let path = Path::new("spec").child("devices").child("requests");
        return Some(path.index(i).child("adminAccess"));
    }
    let allocation = part(status, "allocation").unwrap_or(&null);
    let devices = part(allocation, "devices").unwrap_or(&null);
    let given = list(devices, "results").iter().position(|result| flagged(Some(result)))?;
    let path = Path::new("status").child("allocation").child("devices").child("results");
    Some(path.index(given).child("adminAccess"))
}

/// The drivers whose devices' states differ.
pub fn changed_drivers(new: &Value, old: &Value) -> BTreeSet<String> {
    let all = |status: &Value| -> BTreeSet<(String, String)> {
        let devices = list(status, "devices").iter();
        devices.map(|d| (text(d, "driver").to_owned(), d.to_string())).collect()
    };
    let (new, old) = (all(new), all(old));
    new.symmetric_difference(&old).map(|(driver, _)| driver.clone()).collect()
}

/// The node that an allocation is bound to, by the only name its selector allows.
pub fn node_of(status: &Value) -> Option<&str> {
    let selector = part(part(status, "allocation")?, "nodeSelector")?;
    let [term] = list(selector, "nodeSelectorTerms") else { return None };
    let [field] = list(term, "matchFields") else { return None };
    let by_name = text(field, "key") == "metadata.name" && text(field, "operator") == "In";
    match texts(field, "values")[..] {
        [name] if by_name && list(term, "matchExpressions").is_empty() => Some(name),
        _ => None,
    }
}
