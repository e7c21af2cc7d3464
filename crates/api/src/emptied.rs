//! Lists and maps that were given without items.
//!
//! Go keeps a nil list apart from an empty one until an object is stored. Here what is empty is
//! absent, as in the store; what was given is remembered for the words of errors, which tell it.

use serde_json::{Map, Value};

/// Places that are remembered of one object; more are told as absent ones.
const PLACES_MAX: usize = 1000;

/// Where an object was given empty lists and maps: paths such as `spec.containers[0].command`.
#[derive(Clone, Debug, Default)]
pub struct Emptied(Vec<(String, bool)>);

impl Emptied {
    /// Remembers a value at a path when it is a list or map without items.
    pub(crate) fn note(&mut self, path: &str, value: &Value) {
        let list = match value {
            Value::Array(items) if items.is_empty() => true,
            Value::Object(entries) if entries.is_empty() => false,
            _ => return,
        };
        if self.0.len() < PLACES_MAX {
            self.0.push((path.to_owned(), list));
        }
    }

    /// Whether nothing was given empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a list or map was given empty at a path.
    pub fn has(&self, path: &str) -> bool {
        self.0.iter().any(|(place, _)| place == path)
    }

    /// Puts them back where there is still nothing.
    pub fn put_back(&self, root: &mut Map<String, Value>) {
        for (path, list) in &self.0 {
            let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
            let Some(owner) = owner(root, parents) else { continue };
            if owner.get(name).is_none_or(Value::is_null) {
                let value = if *list { Value::Array(Vec::new()) } else { Map::new().into() };
                owner.insert(name.to_owned(), value);
            }
        }
    }
}

/// The struct at a path; the keys of maps in it may have dots themselves.
fn owner<'v>(at: &'v mut Map<String, Value>, path: &str) -> Option<&'v mut Map<String, Value>> {
    if path.is_empty() {
        return Some(at);
    }
    let ends = |key: &str| {
        let rest = path.strip_prefix(key);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let key = at.keys().filter(|key| ends(key)).max_by_key(|key| key.len())?.clone();
    let mut rest = &path[key.len()..];
    let mut value = at.get_mut(&key)?;
    while let Some(index) = rest.strip_prefix('[') {
        let (index, after) = index.split_once(']')?;
        value = value.get_mut(index.parse::<usize>().ok()?)?;
        rest = after;
    }
    owner(value.as_object_mut()?, rest.strip_prefix('.').unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn empty_lists_and_maps_come_back_where_nothing_is() {
        let mut given = Emptied::default();
        given.note("spec.a.b[1].command", &json!([]));
        given.note("spec.a.b.c[0].labels", &json!({}));
        given.note("spec.full", &json!(["x"]));
        given.note("gone.list", &json!([]));
        given.note("spec.set", &json!([]));
        let mut root = json!({"spec": {
            "a": {"b": [{}, {"command": null}], "b.c": [{}]}, "set": ["y"]
        }});
        given.put_back(root.as_object_mut().expect("an object"));
        let want = json!({"spec": {
            "a": {"b": [{}, {"command": []}], "b.c": [{"labels": {}}]}, "set": ["y"]
        }});
        assert_eq!(root, want);
    }
}
