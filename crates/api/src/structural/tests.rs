use serde_json::{Value, json};

use super::*;

fn compile(schema: &Value) -> Schema {
    Schema::compile(schema, false).expect("structural")
}

/// Name, schema, object, what is left of it, unknown paths.
type PruneCase = (&'static str, Value, Value, Value, &'static [&'static str]);

#[test]
fn unknown_fields_are_pruned_and_told() {
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let cases: [PruneCase; 9] = [
        (
            "only what every object has is known to no schema",
            Value::Null,
            json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "a"}, "b": 1, "a": 2}),
            json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "a"}}),
            &["a", "b"],
        ),
        (
            "paths have indexes and are sorted as texts",
            object(json!({"spec": {"type": "object", "properties": {
                "l": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            }}})),
            json!({"spec": {"l": [{"a": "1", "x": 1}, {"y": 2}], "b": 1}}),
            json!({"spec": {"l": [{"a": "1"}, {}]}}),
            &["spec.b", "spec.l[0].x", "spec.l[1].y"],
        ),
        (
            "metadata inside is a field like others",
            object(json!({"spec": {"type": "object", "properties": {"a": {"type": "string"}}}})),
            json!({"spec": {"metadata": {"name": "a"}, "kind": "A"}}),
            json!({"spec": {}}),
            &["spec.kind", "spec.metadata"],
        ),
        (
            "objects inside keep what every object has",
            object(json!({"spec": {
                "type": "object", "x-kubernetes-embedded-resource": true,
                "properties": {"a": {"type": "string"}},
            }})),
            json!({"spec": {"metadata": {"name": "a"}, "kind": "A", "b": 1, "a": ""}}),
            json!({"spec": {"metadata": {"name": "a"}, "kind": "A", "a": ""}}),
            &["spec.b"],
        ),
        (
            "preserving ends at what is described",
            object(json!({"spec": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"a": {"type": "object", "properties": {"b": {"type": "string"}}}},
            }})),
            json!({"spec": {"x": {"y": 1}, "a": {"b": "", "c": 1}}}),
            json!({"spec": {"x": {"y": 1}, "a": {"b": ""}}}),
            &["spec.a.c"],
        ),
        (
            "preserving goes on into items",
            object(json!({"spec": {
                "type": "array", "x-kubernetes-preserve-unknown-fields": true,
                "items": {"type": "object", "properties": {"a": {"type": "object"}}},
            }})),
            json!({"spec": [{"x": 1, "a": {"b": 1}}]}),
            json!({"spec": [{"x": 1, "a": {}}]}),
            &["spec[0].a.b"],
        ),
        (
            "entries have the schema of additional properties",
            object(json!({"m": {"type": "object", "additionalProperties":
                {"type": "object", "properties": {"a": {"type": "string"}}}}})),
            json!({"m": {"x": {"a": "", "b": 1}}}),
            json!({"m": {"x": {"a": ""}}}),
            &["m.x.b"],
        ),
        (
            "anything goes for entries, but their fields are unknown",
            object(json!({"m": {"type": "object", "additionalProperties": true}})),
            json!({"m": {"x": {"a": 1}, "y": 1, "z": [{"b": 1}]}}),
            json!({"m": {"x": {}, "y": 1, "z": [{}]}}),
            &["m.x.a", "m.z[0].b"],
        ),
        (
            "lists without items hold nothing that is known",
            object(json!({"l": {"type": "array"}})),
            json!({"l": [1, {"a": 1}, [{"b": 2}]]}),
            json!({"l": [1, {}, [{}]]}),
            &["l[1].a", "l[2][0].b"],
        ),
    ];
    for (name, schema, mut value, want, paths) in cases {
        assert_eq!(compile(&schema).prune(&mut value), paths, "{name}");
        assert_eq!(value, want, "{name}");
    }
}

#[test]
fn paths_of_unknown_fields_are_bounded() {
    let schema = compile(&json!({"type": "object", "properties": {"m": {
        "type": "object", "additionalProperties": {"type": "object"},
    }}}));
    let long = "k".repeat(1000);
    let unknown: serde_json::Map<String, Value> =
        (0..5000).map(|i| (format!("f{i}"), Value::Null)).collect();
    let mut value = json!({"m": {long: unknown}});
    let told: usize = schema.prune(&mut value).iter().map(String::len).sum();
    assert!(told <= prune::PATH_BYTES_MAX && told > prune::PATH_BYTES_MAX / 2, "{told}");
}

#[test]
fn definitions_of_old_keep_everything() {
    let schema = Schema::compile(
        &json!({"type": "object", "properties": {"a": {"type": "string", "default": "x"}}}),
        true,
    );
    let mut value = json!({"b": null});
    let schema = schema.expect("structural");
    assert!(schema.prune(&mut value).is_empty());
    schema.prune_nulls(&mut value);
    schema.default(&mut value).expect("small");
    assert_eq!(value, json!({"b": null}));
}

#[test]
fn defaults_are_filled() {
    let schema = compile(&json!({"type": "object", "properties": {
        "text": {"type": "string", "default": "a"},
        "null": {"type": "string", "default": "a", "nullable": true},
        "none": {"type": "string"},
        "tree": {"type": "object", "default": {}, "properties": {
            "deep": {"type": "integer", "default": 1},
        }},
        "map": {"type": "object", "additionalProperties": {
            "type": "object", "default": {"b": true}, "properties": {
                "b": {"type": "boolean"}, "c": {"type": "string", "default": "c"},
            },
        }},
        "list": {"type": "array", "items": {"type": "object", "default": {}, "properties": {
            "i": {"type": "integer", "default": 7},
        }}},
    }}));
    let cases = [
        (json!({}), json!({"text": "a", "null": "a", "tree": {"deep": 1}})),
        (
            json!({"text": null, "null": null, "none": null, "tree": {"deep": 2}}),
            json!({"text": "a", "null": null, "none": null, "tree": {"deep": 2}}),
        ),
        (
            json!({"map": {"x": null, "y": {"c": "d"}}, "list": [null, {}, {"i": 8}]}),
            json!({
                "text": "a", "null": "a", "tree": {"deep": 1},
                "map": {"x": {"b": true, "c": "c"}, "y": {"c": "d"}},
                "list": [{"i": 7}, {"i": 7}, {"i": 8}],
            }),
        ),
    ];
    for (mut value, want) in cases {
        schema.default(&mut value).expect("small");
        assert_eq!(value, want);
        schema.default(&mut value).expect("small");
        assert_eq!(value, want, "defaults are filled once");
    }
}

#[test]
fn defaults_cannot_grow_without_end() {
    let large: Vec<u32> = (0..2000).collect();
    let schema = compile(&json!({"type": "object", "properties": {"l": {
        "type": "array", "items": {"type": "object", "properties": {
            "d": {"type": "array", "items": {"type": "integer"}, "default": large},
        }},
    }}}));
    let mut value = json!({"l": vec![json!({}); 1000]});
    assert_eq!(schema.default(&mut value), Err(TooLarge));
}

#[test]
fn defaults_are_pruned_when_compiled() {
    let schema = compile(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "default": {"a": "x", "b": 1}, "properties": {
            "a": {"type": "string"},
        }},
        "inner": {
            "type": "object", "x-kubernetes-embedded-resource": true,
            "default": {"apiVersion": "v1", "kind": "A", "metadata": {"name": "a", "foo": 1}},
            "properties": {"a": {"type": "string"}},
        },
    }}));
    let mut value = json!({});
    schema.default(&mut value).expect("small");
    let inner = json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "a"}});
    assert_eq!(value, json!({"spec": {"a": "x"}, "inner": inner}));
}

#[test]
fn nulls_go_where_they_may_not_stand() {
    let schema = compile(&json!({"type": "object", "properties": {
        "plain": {"type": "string"},
        "may": {"type": "string", "nullable": true},
        "filled": {"type": "string", "default": "a"},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "list": {"type": "array", "items": {"type": "object", "properties": {
            "a": {"type": "string"},
        }}},
        "any": {"x-kubernetes-preserve-unknown-fields": true},
    }}));
    let mut value = json!({
        "plain": null, "may": null, "filled": null, "map": {"a": null, "b": ""},
        "list": [null, {"a": null}], "any": {"x": null}, "unknown": null,
    });
    schema.prune_nulls(&mut value);
    let want = json!({
        "may": null, "filled": null, "map": {"b": ""}, "list": [null, {}], "any": {"x": null},
        "unknown": null,
    });
    assert_eq!(value, want);
}

fn embedding() -> Schema {
    compile(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"l": {"type": "array", "items": {
            "type": "object", "x-kubernetes-embedded-resource": true,
            "x-kubernetes-preserve-unknown-fields": true,
        }}}},
    }}))
}

#[test]
fn metadata_is_read_everywhere() {
    let mut value = json!({
        "apiVersion": "g/v1", "kind": "A",
        "metadata": {"name": "a", "foo": 1, "labels": {"x": "y"}, "creationTimestamp": null},
        "other": 1,
        "spec": {"l": [{"kind": "B", "x": 1, "metadata": {"name": "b", "bar": 1, "uid": ""}}], "y": 1},
    });
    let unknown = embedding().coerce(&mut value, false).expect("good metadata");
    assert_eq!(unknown, ["metadata.foo", "other", "spec.y", "spec.l[0].metadata.bar"]);
    let want = json!({
        "apiVersion": "g/v1", "kind": "A", "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"l": [{"kind": "B", "x": 1, "metadata": {"name": "b"}}]},
    });
    assert_eq!(value, want);
}

#[test]
fn bad_metadata_is_refused_or_dropped() {
    let cases = [
        (
            json!({"metadata": {"name": 1, "labels": {"a": "b"}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.name of type string",
            json!({"metadata": {"labels": {"a": "b"}}}),
        ),
        (
            json!({"spec": {"l": [{"kind": 1, "metadata": {"labels": "x", "name": "a"}}]}}),
            "spec.l[0].kind: Invalid value: 1: must be a string",
            json!({"spec": {"l": [{"metadata": {"name": "a"}}]}}),
        ),
        (
            json!({"spec": {"l": [{"metadata": {"labels": "x", "name": "a"}}]}}),
            "spec.l[0].metadata: Invalid value: {\"labels\":\"x\",\"name\":\"a\"}: json: cannot \
             unmarshal string into Go struct field ObjectMeta.labels of type map[string]string",
            json!({"spec": {"l": [{"metadata": {"name": "a"}}]}}),
        ),
    ];
    for (value, error, lenient) in cases {
        let refused = embedding().coerce(&mut value.clone(), false);
        assert_eq!(refused.expect_err("bad").to_string(), error);
        let mut dropped = value;
        assert_eq!(embedding().coerce(&mut dropped, true), Ok(vec![]));
        assert_eq!(dropped, lenient);
    }
    let mut value = json!({"kind": 5});
    let error = embedding().coerce(&mut value, true).expect_err("no kind");
    assert_eq!(error.to_string(), ".kind accessor error: 5 is of the type int64, expected string");
}

#[test]
fn objects_inside_have_good_metadata() {
    let told = |item: Value| -> Vec<String> {
        let value = json!({"spec": {"l": [item]}});
        embedding().validate_embedded(&value).iter().map(ToString::to_string).collect()
    };
    let good = json!({"apiVersion": "v1", "kind": "A", "metadata": {"namespace": "a"}});
    assert!(told(good).is_empty());
    assert_eq!(
        told(json!({})),
        ["spec.l[0].apiVersion: Required value", "spec.l[0].kind: Required value"]
    );
    let bad = json!({"apiVersion": "a/b/c", "kind": "", "metadata": {"name": "a/b", "labels": {"-": "x"}}});
    let told = told(bad);
    assert_eq!(
        told[..3],
        [
            "spec.l[0].apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
            "spec.l[0].kind: Invalid value: \"\": must not be empty",
            "spec.l[0].metadata.name: Invalid value: \"a/b\": may not contain '/'",
        ]
    );
    assert!(told[3].starts_with("spec.l[0].metadata.labels: Invalid value: \"-\": "));
}

#[test]
fn what_is_not_structural_does_not_compile() {
    let deep = (0..200).fold(
        json!({"type": "string"}),
        |inner, _| json!({"type": "object", "properties": {"a": inner}}),
    );
    let cases = [
        (json!({"$ref": "#/a"}), "OpenAPIV3Schema '$ref' is not supported"),
        (json!({"$schema": "a"}), "OpenAPIV3Schema 'schema' is not supported"),
        (json!({"additionalItems": true}), "OpenAPIV3Schema 'additionalItems' is not supported"),
        (json!({"items": [{}]}), "OpenAPIV3Schema 'items' must be a schema, but is an array"),
        (
            json!({"properties": {"a": {"not": {"definitions": {"a": {}}}}}}),
            "OpenAPIV3Schema 'definitions' is not supported",
        ),
        (
            json!({"x-kubernetes-preserve-unknown-fields": false}),
            "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined",
        ),
        (deep, "OpenAPIV3Schema is nested more than 128 levels deep"),
    ];
    for (schema, want) in cases {
        let error = Schema::compile(&schema, false).expect_err("not structural");
        assert_eq!(error.to_string(), want);
    }
    // What says nothing is nothing.
    let empty = json!({"$ref": "", "definitions": {}, "additionalItems": null, "default": null});
    assert_eq!(Node::compile(&empty), Ok(Node::default()));
}
