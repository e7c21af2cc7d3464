//! YAML bodies, read as upstream reads them: as another spelling of JSON.
//!
//! upstream: sigs.k8s.io/yaml

mod encode;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::{DuplicateKeyPolicy, Options, Spanned};

pub use encode::encode;

/// How the message about a repeated key ends.
pub const ALREADY_SET: &str = "already set in map";

/// A body that is not one YAML document.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// A document that was read although it is not quite right.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loose {
    /// The tree; of a repeated key the last value counts.
    pub value: Value,
    /// What is said about repeated keys, in the order found.
    pub duplicates: Vec<String>,
}

impl Loose {
    /// What a strict reader says about repeated keys.
    pub fn repeated(&self) -> Option<String> {
        (!self.duplicates.is_empty()).then(|| self.duplicates.join("\n  "))
    }
}

/// Decodes one YAML document. Aliases are expanded within the reader's budget, so that a small body
/// cannot become a huge tree; repeated keys are errors. What follows the first document is ignored.
pub fn decode(bytes: &[u8]) -> Result<Value, Error> {
    read(bytes, serde_saphyr::options! { legacy_octal_numbers: true })
}

/// Deepest nesting of a document with repeated keys: each level of one that tells lines takes a
/// good part of a worker's stack. Objects of Kubernetes are far below.
const LOOSE_DEPTH_MAX: usize = 32;

/// Decodes the first YAML document of a body as upstream does where it takes what it gets.
pub fn decode_loose(bytes: &[u8]) -> Result<Loose, Error> {
    let strict = match decode(bytes) {
        Ok(value) => return Ok(Loose { value, duplicates: Vec::new() }),
        Err(error) => error,
    };
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        budget: serde_saphyr::budget! { max_depth: LOOSE_DEPTH_MAX },
    };
    let Ok(node) = read::<Node>(bytes, options) else { return Err(strict) };
    let mut duplicates = Vec::new();
    let value = node.into_value(&mut duplicates);
    Ok(Loose { value, duplicates })
}

fn read<T: for<'de> Deserialize<'de> + Integral>(
    bytes: &[u8],
    options: Options,
) -> Result<T, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| Error(error.to_string()))?;
    let text = first_document(text);
    let mut read: T = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| Error(words::explain(&error.to_string(), text)))?;
    read.integral();
    Ok(read)
}

/// The text up to the end of the first document.
fn first_document(text: &str) -> &str {
    let mut at = 0;
    let mut started = false;
    for line in text.split_inclusive('\n') {
        let marks = |mark: &str| {
            line.strip_prefix(mark)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        if started && (marks("---") || marks("...")) {
            return &text[..at];
        }
        let directive = line.starts_with('%') && !started;
        let content = line.trim_start_matches('\u{feff}').trim();
        started |= !directive && !content.is_empty() && !content.starts_with('#');
        at += line.len();
    }
    text
}

/// Whole numbers are integers however they are written: JSON, through which upstream passes, does
/// not tell them apart.
trait Integral {
    fn integral(&mut self);
}

/// From here on Go prints a float with an exponent.
const FLOAT_TEXT_MAX: f64 = 1e18;

impl Integral for Value {
    fn integral(&mut self) {
        match self {
            Self::Number(number) => {
                let whole = number.as_f64().filter(|f| number.is_f64() && f.fract() == 0.0);
                if let Some(whole) = whole.filter(|f| f.abs() < FLOAT_TEXT_MAX) {
                    *self = (whole as i64).into();
                }
            }
            Self::Array(items) => items.iter_mut().for_each(Integral::integral),
            Self::Object(fields) => fields.values_mut().for_each(Integral::integral),
            _ => {}
        }
    }
}

/// A tree that knows the lines of its values and keeps repeated keys.
enum Node {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, u64, Node)>),
}

impl Integral for Node {
    fn integral(&mut self) {
        match self {
            Self::Scalar(value) => value.integral(),
            Self::List(items) => items.iter_mut().for_each(Integral::integral),
            Self::Map(fields) => fields.iter_mut().for_each(|(_, _, node)| node.integral()),
        }
    }
}

impl Node {
    fn into_value(self, duplicates: &mut Vec<String>) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::List(items) => {
                items.into_iter().map(|node| node.into_value(duplicates)).collect()
            }
            Self::Map(fields) => {
                let mut map = Map::new();
                for (key, line, node) in fields {
                    if map.contains_key(&key) {
                        duplicates.push(format!("line {line}: key {key:?} {ALREADY_SET}"));
                    }
                    let value = node.into_value(duplicates);
                    map.insert(key, value);
                }
                Value::Object(map)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML node")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value: Spanned<Node> = entries.next_value()?;
            map.push((key, value.referenced.line(), value.value));
        }
        Ok(Node::Map(map))
    }
}
