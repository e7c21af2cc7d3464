//! The review that a conversion webhook is sent, and what of its answer holds.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/conversion/webhook_converter.go

use bytes::Bytes;
use longshore_api::field::Path;
use longshore_api::{Object, json as wire, meta_validation};
use serde_json::{Map, Value, json};

/// The group of reviews.
const GROUP: &str = "apiextensions.k8s.io";
/// The versions of reviews.
const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// Why objects were not converted.
#[derive(Debug)]
pub(super) struct Trouble {
    /// As the metrics name it.
    pub(super) kind: &'static str,
    /// What is told behind the kind of the object.
    pub(super) why: String,
}

impl Trouble {
    pub(super) fn new(kind: &'static str, why: impl Into<String>) -> Self {
        Self { kind, why: why.into() }
    }

    fn malformed(why: impl std::fmt::Display) -> Self {
        Self::new("conversion_webhook_malformed_response_failure", format!("failed: {why}"))
    }

    fn object(why: impl Into<String>) -> Self {
        Self::new("conversion_webhook_invalid_converted_object_failure", why)
    }
}

/// A review on its way.
pub(super) struct Review {
    uid: String,
    version: &'static str,
    pub(super) document: Bytes,
}

impl Review {
    pub(super) fn new(
        reviews: &[String],
        uid: String,
        objects: &[&Object],
        to: &str,
    ) -> Result<Self, Trouble> {
        let known = |version: &String| VERSIONS.into_iter().find(|known| known == version);
        let Some(version) = reviews.iter().find_map(known) else {
            let why = "failed: no supported conversion review versions";
            return Err(Trouble::new("conversion_webhook_call_failure", why));
        };
        let trees = objects.iter().map(|object| Value::Object(object.root().clone()));
        let review = json!({
            "kind": "ConversionReview",
            "apiVersion": format!("{GROUP}/{version}"),
            "request": {
                "uid": uid, "desiredAPIVersion": to, "objects": trees.collect::<Vec<_>>(),
            },
        });
        Ok(Self { uid, version, document: Bytes::from(review.to_string()) })
    }

    /// The objects of an answer.
    pub(super) fn read(&self, body: &[u8]) -> Result<Vec<Value>, Trouble> {
        let call =
            |why: String| Trouble::new("conversion_webhook_call_failure", format!("failed: {why}"));
        let decoded = wire::decode(body)
            .map_err(|why| call(format!("couldn't get version/kind; json parse error: {why}")))?;
        let mut review = decoded.value;
        let text = |key: &str| review[key].as_str().unwrap_or("").to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let named = !version.is_empty() && !kind.is_empty();
        if named && (group, version, kind.as_str()) != (GROUP, self.version, "ConversionReview") {
            let known = group == GROUP && VERSIONS.contains(&version) && kind == "ConversionReview";
            return Err(call(if known {
                let own = self.version;
                format!(
                    "converting ({version}.ConversionReview) to ({own}.ConversionReview): unknown conversion"
                )
            } else {
                format!("no kind {kind:?} is registered for version {api_version:?}")
            }));
        }
        if self.version == "v1" && !named {
            return Err(Trouble::malformed(format!(
                "expected webhook response of {GROUP}/v1, Kind=ConversionReview, got {group}/{version}, Kind={kind}"
            )));
        }
        let response = review["response"].take();
        if response.is_null() {
            return Err(Trouble::malformed("no response provided"));
        }
        let uid = response["uid"].as_str().unwrap_or("");
        if self.version == "v1" && uid != self.uid {
            let wanted = &self.uid;
            return Err(Trouble::malformed(format!(
                "expected response.uid={wanted:?}, got {uid:?}"
            )));
        }
        let result = |key: &str| response["result"][key].as_str().unwrap_or("");
        if result("status") != "Success" {
            return Err(Trouble::malformed(match result("message") {
                "" => format!("response.result.status was '{}', not 'Success'", result("status")),
                message => message.to_owned(),
            }));
        }
        Ok(response["convertedObjects"].as_array().cloned().unwrap_or_default())
    }
}

/// Takes what became of an object, if that is what it has to be. Of its metadata only labels and
/// annotations may change.
pub(super) fn accept(before: &Object, after: Value, to: &str) -> Result<Object, Trouble> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("").to_owned();
    if text(&after, "kind").is_empty() {
        return Err(Trouble::object(format!("failed: Object 'Kind' is missing in '{after}'")));
    }
    let invalid = |why: String| Trouble::object(format!("returned invalid object{why}"));
    let (api_version, kind) = (text(&after, "apiVersion"), text(&after, "kind"));
    if api_version != to {
        return Err(invalid(format!(
            " at index 0: invalid groupVersion (expected {to}, received {api_version})"
        )));
    }
    if kind != before.kind() {
        let wanted = before.kind();
        return Err(invalid(format!(
            " at index 0: invalid kind (expected {wanted}, received {kind})"
        )));
    }
    for (key, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (was, is) = (before.str(&["metadata", key]), text(&after["metadata"], key));
        if was != is {
            return Err(invalid(format!(": must have the same {name}: {was} != {is}")));
        }
    }
    let metadata = metadata(before, &after)
        .map_err(|why| Trouble::object(format!("returned invalid metadata: {why}")))?;
    let mut object =
        Object::from_value(after).ok_or_else(|| invalid(": it is no object".to_owned()))?;
    object.set(&["metadata"], Value::Object(metadata));
    Ok(object)
}

/// The metadata of before with the labels and annotations of after.
fn metadata(before: &Object, after: &Value) -> Result<Map<String, Value>, String> {
    let new = match &after["metadata"] {
        Value::Object(new) => new,
        Value::Null => return Err("missing metadata in converted object".to_owned()),
        other => return Err(format!("invalid metadata of type {} in converted object", go(other))),
    };
    let old = before.get(&["metadata"]).and_then(Value::as_object).cloned();
    let mut metadata = old.unwrap_or_default();
    for field in ["labels", "annotations"] {
        let map = match new.get(field) {
            None | Some(Value::Null) => {
                metadata.remove(field);
                continue;
            }
            Some(Value::Object(map)) => map,
            Some(other) => {
                let ty = go(other);
                return Err(format!("invalid metadata.{field} of type {ty} in converted object"));
            }
        };
        for (key, value) in map {
            if !value.is_string() {
                let ty = go(value);
                return Err(format!(
                    "metadata.{field}[{key}] must be a string, but is {ty} in converted object"
                ));
            }
        }
        if metadata.get(field).and_then(Value::as_object) != Some(map) {
            check(field, map)?;
        }
        metadata.insert(field.to_owned(), Value::Object(map.clone()));
    }
    Ok(metadata)
}

fn check(field: &str, map: &Map<String, Value>) -> Result<(), String> {
    let map = Value::Object(map.clone());
    let path = Path::new("metadata");
    let errors = if field == "labels" {
        meta_validation::validate_labels(Some(&map), &path.child("labels"))
    } else {
        meta_validation::validate_annotations(Some(&map), &path.child("annotation"))
    };
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        _ => Err(format!("[{}]", texts.join(", "))),
    }
}

/// The name of a type in Go.
fn go(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_stays_but_for_labels_and_annotations() {
        let before = json!({
            "apiVersion": "e.io/v1", "kind": "W", "spec": 1,
            "metadata": {
                "name": "n", "namespace": "s", "uid": "u", "generation": 3,
                "labels": {"a": "b"}, "annotations": {"c": "d"},
            },
        });
        let before = Object::from_value(before).expect("an object");
        let after = |change: &dyn Fn(&mut Value)| {
            let mut after = json!({
                "apiVersion": "e.io/v2", "kind": "W", "spec": 2,
                "metadata": {
                    "name": "n", "namespace": "s", "uid": "u", "generation": 9,
                    "labels": {"x": "y"}, "finalizers": ["f"],
                },
            });
            change(&mut after);
            accept(&before, after, "e.io/v2").map_err(|trouble| trouble.why)
        };
        let good = after(&|_| {}).expect("it is accepted");
        assert_eq!(
            good.into_value(),
            json!({
                "apiVersion": "e.io/v2", "kind": "W", "spec": 2,
                "metadata": {
                    "name": "n", "namespace": "s", "uid": "u", "generation": 3,
                    "labels": {"x": "y"},
                },
            })
        );
        for (pointer, value, want) in [
            (
                "/metadata/name",
                json!("m"),
                "returned invalid object: must have the same name: n != m",
            ),
            ("/metadata/uid", json!(""), "returned invalid object: must have the same UID: u != "),
            (
                "/kind",
                json!("X"),
                "returned invalid object at index 0: invalid kind (expected W, received X)",
            ),
            (
                "/apiVersion",
                json!("e.io/v1"),
                "returned invalid object at index 0: invalid groupVersion (expected e.io/v2, received e.io/v1)",
            ),
            (
                "/metadata/labels",
                json!({"x": 1}),
                "returned invalid metadata: metadata.labels[x] must be a string, but is int64 in converted object",
            ),
        ] {
            let error = after(&|after| {
                *after.pointer_mut(pointer).expect("it is there") = value.clone();
            });
            assert_eq!(error.expect_err("it is refused"), want);
        }
        let broken = after(&|after| after["metadata"]["labels"] = json!({"-": "y"}));
        let broken = broken.expect_err("it is refused");
        assert!(
            broken.starts_with("returned invalid metadata: metadata.labels: Invalid value: \"-\"")
        );
    }

    #[test]
    fn answers_are_checked() {
        let reviews = ["v2".to_owned(), "v1".to_owned()];
        let review = Review::new(&reviews, "u".to_owned(), &[], "e.io/v2").expect("a review");
        let read = |value: Value| match review.read(value.to_string().as_bytes()) {
            Ok(objects) => format!("{} objects", objects.len()),
            Err(trouble) => trouble.why,
        };
        let answer = |response: Value| json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response});
        let good = json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]});
        assert_eq!(read(answer(good.clone())), "1 objects");
        assert_eq!(
            read(json!({"response": good})),
            "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got /, Kind="
        );
        assert_eq!(read(answer(Value::Null)), "failed: no response provided");
        assert_eq!(
            read(answer(json!({"uid": "x"}))),
            "failed: expected response.uid=\"u\", got \"x\""
        );
        assert_eq!(
            read(answer(json!({"uid": "u", "result": {"status": "Failure"}}))),
            "failed: response.result.status was 'Failure', not 'Success'"
        );
        assert_eq!(
            read(answer(json!({"uid": "u", "result": {"status": "Failure", "message": "no"}}))),
            "failed: no"
        );
        let none = Review::new(&[], String::new(), &[], "e.io/v2").err().expect("no version");
        assert_eq!(none.why, "failed: no supported conversion review versions");
    }
}
