//! Targets that read who manages which fields.

use std::sync::OnceLock;

use longshore_api::managed::{Filter, OneVersion, Write, apply, codec, managers, track};
use longshore_api::schema::Type;
use longshore_api::{Object, json, normalize};
use serde_json::{Value, json};

use super::{choice, chosen};
use crate::generate;
use crate::random::Random;

pub const WORDS: &[&[u8]] = &[
    b"\"f:a\":{}",
    b"\"k:{\\\"name\\\":\\\"a\\\"}\":{}",
    b"\"v:\\\"a\\\"\":{}",
    b"\"i:0\":{}",
    b"\".\":{}",
    b"\"f:\":{}",
    b"\"k:{}\":{}",
    b"\"v:1\":{}",
    b"\"i:-1\":{}",
    b"\"x:\":{}",
    b"f:metadata",
    b"f:spec",
    b"f:containers",
    b"null",
    b"{",
    b"}",
    b",",
];

/// A state of an object, and its kind.
struct Live {
    api_version: String,
    ty: &'static Type,
    object: Object,
}

fn lives() -> &'static [Live] {
    static LIVES: OnceLock<Vec<Live>> = OnceLock::new();
    LIVES.get_or_init(|| {
        let mut random = Random::new(9);
        let mut make = |(gvk, ty): (longshore_api::Gvk, &'static Type)| {
            let mut value = generate::object(&mut random, &gvk, ty);
            value["metadata"]["uid"] = "a".into();
            let object = Object::from_value(value).expect("an object");
            Live { api_version: gvk.api_version(), ty, object }
        };
        generate::kinds().into_iter().map(&mut make).collect()
    })
}

fn write<'a>(live: &'a Live, manager: &'a str) -> Write<'a> {
    Write {
        ty: live.ty.into(),
        api_version: &live.api_version,
        subresource: "",
        manager,
        now: "2026-01-02T03:04:05Z",
        filter: Filter::default(),
        versions: &OneVersion,
    }
}

/// Another state of each kind, with the managers of its fields.
pub fn seeds(random: &mut Random) -> Vec<Vec<u8>> {
    let others = generate::kinds().into_iter().zip(lives()).enumerate();
    others
        .map(|(index, ((gvk, ty), live))| {
            let value = generate::object(random, &gvk, ty);
            let mut object = Object::from_value(value).expect("an object");
            let nothing = Object::from_value(json!({})).expect("an object");
            track(&write(live, "seed"), &nothing, &mut object);
            [&choice(index)[..], object.into_value().to_string().as_bytes()].concat()
        })
        .collect()
}

/// An update of a live object by what a client sent, its managed fields included.
pub fn managed(input: &[u8]) -> String {
    let Some((live, rest)) = chosen(input, lives()) else { return "too short".into() };
    let Ok(decoded) = json::decode(rest) else { return "no JSON".into() };
    let mut value = decoded.value;
    let entries = value["metadata"]["managedFields"].clone();
    let mut outcome = String::new();
    if let Value::Array(entries) = &entries {
        for entry in entries {
            if let Ok(set) = codec::decode(&entry["fieldsV1"]) {
                let again = codec::decode(&codec::encode(&set));
                assert_eq!(again.as_ref(), Ok(&set), "a field set survives encoding");
            }
        }
        match managers::decode(entries) {
            Ok(found) => {
                let written = managers::encode(&found).unwrap_or_else(|| json!([]));
                let again = managers::decode(written.as_array().expect("a list"));
                assert!(again.is_ok(), "written managers are read again");
                outcome.push_str(if found.is_empty() { "none " } else { "some " });
            }
            Err(error) => outcome = error,
        }
    }
    if normalize::normalize(live.ty, &mut value).is_err() {
        return format!("{outcome} no object");
    }
    let Some(mut new) = Object::from_value(value) else { return "no object".into() };
    new.set(&["metadata", "uid"], "a");
    track(&write(live, "eve"), &live.object, &mut new);
    let managed = new.list(&["metadata", "managedFields"]).len();
    let once = new.clone();
    // The same write again changes nothing.
    track(&write(live, "eve"), &once, &mut new);
    assert_eq!(new, once, "an update that changes nothing changes managers");
    format!("{outcome} {} managers", managed.min(4))
}

/// Applied configurations of each kind.
pub fn apply_seeds(random: &mut Random) -> Vec<Vec<u8>> {
    let all = generate::kinds().into_iter().enumerate();
    all.map(|(index, (gvk, ty))| {
        let config = generate::object(random, &gvk, ty).to_string();
        [&choice(index)[..], config.as_bytes()].concat()
    })
    .collect()
}

/// A live object that somebody else has applied, and a configuration for it.
pub fn applied(input: &[u8]) -> String {
    let Some((live, rest)) = chosen(input, lives()) else { return "too short".into() };
    let Ok(decoded) = json::decode(rest) else { return "no JSON".into() };
    let config = decoded.value;
    let kind = live.object.str(&["kind"]);
    let nothing = Object::from_value(json!({})).expect("an object");
    let mut other = live.object.clone();
    track(&write(live, "other"), &nothing, &mut other);
    let eve = write(live, "eve");
    let once = match apply(&eve, kind, &other, &config, true) {
        Ok(once) => once,
        Err(error) => return error.message,
    };
    let own = |object: &Object| {
        let managers = managers::decode(object.list(&["metadata", "managedFields"]));
        let managers = managers.expect("what apply writes can be read");
        managers.into_iter().find(|(id, _)| id.name == "eve").map(|(_, entry)| entry.set)
    };
    let owned = own(&once);
    // The same configuration again conflicts with nobody and owns the same.
    let twice = match apply(&eve, kind, &once, &config, false) {
        Ok(twice) => twice,
        Err(error) => panic!("what was applied by force conflicts again: {}", error.message),
    };
    assert_eq!(own(&twice), owned, "applying twice owns something else");
    format!("applied, {}", owned.map_or(0, |set| set.len()).min(9))
}
