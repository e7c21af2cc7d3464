//! Puts a part of an object into it, without any manager: how admission policies change objects.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/mutating/patch/smd.go

use serde_json::Value;

use super::Typing;
use super::apply::{completed, restored};
use super::merge::merge;
use super::path::PathElement;
use super::schema::{Form, Ref};
use super::validate::validate;
use crate::Object;

/// The object with the part in it. Lists, maps and structs that are replaced as a whole may not be in the
/// part: what it does not name of them would be lost.
///
/// # Errors
/// Why the part does not fit, in upstream's words.
pub fn overlay(typing: Typing<'_>, object: &Object, part: &Value) -> Result<Object, String> {
    let at = Ref::object(typing);
    validate(at, part)
        .map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let mut found = Vec::new();
    atomics(at, part, &mut String::new(), &mut found);
    if !found.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            found.join(", ")
        ));
    }
    let mut live = object.clone().into_value();
    completed(typing, &mut live);
    let merged = merge(at, Some(&live), Some(part))
        .map_err(|why| format!("failed to merge patch: {why}"))?
        .unwrap_or_default();
    restored(typing, merged)
        .map_err(|why| format!("failed to convert typed object to object: {why}"))
}

/// The paths of what is replaced as a whole.
fn atomics(at: Ref<'_>, value: &Value, path: &mut String, found: &mut Vec<String>) {
    match (at.form(Some(value)), value) {
        (Some(Form::Map(form)), Value::Object(fields)) => {
            if form.atomic {
                found.push(path.clone());
            }
            for (name, value) in fields {
                if let Some(at) = form.field(name) {
                    atomics_below(at, value, &PathElement::named(name), path, found);
                }
            }
        }
        (Some(Form::List(form)), Value::Array(items)) => {
            if !form.associative {
                found.push(path.clone());
            }
            for (index, item) in items.iter().enumerate() {
                let step = PathElement::Index(i64::try_from(index).unwrap_or(i64::MAX));
                atomics_below(form.item, item, &step, path, found);
            }
        }
        _ => {}
    }
}

fn atomics_below(
    at: Ref<'_>,
    value: &Value,
    step: &PathElement,
    path: &mut String,
    found: &mut Vec<String>,
) {
    let length = path.len();
    path.push_str(&step.to_string());
    atomics(at, value, path, found);
    path.truncate(length);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_are_put_into_objects() {
        let object = Object::from_value(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "1"}},
            "spec": {"containers": [{"name": "c", "image": "i"}], "nodeSelector": {"k": "v"}},
        }));
        let object = object.expect("an object");
        let ty = crate::schema::kind("", "v1", "Pod").expect("a built-in kind");
        let put = |part: Value| overlay(ty.into(), &object, &part);
        let new = put(json!({
            "metadata": {"labels": {"y": "2"}},
            "spec": {"containers": [{"name": "c", "tty": true}]},
        }));
        let new = new.expect("it fits");
        assert_eq!(new.get(&["metadata", "labels"]), Some(&json!({"x": "1", "y": "2"})));
        assert_eq!(new.list(&["spec", "containers"])[0]["image"], "i");
        assert_eq!(new.list(&["spec", "containers"])[0]["tty"], true);
        for (part, want) in [
            (
                json!({"spec": {"nodeSelector": {"a": "b"}, "containers": [{"name": "c", "command": ["x"]}]}}),
                "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].command, .spec.nodeSelector",
            ),
            (
                json!({"spec": {"odd": 1}}),
                "failed to convert patch object to typed object: .spec.odd: field not declared in schema",
            ),
        ] {
            assert_eq!(put(part).err().as_deref(), Some(want));
        }
    }
}
