//! Field sets as `fieldsV1` holds them: nested objects whose names are path elements.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/fieldpath/serialize.go

use serde_json::{Map, Value};

use super::path::{ParseError, PathElement};
use super::set::{Branch, Set};

/// Levels of a field set that are read; deeper ones are refused, as no object is deeper.
const DEPTH_MAX: usize = 512;

/// Reads a field set.
///
/// # Errors
/// When a name is no path element, or a value is no object.
pub fn decode(fields: &Value) -> Result<Set, String> {
    match fields {
        Value::Null => Ok(Set::new()),
        Value::Object(fields) => level(fields, 0).map(|(set, _)| set),
        _ => Err("a field set has to be an object".to_owned()),
    }
}

/// The set below one place, and whether the place itself is in the set.
fn level(fields: &Map<String, Value>, depth: usize) -> Result<(Set, bool), String> {
    if depth > DEPTH_MAX {
        return Err("a field set is nested too deeply".to_owned());
    }
    let mut branches = Vec::with_capacity(fields.len());
    let mut member = false;
    for (name, value) in fields {
        if name == "." {
            member = true;
            continue;
        }
        let element = match PathElement::parse(name) {
            Ok(element) => element,
            Err(ParseError::Unknown) => continue,
            Err(ParseError::Bad(why)) => return Err(format!("parsing key as path element: {why}")),
        };
        let (children, member) = match value {
            Value::Null => (Set::new(), true),
            Value::Object(fields) if fields.is_empty() => (Set::new(), true),
            Value::Object(fields) => level(fields, depth + 1)?,
            _ => return Err(format!("the field set of {name:?} has to be an object")),
        };
        branches.push(Branch { element, member, children });
    }
    let set = Set::from_branches(branches);
    member |= set.is_empty();
    Ok((set, member))
}

/// Writes a field set.
pub fn encode(set: &Set) -> Value {
    Value::Object(written(set, false))
}

fn written(set: &Set, member: bool) -> Map<String, Value> {
    let mut fields = Map::new();
    if member && !set.is_empty() {
        fields.insert(".".to_owned(), Value::Object(Map::new()));
    }
    for branch in set.branches() {
        let below = written(&branch.children, branch.member);
        fields.insert(branch.element.encode(), Value::Object(below));
    }
    fields
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sets_are_read_and_written() {
        for fields in [
            json!({}),
            json!({"f:data": {".": {}, "f:a": {}}}),
            json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"a\"": {}}}}),
            json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}}),
        ] {
            assert_eq!(encode(&decode(&fields).expect("a field set")), fields);
        }
    }

    #[test]
    fn unknown_elements_are_left_out() {
        let set = decode(&json!({"f:a": {"x:new": {}, "f:b": {}}, "z:q": {}})).expect("a set");
        assert_eq!(encode(&set), json!({"f:a": {"f:b": {}}}));
        let set = decode(&json!({"f:a": {"x:new": {}}})).expect("a set");
        assert_eq!(encode(&set), json!({"f:a": {}}));
        assert_eq!(decode(&Value::Null), Ok(Set::new()));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for bad in [json!([]), json!({"data": {}}), json!({"f:a": 5}), json!({"k:x": {}})] {
            assert!(decode(&bad).is_err(), "{bad}");
        }
        let mut deep = json!({});
        for _ in 0..=DEPTH_MAX + 1 {
            deep = json!({ "f:a": deep });
        }
        assert!(decode(&deep).is_err());
    }
}
