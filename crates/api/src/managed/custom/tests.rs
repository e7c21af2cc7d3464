use serde_json::{Value, json};

use crate::Object;
use crate::managed::{Filter, OneVersion, Typing, Write, apply, track};
use crate::structural::Schema;

fn write<'a>(ty: Typing<'a>, manager: &'a str) -> Write<'a> {
    Write {
        ty,
        api_version: "g/v1",
        subresource: "",
        manager,
        now: "2026-01-01T00:00:01Z",
        filter: Filter::All,
        versions: &OneVersion,
    }
}

fn object(value: Value) -> Object {
    let mut object = Object::from_value(value).expect("an object");
    object.set(&["apiVersion"], "g/v1");
    object.set(&["kind"], "A");
    object
}

/// What a manager of a new object manages.
fn managed(ty: Typing<'_>, value: Value) -> Value {
    let mut new = object(value);
    track(&write(ty, "m"), &Object::default(), &mut new);
    new.list(&["metadata", "managedFields"])[0]["fieldsV1"].clone()
}

fn schema() -> Schema {
    let map = json!({"type": "array", "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["n", "p"], "items": {"type": "object", "properties": {
        "n": {"type": "string"}, "p": {"type": "string", "default": "TCP"}, "v": {"type": "integer"},
    }}});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "text": {"type": "string"},
        "plain": {"type": "array", "items": {"type": "integer"}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": map,
        "tree": {"type": "object", "properties": {"a": {"type": "string"}}},
        "atom": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
            "a": {"type": "string"},
        }},
        "entries": {"type": "object", "additionalProperties": {"type": "string"}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "any": {"x-kubernetes-int-or-string": true},
        "inner": {
            "type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true,
        },
    }}}});
    Schema::compile(&schema, false).expect("structural")
}

#[test]
fn fields_are_managed_as_the_schema_says() {
    let schema = schema();
    let spec = json!({
        "text": "x", "plain": [1, 2], "set": ["a", "b"], "map": [{"n": "x", "v": 1}],
        "tree": {"a": "x"}, "atom": {"a": "x"}, "entries": {"k": "v"},
        "free": {"x": {"y": [1]}}, "any": "10%",
        "inner": {"kind": "B", "metadata": {"finalizers": ["a.b/c"]}, "x": {"y": 1}},
    });
    let value = json!({"metadata": {"name": "a", "finalizers": ["a.b/c"]}, "spec": spec});
    let want = json!({
        "f:metadata": {"f:finalizers": {".": {}, "v:\"a.b/c\"": {}}},
        "f:spec": {
            ".": {},
            "f:text": {}, "f:plain": {}, "f:set": {".": {}, "v:\"a\"": {}, "v:\"b\"": {}},
            "f:map": {".": {}, "k:{\"n\":\"x\",\"p\":\"TCP\"}": {".": {}, "f:n": {}, "f:v": {}}},
            "f:tree": {".": {}, "f:a": {}}, "f:atom": {}, "f:entries": {".": {}, "f:k": {}},
            "f:free": {".": {}, "f:x": {".": {}, "f:y": {}}}, "f:any": {},
            "f:inner": {
                ".": {}, "f:kind": {},
                "f:metadata": {".": {}, "f:finalizers": {".": {}, "v:\"a.b/c\"": {}}},
                "f:x": {".": {}, "f:y": {}},
            },
        },
    });
    assert_eq!(managed(Typing::Custom(&schema), value), want);
}

#[test]
fn without_a_schema_maps_are_merged_and_lists_are_not() {
    let value =
        json!({"metadata": {"finalizers": ["a.b/c"]}, "spec": {"l": [{"a": 1}], "m": {"x": 1}}});
    let want = json!({
        "f:metadata": {"f:finalizers": {}},
        "f:spec": {".": {}, "f:l": {}, "f:m": {".": {}, "f:x": {}}},
    });
    assert_eq!(managed(Typing::Deduced, value.clone()), want);
    let none = Schema::compile(&Value::Null, false).expect("none");
    assert_eq!(managed(Typing::Custom(&none), value), want);
}

#[test]
fn appliers_share_lists_that_are_maps() {
    let schema = schema();
    let ty = Typing::Custom(&schema);
    let config = |item: Value| {
        object(json!({"metadata": {"name": "a"}, "spec": {"map": [item]}})).into_value()
    };
    let first =
        apply(&write(ty, "p"), "A", &Object::default(), &config(json!({"n": "x", "v": 1})), false);
    let mut live = first.expect("new");
    live.set(&["metadata", "uid"], "u");
    let second = config(json!({"n": "y", "p": "UDP"}));
    live = apply(&write(ty, "q"), "A", &live, &second, false).expect("no conflict");
    assert_eq!(live.list(&["spec", "map"]).len(), 2);
    let third = config(json!({"n": "x", "v": 2}));
    let error = apply(&write(ty, "q"), "A", &live, &third, false).expect_err("another's");
    assert_eq!(error.causes[0].field, ".spec.map[n=\"x\",p=\"TCP\"].v");
    let gone = object(json!({"metadata": {"name": "a"}})).into_value();
    live = apply(&write(ty, "q"), "A", &live, &gone, false).expect("no conflict");
    assert_eq!(live.list(&["spec", "map"]).to_vec(), [json!({"n": "x", "v": 1})]);
    let wrong = object(json!({"spec": {"text": 5}})).into_value();
    let error = apply(&write(ty, "q"), "A", &live, &wrong, false).expect_err("no text");
    assert!(error.message.contains(".spec.text: expected string"), "{}", error.message);
    let unknown = object(json!({"spec": {"nope": 5}})).into_value();
    let error = apply(&write(ty, "q"), "A", &live, &unknown, false).expect_err("unknown");
    assert!(
        error.message.contains(".spec.nope: field not declared in schema"),
        "{}",
        error.message
    );
}
