use std::path::Path;

use serde_json::Value;

use super::*;

#[test]
fn every_kind_knows_its_metadata() {
    for (group, version, name) in [
        ("", "v1", "Pod"),
        ("apps", "v1", "Deployment"),
        ("rbac.authorization.k8s.io", "v1", "Role"),
    ] {
        let ty = kind(group, version, name).expect("a built-in kind");
        let metadata = ty.field("metadata").expect("kinds have metadata");
        assert_eq!(metadata.shape.as_struct().expect("a struct").name, "meta/v1.ObjectMeta");
        assert!(ty.field("apiVersion").is_some(), "the type's own fields are inlined");
    }
    assert_eq!(kind("", "v1", "Status").expect("served as core").name, "meta/v1.Status");
    assert!(kind("apps", "v1", "Pod").is_none());
}

#[test]
fn markers_are_read() {
    let container = type_named("core/v1.Container").expect("a type");
    let ports = container.field("ports").expect("a field");
    assert_eq!(ports.topology, Some(Topology::Map));
    assert_eq!(ports.keys, ["containerPort", "protocol"]);
    assert!(ports.patch.merge);
    assert_eq!(ports.patch.merge_key, "containerPort");
    let port = ports.shape.item().and_then(Shape::as_struct).expect("a list of structs");
    assert_eq!(port.field("protocol").expect("a field").default, Some("TCP"));
    let volume = type_named("core/v1.Volume").expect("a type");
    assert!(volume.field("emptyDir").is_some(), "fields of inlined structs are fields");
    let volumes = type_named("core/v1.PodSpec").and_then(|t| t.field("volumes")).expect("a field");
    assert!(volumes.patch.merge && volumes.patch.retain_keys);
    assert!(type_named("core/v1.SecretKeySelector").expect("a type").atomic);
}

#[test]
fn field_numbers_and_names_are_unique_in_each_type() {
    for ty in types() {
        let mut numbers: Vec<u32> =
            ty.fields.iter().map(|f| f.proto_number).filter(|n| *n != 0).collect();
        let mut names: Vec<&str> =
            ty.fields.iter().map(|f| f.json_name).filter(|n| *n != "-").collect();
        for (what, count) in [("numbers", numbers.len()), ("names", names.len())] {
            numbers.sort_unstable();
            numbers.dedup();
            names.sort_unstable();
            names.dedup();
            let left = if what == "numbers" { numbers.len() } else { names.len() };
            assert_eq!(left, count, "{} has repeated {what}", ty.name);
        }
    }
}

/// Where a value does not fit the schema; `None` when it fits.
fn misfit(shape: Shape, value: &Value, path: &str) -> Option<String> {
    let wrong = |what: &str| Some(format!("{path}: {value} is not {what}"));
    match shape {
        Shape::Struct(_) => {
            let ty = shape.as_struct().expect("a struct");
            let Some(map) = value.as_object() else { return wrong(ty.name) };
            map.iter().find_map(|(key, value)| match ty.field(key) {
                Some(field) => misfit(field.shape, value, &format!("{path}.{key}")),
                None => Some(format!("{path}.{key} is unknown in {}", ty.name)),
            })
        }
        Shape::List(_) => {
            let item = shape.item().expect("a list");
            let Some(list) = value.as_array() else { return wrong("a list") };
            list.iter().find_map(|v| misfit(item, v, &format!("{path}[]")))
        }
        Shape::Map(_) => {
            let item = shape.item().expect("a map");
            let Some(map) = value.as_object() else { return wrong("a map") };
            map.iter().find_map(|(k, v)| misfit(item, v, &format!("{path}[{k}]")))
        }
        Shape::Scalar(scalar) => {
            let fits = match scalar {
                Scalar::Bool => value.is_boolean(),
                Scalar::Int32 => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
                Scalar::Int64 => value.is_i64(),
                Scalar::Float64 => value.is_number(),
                // The zero time is null where it cannot be left out, as in a map.
                Scalar::Time => value.is_string() || value.is_null(),
                Scalar::IntOrString => value.is_i64() || value.is_string(),
                Scalar::FieldsV1 => value.is_object(),
                Scalar::RawExtension | Scalar::Json => true,
                _ => value.is_string(),
            };
            if fits { None } else { wrong(&format!("{scalar:?}")) }
        }
    }
}

/// The recorded vectors have every field of every kind set: each must be known here, in its form.
#[test]
fn the_recorded_vectors_fit_the_table() {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/facts/api-testdata-v1.36");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    };
    let mut checked = 0;
    for file in files {
        let path = file.expect("the folder is readable").path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let text = std::fs::read(&path).expect("the file is readable");
        let value: Value = serde_json::from_slice(&text).expect("JSON");
        // GROUP.VERSION.KIND.json; not every vector names its kind inside.
        let stem = path.file_stem().and_then(|s| s.to_str()).expect("a plain file name");
        let (rest, name) = stem.rsplit_once('.').expect("a kind");
        if name == "WatchEvent" {
            continue; // the frame of a watch, not an object
        }
        let (group, version) = rest.rsplit_once('.').expect("a version");
        let ty = kind(if group == "core" { "" } else { group }, version, name);
        let ty = ty.unwrap_or_else(|| panic!("{stem} is unknown"));
        let index = schema().by_name[ty.name];
        assert_eq!(misfit(Shape::Struct(index), &value, name), None, "{}", path.display());
        checked += 1;
    }
    assert!(checked > 100, "only {checked} vectors were found");
}
