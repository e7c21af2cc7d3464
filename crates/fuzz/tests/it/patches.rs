//! The patch types come to the same where they must, and merging has its laws.

use longshore_api::normalize;
use longshore_api::patch::{json_patch, merge_patch, strategic_patch};
use longshore_api::schema::{Field, Shape, Type};
use longshore_fuzz::generate;
use longshore_fuzz::random::Random;
use serde_json::{Map, Value, json};

/// Pairs of random objects of each kind.
const PAIRS: usize = 6;

/// The operations that turn one tree into another.
fn operations(from: &Value, to: &Value, path: &str, out: &mut Vec<Value>) {
    let (Value::Object(old), Value::Object(new)) = (from, to) else {
        if from != to {
            out.push(json!({"op": "replace", "path": path, "value": to}));
        }
        return;
    };
    let step = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        out.push(json!({"op": "remove", "path": step(key)}));
    }
    for (key, value) in new {
        match old.get(key) {
            None => out.push(json!({"op": "add", "path": step(key), "value": value})),
            Some(before) => operations(before, value, &step(key), out),
        }
    }
}

/// The merge patch that turns one tree into another; the trees have no nulls.
fn merging(from: &Value, to: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) => {
                patch.insert(key.clone(), merging(before, value));
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

/// As [`merging`], in the form that strategic merging understands: lists that would be merged are
/// replaced, and so are structs that it replaces as a whole.
fn strategic(ty: &'static Type, from: &Value, to: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in new.iter().filter(|(key, value)| old.get(*key) != Some(value)) {
        let field = ty.field(key);
        let (Some(field), Some(before)) = (field, old.get(key)) else {
            // There is nothing to merge with.
            patch.insert(key.clone(), value.clone());
            continue;
        };
        patch.insert(key.clone(), change(field, before, value));
    }
    Value::Object(patch)
}

fn change(field: &'static Field, before: &Value, value: &Value) -> Value {
    match (field.shape, value) {
        (Shape::Struct(_), Value::Object(fields)) if field.patch.replace => {
            let mut whole = fields.clone();
            whole.insert("$patch".into(), "replace".into());
            whole.into()
        }
        (Shape::Struct(_), _) => strategic(field.shape.as_struct().unwrap(), before, value),
        (Shape::List(_), Value::Array(items)) if field.patch.merge => {
            if field.patch.merge_key.is_empty() {
                return value.clone();
            }
            let mut whole = vec![json!({"$patch": "replace"})];
            whole.extend(items.iter().cloned());
            whole.into()
        }
        (Shape::Map(_) | Shape::Scalar(_), Value::Object(entries)) => {
            // Entries would be merged.
            let mut whole = entries.clone();
            whole.insert("$patch".into(), "replace".into());
            whole.into()
        }
        _ => value.clone(),
    }
}

/// Whether strategic merging can replace a list of plain values; it only adds to those it merges.
fn merges_plain_lists(ty: &'static Type, from: &Value, to: &Value) -> bool {
    let (Value::Object(old), Value::Object(new)) = (from, to) else { return false };
    new.iter().any(|(key, value)| {
        let (Some(field), Some(before)) = (ty.field(key), old.get(key)) else { return false };
        let plain = matches!(field.shape, Shape::List(_)) && field.patch.merge;
        match field.shape.as_struct() {
            _ if before == value => false,
            _ if plain && field.patch.merge_key.is_empty() => true,
            Some(inner) => merges_plain_lists(inner, before, value),
            None => false,
        }
    })
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        other => other.clone(),
    }
}

#[test]
fn json_merge_and_strategic_patches_lead_to_the_same_object() {
    let mut random = Random::new(5);
    let mut compared = 0;
    for (gvk, ty) in generate::kinds() {
        for _ in 0..PAIRS {
            let from = without_nulls(&generate::object(&mut random, &gvk, ty));
            let to = without_nulls(&generate::object(&mut random, &gvk, ty));
            let mut list = Vec::new();
            operations(&from, &to, "", &mut list);
            assert_eq!(
                json_patch(&from, &Value::Array(list)).unwrap(),
                to,
                "JSON patch of {gvk:?}"
            );
            let patch = merging(&from, &to);
            assert_eq!(merge_patch(&from, &patch).unwrap(), to, "merge patch of {gvk:?}: {patch}");
            if merges_plain_lists(ty, &from, &to) {
                continue;
            }
            let patch = strategic(ty, &from, &to);
            let mut result = match strategic_patch(ty, &from, &patch) {
                Ok(result) => result,
                // A random item may lack the key that merging needs.
                Err(error) if error.message.contains("merge key") => continue,
                Err(error) => panic!("strategic patch of {gvk:?}: {}\n{patch}", error.message),
            };
            normalize::normalize(ty, &mut result).unwrap();
            let mut wanted = to.clone();
            normalize::normalize(ty, &mut wanted).unwrap();
            assert_eq!(result, wanted, "strategic patch of {gvk:?}: {patch}\nof {from}");
            compared += 1;
        }
    }
    assert!(compared > 100, "only {compared} pairs were compared");
}

#[test]
fn patches_that_say_nothing_change_nothing() {
    let mut random = Random::new(6);
    for (gvk, ty) in generate::kinds() {
        let object = generate::object(&mut random, &gvk, ty);
        assert_eq!(json_patch(&object, &json!([])).unwrap(), object);
        assert_eq!(merge_patch(&object, &json!({})).unwrap(), object);
        assert_eq!(strategic_patch(ty, &object, &json!({})).unwrap(), object);
    }
}
