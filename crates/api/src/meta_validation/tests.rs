use serde_json::json;

use super::*;

fn errors(metadata: Value) -> Vec<String> {
    let object = Object::from_value(json!({ "metadata": metadata })).expect("an object");
    let rule = |name: &str, prefix: bool| {
        let name = if prefix { mask_trailing_dash(name) } else { name.to_owned() };
        names::is_dns1123_subdomain(&name)
    };
    let found = validate_object_meta(&object, true, &rule, &Path::new("metadata"));
    found.iter().map(|e| format!("{} {:?}", e.field, e.kind)).collect()
}

#[test]
fn each_rule_names_its_field() {
    assert_eq!(errors(json!({"name": "a", "namespace": "b"})), Vec::<String>::new());
    let good = json!({"name": "a", "namespace": "b", "generateName": "a-", "labels": {"x/y": "z"},
        "annotations": {"A/b": "any thing"}, "finalizers": ["x.io/y"],
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "K", "name": "n", "uid": "u"}]});
    assert_eq!(errors(good), Vec::<String>::new());
    for (metadata, want) in [
        (json!({"namespace": "b"}), "metadata.name Required"),
        (json!({"name": "A", "namespace": "b"}), "metadata.name Invalid"),
        (json!({"name": "a"}), "metadata.namespace Required"),
        (json!({"name": "a", "namespace": "b.c"}), "metadata.namespace Invalid"),
        (json!({"name": "a", "namespace": "b", "generation": -1}), "metadata.generation Invalid"),
        (json!({"name": "a", "namespace": "b", "labels": {"-": "x"}}), "metadata.labels Invalid"),
        (json!({"name": "a", "namespace": "b", "labels": {"x": "-"}}), "metadata.labels Invalid"),
        (
            json!({"name": "a", "namespace": "b", "finalizers": ["-"]}),
            "metadata.finalizers Invalid",
        ),
        (
            json!({"name": "a", "namespace": "b", "annotations": {"x": "y".repeat(300_000)}}),
            "metadata.annotations TooLong",
        ),
        (
            json!({"name": "a", "namespace": "b", "finalizers": ["orphan", "foregroundDeletion"]}),
            "metadata.finalizers Invalid",
        ),
        (
            json!({"name": "a", "namespace": "b", "ownerReferences":
                [{"apiVersion": "v1", "kind": "K", "name": "n"}]}),
            "metadata.ownerReferences.uid Invalid",
        ),
        (
            json!({"name": "a", "namespace": "b", "ownerReferences": [
                {"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u", "controller": true},
                {"apiVersion": "v1", "kind": "K", "name": "m", "uid": "v", "controller": true},
            ]}),
            "metadata.ownerReferences Invalid",
        ),
    ] {
        assert_eq!(errors(metadata.clone()), [want], "{metadata}");
    }
}

#[test]
fn updates_keep_the_identity() {
    let old = json!({"metadata": {"name": "a", "uid": "u", "generation": 2, "finalizers": ["x"],
        "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let old = Object::from_value(old).expect("an object");
    let check = |new: &Object| -> Vec<String> {
        let found = validate_object_meta_update(new, &old, &Path::new("metadata"));
        found.into_iter().map(|e| e.field).collect()
    };
    assert_eq!(check(&old), Vec::<String>::new());
    let mut new = old.clone();
    new.set(&["metadata", "uid"], "v");
    new.set(&["metadata", "generation"], 1);
    new.set(&["metadata", "finalizers"], vec![Value::from("x"), Value::from("y")]);
    assert_eq!(check(&new), ["metadata.finalizers", "metadata.generation", "metadata.uid"]);
    new = old.clone();
    new.set(&["metadata", "finalizers"], Vec::<Value>::new());
    assert_eq!(check(&new), Vec::<String>::new(), "finalizers may always go");
}
