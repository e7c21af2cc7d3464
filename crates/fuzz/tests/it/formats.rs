//! The formats agree: an object written in one of them and read back is the same object.

use longshore_api::{cbor, json, normalize, protobuf, yaml};
use longshore_fuzz::generate;
use longshore_fuzz::random::Random;
use serde_json::Value;

/// Random objects of each kind.
const OBJECTS: usize = 20;

#[test]
fn formats_agree_on_every_kind() {
    let mut random = Random::new(11);
    let mut wrong = Vec::new();
    for (gvk, ty) in generate::kinds() {
        for _ in 0..OBJECTS {
            let object = generate::object(&mut random, &gvk, ty);
            let normal = |mut value: Value| normalize::normalize(ty, &mut value).map(|_| value);
            let from_json = json::decode(object.to_string().as_bytes()).unwrap().value;
            let from_yaml = yaml::decode(yaml::encode(&object).as_bytes()).unwrap();
            let bytes = protobuf::encode_object(&object).unwrap();
            let from_protobuf = protobuf::decode_object(&bytes, ("", "")).unwrap();
            let from_cbor = cbor::decode(&cbor::encode(&object)).unwrap();
            for (format, read) in [
                ("JSON", from_json),
                ("YAML", from_yaml),
                ("protobuf", from_protobuf),
                ("CBOR", from_cbor),
            ] {
                match normal(read) {
                    Ok(read) if read == object => {}
                    Ok(read) => {
                        let place = difference(&object, &read, String::new());
                        wrong.push(format!("{format} of {gvk:?}: {place}"));
                    }
                    Err(error) => wrong.push(format!("{format} of {gvk:?}: {error}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} objects differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The first place where two trees differ.
fn difference(one: &Value, other: &Value, path: String) -> String {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys = a.keys().chain(b.keys());
            let key = keys.find(|key| a.get(*key) != b.get(*key)).unwrap();
            let (a, b) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
            difference(a, b, format!("{path}.{key}"))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let index = (0..a.len()).find(|index| a[*index] != b[*index]).unwrap();
            difference(&a[index], &b[index], format!("{path}[{index}]"))
        }
        _ => format!("{path} is {one} and {other}"),
    }
}
