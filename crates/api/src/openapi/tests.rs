use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::*;

fn facts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/facts")
}

/// The served resources as recorded; `None` when the facts are not there.
fn routes() -> Option<Vec<Route>> {
    let text = std::fs::read_to_string(facts().join("resources-v1.36.tsv")).ok()?;
    let mut routes: Vec<Route> = Vec::new();
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [group, version, plural, sub, kind, namespaced, verbs] = columns[..] else {
            panic!("{line}")
        };
        let group = if group == "core" { "" } else { group };
        let verbs: Vec<String> = verbs.split(',').map(str::to_owned).collect();
        if sub.is_empty() {
            let returns_deleted = RETURN_DELETED.contains(&plural);
            let mut verbs = verbs;
            if verbs.iter().any(|v| v == "list") && plural != "componentstatuses" {
                verbs.push("watch".into());
            }
            routes.push(Route {
                group: group.into(),
                version: version.into(),
                plural: plural.into(),
                kind: kind.into(),
                namespaced: namespaced == "True",
                verbs,
                returns_deleted,
                subresources: Vec::new(),
                schema: None,
                list_kind: format!("{kind}List"),
                selectable_fields: Vec::new(),
            });
            continue;
        }
        let (kind_group, kind_version) = match kind {
            "Scale" => ("autoscaling", "v1"),
            "Eviction" => ("policy", "v1"),
            "TokenRequest" => ("authentication.k8s.io", "v1"),
            _ => (group, version),
        };
        let route = routes.iter_mut().rfind(|r| r.plural == plural && r.group == group);
        route.expect("the resource comes first").subresources.push(Subroute {
            name: sub.into(),
            kind: Gvk::new(kind_group, kind_version, kind),
            verbs,
        });
    }
    Some(routes)
}

/// Resources whose deletion answers with the object.
const RETURN_DELETED: [&str; 16] = [
    "csidrivers",
    "csinodes",
    "deviceclasses",
    "persistentvolumeclaims",
    "persistentvolumes",
    "pods",
    "podtemplates",
    "resourceclaims",
    "resourceclaimtemplates",
    "resourcequotas",
    "resourceslices",
    "serviceaccounts",
    "services",
    "storageclasses",
    "volumeattachments",
    "volumeattributesclasses",
];

/// The recorded documents of version 3 by path; `None` when the facts are not there.
fn recorded() -> Option<Map<String, Value>> {
    let bytes = std::fs::read(facts().join("reference/openapi-v3.json.gz")).ok()?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect("gzip");
    let mut value: Value = serde_json::from_str(&text).expect("JSON");
    Some(value["documents"].as_object_mut().map(std::mem::take).expect("documents by path"))
}

/// What the documents leave out: texts, and hints that no client acts on.
fn without_texts(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A description is a text; a field may have that name too.
            fields.retain(|key, value| {
                let text = key == "description" && value.is_string();
                !text && key != "x-kubernetes-unions"
            });
            // Without a description there is nothing beside a reference.
            let lone = fields.len() == 1;
            if let (true, Some([target])) =
                (lone, fields.get("allOf").and_then(|v| v.as_array()).map(Vec::as_slice))
            {
                *value = target.clone();
                return;
            }
            fields.values_mut().for_each(without_texts);
        }
        Value::Array(items) => items.iter_mut().for_each(without_texts),
        _ => {}
    }
}

/// The differences of two trees as paths.
fn differences(mine: &Value, theirs: &Value, path: &str, found: &mut Vec<String>) {
    match (mine, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = format!("{path}/{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differences(a, b, &path, found),
                    (a, b) => found.push(format!("{path}: {a:?} where upstream has {b:?}")),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).for_each(|(a, b)| differences(a, b, &format!("{path}[]"), found));
        }
        _ if mine == theirs => {}
        _ => found.push(format!("{path}: {mine} where upstream has {theirs}")),
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document("stable.example.com", "v1", &[widgets()]);
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let text = document.to_string();
    for part in text.split("#/components/schemas/").skip(1) {
        let name = part.split('"').next().expect("split gives one part");
        assert!(schemas.get(name).is_some_and(Value::is_object), "{name} is missing");
    }
}

#[test]
fn documents_are_as_recorded() {
    let (Some(routes), Some(recorded)) = (routes(), recorded()) else {
        eprintln!("skipped: {} is not there", facts().display());
        return;
    };
    let (mut checked, mut found) = (0, Vec::new());
    for (path, mut theirs) in recorded {
        let mut mine = match path.split('/').collect::<Vec<_>>()[..] {
            ["api", version] => document("", version, &routes),
            ["apis", group, version] => document(group, version, &routes),
            _ => match root_document(&path) {
                Some(document) => document,
                None => continue,
            },
        };
        without_texts(&mut mine);
        without_texts(&mut theirs);
        differences(&mine, &theirs, &path, &mut found);
        checked += 1;
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(checked > 40, "only {checked} documents were compared");
}

fn widgets() -> Route {
    let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
    Route {
        group: "stable.example.com".into(),
        version: "v1".into(),
        plural: "widgets".into(),
        kind: "Widget".into(),
        namespaced: true,
        verbs: verbs.map(str::to_owned).to_vec(),
        returns_deleted: false,
        subresources: Vec::new(),
        schema: Some(json!({
            "type": "object", "properties": {"spec": {"type": "object", "nullable": true}},
        })),
        list_kind: "Widgets".into(),
        selectable_fields: vec![".spec.color".into()],
    }
}

#[test]
fn custom_resources_have_documents_too() {
    let document = document("stable.example.com", "v1", &[widgets()]);
    let schemas = &document["components"]["schemas"];
    let widget = &schemas["com.example.stable.v1.Widget"];
    assert_eq!(
        widget["x-kubernetes-group-version-kind"],
        json!([{"group": "stable.example.com", "kind": "Widget", "version": "v1"}])
    );
    let kind = &widget["properties"]["kind"];
    assert_eq!(kind, &json!({"type": "string", "description": texts::KIND}));
    assert!(widget["properties"]["metadata"]["allOf"].is_array());
    let selectable = json!([{"fieldPath": "spec.color"}]);
    for name in ["Widget", "Widgets"] {
        let schema = &schemas[format!("com.example.stable.v1.{name}")];
        assert_eq!(schema["x-kubernetes-selectable-fields"], selectable);
    }
    let path = "/apis/stable.example.com/v1/namespaces/{namespace}/widgets/{name}";
    let patch = &document["paths"][path]["patch"];
    assert_eq!(patch["operationId"], "patchStableExampleComV1NamespacedWidget");
    let names = patch["parameters"].as_array().expect("parameters").iter().map(|p| &p["name"]);
    assert!(names.into_iter().any(|name| name == "fieldValidation"));
}

#[test]
fn the_old_document_has_plain_references() {
    let old = document_v2([document("stable.example.com", "v1", &[widgets()])]);
    let widget = &old["definitions"]["com.example.stable.v1.Widget"];
    let meta = "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let metadata = json!({"$ref": meta, "description": texts::METADATA});
    assert_eq!(widget["properties"]["metadata"], metadata);
    // Clients of the old form cannot cope with null.
    assert_eq!(widget["properties"]["spec"], json!({}));
    let create =
        &old["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/widgets"]["post"];
    assert_eq!(create["parameters"][0]["in"], "body");
    assert_eq!(
        create["responses"]["201"]["schema"]["$ref"],
        "#/definitions/com.example.stable.v1.Widget"
    );
}

/// A recorded document of version 2; `None` when the facts are not there.
fn recorded_v2(name: &str) -> Option<Value> {
    let bytes = std::fs::read(facts().join(name)).ok()?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect("gzip");
    Some(serde_json::from_str(&text).expect("JSON"))
}

/// The document of version 2 of everything that is served.
fn own_v2(routes: &[Route]) -> Option<Value> {
    let documents = recorded()?.into_iter().filter_map(|(path, _)| {
        match path.split('/').collect::<Vec<_>>()[..] {
            ["api", version] => Some(document("", version, routes)),
            ["apis", group, version] => Some(document(group, version, routes)),
            _ => root_document(&path),
        }
    });
    Some(document_v2(documents))
}

/// What of the old document is compared: not the paths of `/.well-known`, `/openid` and `/logs`,
/// which have no document of their own here, and not in which versions that nobody serves the
/// types of every group are known. Shared parameters are put back in their places: their names
/// hash their texts.
fn comparable(document: &mut Value, enums: bool) {
    without_texts(document);
    let mut parameters = document["parameters"].take();
    let Value::Object(fields) = document else { panic!("no document") };
    fields.remove("parameters");
    inline(document, &mut parameters);
    if !enums {
        without_enums(document);
    }
    let paths = document["paths"].as_object_mut().expect("paths");
    paths.retain(|path, _| path.starts_with("/api") || path.starts_with("/version"));
    for name in ["DeleteOptions", "WatchEvent"] {
        let name = format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}");
        let definition = document["definitions"][&name].as_object_mut().expect("a definition");
        definition.remove("x-kubernetes-group-version-kind").expect("kinds");
    }
}

fn inline(value: &mut Value, parameters: &mut Value) {
    if let Some(name) = value["$ref"].as_str().and_then(|to| to.strip_prefix("#/parameters/")) {
        *value = parameters[name].clone();
        assert!(value.is_object(), "a reference leads nowhere");
    }
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|value| inline_in(value, parameters)),
        Value::Array(items) => items.iter_mut().for_each(|value| inline_in(value, parameters)),
        _ => {}
    }
}

fn inline_in(value: &mut Value, parameters: &mut Value) {
    if value.is_object() || value.is_array() {
        inline(value, parameters);
    }
}

fn without_enums(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, value| key != "enum" || !value.is_array());
            fields.values_mut().for_each(without_enums);
        }
        Value::Array(items) => {
            // The published description has features that are off.
            items.retain(|item| !item.as_str().is_some_and(|text| text.contains("cbor")));
            items.iter_mut().for_each(without_enums);
        }
        _ => {}
    }
}

#[test]
fn the_old_document_is_as_recorded() {
    let (Some(routes), Some(mut theirs)) = (routes(), recorded_v2("reference/openapi-v2.json.gz"))
    else {
        eprintln!("skipped: {} is not there", facts().display());
        return;
    };
    let mut mine = own_v2(&routes).expect("recorded with the other documents");
    comparable(&mut mine, true);
    comparable(&mut theirs, true);
    let mut found = Vec::new();
    differences(&mine, &theirs, "", &mut found);
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

/// The published description also has what is not served by default: every definition and path of
/// ours has to be in it. It tells no enumerations.
#[test]
fn the_old_document_is_part_of_the_published_one() {
    let (Some(routes), Some(mut theirs)) = (routes(), recorded_v2("openapi-v2-v1.36.json.gz"))
    else {
        eprintln!("skipped: {} is not there", facts().display());
        return;
    };
    let mut mine = own_v2(&routes).expect("recorded with the published description");
    comparable(&mut mine, false);
    comparable(&mut theirs, false);
    let mut found = Vec::new();
    let mut compared = 0;
    for part in ["definitions", "paths"] {
        for (name, mine) in mine[part].as_object().expect("a map") {
            let path = format!("{part}/{name}");
            match theirs[part].get(name) {
                Some(theirs) => differences(mine, theirs, &path, &mut found),
                None => found.push(format!("{path} is not published")),
            }
            compared += 1;
        }
    }
    assert!(compared > 900, "only {compared} parts were compared");
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}
