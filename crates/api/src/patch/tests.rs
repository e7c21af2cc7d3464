use serde_json::{Value, json};

use super::{json as json_patch, merge};

#[test]
fn merge_patches_follow_the_rfc() {
    for (target, patch, want) in [
        (json!({"a": 1, "b": 2}), json!({"a": null, "c": 3}), json!({"b": 2, "c": 3})),
        (json!({"a": {"x": 1}}), json!({"a": {"y": {"z": null}}}), json!({"a": {"x": 1, "y": {}}})),
        (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
        (json!({"a": 1}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}})),
        (json!({"a": 1}), json!([]), json!([])),
    ] {
        let mut result = target.clone();
        merge::apply(&mut result, &patch);
        assert_eq!(result, want, "{target} with {patch}");
    }
}

fn patched(target: &Value, patch: &Value) -> Result<Value, json_patch::Error> {
    let mut result = target.clone();
    json_patch::apply(&mut result, patch).map(|()| result)
}

#[test]
fn json_patches_follow_the_rfc() {
    let target = json!({"a": {"b/c": 1}, "l": [1, 2, 3], "~": 0});
    for (patch, want) in [
        (
            json!([{"op": "add", "path": "/a/x", "value": null}]),
            json!({"a": {"b/c": 1, "x": null}}),
        ),
        (json!([{"op": "remove", "path": "/a/b~1c"}]), json!({"a": {}})),
        (json!([{"op": "replace", "path": "/~0", "value": 1}]), json!({"~": 1})),
        (json!([{"op": "add", "path": "/l/1", "value": 9}]), json!({"l": [1, 9, 2, 3]})),
        (json!([{"op": "add", "path": "/l/-", "value": 9}]), json!({"l": [1, 2, 3, 9]})),
        (json!([{"op": "move", "from": "/l/0", "path": "/l/2"}]), json!({"l": [2, 3, 1]})),
        (
            json!([{"op": "copy", "from": "/l", "path": "/a/l"}]),
            json!({"a": {"b/c": 1, "l": [1, 2, 3]}}),
        ),
        (json!([{"op": "test", "path": "/l/2", "value": 3}]), json!({})),
        // Where upstream is more lenient than the RFC.
        (json!([{"op": "add", "path": "/x"}]), json!({"x": null})),
        (json!([{"op": "replace", "path": "/x", "value": 1}]), json!({"x": 1})),
        (json!([{"op": "remove", "path": "/l/-1"}]), json!({"l": [1, 2]})),
        (json!([{"op": "copy", "from": "/none", "path": "/x"}]), json!({"x": null})),
        (json!([{"op": "test", "path": "/none", "value": null}]), json!({})),
    ] {
        let mut expected = target.clone();
        for (key, value) in want.as_object().expect("an object") {
            expected[key.as_str()] = value.clone();
        }
        assert_eq!(patched(&target, &patch), Ok(expected), "{patch}");
    }
}

#[test]
fn a_failing_patch_changes_nothing() {
    let target = json!({"a": 1, "l": [1]});
    for bad in [
        json!({}),
        json!([{"path": "/a"}]),
        json!([{"op": "jump", "path": "/a"}]),
        json!([{"op": "add", "path": "", "value": 1}]),
        json!([{"op": "add", "path": "/x/y", "value": 1}]),
        json!([{"op": "add", "path": "/l/3", "value": 1}]),
        json!([{"op": "move", "from": "/a", "path": "/a/b"}]),
        json!([{"op": "add", "path": "/x", "value": 1}, {"op": "test", "path": "/a", "value": 2}]),
    ] {
        let mut result = target.clone();
        assert!(json_patch::apply(&mut result, &bad).is_err(), "{bad}");
        assert_eq!(result, target, "{bad}");
    }
}

#[test]
fn patches_have_limits() {
    let many: Vec<Value> = (0..=json_patch::OPERATIONS_MAX)
        .map(|_| json!({"op": "test", "path": "/a", "value": 1}))
        .collect();
    let error = patched(&json!({"a": 1}), &json!(many)).expect_err("one too many");
    assert_eq!(error, json_patch::Error::TooManyOperations(json_patch::OPERATIONS_MAX + 1));
    // Each copy doubles the document.
    let doubling: Vec<Value> =
        (0..64).map(|i| json!({"op": "copy", "from": "/a", "path": format!("/a/{i}")})).collect();
    let error =
        patched(&json!({"a": {"x": "0123456789"}}), &json!(doubling)).expect_err("too large");
    assert_eq!(error, json_patch::Error::CopiesTooLarge);
}

#[test]
fn the_answers_to_bad_patches_are_upstreams() {
    let rejected = "the server rejected our request due to an error in our request";
    let target = json!({"a": 1});
    for (patch, code, message) in [
        (json!([{"op": "test", "path": "/a", "value": 2}]), 422, rejected),
        (json!([{"op": "remove", "path": "/b"}]), 422, rejected),
        (json!([{"op": "add", "path": "", "value": {}}]), 422, rejected),
        (
            json!([{"op": "copy", "from": 1, "path": "/a"}]),
            400,
            "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.from of type string",
        ),
        (
            json!(["add"]),
            400,
            "error decoding patch: json: cannot unmarshal string into Go value of type handlers.jsonPatchOp",
        ),
    ] {
        let error = super::json_patch(&target, &patch).expect_err("a bad patch");
        assert_eq!((error.code, error.message.as_str()), (code, message), "{patch}");
    }
    let error = super::merge_patch(&target, &json!([])).expect_err("no object");
    assert_eq!(
        error.message,
        "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
    );
    let patch = json!([{"op": "add", "path": "/b", "value": 1, "x": 1}]);
    assert_eq!(json_patch::unknown_fields(&patch), ["json patch unknown field \"[0].x\""]);
}

#[test]
fn json_patches_do_not_nest_without_end() {
    let nested = |levels: usize| (0..levels).fold(json!({}), |inner, _| json!({ "x": inner }));
    let document = json!({});
    let steps = [json!({"op": "add", "path": "/x", "value": nested(99)})];
    let deep = crate::patch::json_patch(&document, &json!(steps)).expect("deep enough to be read");
    let at = "/x".repeat(101);
    for operation in [
        json!({"op": "add", "path": at, "value": nested(100)}),
        json!({"op": "replace", "path": at, "value": nested(100)}),
        json!({"op": "copy", "from": "/x", "path": at}),
        json!({"op": "replace", "path": "", "value": nested(200)}),
    ] {
        assert_eq!(
            crate::patch::json_patch(&deep, &json!([operation])).expect_err("too deep").code,
            422
        );
    }
    assert!(
        crate::patch::json_patch(&deep, &json!([{"op": "add", "path": at, "value": nested(20)}]))
            .is_ok()
    );
}
