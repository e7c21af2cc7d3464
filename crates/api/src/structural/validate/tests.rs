use serde_json::{Value, json};

use super::*;

fn told(schema: &Value, value: &Value) -> Vec<String> {
    let schema = Schema::compile(schema, false).expect("structural");
    schema.validate(value, None).iter().map(ToString::to_string).collect()
}

/// A schema of the field `a`, a value of it, and what is told.
type Case = (Value, Value, &'static [&'static str]);

fn check(cases: &[Case]) {
    for (schema, value, want) in cases {
        let schema = json!({"type": "object", "properties": {"a": schema}});
        assert_eq!(told(&schema, &json!({"a": value})), *want, "{schema} {value}");
    }
}

#[test]
fn types() {
    let any_of = json!([{"type": "integer"}, {"type": "string"}]);
    check(&[
        (
            json!({"type": "string"}),
            json!(1),
            &[r#"a: Invalid value: "integer": a in body must be of type string: "integer""#],
        ),
        (json!({"type": "integer"}), json!(1.0), &[]),
        (
            json!({"type": "integer"}),
            json!(1.5),
            &[
                r#"a: Invalid value: "number": a in body must be of type integer: "number""#,
                r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in a"#,
            ],
        ),
        (json!({"type": "number"}), json!(1), &[]),
        (json!({"type": "boolean", "nullable": true}), json!(null), &[]),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": any_of}),
            json!(true),
            &[
                r#"a: Invalid value: "boolean": a in body must be of type integer,string: "boolean""#,
                r#"<nil>: Invalid value: "": "a" must validate at least one schema (anyOf)"#,
                r#"a: Invalid value: "boolean": a in body must be of type integer: "boolean""#,
            ],
        ),
        (json!({"x-kubernetes-int-or-string": true}), json!("10%"), &[]),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000_u64),
            &[
                r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in a"#,
            ],
        ),
        (json!({"type": "string", "format": "int32"}), json!("x"), &[]),
        (
            json!({"type": "string", "format": "date"}),
            json!("x"),
            &[r#"a: Invalid value: "x": a in body must be of type date: "x""#],
        ),
    ]);
    // Nulls that may not stand there are told when nobody dropped them.
    let schema = json!({"type": "array", "items": {"type": "string"}});
    check(&[(
        schema,
        json!([null]),
        &[r#"a[0]: Invalid value: "null": a[0] in body must be of type string: "null""#],
    )]);
}

#[test]
fn bounds() {
    check(&[
        (
            json!({"type": "integer", "minimum": 3, "multipleOf": 2}),
            json!(1),
            &[
                "a: Invalid value: 1: a in body should be a multiple of 2",
                "a: Invalid value: 1: a in body should be greater than or equal to 3",
            ],
        ),
        (
            json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}),
            json!(1.5),
            &["a: Invalid value: 1.5: a in body should be less than 1.5"],
        ),
        (json!({"type": "number", "multipleOf": 0.1}), json!(0.3), &[]),
        (
            json!({"type": "integer", "maximum": 1.5}),
            json!(2),
            &[
                r#"<nil>: Invalid value: "": Maximum boundary value must be of type integer (default format) in a"#,
                "a: Invalid value: 2: a in body should be less than or equal to 1.5",
            ],
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("\u{e9}\u{e9}\u{e9}"),
            &["a: Too long: may not be more than 2 bytes"],
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("\u{e9}"),
            &[r#"a: Invalid value: "é": a in body should be at least 2 chars long"#],
        ),
        (
            json!({"type": "string", "pattern": "^a+$"}),
            json!("b"),
            &[r#"a: Invalid value: "b": a in body should match '^a+$'"#],
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}, "maxItems": 1, "uniqueItems": true}),
            json!([1, 1]),
            &[
                "a: Too many: 2: must have at most 1 item",
                r#"a: Invalid value: "": a in body shouldn't contain duplicates"#,
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}, "minItems": 1}),
            json!([]),
            &["a: Invalid value: 0: a in body should have at least 1 items"],
        ),
        (
            json!({"type": "object", "minProperties": 2, "additionalProperties": {"type": "string"}}),
            json!({"b": 1}),
            &[
                "a: Invalid value: 1: a in body should have at least 2 properties",
                r#"a.b: Invalid value: "integer": a.b in body must be of type string: "integer""#,
            ],
        ),
        (
            json!({"type": "object", "maxProperties": 0, "required": ["b", "c"]}),
            json!({"c": 1}),
            &["a: Too many: 1: must have at most 0 items", "a.b: Required value"],
        ),
        (
            json!({"type": "object", "additionalProperties": false}),
            json!({"b": 1}),
            &[r#"a: Invalid value: "b": a.b in body is a forbidden property"#],
        ),
    ]);
}

#[test]
fn enumerations() {
    check(&[
        (
            json!({"type": "string", "enum": ["x", "y"]}),
            json!("z"),
            &[r#"a: Unsupported value: "z": supported values: "x", "y""#],
        ),
        (
            json!({"enum": [1, {"b": 1.5}], "x-kubernetes-preserve-unknown-fields": true}),
            json!([]),
            &[r#"a: Unsupported value: []: supported values: "1", "{\"b\":1.5}""#],
        ),
        (json!({"type": "integer", "enum": [1.0]}), json!(1), &[]),
        // Go's conversions.
        (json!({"type": "number", "enum": [1]}), json!(1.9), &[]),
        (json!({"enum": ["A"], "x-kubernetes-preserve-unknown-fields": true}), json!(65), &[]),
        (
            json!({"type": "string", "nullable": true, "enum": [null, "x"]}),
            json!(null),
            &[r#"a: Unsupported value: null: supported values: "null", "x""#],
        ),
    ]);
}

#[test]
fn alternatives() {
    let properties = json!({"b": {"type": "string"}, "c": {"type": "integer"}});
    let of = |what: &str, schemas: Value| {
        let mut schema = json!({"type": "object", "properties": properties});
        schema[what] = schemas;
        schema
    };
    check(&[
        (
            of("oneOf", json!([{"required": ["b"]}, {"required": ["c"]}])),
            json!({"b": "", "c": 1}),
            &[
                r#"<nil>: Invalid value: "": "a" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (
            of("oneOf", json!([{"required": ["b"]}, {"required": ["c"]}])),
            json!({}),
            &[
                r#"<nil>: Invalid value: "": "a" must validate one and only one schema (oneOf). Found none valid"#,
                "a.b: Required value",
            ],
        ),
        (
            of(
                "anyOf",
                json!([{"required": ["b"]}, {"properties": {"c": {"minimum": 5}}, "required": ["c"]}]),
            ),
            json!({"c": 1}),
            &[
                r#"<nil>: Invalid value: "": "a" must validate at least one schema (anyOf)"#,
                "a.c: Invalid value: 1: a.c in body should be greater than or equal to 5",
            ],
        ),
        (
            of("allOf", json!([{"required": ["b"]}, {"maxProperties": 1}])),
            json!({}),
            &[
                "a.b: Required value",
                r#"<nil>: Invalid value: "": "a" must validate all the schemas (allOf)"#,
            ],
        ),
        (
            of("not", json!({"required": ["b"]})),
            json!({"b": ""}),
            &[r#"<nil>: Invalid value: "": "a" must not validate the schema (not)"#],
        ),
    ]);
}

#[test]
fn lists() {
    let set =
        json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}});
    let map = |keys: &[&str]| {
        json!({
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys,
            "items": {"type": "object", "nullable": true, "properties": {
                "k": {"type": "string"}, "l": {"type": "integer"},
            }},
        })
    };
    check(&[
        (set.clone(), json!(["x", "y", "x", "x"]), &[r#"a[2]: Duplicate value: "x""#]),
        (set, json!([]), &[]),
        (
            map(&["k"]),
            json!([{"k": "x"}, {"k": "y"}, {"k": "x", "l": 1}, {"l": 1}, {"l": 2}]),
            &[r#"a[2]: Duplicate value: {"k":"x"}"#, "a[4]: Duplicate value: {}"],
        ),
        (
            map(&["k", "l"]),
            json!([{"k": "x", "l": 1}, {"k": "x", "l": 2}, {"l": 2, "k": "x"}]),
            &[r#"a[2]: Duplicate value: {"k":"x","l":2}"#],
        ),
    ]);
    let schema = json!({"type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"], "items": {"x-kubernetes-preserve-unknown-fields": true}});
    check(&[(
        schema,
        json!([{"k": 1}, 5]),
        &["a[1]: Invalid value: 5: must be an object for an array of list-type map"],
    )]);
}

#[test]
fn the_top_has_no_name() {
    let schema = json!({
        "type": "object", "required": ["b"], "minProperties": 9,
        "additionalProperties": {"type": "integer"},
    });
    assert_eq!(
        told(&schema, &json!({"c": "x"})),
        [
            "<nil>: Invalid value: 1:  in body should have at least 9 properties",
            r#"c: Invalid value: "string": .c in body must be of type integer: "string""#,
            "b: Required value",
        ]
    );
    // Defaults have a path of their own.
    let node = Node::compile(&json!({"type": "array", "items": {"type": "string"}}));
    let errors = node.expect("structural").validate(
        &Path::new("x").child("default"),
        &json!([1]),
        Reading::Defaults,
    );
    assert_eq!(errors[0].field, "x.default.[0]");
}

#[test]
fn defaults_are_read_in_their_own_way() {
    let cases = [
        (json!({"type": "string", "format": "nope"}), json!("x"), true),
        (json!({"type": "boolean", "format": "nope"}), json!("x"), true),
        (json!({"x-kubernetes-int-or-string": true}), json!({}), true),
        (json!({"type": "string", "format": "ipv4"}), json!("x"), false),
    ];
    for (schema, value, good) in cases {
        let node = Node::compile(&schema).expect("structural");
        let errors = node.validate(&Path::default(), &value, Reading::Defaults);
        assert_eq!(errors.is_empty(), good, "{schema} {value}");
    }
}

#[test]
fn what_was_broken_before_stays_allowed_until_it_is_touched() {
    let schema = json!({"type": "object", "properties": {
        "text": {"type": "string", "maxLength": 1},
        "tree": {"type": "object", "required": ["x"], "properties": {
            "x": {"type": "string"}, "y": {"type": "string", "pattern": "^a$"},
        }},
        "loose": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true, "required": ["x"],
        },
        "plain": {"type": "array", "items": {"type": "string", "maxLength": 1}},
        "map": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {
                "k": {"type": "string"}, "v": {"type": "integer", "maximum": 5},
            }},
        },
        "any": {"type": "object", "properties": {"z": {"type": "integer"}}, "anyOf": [
            {"properties": {"z": {"minimum": 5}}},
        ]},
    }});
    let schema = Schema::compile(&schema, false).expect("structural");
    let old = json!({
        "text": "long", "tree": {"y": "b"}, "loose": {"q": 1}, "plain": ["xx", "y"],
        "map": [{"k": "1", "v": 9}, {"k": "2", "v": 1}], "any": {"z": 1},
    });
    let told = |new: Value| -> Vec<String> {
        schema.validate(&new, Some(&old)).into_iter().map(|error| error.field).collect()
    };
    let with = |key: &str, value: Value| {
        let mut new = old.clone();
        new[key] = value;
        new
    };
    // Nobody knows what else is in there, so it counts as changed.
    assert_eq!(told(old.clone()), ["loose.x"]);
    let rest = |key: &str, value: Value| -> Vec<String> {
        told(with(key, value)).into_iter().filter(|field| field != "loose.x").collect()
    };
    assert_eq!(rest("text", json!("also")), ["text"]);
    assert_eq!(rest("tree", json!({"y": "c"})), ["tree.y", "tree.x"]);
    assert_eq!(rest("tree", json!({"y": "b", "x": ""})), [""; 0]);
    assert_eq!(rest("plain", json!(["xx", "y", "z"])), ["plain[0]"]);
    assert_eq!(rest("map", json!([{"k": "2", "v": 7}, {"k": "1", "v": 9}])), ["map[0].v"]);
    assert_eq!(rest("map", json!([{"k": "3", "v": 9}])), ["map[0].v"]);
    assert_eq!(rest("any", json!({"z": 2})), ["<nil>", "any.z"]);
    assert_eq!(rest("any", json!({"z": 1})), [""; 0]);
    // A list that holds something twice may be changed further.
    let twice = json!({"map": [{"k": "1"}, {"k": "1"}]});
    let thrice = json!({"map": [{"k": "1"}, {"k": "1", "v": 1}, {"k": "1"}]});
    assert_eq!(schema.validate(&thrice, Some(&json!({}))).len(), 1);
    assert_eq!(schema.validate(&thrice, Some(&twice)), []);
}

#[test]
fn what_is_told_is_bounded() {
    let allowed: Vec<String> = (0..1000).map(|i| format!("{i:0>100}")).collect();
    let schema = json!({"type": "object", "properties": {"l": {"type": "array", "items": {
        "type": "string", "enum": allowed,
    }}}});
    let schema = Schema::compile(&schema, false).expect("structural");
    let value = json!({"l": vec!["x"; 2000]});
    let told: usize = schema.validate_create(&value).iter().map(|error| error.body.len()).sum();
    assert!(told > TOLD_BYTES_MAX / 4 && told < 2 * TOLD_BYTES_MAX, "{told}");
    // An object that is only broken where there is no room is broken all the same.
    let mut walk = Walk::new(Reading::Objects);
    walk.bytes = TOLD_BYTES_MAX + 1;
    walk.node(schema.root(), &value, None);
    assert_eq!(walk.found.len(), 1);
}

/// All of many alternatives, each broken by each of many values, filled the memory with what there was
/// no room to tell of.
#[test]
fn what_is_not_told_takes_no_room() {
    let broken = json!({"minimum": 5});
    let schema = json!({"type": "object", "properties": {"l": {"type": "array", "items": {
        "type": "integer", "allOf": vec![&broken; 100], "anyOf": vec![&broken; 10], "not": {"not": broken},
    }}}});
    let schema = Schema::compile(&schema, false).expect("structural");
    let (value, old) = (json!({"l": vec![1; 1000]}), json!({"l": [1]}));
    for before in [None, Some(&Before::new(&old, schema.root()))] {
        let mut walk = Walk::new(Reading::Objects);
        walk.bytes = TOLD_BYTES_MAX + 1;
        walk.node(schema.root(), &value, before);
        assert!((1..10).contains(&walk.found.len()), "{}", walk.found.len());
    }
}

#[test]
fn checking_takes_no_more_than_so_many_steps() {
    let allowed: Vec<u64> = (0..1000).collect();
    let schema = json!({"type": "object", "properties": {"l": {"type": "array", "items": {
        "type": "integer", "enum": allowed,
    }}}});
    let schema = Schema::compile(&schema, false).expect("structural");
    let value = json!({"l": vec![999; 100]});
    for (left, good) in [(110_000, true), (50_000, false)] {
        let mut walk = Walk::new(Reading::Objects);
        walk.steps = STEPS_MAX - left;
        walk.node(schema.root(), &value, None);
        assert!(walk.steps < STEPS_MAX + 2000);
        assert_eq!(walk.told(&Path::default()).is_empty(), good);
    }
}

#[test]
fn of_a_status_only_the_status_is_checked() {
    let schema = json!({"type": "object", "required": ["spec"], "properties": {
        "status": {"type": "object", "required": ["x"], "properties": {
            "n": {"type": "integer", "minimum": 5},
        }},
    }});
    let schema = Schema::compile(&schema, false).expect("structural");
    let told = |new: Value, old: Value| -> Vec<String> {
        schema.validate_status(&new, &old).into_iter().map(|error| error.field).collect()
    };
    assert_eq!(told(json!({"status": {"n": 1}}), json!({})), ["status.n", "status.x"]);
    assert_eq!(told(json!({"status": {"n": 1, "x": 1}}), json!({"status": {"n": 1}})), [""; 0]);
    assert_eq!(told(json!({}), json!({"status": {"n": 1}})), [""; 0]);
}
