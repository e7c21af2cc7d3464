use serde_json::json;

use super::*;
use crate::schema;

fn pod() -> &'static Type {
    schema::kind("", "v1", "Pod").expect("known")
}

fn deployment() -> &'static Type {
    schema::kind("apps", "v1", "Deployment").expect("known")
}

#[test]
fn lists_with_a_key_are_merged() {
    let original =
        json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}});
    let cases = [
        (
            json!({"spec": {"containers": [{"name": "b", "image": "2"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}}),
        ),
        (
            json!({"spec": {"containers": [{"name": "c"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}, {"name": "c"}]}}),
        ),
        (
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "1"}]}}),
        ),
        (
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}}),
            json!({"spec": {"containers": [{"name": "z"}]}}),
        ),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b", "image": null}]}}),
            json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "image": "1"}]}}),
        ),
        (json!({"spec": null}), json!({})),
        (
            json!({"spec": {"$patch": "replace", "nodeName": "n"}}),
            json!({"spec": {"nodeName": "n"}}),
        ),
    ];
    for (patch, want) in cases {
        assert_eq!(apply(pod(), &original, &patch), Ok(want), "{patch}");
    }
}

#[test]
fn scalars_and_atomic_lists() {
    let original = json!({"metadata": {"finalizers": ["a", "b"]},
        "spec": {"containers": [{"name": "c", "args": ["x"]}]}});
    let patch = json!({"metadata": {"finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"]},
        "spec": {"containers": [{"name": "c", "args": ["y"]}]}});
    let result = apply(pod(), &original, &patch).expect("applies");
    let mut finalizers: Vec<_> =
        result["metadata"]["finalizers"].as_array().expect("a list").clone();
    finalizers.sort_by_key(ToString::to_string);
    assert_eq!(finalizers, ["b", "c"]);
    assert_eq!(result["spec"]["containers"][0]["args"], json!(["y"]));
}

#[test]
fn retained_keys_drop_the_rest() {
    let original =
        json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let want = json!({"spec": {"strategy": {"type": "Recreate"}}});
    assert_eq!(apply(deployment(), &original, &patch), Ok(want));
}

#[test]
fn broken_patches_are_errors() {
    let original = json!({"spec": {"containers": [{"name": "a"}]}});
    for patch in [
        json!([]),
        json!({"spec": {"$patch": "burn"}}),
        json!({"spec": {"containers": [{"image": "x"}]}}),
        json!({"spec": {"containers": ["x"]}}),
        json!({"spec": "x"}),
    ] {
        assert!(apply(pod(), &original, &patch).is_err(), "{patch}");
    }
}
