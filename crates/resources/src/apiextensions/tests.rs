use longshore_api::Object;
use serde_json::{Value, json};

use super::definitions::Definitions;
use crate::strategy::{Context, Strategy};

/// A good definition whose schema has a spec of the given schema.
fn definition(spec: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "as.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "as", "kind": "A"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
            }],
        },
    })
}

/// Sets what a JSON pointer says; null removes it.
fn change(value: &mut Value, pointer: &str, new: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = value.pointer_mut(parent).expect("it is there");
    if new.is_null() {
        parent.as_object_mut().expect("an object").remove(name);
    } else {
        parent[name] = new;
    }
}

fn context(subresource: &str) -> Context<'_> {
    static NONE: std::collections::BTreeMap<String, Vec<String>> =
        std::collections::BTreeMap::new();
    Context {
        now: jiff::Timestamp::UNIX_EPOCH,
        user: "",
        uid: "",
        groups: &[],
        extra: &NONE,
        subresource,
        warnings: &crate::strategy::Unheard,
    }
}

fn created(value: Value) -> Object {
    let mut object = Object::from_value(value).expect("an object");
    Definitions.default(&mut object);
    Definitions.prepare_create(&context(""), &mut object);
    object
}

fn told(value: Value) -> Vec<String> {
    let errors = Definitions.validate_create(&created(value));
    errors.iter().map(ToString::to_string).collect()
}

fn told_of_update(new: Value, old: &Object) -> Vec<String> {
    let mut new = Object::from_value(new).expect("an object");
    Definitions.default(&mut new);
    Definitions.prepare_update(&context(""), &mut new, old);
    let errors = Definitions.validate_update(&context(""), &new, old);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn names_and_versions_are_filled() {
    let object = created(definition(json!({"type": "object"})));
    assert_eq!(object.str(&["spec", "names", "singular"]), "a");
    assert_eq!(object.str(&["spec", "names", "listKind"]), "AList");
    assert_eq!(object.str(&["spec", "conversion", "strategy"]), "None");
    assert_eq!(object.get(&["status", "storedVersions"]), Some(&json!(["v1"])));
    assert!(Definitions.validate_create(&object).is_empty());
}

#[test]
fn broken_definitions_are_told() {
    let cases: [(&str, Value, &[&str]); 17] = [
        (
            "/metadata/name",
            json!("other"),
            &[r#"metadata.name: Invalid value: "other": must be spec.names.plural+"."+spec.group"#],
        ),
        (
            "/spec/group",
            json!("k8s.io"),
            &[
                r#"metadata.name: Invalid value: "as.example.com": must be spec.names.plural+"."+spec.group"#,
                r#"metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111"#,
            ],
        ),
        (
            "/spec/scope",
            json!("x"),
            &[r#"spec.scope: Unsupported value: "x": supported values: "Cluster", "Namespaced""#],
        ),
        (
            "/spec/names/listKind",
            json!("A"),
            &[r#"spec.names.listKind: Invalid value: "A": kind and listKind may not be the same"#],
        ),
        (
            "/spec/preserveUnknownFields",
            json!(true),
            &[
                "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
            ],
        ),
        (
            "/spec/versions/0/schema",
            Value::Null,
            &["spec.versions[0].schema.openAPIV3Schema: Required value"],
        ),
        (
            "/spec/versions/0/deprecationWarning",
            json!("x"),
            &[
                r#"spec.versions[0].deprecationWarning: Invalid value: "x": can only be set for deprecated versions"#,
            ],
        ),
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "a", "type": "x", "jsonPath": "a"}]),
            &[
                r#"spec.additionalPrinterColumns[0].type: Invalid value: "x": must be one of boolean,date,integer,number,string"#,
                r#"spec.additionalPrinterColumns[0].JSONPath: Invalid value: "a": must be a simple json path starting with ."#,
            ],
        ),
        (
            "/spec/versions/0/subresources",
            json!({"scale": {"specReplicasPath": ".a", "statusReplicasPath": ""}}),
            &[
                r#"spec.subresources.scale.specReplicasPath: Invalid value: ".a": should be a json path under .spec"#,
                "spec.subresources.scale.statusReplicasPath: Required value",
            ],
        ),
        (
            "/spec/versions/0/selectableFields",
            json!([{"jsonPath": ".spec"}, {"jsonPath": ".x"}]),
            &[
                r#"spec.selectableFields[0].jsonPath: Invalid value: ".spec": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."#,
                r#"spec.selectableFields[1].jsonPath: Invalid value: ".x": is an invalid path: does not refer to a valid field"#,
            ],
        ),
        (
            "/spec/versions/0/storage",
            json!(false),
            &[
                r#"spec.versions: Invalid value: [{"Name":"v1","Served":true,"Storage":false,"Deprecated":false,"DeprecationWarning":null,"Schema":null,"Subresources":null,"AdditionalPrinterColumns":null,"SelectableFields":null}]: must have exactly one version marked as storage version"#,
                "status.storedVersions: Invalid value: null: must have at least one stored version",
            ],
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v2", "v2"]}}),
            &[
                "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
                r#"spec.conversion.conversionReviewVersions[1]: Invalid value: "v2": duplicate version"#,
                r#"spec.conversion.conversionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of v1, v1beta1"#,
            ],
        ),
        (
            "/spec/conversion",
            json!({"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}),
            &[
                "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook",
            ],
        ),
        (
            "/spec/versions/0/schema/openAPIV3Schema/nullable",
            json!(true),
            &[
                "spec.validation.openAPIV3Schema.nullable: Forbidden: nullable cannot be true at the root",
            ],
        ),
        (
            "/spec/versions/0/schema/openAPIV3Schema/type",
            json!("array"),
            &[
                "spec.validation.openAPIV3Schema.items: Required value: must be specified",
                r#"spec.validation.openAPIV3Schema.type: Invalid value: "array": must be object at the root"#,
            ],
        ),
        (
            "/spec/versions/0/schema/openAPIV3Schema/anyOf",
            json!([{"properties": {"a": {"maxLength": 1}}}]),
            &[
                "spec.validation.openAPIV3Schema.properties[a]: Required value: because it is defined in spec.validation.openAPIV3Schema.anyOf[0].properties[a]",
            ],
        ),
        (
            "/spec/versions/0/schema/openAPIV3Schema/$ref",
            json!("#/a"),
            &["spec.validation.openAPIV3Schema.$ref: Forbidden: $ref is not supported"],
        ),
    ];
    for (pointer, new, want) in cases {
        let mut value = definition(json!({"type": "object"}));
        change(&mut value, pointer, new.clone());
        assert_eq!(told(value), want, "{pointer} {new}");
    }
}

#[test]
fn broken_schemas_are_told() {
    let at = "spec.validation.openAPIV3Schema.properties[spec]";
    let cases: [(Value, &[&str]); 20] = [
        (
            json!({"description": "x"}),
            &["AT.type: Required value: must not be empty for specified object fields"],
        ),
        (
            json!({"type": "x"}),
            &[
                r#"AT.type: Unsupported value: "x": supported values: "array", "boolean", "integer", "number", "object", "string""#,
            ],
        ),
        (json!({"type": "string", "default": "x"}), &[]),
        (
            json!({"type": "string", "default": 1}),
            &[
                r#"AT.default: Invalid value: "integer":  in body must be of type string: "integer""#,
            ],
        ),
        (
            json!({"type": "object", "default": {"a": 1}}),
            &[r#"AT.default: Invalid value: {"a":1}: must not have unknown fields"#],
        ),
        (
            json!({"type": "string", "pattern": "[a"}),
            &[
                r#"AT.pattern: Invalid value: "[a": must be a valid regular expression, but isn't: error parsing regexp: missing closing ]: `[a`"#,
            ],
        ),
        (
            json!({"type": "object", "allOf": [{"properties": {"a": {"type": "string"}}}]}),
            &["AT.allOf[0].properties[a].type: Forbidden: must be empty to be structural"],
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            &[],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}),
            &[
                "AT.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "object"}, "uniqueItems": true}),
            &[
                "AT.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ],
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            &[
                "AT.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-map-type": "x"}),
            &[
                r#"AT.type: Invalid value: "string": must be object if x-kubernetes-map-type is specified"#,
                r#"AT.x-kubernetes-map-type: Unsupported value: "x": supported values: "atomic", "granular""#,
            ],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}),
            &[
                "AT.items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
            ],
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k", "l", "l"],
                "items": {"type": "object", "nullable": true, "properties": {"k": {"type": "string"}}}}),
            &[
                r#"AT.x-kubernetes-list-map-keys: Invalid value: ["k","l","l"]: entries must all be names of item properties"#,
                r#"AT.x-kubernetes-list-map-keys: Invalid value: ["k","l","l"]: entries must all be names of item properties"#,
                r#"AT.x-kubernetes-list-map-keys: Invalid value: ["k","l","l"]: must not contain duplicate entries"#,
                "AT.items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is map",
                "AT.items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}),
            &[
                "AT.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            ],
        ),
        (
            json!({"x-kubernetes-embedded-resource": true, "type": "object"}),
            &[
                "AT.properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
            ],
        ),
        (
            json!({"x-kubernetes-embedded-resource": true, "type": "object", "properties": {
                "metadata": {"type": "object", "properties": {"name": {"type": "string", "default": "a/b"}}},
            }}),
            &[
                r#"AT.properties[metadata].properties[name].default: Invalid value: "a/b": must result in valid metadata: metadata.name: Invalid value: "a/b": may not contain '/'"#,
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-validations": [
                {"rule": " "}, {"rule": "true", "message": "a\nb", "reason": "x"},
                {"rule": "a\nb"}, {"rule": "true", "fieldPath": ".a"},
            ]}),
            &[
                "AT.x-kubernetes-validations[0].rule: Required value: rule is not specified",
                r#"AT.x-kubernetes-validations[1].message: Invalid value: "a\nb": must not contain line breaks"#,
                r#"AT.x-kubernetes-validations[1].reason: Unsupported value: "x": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired""#,
                "AT.x-kubernetes-validations[2].message: Required value: message must be specified if rule contains line breaks",
                r#"AT.x-kubernetes-validations[3].fieldPath: Invalid value: ".a": must be a valid path"#,
            ],
        ),
        (
            json!({"type": "x", "x-kubernetes-validations": [{"rule": "true"}], "properties": {
                "a": {"type": "string", "x-kubernetes-validations": [{"rule": "true"}]},
            }}),
            &[
                r#"AT.type: Unsupported value: "x": supported values: "array", "boolean", "integer", "number", "object", "string""#,
                "AT.properties[a].x-kubernetes-validations: Internal error: internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations",
            ],
        ),
        (
            json!({"type": "array", "items": [{"type": "string"}]}),
            &["AT.items: Forbidden: items must be a schema object and not an array"],
        ),
    ];
    for (schema, want) in cases {
        let want: Vec<String> = want.iter().map(|text| text.replace("AT", at)).collect();
        assert_eq!(told(definition(schema.clone())), want, "{schema}");
    }
}

#[test]
fn metadata_in_defaults_is_settled() {
    let inner = json!({"apiVersion": "v1", "kind": "B", "metadata": {"name": "a", "bogus": 1}});
    let mut object = created(definition(json!({
        "type": "object", "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true, "default": inner,
    })));
    Definitions.canonicalize(&mut object);
    let version = &object.list(&["spec", "versions"])[0];
    let spec = &version["schema"]["openAPIV3Schema"]["properties"]["spec"];
    assert_eq!(spec["default"]["metadata"], json!({"name": "a"}));
}

#[test]
fn with_a_status_the_top_says_little() {
    let mut value = definition(json!({"type": "object"}));
    change(&mut value, "/spec/versions/0/subresources", json!({"status": {}}));
    assert!(told(value.clone()).is_empty());
    let version = "/spec/versions/0/schema/openAPIV3Schema";
    change(&mut value, &format!("{version}/minProperties"), json!(1));
    let errors = told(value);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with(
        "spec.validation.openAPIV3Schema: Invalid value: {\"ID\":\"\",\"Schema\":\"\",\"Ref\":null,"
    ));
    assert!(errors[0].ends_with("XValidations] fields are allowed at the root of the schema if the status subresource is enabled"));
}

#[test]
fn what_versions_do_not_share_is_told_of_each() {
    let mut value = definition(json!({"type": "object"}));
    let second = json!({
        "name": "v2", "served": true, "storage": false,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-list-type": "x"}},
    });
    value["spec"]["versions"].as_array_mut().expect("a list").push(second);
    assert_eq!(
        told(value),
        [
            r#"spec.versions[1].schema.openAPIV3Schema.type: Invalid value: "object": must be array if x-kubernetes-list-type is specified"#,
            r#"spec.versions[1].schema.openAPIV3Schema.x-kubernetes-list-type: Unsupported value: "x": supported values: "atomic", "set", "map""#,
        ]
    );
}

#[test]
fn established_names_stay() {
    let mut old = created(definition(json!({"type": "object"})));
    let mut new = definition(json!({"type": "object"}));
    change(&mut new, "/spec/names/kind", json!("B"));
    change(&mut new, "/spec/scope", json!("Cluster"));
    assert!(told_of_update(new.clone(), &old).is_empty());
    old.set(&["status", "conditions"], json!([{"type": "Established", "status": "True"}]));
    assert_eq!(
        told_of_update(new, &old),
        [
            r#"spec.scope: Invalid value: "Cluster": field is immutable"#,
            r#"spec.names.kind: Invalid value: "B": field is immutable"#,
        ]
    );
}

#[test]
fn stored_versions_stay_until_their_objects_are_gone() {
    let old = created(definition(json!({"type": "object"})));
    let mut new = definition(json!({"type": "object"}));
    change(&mut new, "/spec/versions/0/name", json!("v2"));
    assert_eq!(
        told_of_update(new, &old),
        [
            r#"status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions"#
        ]
    );
}

#[test]
fn what_was_wrong_before_may_stay_wrong() {
    let cases = [
        json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}),
        json!({"type": "x"}),
        json!({"type": "object", "default": {"a": 1}}),
        json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string", "nullable": true}}),
    ];
    for schema in cases {
        let value = definition(schema);
        let old = created(value.clone());
        assert!(!told(value.clone()).is_empty());
        assert_eq!(told_of_update(value.clone(), &old), [""; 0], "{value}");
        let good = created(definition(json!({"type": "object"})));
        assert!(!told_of_update(value, &good).is_empty());
    }
}

#[test]
fn new_formats_that_nobody_knows_are_warned_of() {
    let of = |formats: [&str; 2]| {
        created(definition(json!({"type": "object", "properties": {
            "a": {"type": "string", "format": formats[0]},
            "b": {"type": "integer", "format": formats[1]},
        }})))
    };
    let object = of(["nope", "date"]);
    let want = ["unrecognized format \"nope\"", "unrecognized format \"date\""];
    assert_eq!(Definitions.warnings(&object, None), want);
    assert_eq!(Definitions.warnings(&object, Some(&of(["nope", "int32"]))), want[1..]);
    assert!(Definitions.warnings(&of(["date-time", "int64"]), None).is_empty());
}

#[test]
fn groups_of_the_community_need_an_approval() {
    let with = |annotation: &str| {
        let mut value = definition(json!({"type": "object"}));
        change(&mut value, "/spec/group", json!("a.k8s.io"));
        change(&mut value, "/metadata/name", json!("as.a.k8s.io"));
        let annotations = json!({"api-approved.kubernetes.io": annotation});
        change(&mut value, "/metadata/annotations", annotations);
        value
    };
    for good in ["https://github.com/x/pull/1", "unapproved, a test"] {
        assert_eq!(told(with(good)), [""; 0]);
    }
    for bad in ["x", "https:///x", "/a/b"] {
        assert_eq!(told(with(bad)).len(), 1, "{bad}");
        // It may stay as it is.
        assert_eq!(told_of_update(with(bad), &created(with(bad))), [""; 0]);
    }
}
