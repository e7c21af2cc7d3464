use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// The vectors: one fully populated object of every kind in each format.
fn vectors() -> Option<Vec<(String, Vec<u8>, Value)>> {
    let dir =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/facts/api-testdata-v1.36");
    let Ok(entries) = std::fs::read_dir(&dir) else {
        eprintln!("skipped: the wire vectors are not here ({})", dir.display());
        return None;
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_some_and(|e| e == "pb") {
            let json = std::fs::read(path.with_extension("json")).expect("its JSON form");
            let json: Value = serde_json::from_slice(&json).expect("valid JSON");
            if json["kind"].is_null() {
                continue; // WatchEvent is no object: it has no envelope
            }
            found.push((
                path.display().to_string(),
                std::fs::read(&path).expect("its bytes"),
                json,
            ));
        }
    }
    assert!(found.len() > 50, "there should be a vector for every kind");
    Some(found)
}

fn normal(mut value: Value) -> Value {
    let (group, version) =
        split_api_version(value["apiVersion"].as_str().expect("a version")).expect("valid");
    let ty = schema::kind(group, version, value["kind"].as_str().expect("a kind")).expect("known");
    crate::normalize::normalize(ty, &mut value).expect("a vector fits its type");
    value
}

#[test]
fn vectors_decode_to_their_json_form() {
    let Some(vectors) = vectors() else { return };
    let mut wrong = Vec::new();
    for (path, bytes, json) in vectors {
        match decode_object(&bytes, ("", "")) {
            Ok(value) if normal(value.clone()) == normal(json.clone()) => {}
            Ok(value) => wrong.push(format!("{path}\n{value}\n{json}")),
            Err(error) => wrong.push(format!("{path}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[0]);
}

#[test]
fn vectors_round_trip() {
    let Some(vectors) = vectors() else { return };
    for (path, _, json) in vectors {
        let json = normal(json);
        let bytes = encode_object(&json).expect("a known kind");
        let back = normal(decode_object(&bytes, ("", "")).expect("what was encoded decodes"));
        assert_eq!(back, json, "{path}");
    }
}

#[test]
fn noise_is_an_error() {
    let pod = schema::kind("", "v1", "Pod").expect("known");
    for bytes in
        [&b"\x0a"[..], b"\x0a\x05ab", b"\x0f", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
    {
        assert!(decode(pod, bytes).is_err(), "{bytes:?}");
    }
    assert_eq!(decode_object(b"{}", ("v1", "Pod")), Err(Error::NoMagic));
}

#[test]
fn a_list_is_the_messages_of_its_items() {
    let pods = serde_json::json!([
        {"metadata": {"name": "a", "creationTimestamp": null}, "spec": {"containers": []}},
        {"metadata": {"name": "b", "creationTimestamp": null}, "spec": {"containers": []}},
    ]);
    let list = serde_json::json!({
        "apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": pods,
    });
    let ty = schema::kind("", "v1", "Pod").expect("a built-in kind");
    let items: Vec<Vec<u8>> =
        pods.as_array().expect("a list").iter().map(|pod| encode(ty, pod)).collect();
    let joined = encode_list("v1", "PodList", &list["metadata"], items.iter().map(Vec::as_slice));
    assert_eq!(joined, encode_object(&list).expect("a known kind"));
    let opened = envelope::unwrap(&joined).expect("an envelope");
    assert_eq!((opened.api_version, opened.kind), ("v1", "PodList"));
    assert_eq!(envelope::wrap("v1", "PodList", opened.raw), joined);
    assert_eq!(envelope::unwrap(&joined[..20]), Err(Error::Truncated));
    assert_eq!(envelope::unwrap(b"k8"), Err(Error::NoMagic));
}

#[test]
fn named_lists_and_schemas_have_messages_of_their_own() {
    let resources = json!({"apiVersion": "v1", "kind": "APIResourceList", "groupVersion": "v1",
        "resources": [{"name": "pods", "kind": "Pod", "verbs": ["get", "list"]}]});
    let bytes = encode_object(&resources).expect("a known kind");
    let verbs = b"\x22\x0b\x0a\x03get\x0a\x04list";
    assert!(bytes.windows(verbs.len()).any(|part| part == verbs), "{bytes:?}");
    let schema = json!({
        "type": "object",
        "items": {"type": "string"},
        "additionalItems": false,
        "additionalProperties": {"type": "integer"},
        "dependencies": {"a": ["b", "c"], "d": {"required": ["e"]}},
        "properties": {"list": {"items": [{"type": "array"}], "default": {"any": 1}, "additionalProperties": true}},
    });
    let ty = schema::type_named("apiextensions.k8s.io/v1.JSONSchemaProps").expect("a type");
    let bytes = encode(ty, &schema);
    assert_eq!(decode(ty, &bytes), Ok(schema));
    // `allows` goes with a schema
    let allows = b"\xf2\x01\x0d\x08\x01\x12\x09\x2a\x07integer";
    assert!(bytes.windows(allows.len()).any(|part| part == allows), "{bytes:?}");
}

#[test]
fn options_belong_to_every_version() {
    let raw = [0x08, 0x05];
    let bytes = envelope::wrap("apps/v1", "DeleteOptions", &raw);
    let options = decode_object(&bytes, ("v1", "DeleteOptions")).expect("known everywhere");
    assert_eq!(options["gracePeriodSeconds"], 5);
    let bytes = envelope::wrap("apps/v1", "Status", &[]);
    assert!(matches!(decode_object(&bytes, ("v1", "Status")), Err(Error::UnknownKind { .. })));
}

#[test]
fn later_parts_of_a_message_add_to_the_first() {
    let ty = crate::schema::kind("", "v1", "ConfigMap").expect("a kind");
    // Two times field 1, the metadata: a name, then a namespace.
    let bytes = b"\x0a\x03\x0a\x01a\x0a\x03\x1a\x01b";
    let decoded = decode(ty, bytes).expect("a message");
    assert_eq!(decoded["metadata"]["name"], "a");
    assert_eq!(decoded["metadata"]["namespace"], "b");
}
