//! The scale of a custom resource: where its definition says that the numbers stand.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/registry/customresource/{etcd,validator}.go

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::patch::gotext;
use longshore_api::{Object, StatusError};
use serde_json::{Map, Value, json};

use crate::table::ScalePaths;

/// The number that stands for a number that is not there, which nobody may want.
pub const ABSENT: i64 = i32::MIN as i64;

fn steps(path: &str) -> Vec<&str> {
    path.strip_prefix('.').unwrap_or(path).split('.').collect()
}

/// The names of the fields on the way to the wanted number.
pub fn replicas_path(paths: &ScalePaths) -> Vec<&str> {
    steps(&paths.spec_replicas)
}

fn wrong(steps: &[&str], value: &Value, wanted: &str) -> String {
    let found = match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    let (path, value) = (steps.join("."), gotext::plain(value));
    format!(".{path} accessor error: {value} is of the type {found}, expected {wanted}")
}

/// The value at a path; none when a step is missing.
///
/// upstream: apimachinery/pkg/apis/meta/v1/unstructured/helpers.go NestedFieldNoCopy
fn nested<'a>(object: &'a Object, steps: &[&str]) -> Result<Option<&'a Value>, String> {
    let Some((first, rest)) = steps.split_first() else { return Ok(None) };
    let Some(mut at) = object.root().get(*first) else { return Ok(None) };
    for (depth, step) in rest.iter().enumerate() {
        at = match at {
            Value::Null => return Ok(None),
            Value::Object(fields) => match fields.get(*step) {
                Some(next) => next,
                None => return Ok(None),
            },
            other => return Err(wrong(&steps[..depth + 2], other, "map[string]interface{}")),
        };
    }
    Ok(Some(at))
}

/// The number at a path, when there is one.
fn number(path: &str, object: &Object) -> Result<Option<i64>, String> {
    let steps = steps(path);
    let Some(found) = nested(object, &steps)? else { return Ok(None) };
    found.as_i64().map(Some).ok_or_else(|| wrong(&steps, found, "int64"))
}

/// The text at a path; empty when there is none.
fn text<'a>(path: &str, object: &'a Object) -> Result<&'a str, String> {
    if path.is_empty() {
        return Ok("");
    }
    let steps = steps(path);
    let Some(found) = nested(object, &steps)? else { return Ok("") };
    found.as_str().ok_or_else(|| wrong(&steps, found, "string"))
}

/// The scale of an object, and whether the wanted number is there; 0 stands for it otherwise.
///
/// # Errors
/// When one of the values is of another type.
pub fn to_scale(paths: &ScalePaths, object: &Object) -> Result<(Object, bool), String> {
    let wanted = number(&paths.spec_replicas, object)?;
    let present = number(&paths.status_replicas, object)?.unwrap_or(0);
    let selector = text(&paths.selector, object)?;
    let mut metadata = Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.get(&["metadata", key]) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    let mut scale = Object::default();
    scale.set(&["apiVersion"], "autoscaling/v1");
    scale.set(&["kind"], "Scale");
    scale.set(&["metadata"], metadata);
    scale.set(&["spec"], json!({}));
    if let Some(wanted) = wanted.filter(|wanted| *wanted != 0) {
        scale.set(&["spec", "replicas"], wanted);
    }
    scale.set(&["status", "replicas"], present);
    if !selector.is_empty() {
        scale.set(&["status", "selector"], selector);
    }
    Ok((scale, wanted.is_some()))
}

/// Takes the wanted number over into an object, with the precondition that the scale's resource
/// version is.
///
/// # Errors
/// 400 when there is no number, 500 when there is no place for it.
pub fn apply_scale(
    paths: &ScalePaths,
    object: &mut Object,
    scale: &Object,
) -> Result<(), StatusError> {
    let wanted = scale.int(&["spec", "replicas"]).unwrap_or(0);
    if wanted == ABSENT {
        let path = gotext::quote(&paths.spec_replicas);
        let why = format!("the spec replicas field {path} cannot be empty");
        return Err(StatusError::bad_request(why));
    }
    let steps = steps(&paths.spec_replicas);
    for depth in 1..steps.len() {
        if object.get(&steps[..depth]).is_some_and(|value| !value.is_object()) {
            let path = steps[..depth].join(".");
            let why =
                format!("value cannot be set because .{path} is not a map[string]interface{{}}");
            return Err(StatusError::new(longshore_api::Reason::Unknown, why));
        }
    }
    object.set(&steps, wanted);
    for key in ["uid", "resourceVersion"] {
        let value = scale.str(&["metadata", key]);
        if !value.is_empty() {
            object.set(&["metadata", key], value);
        }
    }
    Ok(())
}

/// Checks the wanted number.
pub(super) fn check_spec(paths: &ScalePaths, object: &Object, errors: &mut ErrorList) {
    check_number(&paths.spec_replicas, object, errors);
}

/// Checks the present number and the selector.
pub(super) fn check_status(paths: &ScalePaths, object: &Object, errors: &mut ErrorList) {
    check_number(&paths.status_replicas, object, errors);
    if let Err(why) = text(&paths.selector, object) {
        errors.push(Error::invalid(&Path::new(&paths.selector), "", &why));
    }
}

fn check_number(at: &str, object: &Object, errors: &mut ErrorList) {
    let path = Path::new(at);
    let most = i64::from(i32::MAX);
    match number(at, object).map(Option::unwrap_or_default) {
        Err(why) => errors.push(Error::invalid(&path, 0, &why)),
        Ok(number) if number < 0 => {
            errors.push(Error::invalid(&path, number, "should be a non-negative integer"));
        }
        Ok(number) if number > most => {
            let why = format!("should be less than or equal to {most}");
            errors.push(Error::invalid(&path, number, &why));
        }
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> ScalePaths {
        ScalePaths {
            spec_replicas: ".spec.size.wanted".into(),
            status_replicas: ".status.replicas".into(),
            selector: ".status.selector".into(),
        }
    }

    #[test]
    fn numbers_are_where_the_definition_says() {
        let mut object = Object::from_value(json!({
            "metadata": {"name": "a"}, "spec": {"size": {"wanted": 3}},
            "status": {"replicas": 2, "selector": "a=b"},
        }))
        .expect("an object");
        let (mut scale, found) = to_scale(&paths(), &object).expect("a scale");
        assert!(found);
        assert_eq!(scale.get(&["status"]), Some(&json!({"replicas": 2, "selector": "a=b"})));
        scale.set(&["spec", "replicas"], 7);
        apply_scale(&paths(), &mut object, &scale).expect("it has a place");
        assert_eq!(object.int(&["spec", "size", "wanted"]), Some(7));
        scale.set(&["spec", "replicas"], ABSENT);
        assert_eq!(apply_scale(&paths(), &mut object, &scale).expect_err("no number").code, 400);
        object.set(&["spec"], "text");
        scale.set(&["spec", "replicas"], 1);
        assert_eq!(apply_scale(&paths(), &mut object, &scale).expect_err("no place").code, 500);
    }

    #[test]
    fn numbers_of_other_types_are_told() {
        for (spec, want) in [
            (json!({"size": {"wanted": "3"}}), "3 is of the type string, expected int64"),
            (json!({"size": {"wanted": null}}), "<nil> is of the type <nil>, expected int64"),
            (json!({"size": 3}), "3 is of the type int64, expected map[string]interface{}"),
            (json!({"size": {"wanted": -1}}), "should be a non-negative integer"),
        ] {
            let object = Object::from_value(json!({ "spec": spec })).expect("an object");
            let mut errors = ErrorList::new();
            check_spec(&paths(), &object, &mut errors);
            assert!(errors[0].to_string().ends_with(want), "{}", errors[0]);
        }
        let mut errors = ErrorList::new();
        check_spec(&paths(), &Object::default(), &mut errors);
        assert_eq!(errors, []);
    }
}
