//! Adds what another server's document of version 2 tells to ours.
//!
//! upstream: k8s.io/kube-openapi/pkg/aggregator/aggregator.go

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Where shared parts of a document are.
const PARTS: [&str; 2] = ["definitions", "parameters"];
/// The list of the kinds that a definition is of.
const KINDS: &str = "x-kubernetes-group-version-kind";

/// Adds the paths below `prefix` that are not there yet, and the definitions that they need. A
/// definition of a known name with another content gets another name.
pub fn merge_v2(into: &mut Value, other: &Value, prefix: &str) {
    let known = |path: &String| into["paths"].get(path).is_some();
    let paths = other["paths"].as_object().into_iter().flatten();
    let mut paths: Map<String, Value> = paths
        .filter(|(path, _)| path.starts_with(prefix) && !known(path))
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    if paths.is_empty() {
        return;
    }
    let used = used_parts(other, &paths);
    let mut renamed = BTreeMap::new();
    for (part, name) in &used {
        let free = free_name(&into[part], name, &other[part][name]);
        if free != *name {
            renamed.insert(reference(part, name), reference(part, &free));
        }
    }
    let rewrite = |value: &mut Value| {
        each_reference(value, &mut |found| {
            if let Some(new) = renamed.get(found) {
                *found = new.clone();
            }
        });
    };
    for (part, name) in &used {
        let key = reference(part, name);
        let name = renamed.get(&key).map_or(name.as_str(), |new| &new[part.len() + 3..]);
        let mut value = other[part][&key[part.len() + 3..]].clone();
        rewrite(&mut value);
        match into[part].get_mut(name) {
            Some(present) => add_kinds(present, &value),
            None => into[part][name] = value,
        }
    }
    paths.values_mut().for_each(rewrite);
    for (path, item) in paths {
        into["paths"][path] = item;
    }
}

fn reference(part: &str, name: &str) -> String {
    format!("#/{part}/{name}")
}

/// The shared parts that some paths need, directly or through others.
fn used_parts(document: &Value, paths: &Map<String, Value>) -> BTreeSet<(&'static str, String)> {
    let mut used = BTreeSet::new();
    let mut queue: Vec<Value> = paths.values().cloned().collect();
    while let Some(mut value) = queue.pop() {
        each_reference(&mut value, &mut |found| {
            let part_of = |part: &&str| {
                let name = found.strip_prefix("#/")?.strip_prefix(*part)?.strip_prefix('/')?;
                Some(name.to_owned())
            };
            let Some((part, name)) = PARTS.iter().find_map(|part| Some((*part, part_of(part)?)))
            else {
                return;
            };
            if document[part].get(&name).is_some() && used.insert((part, name.clone())) {
                queue.push(document[part][&name].clone());
            }
        });
    }
    used
}

/// A name under which something is already there in the same form, or nothing is.
fn free_name(present: &Value, name: &str, wanted: &Value) -> String {
    let numbered = (2..).map(|number| format!("{name}_v{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    let fits = |name: &String| present.get(name).is_none_or(|p| bare(p) == bare(wanted));
    names.find(fits).unwrap_or_else(|| name.to_owned())
}

/// What counts when two definitions are compared: all but texts, and the kinds at the top.
fn bare(definition: &Value) -> Value {
    let mut bare = definition.clone();
    if let Some(map) = bare.as_object_mut() {
        map.remove(KINDS);
    }
    strip_texts(&mut bare);
    bare
}

fn strip_texts(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("description").is_some_and(Value::is_string) {
                map.remove("description");
            }
            map.values_mut().for_each(strip_texts);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_texts),
        _ => {}
    }
}

/// Adds the kinds that a definition is also of.
fn add_kinds(present: &mut Value, other: &Value) {
    for kind in other[KINDS].as_array().into_iter().flatten() {
        match present[KINDS].as_array_mut() {
            Some(kinds) if kinds.contains(kind) => {}
            Some(kinds) => kinds.push(kind.clone()),
            None => present[KINDS] = Value::Array(vec![kind.clone()]),
        }
    }
}

/// Shows every reference in a value.
fn each_reference(value: &mut Value, see: &mut dyn FnMut(&mut String)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "$ref" => see(text),
                    other => each_reference(other, see),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_reference(item, see)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(definition: &str) -> Value {
        let schema = json!({"$ref": format!("#/definitions/{definition}")});
        json!({"get": {"responses": {"200": {"schema": schema}}}})
    }

    #[test]
    fn definitions_of_another_server_keep_apart_from_ours() {
        let mut ours = json!({
            "paths": {"/apis/a/v1/things": answer("Thing")},
            "definitions": {
                "Thing": {"type": "object", "description": "ours"},
                "Meta": {"type": "object", "description": "a text", KINDS: [{"kind": "A"}]},
            },
        });
        let theirs = json!({
            "paths": {
                "/apis/b/v1/things": answer("Thing"),
                "/apis/b/v2/things": answer("Unused"),
                "/apis/c/v1/things": answer("Unused"),
            },
            "definitions": {
                "Thing": {"type": "object", "properties": {
                    "metadata": {"$ref": "#/definitions/Meta"},
                    "part": {"$ref": "#/definitions/Part"},
                }},
                "Meta": {"type": "object", "description": "another", KINDS: [{"kind": "B"}]},
                "Part": {"type": "string"},
                "Unused": {"type": "string"},
            },
        });
        merge_v2(&mut ours, &theirs, "/apis/b/v1/");
        assert_eq!(
            ours,
            json!({
                "paths": {
                    "/apis/a/v1/things": answer("Thing"),
                    "/apis/b/v1/things": answer("Thing_v2"),
                },
                "definitions": {
                    "Thing": {"type": "object", "description": "ours"},
                    "Thing_v2": {"type": "object", "properties": {
                        "metadata": {"$ref": "#/definitions/Meta"},
                        "part": {"$ref": "#/definitions/Part"},
                    }},
                    "Meta": {"type": "object", "description": "a text",
                        KINDS: [{"kind": "A"}, {"kind": "B"}]},
                    "Part": {"type": "string"},
                },
            })
        );
        let before = ours.clone();
        merge_v2(&mut ours, &theirs, "/apis/b/v1/");
        assert_eq!(ours, before);
    }
}
