//! Targets that apply patches.

use std::sync::OnceLock;

use longshore_api::schema::Type;
use longshore_api::{json, normalize, patch};
use serde_json::{Value, json};

use super::{choice, chosen, outcome};
use crate::generate;
use crate::random::Random;

pub const WORDS: &[&[u8]] = &[
    b"{\"op\":\"add\",\"path\":\"/metadata/labels/a\",\"value\":{}},",
    b"{\"op\":\"remove\",\"path\":\"/spec\"},",
    b"{\"op\":\"copy\",\"from\":\"/metadata\",\"path\":\"/metadata/a\"},",
    b"{\"op\":\"move\",\"from\":\"/spec\",\"path\":\"/a\"},",
    b"{\"op\":\"test\",\"path\":\"\",\"value\":null},",
    b"\"/-\"",
    b"~0",
    b"~1",
    b"/0",
    b"/-1",
    b"/00",
    b"\"$patch\":\"delete\",",
    b"\"$patch\":\"replace\",",
    b"\"$patch\":\"merge\",",
    b"\"$retainKeys\":[\"type\"],",
    b"\"$setElementOrder/containers\":[{\"name\":\"a\"}],",
    b"\"$deleteFromPrimitiveList/finalizers\":[\"a\"],",
    b"null",
    b"{}",
    b"[]",
    b"\"name\":",
    b"\"containers\":[",
    b"\"ports\":[{\"port\":1}]",
    b"\"metadata\":{",
    b"\"spec\":{",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"-1",
];

/// An object to patch.
struct Document {
    value: Value,
    ty: &'static Type,
}

fn documents() -> &'static [Document] {
    static DOCUMENTS: OnceLock<Vec<Document>> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        let mut random = Random::new(7);
        let kinds = generate::kinds().into_iter();
        let make =
            kinds.map(|(gvk, ty)| Document { value: generate::object(&mut random, &gvk, ty), ty });
        make.collect()
    })
}

fn seeds(make: impl Fn(&mut Random, &Value) -> Value, random: &mut Random) -> Vec<Vec<u8>> {
    let all = documents().iter().enumerate();
    all.map(|(index, document)| {
        let patch = make(random, &document.value).to_string();
        [&choice(index)[..], patch.as_bytes()].concat()
    })
    .collect()
}

/// Another object of the kind is a patch, too.
fn another(random: &mut Random, value: &Value) -> Value {
    let kinds = generate::kinds();
    let found = kinds
        .iter()
        .find(|(gvk, _)| value["kind"] == *gvk.kind && value["apiVersion"] == gvk.api_version());
    found.map_or(json!({}), |(gvk, ty)| generate::object(random, gvk, ty))
}

fn parsed(input: &[u8]) -> Option<(&'static Document, Value)> {
    let (document, rest) = chosen(input, documents())?;
    Some((document, json::decode(rest).ok()?.value))
}

pub fn json_seeds(random: &mut Random) -> Vec<Vec<u8>> {
    seeds(
        |_, value| {
            json!([
                {"op": "test", "path": "/kind", "value": value["kind"]},
                {"op": "add", "path": "/metadata/annotations", "value": {"a~/": "b"}},
                {"op": "replace", "path": "/metadata/annotations/a~0~1", "value": [1, 2]},
                {"op": "add", "path": "/metadata/annotations/a~0~1/-", "value": 3},
                {"op": "add", "path": "/metadata/annotations/a~0~1/1", "value": {"x": null}},
                {"op": "copy", "from": "/metadata", "path": "/metadata/annotations/copy"},
                {"op": "move", "from": "/metadata/annotations/copy", "path": "/status"},
                {"op": "remove", "path": "/status/name"},
            ])
        },
        random,
    )
}

pub fn json(input: &[u8]) -> String {
    let Some((document, patch)) = parsed(input) else { return "no JSON".into() };
    let mut result = document.value.clone();
    patch::json::unknown_fields(&patch);
    let applied = patch::json::apply(&mut result, &patch);
    if applied.is_err() {
        assert_eq!(result, document.value, "a patch that fails changes nothing");
    }
    outcome(applied, "applied")
}

pub fn merge_seeds(random: &mut Random) -> Vec<Vec<u8>> {
    seeds(another, random)
}

pub fn merge(input: &[u8]) -> String {
    let Some((document, patch)) = parsed(input) else { return "no JSON".into() };
    let once = match patch::merge_patch(&document.value, &patch) {
        Ok(once) => once,
        Err(error) => return error.message,
    };
    let twice = patch::merge_patch(&once, &patch).expect("what was applied can be applied again");
    assert_eq!(once, twice, "a merge patch has its effect at once");
    "applied".into()
}

pub fn strategic_seeds(random: &mut Random) -> Vec<Vec<u8>> {
    seeds(another, random)
}

pub fn strategic(input: &[u8]) -> String {
    let Some((document, patch)) = parsed(input) else { return "no JSON".into() };
    let mut result = match patch::strategic_patch(document.ty, &document.value, &patch) {
        Ok(result) => result,
        Err(error) => return error.message,
    };
    if let Err(error) = normalize::restore(document.ty, &mut result) {
        return error;
    }
    outcome(normalize::normalize(document.ty, &mut result), "applied")
}
