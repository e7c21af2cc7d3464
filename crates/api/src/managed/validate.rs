//! Whether a value, as somebody wrote it, can be read by the schema.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/typed/validate.go

use std::collections::BTreeSet;

use serde_json::{Map as Fields, Value};

use super::Error;
use super::item::identify;
use super::path::PathElement;
use super::schema::{Form, List, Map, Ref, ScalarKind};
use crate::patch::gotext;

/// Checks a value of a form; items of lists that occur twice are an error.
///
/// # Errors
/// All problems with their paths.
pub(super) fn validate(at: Ref, value: &Value) -> Result<(), Error> {
    let mut problems = Error::default();
    check(at, value, &mut problems);
    problems.into_result()
}

fn check(at: Ref, value: &Value, problems: &mut Error) {
    match at.form(Some(value)) {
        Some(Form::Scalar(kind)) => problems.extend(scalar(kind, value)),
        Some(Form::List(form)) => match value {
            Value::Null => {}
            Value::Array(items) => list(form, items, problems),
            other => problems.add(Error::new(format!("expected list, got {}", shown(other)))),
        },
        Some(Form::Map(form)) => match value {
            Value::Null => {}
            Value::Object(fields) => map(form, fields, problems),
            other => problems.add(Error::new(format!("expected map, got {}", shown(other)))),
        },
        None => problems.add(Error::new("schema error: invalid atom: inlined")),
    }
}

/// A value as Go prints the struct that holds it.
fn shown(value: &Value) -> String {
    format!("&{{{}}}", gotext::plain(value))
}

fn scalar(kind: ScalarKind, value: &Value) -> Option<Error> {
    let wrong = |text: String| Some(Error::new(text));
    match (kind, value) {
        (_, Value::Null)
        | (ScalarKind::Numeric, Value::Number(_))
        | (ScalarKind::String, Value::String(_))
        | (ScalarKind::Boolean, Value::Bool(_))
        | (ScalarKind::Any, Value::Number(_) | Value::String(_) | Value::Bool(_)) => None,
        (ScalarKind::Numeric, other) => {
            wrong(format!("expected numeric (int or float), got {}", go_type(other)))
        }
        (ScalarKind::String, other) => wrong(format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            gotext::syntax(other)
        )),
        (ScalarKind::Boolean, other) => wrong(format!("expected boolean, got {}", shown(other))),
        (ScalarKind::Any, other) => wrong(format!("expected any scalar, got {}", shown(other))),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn list(form: List, items: &[Value], problems: &mut Error) {
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let element = if form.associative {
            match identify(form, item) {
                Ok(element) => element,
                Err(why) => return problems.add(Error::of_item(index, &why)),
            }
        } else {
            PathElement::Index(i64::try_from(index).unwrap_or(i64::MAX))
        };
        if form.associative && !seen.insert(element.clone()) {
            problems.add(Error::new(format!("duplicate entries for key {element}")));
        }
        let mut below = Error::default();
        check(form.item, item, &mut below);
        problems.add(below.below(&element));
    }
}

fn map(form: Map, fields: &Fields<String, Value>, problems: &mut Error) {
    for (name, value) in fields {
        let element = PathElement::named(name);
        let Some(at) = form.at(name) else {
            problems.add(Error::new("field not declared in schema").below(&element));
            return;
        };
        let mut below = Error::default();
        check(at, value, &mut below);
        problems.add(below.below(&element));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(value: Value) -> String {
        let ty = crate::schema::kind("", "v1", "Pod").expect("a built-in kind");
        validate(Ref::object(ty), &value).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn problems_are_told_with_their_paths() {
        for (value, want) in [
            (json!({"metadata": {"name": "a", "labels": null}, "spec": {"containers": []}}), ""),
            (
                json!({"metadata": {"name": 7}}),
                ".metadata.name: expected string, got &value.valueUnstructured{Value:7}",
            ),
            (json!({"metadata": ["x"]}), ".metadata: expected map, got &{[x]}"),
            (
                json!({"metadata": {"finalizers": "f"}}),
                ".metadata.finalizers: expected list, got &{f}",
            ),
            (
                json!({"metadata": {"finalizers": [1]}}),
                ".metadata.finalizers[=1]: expected string, got &value.valueUnstructured{Value:1}",
            ),
            (
                json!({"spec": {"hostNetwork": "true"}}),
                ".spec.hostNetwork: expected boolean, got &{true}",
            ),
            (
                json!({"spec": {"priority": "1"}}),
                ".spec.priority: expected numeric (int or float), got string",
            ),
            (json!({"spec": {"odd": 1}}), ".spec.odd: field not declared in schema"),
            (
                json!({"spec": {"containers": [null]}}),
                ".spec.containers: element 0: associative list with keys may not have a null element",
            ),
            (
                json!({"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}),
                ".spec.containers: duplicate entries for key [name=\"a\"]",
            ),
            (json!({"spec": {"containers": [{}]}}), ""),
            (
                json!({"spec": {"overhead": {"cpu": {}}}}),
                ".spec.overhead.cpu: expected any scalar, got &{map[]}",
            ),
            (
                json!({"metadata": 1, "spec": 2}),
                "errors:\n  .metadata: expected map, got &{1}\n  .spec: expected map, got &{2}",
            ),
        ] {
            assert_eq!(told(value.clone()), want, "{value}");
        }
    }
}
