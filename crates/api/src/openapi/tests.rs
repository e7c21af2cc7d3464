use std::io::Read as _;
use std::path::Path;

use super::*;

fn deployments() -> Route {
    Route {
        plural: "deployments".into(),
        kind: Gvk::new("apps", "v1", "Deployment"),
        namespaced: true,
        verbs: ["create", "get", "list", "patch", "update"].map(str::to_owned).to_vec(),
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document("apps", "v1", &[deployments()]);
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let text = document.to_string();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().expect("split gives one part");
        assert!(schemas.get(name).is_some_and(Value::is_object), "{name} is missing");
    }
}

#[test]
fn a_patch_says_that_it_validates_fields() {
    let document = document("apps", "v1", &[deployments()]);
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    let parameters = patch["parameters"].as_array().expect("parameters");
    assert!(parameters.iter().any(|p| p["name"] == "fieldValidation"));
}

/// Without its prose, a schema equals the recorded one.
#[test]
fn schemas_equal_the_recorded_ones() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/facts/reference/openapi-v3.json.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("a gzip file");
    let recorded: Value = serde_json::from_str(&text).expect("JSON");
    let want = &recorded["documents"]["apis/apps/v1"]["components"]["schemas"];
    let document = document("apps", "v1", &[deployments()]);
    let mut differ = Vec::new();
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        if name == "io.k8s.api.core.v1.AzureDiskVolumeSource" {
            continue; // its defaults are Go constants, which the facts name without their values
        }
        let mut want = want[name].clone();
        strip(&mut want);
        if name == "io.k8s.api.core.v1.ProjectedVolumeSource" {
            // Upstream marks its list as optional by a comment that the facts do not have.
            want["required"] = json!(["sources"]);
        }
        let mut have = schema.clone();
        strip(&mut have);
        if want != have && !want.is_null() {
            differ.push(format!("{name}\n want {want}\n have {have}"));
        }
    }
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("description").is_some_and(Value::is_string) {
                fields.remove("description");
            }
            // Which group version lists which shared kinds is told for served ones only.
            fields.remove("x-kubernetes-group-version-kind");
            fields.remove("x-kubernetes-unions");
            fields.remove("enum");
            // Empty defaults of optional fields are not in the facts.
            if fields.get("default") == Some(&json!("")) {
                fields.remove("default");
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
