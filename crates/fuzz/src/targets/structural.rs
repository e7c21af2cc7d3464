//! Targets that read schemas of custom resources, and objects by them.

use longshore_api::field::Path;
use longshore_api::managed::{Filter, OneVersion, Typing, Write, track};
use longshore_api::structural::{Reading, Schema};
use longshore_api::{Object, json, pattern};
use serde_json::{Value, json};

use crate::random::Random;

pub const WORDS: &[&[u8]] = &[
    b"\"type\":\"object\"",
    b"\"type\":\"array\"",
    b"\"type\":\"string\"",
    b"\"type\":\"integer\"",
    b"\"properties\":{\"a\":{}}",
    b"\"additionalProperties\":true",
    b"\"items\":{}",
    b"\"nullable\":true",
    b"\"default\":{}",
    b"\"enum\":[null,1,1.5,\"a\"]",
    b"\"multipleOf\":0",
    b"\"maximum\":-1e308",
    b"\"maxItems\":-1",
    b"\"pattern\":\"(a+)+$\"",
    b"\"format\":\"date-time\"",
    b"\"anyOf\":[{\"required\":[\"a\"]}]",
    b"\"not\":{}",
    b"\"x-kubernetes-int-or-string\":true",
    b"\"x-kubernetes-embedded-resource\":true",
    b"\"x-kubernetes-preserve-unknown-fields\":true",
    b"\"x-kubernetes-list-type\":\"map\"",
    b"\"x-kubernetes-list-type\":\"set\"",
    b"\"x-kubernetes-list-map-keys\":[\"a\"]",
    b"\"x-kubernetes-map-type\":\"atomic\"",
    b"null",
    b"-0.0",
    b"18446744073709551615",
];

/// A random schema, not always a good one.
fn schema(random: &mut Random, depth: usize) -> Value {
    let mut out = json!({});
    let below = |random: &mut Random| schema(random, depth + 1);
    let kind = ["object", "array", "string", "integer", "number", "boolean", ""][random.below(7)];
    if !kind.is_empty() {
        out["type"] = kind.into();
    }
    if depth < 4 {
        if kind == "object" {
            for name in ["a", "b", "metadata"].into_iter().take(random.below(4)) {
                out["properties"][name] = below(random);
            }
            if random.one_in(3) {
                out["additionalProperties"] =
                    if random.one_in(2) { true.into() } else { below(random) };
            }
        }
        if kind == "array" {
            out["items"] = below(random);
        }
        if random.one_in(6) {
            let key = ["allOf", "anyOf", "oneOf"][random.below(3)];
            out[key] = json!([below(random), below(random)]);
        }
    }
    for (key, value) in [
        ("nullable", json!(true)),
        ("default", self::value(random, 3)),
        ("enum", json!([self::value(random, 4), self::value(random, 4)])),
        ("required", json!(["a"])),
        ("minimum", json!(1)),
        ("maxLength", json!(2)),
        ("maxItems", json!(1)),
        ("format", json!("ipv4")),
        ("pattern", json!("^[a-c]*$")),
        ("x-kubernetes-int-or-string", json!(true)),
        ("x-kubernetes-embedded-resource", json!(true)),
        ("x-kubernetes-preserve-unknown-fields", json!(true)),
        ("x-kubernetes-map-type", json!("atomic")),
    ] {
        if random.one_in(9) {
            out[key] = value;
        }
    }
    if kind == "array" && random.one_in(2) {
        out["x-kubernetes-list-type"] = ["set", "map", "atomic"][random.below(3)].into();
        out["x-kubernetes-list-map-keys"] = json!(["a"]);
    }
    out
}

fn value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth >= 4 { 6 } else { 9 }) {
        0 => Value::Null,
        1 => json!(random.one_in(2)),
        2 => json!(random.below(5)),
        3 => json!(1.5),
        4 => json!("a"),
        5 => json!("1.2.3.4"),
        6 => (0..random.below(3)).map(|_| value(random, depth + 1)).collect(),
        _ => {
            let mut out = json!({});
            for name in ["a", "b", "metadata", "kind"].into_iter().take(random.below(5)) {
                out[name] = value(random, depth + 1);
            }
            out
        }
    }
}

pub fn seeds(random: &mut Random) -> Vec<Vec<u8>> {
    let mut seed = || {
        let mut top = schema(random, 0);
        top["type"] = "object".into();
        let (object, old) = (value(random, 0), value(random, 0));
        json!({"schema": top, "object": object, "old": old}).to_string().into_bytes()
    };
    (0..60).map(|_| seed()).collect()
}

/// Compiles a schema and takes an object through all that is done with one. What was pruned and
/// filled once stays so.
pub fn structural(input: &[u8]) -> String {
    let Ok(decoded) = json::decode(input) else { return "no JSON".into() };
    let parts = decoded.value;
    let schema = match Schema::compile(&parts["schema"], false) {
        Ok(schema) => schema,
        Err(error) => return error.to_string(),
    };
    let mut object = parts["object"].clone();
    if !object.is_object() {
        object = json!({"spec": object});
    }
    let mut outcome = Vec::new();
    if let Err(error) = schema.coerce(&mut object, true) {
        return error.to_string();
    }
    if schema.default(&mut object).is_err() {
        return "too large".into();
    }
    let once = object.clone();
    assert!(schema.prune(&mut object).is_empty(), "what is pruned is known: {once}");
    schema.default(&mut object).expect("filled before");
    assert_eq!(object, once, "pruning and filling it again changes nothing");
    let errors = schema.validate(&object, None);
    outcome.push(if errors.is_empty() { "good" } else { "broken" });
    assert!(
        schema.validate_update(&object, &parts["old"]).len()
            <= schema.validate_create(&object).len(),
        "an update is never asked more"
    );
    schema.validate_status(&object, &parts["old"]);
    schema.root().validate(&Path::default(), &parts["old"], Reading::Defaults);
    let write = Write {
        ty: Typing::Custom(&schema),
        api_version: "g/v1",
        subresource: "",
        manager: "m",
        now: "2026-01-01T00:00:00Z",
        filter: Filter::All,
        versions: &OneVersion,
    };
    let mut new = Object::from_value(object).expect("an object");
    track(&write, &Object::default(), &mut new);
    outcome.push(if new.get(&["metadata", "managedFields"]).is_some() { "managed" } else { "" });
    outcome.join(" ")
}

pub fn pattern_seeds(_: &mut Random) -> Vec<Vec<u8>> {
    [
        "^[a-z]([-a-z0-9]*[a-z0-9])?$",
        r"(?i:\d+)\.\p{Greek}{2,3}?|\Q.*\E",
        r"[^[:alpha:]\]\x{41}-Z-]*\b\B\101",
        "(?P<a>x)(?<b>y)(?s-i)(a|b|)*{,}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// Reads a regular expression; a good one can be matched.
pub fn patterns(input: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(input) else { return "no text".into() };
    let read = pattern::check(text);
    let pattern = pattern::Pattern::new(text);
    assert_eq!(pattern.matches(text).is_ok(), read.is_ok(), "{text:?}");
    match read {
        Ok(()) => "good".into(),
        // The part that is wrong is none of the outcome.
        Err(error) => error.split('`').next().unwrap_or("").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_mostly_schemas() {
        let seeds = seeds(&mut Random::new(3));
        let good = seeds.iter().filter(|seed| {
            let decoded = json::decode(seed).expect("JSON");
            Schema::compile(&decoded.value["schema"], false).is_ok()
        });
        assert!(good.count() * 2 > seeds.len());
    }
}
