use serde_json::{Value, json};

use super::apply;
use crate::schema;

fn pod(original: Value, patch: Value) -> Result<Value, String> {
    let ty = schema::type_named("core/v1.PodSpec").expect("a type");
    apply(ty, &original, &patch).map_err(|error| format!("{} {}", error.code, error.message))
}

fn check(original: Value, patch: Value, want: Value) {
    let shown = format!("{original} with {patch}");
    assert_eq!(pod(original, patch), Ok(want), "{shown}");
}

fn names(names: &[&str]) -> Value {
    json!({"containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()})
}

#[test]
fn maps_are_merged_and_nulls_remove() {
    check(
        json!({"nodeSelector": {"a": "1", "b": "2"}, "nodeName": "n"}),
        json!({"nodeSelector": {"a": null, "c": "3"}, "nodeName": null, "hostname": null}),
        json!({"nodeSelector": {"b": "2", "c": "3"}}),
    );
    // Nulls of a new value do not stay, nor do directives in it.
    check(
        json!({}),
        json!({"affinity": {"nodeAffinity": null, "podAffinity": {"$patch": "delete"}}}),
        json!({"affinity": {}}),
    );
    check(json!({"nodeName": "a"}), json!({"nodeName": {"x": 1}}), json!({"nodeName": {"x": 1}}));
}

#[test]
fn a_map_can_be_replaced_or_emptied() {
    let original = json!({"nodeSelector": {"a": "1"}});
    let replace = json!({"nodeSelector": {"$patch": "replace", "b": "2"}});
    check(original.clone(), replace, json!({"nodeSelector": {"b": "2"}}));
    let delete = json!({"nodeSelector": {"$patch": "delete", "b": "2"}});
    check(original, delete, json!({"nodeSelector": {}}));
}

#[test]
fn lists_with_a_key_are_merged_by_it() {
    check(
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}),
        json!({"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}),
        json!({"containers": [
            {"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c", "image": "3"},
        ]}),
    );
    // The patch's order counts for what it names.
    check(names(&["a", "b", "c"]), names(&["c", "a"]), names(&["b", "c", "a"]));
    check(names(&["a"]), names(&["z"]), names(&["z", "a"]));
}

#[test]
fn items_can_be_deleted_and_lists_replaced() {
    check(
        names(&["a", "b"]),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        names(&["b"]),
    );
    check(
        names(&["a", "b"]),
        json!({"containers": [{"$patch": "replace"}, {"name": "x"}]}),
        names(&["x"]),
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    let tolerations = |key: &str| json!({"tolerations": [{"key": key}]});
    check(tolerations("a"), tolerations("b"), tolerations("b"));
}

#[test]
fn primitive_lists_are_merged_and_deleted_from() {
    let ty = schema::type_named("meta/v1.ObjectMeta").expect("a type");
    for (patch, want) in [
        (json!({"finalizers": ["c", "a"]}), json!(["c", "a", "b"])),
        (json!({"$deleteFromPrimitiveList/finalizers": ["a"]}), json!(["b"])),
        (json!({"$setElementOrder/finalizers": ["b", "a"]}), json!(["b", "a"])),
        (
            json!({
                "$deleteFromPrimitiveList/finalizers": ["a"],
                "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"],
            }),
            json!(["c", "b"]),
        ),
    ] {
        let original = json!({"finalizers": ["a", "b"]});
        let merged = apply(ty, &original, &patch).expect("a good patch");
        assert_eq!(merged, json!({"finalizers": want}), "{patch}");
    }
}

#[test]
fn the_order_of_elements_can_be_set() {
    let order =
        |names: &[&str]| -> Vec<Value> { names.iter().map(|n| json!({"name": n})).collect() };
    check(
        names(&["a", "b", "c"]),
        json!({"$setElementOrder/containers": order(&["c", "b"])}),
        names(&["a", "c", "b"]),
    );
    check(
        names(&["a", "b"]),
        json!({
            "$setElementOrder/containers": order(&["x", "b", "a"]),
            "containers": [{"name": "x"}],
        }),
        names(&["x", "b", "a"]),
    );
    check(json!({}), json!({"$setElementOrder/containers": order(&["a"])}), json!({}));
}

#[test]
fn retain_keys_drops_what_it_does_not_name() {
    check(
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [
            {"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}},
        ]}),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
    );
}

#[test]
fn bad_patches_are_told_in_upstreams_words() {
    let original = || json!({"containers": [{"name": "a"}], "nodeSelector": {"a": "1"}});
    for (patch, want) in [
        (
            json!({"nodeSelector": {"$patch": "merge"}}),
            "500 unknown patch type: merge in map: map[$patch:merge]",
        ),
        (json!({"$patch": 5}), "500 unknown patch type: %!s(int64=5) in map: map[$patch:5]"),
        (
            json!({"containers": [{"image": "x"}]}),
            "500 map: map[image:x] does not contain declared merge key: name",
        ),
        (
            json!({"containers": [{"name": "a", "$patch": "merge"}]}),
            "500 merging lists cannot yet be specified in the patch",
        ),
        (
            json!({"containers": ["x"]}),
            "500 list element types are not identical: [[map[name:a]] [x]]",
        ),
        (json!({"$setElementOrder": []}), "400 invalid patch format of setElementOrder list"),
        (json!({"$deleteFromPrimitiveListX": []}), "400 invalid patch format of primitive list"),
        (json!({"$retainKeys": ["a"], "nodeName": "b"}), "400 invalid patch format of retainKeys"),
        (
            json!([]),
            "400 json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            json!({"$setElementOrder/nope": []}),
            "500 unable to find api field in struct PodSpec for the json field \"nope\"",
        ),
    ] {
        let shown = patch.to_string();
        assert_eq!(pod(original(), patch), Err(want.to_owned()), "{shown}");
    }
    let lists = pod(json!({"containers": []}), json!({"containers": [[]]}));
    let rejected = "422 the server rejected our request due to an error in our request";
    assert_eq!(lists, Err(rejected.to_owned()));
}
