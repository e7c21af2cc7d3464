//! Random objects by the schema table, in the form that decoding gives them.

use base64::Engine as _;
use longshore_api::schema::{Field, Scalar, Shape, Type};
use longshore_api::{Gvk, normalize, schema};
use serde_json::{Map, Number, Value, json};

use crate::random::Random;

/// Deepest nesting of structs; below it only scalars are filled in. Some types hold themselves.
const DEPTH_MAX: usize = 7;
/// Most items in a list or map.
const ITEMS_MAX: usize = 3;

/// Every kind that is served, with its type.
pub fn kinds() -> Vec<(Gvk, &'static Type)> {
    let mut kinds: Vec<(Gvk, &'static Type)> = Vec::new();
    for resource in longshore_resources::all() {
        let gvk = resource.gvk();
        if let Some(ty) = schema::kind(&gvk.group, &gvk.version, &gvk.kind)
            && !kinds.iter().any(|(known, _)| *known == gvk)
        {
            kinds.push((gvk, ty));
        }
    }
    kinds
}

/// A random object of a kind. Every field is there about as often as not.
pub fn object(random: &mut Random, gvk: &Gvk, ty: &'static Type) -> Value {
    let mut value = Value::Object(fields(random, ty, 0));
    value["apiVersion"] = gvk.api_version().into();
    value["kind"] = gvk.kind.as_str().into();
    value["metadata"] = json!({"name": name(random), "namespace": "default"});
    if random.one_in(2) {
        value["metadata"]["labels"] = json!({ name(random): name(random) });
    }
    // What Go would not write goes, so that a reader gives the same back.
    match normalize::normalize(ty, &mut value) {
        Ok(_) => value,
        Err(error) => panic!("a generated {} does not fit its own type: {error}", gvk.kind),
    }
}

fn fields(random: &mut Random, ty: &'static Type, depth: usize) -> Map<String, Value> {
    let mut map = Map::new();
    for field in &ty.fields {
        if field.inline {
            // The kind of an object inside another one is lost in protobuf, as upstream loses it.
            if let Some(inner) =
                field.shape.as_struct().filter(|ty| !ty.name.ends_with(".TypeMeta"))
            {
                map.extend(fields(random, inner, depth));
            }
        } else if random.one_in(2)
            && let Some(value) = value(random, field, field.shape, depth)
        {
            map.insert(field.json_name.to_owned(), value);
        }
    }
    map
}

fn value(random: &mut Random, field: &Field, shape: Shape, depth: usize) -> Option<Value> {
    match shape {
        Shape::Struct(_) if depth >= DEPTH_MAX => None,
        Shape::Struct(_) => Some(Value::Object(fields(random, shape.as_struct()?, depth + 1))),
        Shape::List(_) => {
            let item = shape.item()?;
            let count = 1 + random.below(ITEMS_MAX);
            let items: Vec<Value> =
                (0..count).filter_map(|_| value(random, field, item, depth + 1)).collect();
            // Protobuf does not tell an empty list from none.
            (!items.is_empty()).then_some(Value::Array(items))
        }
        Shape::Map(_) => {
            let item = shape.item()?;
            let mut map = Map::new();
            for _ in 0..1 + random.below(ITEMS_MAX) {
                if let Some(value) = value(random, field, item, depth + 1) {
                    map.insert(name(random), value);
                }
            }
            (!map.is_empty()).then_some(Value::Object(map))
        }
        Shape::Scalar(Scalar::String) if !field.values.is_empty() => {
            Some(random.pick(&field.values).as_str().into())
        }
        Shape::Scalar(scalar) => Some(scalar_value(random, scalar)),
    }
}

fn scalar_value(random: &mut Random, scalar: Scalar) -> Value {
    match scalar {
        Scalar::String => text(random).into(),
        Scalar::Bool => random.one_in(2).into(),
        Scalar::Int32 => (random.number() as i32 >> random.below(31)).into(),
        Scalar::Int64 => (random.number() as i64 >> random.below(63)).into(),
        Scalar::Float64 => {
            let number = (random.below(2_000_001) as f64 - 1_000_000.0) / 64.0;
            Number::from_f64(number).map_or(Value::Null, Value::Number)
        }
        Scalar::Bytes => {
            let bytes: Vec<u8> = (0..random.below(40)).map(|_| random.number() as u8).collect();
            base64::engine::general_purpose::STANDARD.encode(bytes).into()
        }
        Scalar::Time => "2026-03-04T05:06:07Z".into(),
        Scalar::MicroTime => format!("2026-03-04T05:06:07.{:06}Z", random.below(1_000_000)).into(),
        Scalar::Duration => format!("{}s", random.below(60)).into(),
        Scalar::Quantity => {
            let suffix = *random.pick(&["", "m", "k", "M", "G", "Ki", "Mi", "Gi"]);
            format!("{}{suffix}", 1 + random.below(999)).into()
        }
        Scalar::IntOrString => {
            if random.one_in(2) {
                format!("{}%", random.below(101)).into()
            } else {
                random.below(65_536).into()
            }
        }
        Scalar::RawExtension | Scalar::Json => json!({ name(random): text(random) }),
        Scalar::FieldsV1 => json!({"f:data": {format!("f:{}", name(random)): {}}}),
    }
}

/// A text that is valid wherever names are wanted.
fn name(random: &mut Random) -> String {
    let letters = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let inner: String = (0..random.below(12)).map(|_| char::from(*random.pick(letters))).collect();
    format!("n{inner}")
}

/// Any text; among them those that formats like to misread.
fn text(random: &mut Random) -> String {
    const SPECIAL: &[&str] = &[
        "",
        " ",
        "a b",
        "0644",
        "0x1f",
        "1e3",
        "1_000",
        "yes",
        "n",
        "On",
        "null",
        "~",
        "true",
        ".5",
        "-",
        "- a",
        "a: b",
        "#c",
        "a #c",
        "'",
        "\"",
        "\\",
        "\n",
        "a\nb\n",
        "\n\n a",
        "\ttab",
        "\r\n",
        "\u{0}",
        "\u{1f}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{fffd}",
        "é",
        "語",
        "🦀",
        "2026-01-01",
        "12:30:45",
        "=",
        "<<",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "{a}",
        "[a]",
        "---",
        "...",
        "|",
        ">",
        "?",
        "? a",
        ":",
        "a:",
        "+1",
        "-0",
        "0o7",
        "inf",
        ".nan",
        "0b1",
        "1.0",
        "é: ",
    ];
    match random.below(3) {
        0 => (*random.pick(SPECIAL)).to_owned(),
        1 => name(random),
        _ => (0..random.below(20))
            .filter_map(|_| char::from_u32(random.number() as u32 % 0x2_0000))
            .collect(),
    }
}
