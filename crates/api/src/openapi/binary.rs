//! The old OpenAPI document as protobuf, which Go's clients ask for.
//!
//! Each message is a table of its fields; what a document has beyond them is left out. Free values are YAML.
//!
//! upstream: github.com/google/gnostic-models/openapiv2/OpenAPIv2.proto, k8s.io/kube-openapi/pkg/handler/handler.go

use serde_json::Value;

use crate::protobuf::wire::{put_bytes, put_double, put_int};
use crate::yaml;

/// The field of named values in messages that hold nothing else.
const NAMED: u32 = 1;
const NAME: u32 = 1;
const VALUE: u32 = 2;
/// The text of a free value.
const YAML: u32 = 2;

/// A message: its fields, and where the other keys go.
struct Message {
    fields: &'static [(&'static str, u32, Kind)],
    /// The field of the keys that begin with `x-`, by name.
    extensions: u32,
    /// The field of all other keys, by name, and what their values are.
    named: Option<(u32, Kind)>,
}

/// What a value is.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Whole,
    Number,
    /// Anything: as YAML.
    Any,
    /// A list of anything.
    Anys,
    One(&'static Message),
    /// One of several messages: the fields that lead to it, and it.
    Choice(fn(&Value) -> Option<Chosen>),
    /// A message that has nothing but a list of such values.
    Listed(&'static Kind),
}

/// The numbers of the fields down to a value, from the outside, and what it is.
type Chosen = (&'static [u32], Kind);

const fn fields(fields: &'static [(&'static str, u32, Kind)], extensions: u32) -> Message {
    Message { fields, extensions, named: None }
}

const fn named(field: u32, kind: Kind) -> Message {
    Message { fields: &[], extensions: 0, named: Some((field, kind)) }
}

use Kind::{Any, Anys, Choice, Flag, Listed, Number, One, Text, Whole};

static DOCUMENT: Message = fields(
    &[
        ("swagger", 1, Text),
        ("info", 2, One(&INFO)),
        ("host", 3, Text),
        ("basePath", 4, Text),
        ("schemes", 5, Text),
        ("consumes", 6, Text),
        ("produces", 7, Text),
        ("paths", 8, One(&PATHS)),
        ("definitions", 9, One(&SCHEMAS)),
        ("parameters", 10, One(&PARAMETERS)),
        ("responses", 11, One(&RESPONSE_DEFINITIONS)),
        ("security", 12, One(&REQUIREMENT)),
        ("securityDefinitions", 13, One(&SECURITY)),
    ],
    16,
);
static INFO: Message =
    fields(&[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)], 7);
static PATHS: Message = Message { fields: &[], extensions: 1, named: Some((2, One(&PATH))) };
static PATH: Message = fields(
    &[
        ("$ref", 1, Text),
        ("get", 2, One(&OPERATION)),
        ("put", 3, One(&OPERATION)),
        ("post", 4, One(&OPERATION)),
        ("delete", 5, One(&OPERATION)),
        ("options", 6, One(&OPERATION)),
        ("head", 7, One(&OPERATION)),
        ("patch", 8, One(&OPERATION)),
        ("parameters", 9, Choice(parameter_item)),
    ],
    10,
);
static OPERATION: Message = fields(
    &[
        ("tags", 1, Text),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Text),
        ("consumes", 7, Text),
        ("parameters", 8, Choice(parameter_item)),
        ("responses", 9, One(&RESPONSES)),
        ("schemes", 10, Text),
        ("deprecated", 11, Flag),
        ("security", 12, One(&REQUIREMENT)),
    ],
    13,
);
static REQUIREMENT: Message = named(NAMED, Listed(&Text));
static SECURITY: Message = named(NAMED, Choice(security));
static API_KEY: Message =
    fields(&[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)], 5);
static PARAMETERS: Message = named(NAMED, Choice(parameter));
static REFERENCE: Message = fields(&[("$ref", 1, Text), ("description", 2, Text)], 0);
static BODY: Message = fields(
    &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, One(&SCHEMA)),
    ],
    6,
);
static QUERY: Message = fields(
    &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("allowEmptyValue", 5, Flag),
        ("type", 6, Text),
        ("format", 7, Text),
        ("default", 10, Any),
        ("maximum", 11, Number),
        ("minimum", 13, Number),
        ("pattern", 17, Text),
        ("uniqueItems", 20, Flag),
        ("enum", 21, Anys),
    ],
    23,
);
/// Of parameters in the path and in headers.
static PLACED: Message = fields(
    &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("default", 9, Any),
        ("maximum", 10, Number),
        ("minimum", 12, Number),
        ("pattern", 16, Text),
        ("uniqueItems", 19, Flag),
        ("enum", 20, Anys),
    ],
    22,
);
static RESPONSES: Message =
    Message { fields: &[], extensions: 2, named: Some((1, Choice(response))) };
static RESPONSE_DEFINITIONS: Message = named(NAMED, One(&RESPONSE));
static RESPONSE: Message =
    fields(&[("description", 1, Text), ("schema", 2, Choice(within_schema))], 5);
static SCHEMAS: Message = named(NAMED, One(&SCHEMA));
static SCHEMA: Message = fields(
    &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Number),
        ("maximum", 7, Number),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Number),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Whole),
        ("minLength", 12, Whole),
        ("pattern", 13, Text),
        ("maxItems", 14, Whole),
        ("minItems", 15, Whole),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Whole),
        ("minProperties", 18, Whole),
        ("required", 19, Text),
        ("enum", 20, Anys),
        ("additionalProperties", 21, Choice(schema_or_flag)),
        ("type", 22, Listed(&Text)),
        ("items", 23, Listed(&One(&SCHEMA))),
        ("allOf", 24, One(&SCHEMA)),
        ("properties", 25, One(&SCHEMAS)),
        ("discriminator", 26, Text),
        ("readOnly", 27, Flag),
        ("externalDocs", 29, One(&DOCS)),
        ("example", 30, Any),
    ],
    31,
);
static DOCS: Message = fields(&[("description", 1, Text), ("url", 2, Text)], 3);

fn is_reference(value: &Value) -> bool {
    value.get("$ref").is_some()
}

fn parameter(value: &Value) -> Option<Chosen> {
    match value["in"].as_str()? {
        "body" => Some((&[1], One(&BODY))),
        "header" => Some((&[2, 1], One(&PLACED))),
        "query" => Some((&[2, 3], One(&QUERY))),
        "path" => Some((&[2, 4], One(&PLACED))),
        _ => None,
    }
}

fn parameter_item(value: &Value) -> Option<Chosen> {
    if is_reference(value) {
        return Some((&[2], One(&REFERENCE)));
    }
    parameter(value).map(|_| -> Chosen { (&[1], Choice(parameter)) })
}

fn response(value: &Value) -> Option<Chosen> {
    Some(if is_reference(value) { (&[2], One(&REFERENCE)) } else { (&[1], One(&RESPONSE)) })
}

fn within_schema(_: &Value) -> Option<Chosen> {
    Some((&[1], One(&SCHEMA)))
}

fn schema_or_flag(value: &Value) -> Option<Chosen> {
    Some(if value.is_boolean() { (&[2], Flag) } else { (&[1], One(&SCHEMA)) })
}

fn security(value: &Value) -> Option<Chosen> {
    (value["type"] == "apiKey").then_some((&[2], One(&API_KEY)))
}

/// The document of `/openapi/v2` as protobuf.
pub fn encode_v2(document: &Value) -> Vec<u8> {
    message(&DOCUMENT, document)
}

fn message(of: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        if let Some((_, number, kind)) = of.fields.iter().find(|(name, ..)| name == key) {
            put(&mut out, *number, *kind, value);
        } else if key.starts_with("x-") && of.extensions != 0 {
            put_named(&mut out, of.extensions, key, Any, value);
        } else if let Some((number, kind)) = of.named {
            put_named(&mut out, number, key, kind, value);
        }
    }
    out
}

fn put_named(out: &mut Vec<u8>, number: u32, name: &str, kind: Kind, value: &Value) {
    let mut entry = Vec::new();
    put_bytes(&mut entry, NAME, name.as_bytes());
    put_one(&mut entry, VALUE, kind, value);
    put_bytes(out, number, &entry);
}

/// A field; of a list, each of its elements.
fn put(out: &mut Vec<u8>, number: u32, kind: Kind, value: &Value) {
    match (value, kind) {
        (Value::Array(list), Text | Anys | One(_) | Choice(_)) => {
            list.iter().for_each(|value| put_one(out, number, kind, value));
        }
        _ => put_one(out, number, kind, value),
    }
}

fn put_one(out: &mut Vec<u8>, number: u32, kind: Kind, value: &Value) {
    match kind {
        Text => put_bytes(out, number, value.as_str().unwrap_or("").as_bytes()),
        Flag => put_int(out, number, i64::from(value == true)),
        Whole => put_int(out, number, value.as_i64().unwrap_or(0)),
        Number => put_double(out, number, value.as_f64().unwrap_or(0.0)),
        Any | Anys => {
            let mut any = Vec::new();
            put_bytes(&mut any, YAML, yaml::encode(value).as_bytes());
            put_bytes(out, number, &any);
        }
        One(of) => put_bytes(out, number, &message(of, value)),
        Listed(kind) => {
            let mut list = Vec::new();
            put(&mut list, 1, *kind, value);
            put_bytes(out, number, &list);
        }
        Choice(choose) => {
            let Some((path, kind)) = choose(value) else { return };
            let Some((last, outer)) = path.split_last() else { return };
            let mut inner = Vec::new();
            put_one(&mut inner, *last, kind, value);
            for number in outer.iter().rev() {
                let mut wrapped = Vec::new();
                put_bytes(&mut wrapped, *number, &inner);
                inner = wrapped;
            }
            put_bytes(out, number, &inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A field with a length, by its number.
    fn field(number: u16, parts: &[&[u8]]) -> Vec<u8> {
        let tag = number << 3 | 2;
        let mut out = match u8::try_from(tag) {
            Ok(tag) if tag < 0x80 => vec![tag],
            _ => vec![(tag & 0x7f) as u8 | 0x80, (tag >> 7) as u8],
        };
        let value = parts.concat();
        assert!(value.len() < 0x80, "a short one");
        out.push(value.len() as u8);
        out.extend(value);
        out
    }

    #[test]
    fn schemas_are_written_field_by_field() {
        let document = json!({ "definitions": { "a": {
            "type": "object", "required": ["b", "c"], "maxLength": 3, "unheard": 1, "enum": ["e"],
            "additionalProperties": { "$ref": "d" }, "items": { "format": "f" },
            "x-k": [{ "v": "w" }],
        }, "b": { "additionalProperties": true } } });
        // The keys of an object are in the order of the alphabet.
        let schema = [
            field(21, &[&field(1, &[&field(1, &[b"d"])])]),
            field(20, &[&field(2, &[b"e\n"])]),
            field(23, &[&field(1, &[&field(2, &[b"f"])])]),
            vec![11 << 3, 3],
            field(19, &[b"b"]),
            field(19, &[b"c"]),
            field(22, &[&field(1, &[b"object"])]),
            field(31, &[&field(1, &[b"x-k"]), &field(2, &[&field(2, &[b"- v: w\n"])])]),
        ]
        .concat();
        let entry =
            |name: &[u8], schema: &[u8]| field(1, &[&field(1, &[name]), &field(2, &[schema])]);
        let flag = field(21, &[&[2 << 3, 1]]);
        assert_eq!(encode_v2(&document), field(9, &[&entry(b"a", &schema), &entry(b"b", &flag)]));
    }

    #[test]
    fn operations_say_where_their_parameters_are() {
        let document = json!({ "paths": { "/p": {
            "get": {
                "parameters": [{ "in": "body", "name": "b" }, { "$ref": "r" }],
                "responses": { "200": { "description": "OK", "schema": { "title": "t" } } },
            },
            "parameters": [{ "in": "query", "name": "q", "uniqueItems": true }],
        } }, "security": [{ "k": [] }] });
        let parameter = |parts: &[&[u8]]| field(8, &[&field(1, &[&field(1, parts)])]);
        let response = [field(1, &[b"OK"]), field(2, &[&field(1, &[&field(3, &[b"t"])])])].concat();
        let get = [
            parameter(&[&field(3, &[b"body"]), &field(2, &[b"b"])]),
            field(8, &[&field(2, &[&field(1, &[b"r"])])]),
            field(9, &[&field(1, &[&field(1, &[b"200"]), &field(2, &[&field(1, &[&response])])])]),
        ]
        .concat();
        let query = [field(2, &[b"query"]), field(4, &[b"q"]), vec![0xa0, 1, 1]].concat();
        let query = field(9, &[&field(1, &[&field(2, &[&field(3, &[&query])])])]);
        let path = field(2, &[&field(1, &[b"/p"]), &field(2, &[&field(2, &[&get]), &query])]);
        let security = field(12, &[&field(1, &[&field(1, &[b"k"]), &field(2, &[])])]);
        assert_eq!(encode_v2(&document), [field(8, &[&path]), security].concat());
    }
}
