//! Which objects and lists of a document a patch takes apart: messages show them in the order of their keys, and the
//! others as they were.
//!
//! upstream: gopkg.in/evanphx/json-patch.v4 (lazyNode)

use std::collections::BTreeSet;

use serde_json::Value;

/// Paths of keys and indexes from the root.
pub type Touched = BTreeSet<Vec<String>>;

/// What a JSON patch takes apart: all that lies on the way to a place, and what is compared.
pub fn by_json_patch(patch: &Value) -> Touched {
    let mut touched = Touched::new();
    for operation in patch.as_array().into_iter().flatten() {
        let steps = |key: &str| {
            let pointer = operation.get(key)?.as_str()?.strip_prefix('/')?;
            let steps = pointer.split('/').map(|s| s.replace("~1", "/").replace("~0", "~"));
            Some(steps.collect::<Vec<String>>())
        };
        for steps in [steps("path"), steps("from")].into_iter().flatten() {
            let compared = operation.get("op").is_some_and(|op| op == "test");
            let depth = steps.len() + usize::from(compared);
            // Where a place is known, so is all on the way to it.
            for depth in (1..depth).rev() {
                if !touched.insert(steps[..depth].to_vec()) {
                    break;
                }
            }
        }
    }
    touched
}

/// What a merge patch takes apart: all that it has an object for.
pub fn by_merge_patch(patch: &Value) -> Touched {
    fn walk(patch: &Value, path: &mut Vec<String>, touched: &mut Touched) {
        for (key, value) in patch.as_object().into_iter().flatten() {
            if value.is_object() {
                path.push(key.clone());
                touched.insert(path.clone());
                walk(value, path, touched);
                path.pop();
            }
        }
    }
    let mut touched = Touched::new();
    walk(patch, &mut Vec::new(), &mut touched);
    touched
}
