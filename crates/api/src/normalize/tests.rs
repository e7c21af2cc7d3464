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
    ] {
        assert_eq!(pod(spec).expect_err("a wrong type").to_string(), want);
    }
    let limits = json!({"containers": [{"resources": {"limits": {"cpu": "x"}}}]});
    let error = pod(limits).expect_err("not a quantity").to_string();
    assert!(error.starts_with("quantities must match"), "{error}");
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
