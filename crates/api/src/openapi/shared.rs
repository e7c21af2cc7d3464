//! Parameters that many operations have, told once: the old document refers to them by name.
//!
//! upstream: k8s.io/kube-openapi/pkg/builder/parameters.go

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Map, Value, json};

/// Takes the shared parameters out of the paths of a document and gives them by their names.
pub(super) fn take_out(paths: &mut Map<String, Value>) -> Map<String, Value> {
    let mut taken = Map::new();
    for item in paths.values_mut().filter_map(Value::as_object_mut) {
        for (key, value) in item {
            match value {
                Value::Array(list) if key == "parameters" => replace(list, &mut taken),
                Value::Object(operation) => {
                    let list = operation.get_mut("parameters").and_then(Value::as_array_mut);
                    list.into_iter().for_each(|list| replace(list, &mut taken));
                }
                _ => {}
            }
        }
    }
    taken
}

fn replace(list: &mut [Value], taken: &mut Map<String, Value>) {
    for parameter in list.iter_mut().filter(|parameter| is_shared(parameter)) {
        let text = parameter.to_string();
        let name = format!("{}-{}", parameter["name"].as_str().unwrap_or("param"), hash(&text));
        let reference = json!({ "$ref": format!("#/parameters/{name}") });
        let parameter = std::mem::replace(parameter, reference);
        taken.insert(name, parameter);
    }
}

/// All but what differs from kind to kind, and what kubectl looks for in its place.
fn is_shared(parameter: &Value) -> bool {
    let text = |key: &str| parameter[key].as_str().unwrap_or("");
    match (text("in"), text("name")) {
        ("query" | "path", "name") | ("query", "fieldValidation" | "dryRun") => false,
        ("body", "body") => {
            let schema = parameter["schema"]["$ref"].as_str();
            schema.is_none_or(|to| to.starts_with("#/definitions/io.k8s.apimachinery"))
        }
        _ => true,
    }
}

/// Six bytes of the FNV-1 hash of a text.
fn hash(text: &str) -> String {
    let start: u64 = 0xcbf2_9ce4_8422_2325;
    let step = |hash: u64, byte: u8| hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte);
    let hash = text.bytes().fold(start, step);
    URL_SAFE.encode(&hash.to_be_bytes()[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_same_everywhere_is_shared() {
        let query = |name: &str| json!({"in": "query", "name": name, "type": "string"});
        let body = |to: &str| json!({"in": "body", "name": "body", "schema": {"$ref": format!("#/definitions/{to}")}});
        let mut paths = Map::new();
        for path in ["/a", "/b"] {
            let get =
                json!({"parameters": [query("limit"), query("dryRun"), body("io.k8s.api.X")]});
            let delete = json!({"parameters": [body("io.k8s.apimachinery.Y")]});
            let item = json!({"get": get, "delete": delete, "parameters": [query("pretty")]});
            paths.insert(path.into(), item);
        }
        let taken = take_out(&mut paths);
        assert_eq!(taken.len(), 3);
        let list = &paths["/a"]["get"]["parameters"];
        let name = list[0]["$ref"].as_str().expect("a reference");
        let name = name.strip_prefix("#/parameters/").expect("a parameter");
        assert!(name.starts_with("limit-") && name.len() == "limit-".len() + 8, "{name}");
        assert_eq!(taken[name], query("limit"));
        assert_eq!(list[1], query("dryRun"));
        assert_eq!(list[2], body("io.k8s.api.X"));
        assert!(paths["/b"]["delete"]["parameters"][0].get("$ref").is_some());
    }

    #[test]
    fn the_hash_is_the_recorded_one() {
        let parameter =
            r#"{"uniqueItems":true,"type":"string","description":"x","name":"y","in":"query"}"#;
        assert_eq!(hash(""), "y_Kc5IQi");
        assert_eq!(hash(parameter).len(), 8);
    }
}
