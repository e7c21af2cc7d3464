use std::path::Path;

use serde_json::json;

use super::*;
use crate::schema;

fn pod(spec: Value) -> Result<(Value, Vec<String>), Error> {
    let ty = schema::kind("", "v1", "Pod").expect("a built-in kind");
    let mut value = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec});
    let unknown = normalize(ty, &mut value)?;
    Ok((value["spec"].take(), unknown))
}

#[test]
fn unknown_fields_are_dropped_and_told() {
    let (spec, unknown) = pod(json!({
        "x": 1, "containers": [{"name": "a"}, {"name": "b", "imagee": 1}],
        "volumes": [{"name": "v", "emptyDir": {"y": null}}],
    }))
    .expect("no wrong type");
    assert_eq!(unknown, ["spec.containers[1].imagee", "spec.volumes[0].emptyDir.y", "spec.x"]);
    let want = json!({
        "containers": [{"name": "a"}, {"name": "b"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    });
    assert_eq!(spec, want);
}

#[test]
fn zero_values_are_left_out_as_in_go() {
    let (spec, _) = pod(json!({
        "nodeName": "", "hostNetwork": false, "tolerations": [], "nodeSelector": {},
        "priority": 0, "affinity": null, "securityContext": {}, "containers": [],
    }))
    .expect("no wrong type");
    // A pointer keeps the zero that it was given; a field without omitempty is always written.
    assert_eq!(spec, json!({"priority": 0, "securityContext": {}, "containers": []}));
}

#[test]
fn of_several_errors_gos_first_one_is_told() {
    let pod = crate::schema::kind("", "v1", "Pod").expect("a kind");
    for (source, want) in [
        // In the order of the document.
        (
            r#"{"spec": {"nodeName": 1, "hostNetwork": "x"}}"#,
            "json: cannot unmarshal number into Go struct field PodSpec.spec.nodeName of type string",
        ),
        (
            r#"{"spec": {"hostNetwork": "x", "containers": [{"name": 1}], "nodeName": 1}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        // A type that reads itself ends the decoder.
        (
            r#"{"spec": {"nodeName": 1, "overhead": {"cpu": "x"}, "hostNetwork": "x"}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        // Numbers as they stand there.
        (
            r#"{"spec": {"containers": [{"ports": [{}, {"hostPort": 1.50}]}]}}"#,
            "json: cannot unmarshal number 1.50 into Go struct field ContainerPort.spec.containers.ports.hostPort of type int32",
        ),
        (
            r#"{"spec": {"priority": 9223372036854775808}}"#,
            "json: cannot unmarshal number 9223372036854775808 into Go struct field PodSpec.spec.priority of type int32",
        ),
    ] {
        let error = first_error(pod, source.as_bytes()).map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(want), "{source}");
    }
    assert_eq!(first_error(pod, br#"{"spec": {"nodeName": "n"}}"#), None);
}

#[test]
fn wrong_types_are_told_in_gos_words() {
    for (spec, want) in [
        (
            json!({"nodeName": 1}),
            "json: cannot unmarshal number into Go struct field PodSpec.spec.nodeName of type string",
        ),
        (
            json!({"containers": "a"}),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            json!({"containers": [{"name": 1}]}),
            "json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string",
        ),
        (
            json!([]),
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            json!({"nodeSelector": []}),
            "json: cannot unmarshal array into Go struct field PodSpec.spec.nodeSelector of type map[string]string",
        ),
        // Named types are told by their names, numbers that do not fit by their text, and inlined
        // structs are part of the path.
        (
            json!({"containers": [{"resources": {"limits": []}}]}),
            "json: cannot unmarshal array into Go struct field ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList",
        ),
        (
            json!({"restartPolicy": 7}),
            "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            json!({"priority": 1.5}),
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            json!({"volumes": [{"emptyDir": []}]}),
            "json: cannot unmarshal array into Go struct field Volume.spec.volumes.VolumeSource.emptyDir of type v1.EmptyDirVolumeSource",
        ),
        (
            json!({"volumes": [{"emptyDir": {"medium": 1}}]}),
            "json: cannot unmarshal number into Go struct field EmptyDirVolumeSource.spec.volumes.VolumeSource.emptyDir.medium of type v1.StorageMedium",
        ),
        (
            json!({"containers": [{"ports": [{"hostPort": "x"}], "livenessProbe": {"httpGet": {"port": true}}}]}),
            "json: cannot unmarshal bool into Go struct field HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
        ),
    ] {
        assert_eq!(pod(spec).expect_err("a wrong type").to_string(), want);
    }
    let limits = json!({"containers": [{"resources": {"limits": {"cpu": "x"}}}]});
    let error = pod(limits).expect_err("not a quantity").to_string();
    assert!(error.starts_with("quantities must match"), "{error}");
}

fn meta(time: &Value) -> Result<Value, String> {
    let ty = schema::kind("", "v1", "Pod").expect("a built-in kind");
    let mut value = json!({"metadata": {"creationTimestamp": time}});
    normalize(ty, &mut value).map_err(|error| error.to_string())?;
    Ok(value["metadata"]["creationTimestamp"].take())
}

#[test]
fn times_become_canonical_and_errors_are_gos() {
    for (given, want) in [
        ("2024-05-06T07:08:09Z", json!("2024-05-06T07:08:09Z")),
        ("2024-05-06T09:08:09.25+02:00", json!("2024-05-06T07:08:09Z")),
        ("2024-05-06T7:08:09Z", json!("2024-05-06T07:08:09Z")),
        ("0001-01-01T00:00:00Z", Value::Null),
    ] {
        assert_eq!(meta(&given.into()), Ok(want), "{given}");
    }
    let layout = "2006-01-02T15:04:05Z07:00";
    for (given, why) in [
        ("", format!(" as \"{layout}\": cannot parse \"\" as \"2006\"")),
        ("2024-5-06", format!(" as \"{layout}\": cannot parse \"5-06\" as \"01\"")),
        ("2024-05-06T07:08:09", format!(" as \"{layout}\": cannot parse \"\" as \"Z07:00\"")),
        ("2024-13-06T07:08:09Z", ": month out of range".into()),
        ("2023-02-29T07:08:09Z", ": day out of range".into()),
        ("2024-05-06T07:08:09Zx", ": extra text: \"x\"".into()),
    ] {
        assert_eq!(meta(&given.into()), Err(format!("parsing time \"{given}\"{why}")), "{given}");
    }
    let number = "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string";
    assert_eq!(meta(&json!(7)), Err(number.to_owned()));
}

#[test]
fn bytes_are_checked_where_go_stops() {
    let ty = schema::kind("", "v1", "Secret").expect("a built-in kind");
    let secret = |text: &str| {
        let mut value = json!({"data": {"k": text}});
        normalize(ty, &mut value).map_err(|error| error.to_string())?;
        Ok::<_, String>(value["data"]["k"].as_str().expect("a text").to_owned())
    };
    for (given, want) in [("", ""), ("YQ==", "YQ=="), ("YWJj\nZA=\n=\n", "YWJjZA==")] {
        assert_eq!(secret(given).as_deref(), Ok(want), "{given:?}");
    }
    for (given, at) in [("v", 0), ("Bad_Value!", 3), ("x/y/z", 4), ("YQ=", 3), ("YQ==YQ==", 4)] {
        let error = format!("illegal base64 data at input byte {at}");
        assert_eq!(secret(given), Err(error), "{given:?}");
    }
}

#[test]
fn schemas_in_definitions_hold_unions() {
    let ty = schema::kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let ty = ty.expect("a built-in kind");
    let of = |schema: Value| {
        let mut value = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}});
        let told = normalize(ty, &mut value).map_err(|error| error.to_string())?;
        let schema = value["spec"]["versions"][0]["schema"]["openAPIV3Schema"].take();
        Ok::<_, String>((schema, told))
    };
    let (schema, told) =
        of(json!({"additionalProperties": {"x": 1, "type": "a"}, "items": 1, "y": 1}))
            .expect("no wrong type");
    assert_eq!(schema, json!({"additionalProperties": {"type": "a"}}));
    assert_eq!(told.len(), 1, "fields inside a union are dropped silently: {told:?}");
    let (_, told) = of(json!({"properties": {"a": {"zzz": 1}}})).expect("no wrong type");
    assert_eq!(told, ["spec.versions[0].schema.openAPIV3Schema.properties.a.zzz"]);
    assert_eq!(
        of(json!({"additionalProperties": []})),
        Err("boolean or JSON schema expected".into())
    );
    let error = of(json!({"items": {"type": 7}})).expect_err("a wrong type");
    assert_eq!(
        error,
        "json: cannot unmarshal number into Go struct field JSONSchemaProps.spec.versions.schema.openAPIV3Schema.items.type of type string"
    );
}

#[test]
fn patched_trees_are_restored_in_upstreams_words() {
    let ty = schema::kind("apps", "v1", "Deployment").expect("a built-in kind");
    for (spec, want) in [
        (json!({"replicas": "3"}), "unrecognized type: int32"),
        (json!({"replicas": 1.5}), "cannot convert float64 to int32"),
        (json!({"paused": "yes"}), "unrecognized type: bool"),
        (json!("x"), "cannot restore struct from: string"),
        (json!({"template": []}), "cannot restore struct from: slice"),
        (json!({"selector": {"matchLabels": []}}), "cannot restore map from slice"),
        (json!({"template": {"spec": {"containers": {}}}}), "cannot restore slice from map"),
        (
            json!({"template": {"spec": {"restartPolicy": 7}}}),
            "cannot convert int64 to v1.RestartPolicy",
        ),
        (
            json!({"strategy": {"rollingUpdate": {"maxSurge": true}}}),
            "json: cannot unmarshal bool into Go value of type int32",
        ),
    ] {
        let mut value = json!({"spec": spec});
        assert_eq!(restore(ty, &mut value), Err(want.to_owned()), "{value}");
    }
    let mut value = json!({"spec": {"replicas": 3.0, "unknown": 1}});
    assert_eq!(restore(ty, &mut value), Ok(()));
    assert_eq!(value, json!({"spec": {"replicas": 3, "unknown": 1}}));
}

#[test]
fn quantities_become_canonical() {
    let (spec, _) = pod(json!({
        "containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}],
    }))
    .expect("no wrong type");
    let limits = json!({"cpu": "500m", "memory": "1Gi"});
    assert_eq!(spec["containers"][0]["resources"]["limits"], limits);
}

/// The vectors hold every field of every kind: normalising them must change nothing.
#[test]
fn the_recorded_vectors_are_fixed_points() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/facts/api-testdata-v1.36");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    };
    for file in files {
        let path = file.expect("the folder is readable").path();
        let stem = path.file_stem().and_then(|s| s.to_str()).expect("a plain file name");
        if path.extension().is_none_or(|e| e != "json") || stem.ends_with(".WatchEvent") {
            continue;
        }
        let (rest, name) = stem.rsplit_once('.').expect("a kind");
        let (group, version) = rest.rsplit_once('.').expect("a version");
        let group = if group == "core" { "" } else { group };
        let ty = schema::kind(group, version, name).expect("a known kind");
        let bytes = std::fs::read(&path).expect("the file is readable");
        let vector = crate::json::decode(&bytes).expect("JSON");
        assert_eq!(vector.duplicates, Vec::<String>::new(), "{stem}");
        let mut value = vector.value.clone();
        let unknown = normalize(ty, &mut value);
        assert_eq!(unknown, Ok(Vec::new()), "{stem}");
        assert_eq!(value, vector.value, "{stem}");
    }
}
