//! Steps of a path into an object: field names, keys of list items, values of sets and indexes.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/fieldpath/{element,serialize-pe}.go

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use super::value;

/// Text that is static for fields of the schema.
pub type Text = Cow<'static, str>;

/// One step.
#[derive(Clone, Debug)]
pub enum PathElement {
    /// A field of a struct or an entry of a map.
    Field(Text),
    /// The item of a list whose key fields have these values; sorted by name.
    Key(Vec<(Text, Value)>),
    /// The item of a set.
    Value(Value),
    /// An item by its place.
    Index(i64),
}

/// What cannot be read as a path element.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A kind of step that a later version may know; it is left out.
    #[error("unknown path element type")]
    Unknown,
    /// Not a path element.
    #[error("{0}")]
    Bad(String),
}

impl PathElement {
    /// A field of the schema.
    pub fn field(name: &'static str) -> Self {
        Self::Field(Cow::Borrowed(name))
    }

    /// A field or entry by an owned name.
    pub fn named(name: &str) -> Self {
        Self::Field(Cow::Owned(name.to_owned()))
    }

    /// The name when this is a field.
    pub fn field_name(&self) -> Option<&str> {
        match self {
            Self::Field(name) => Some(name),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }

    /// Reads the form in `fieldsV1`: `f:`, `k:`, `v:` or `i:` and the rest.
    ///
    /// # Errors
    /// When it is no such form, or one that is not known.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let bad = |e: &dyn fmt::Display| ParseError::Bad(e.to_string());
        let Some(kind) = text.as_bytes().get(..2) else {
            return Err(ParseError::Bad("key must be 2 characters long:".into()));
        };
        if kind[1] != b':' {
            return Err(ParseError::Bad(format!("missing colon: {text}")));
        }
        let rest = &text[2..];
        match kind[0] {
            b'f' => Ok(Self::named(rest)),
            b'v' => Ok(Self::Value(serde_json::from_str(rest).map_err(|e| bad(&e))?)),
            b'k' => {
                let fields: serde_json::Map<String, Value> =
                    serde_json::from_str(rest).map_err(|e| bad(&e))?;
                Ok(Self::Key(fields.into_iter().map(|(k, v)| (Cow::Owned(k), v)).collect()))
            }
            b'i' => Ok(Self::Index(rest.parse().map_err(|e| bad(&e))?)),
            _ => Err(ParseError::Unknown),
        }
    }

    /// Writes the form in `fieldsV1`.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        match self {
            Self::Field(name) => {
                out.reserve_exact(name.len() + 2);
                out.push_str("f:");
                out.push_str(name);
            }
            Self::Key(fields) => {
                out.push_str("k:{");
                for (index, (name, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    value::write_json(&Value::from(&**name), &mut out);
                    out.push(':');
                    value::write_json(value, &mut out);
                }
                out.push('}');
            }
            Self::Value(value) => {
                out.push_str("v:");
                value::write_json(value, &mut out);
            }
            Self::Index(index) => {
                out.push_str("i:");
                out.push_str(&index.to_string());
            }
        }
        out
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                let pairs = a
                    .iter()
                    .zip(b)
                    .map(|((a, v), (b, w))| a.cmp(b).then_with(|| value::compare(v, w)));
                let unequal = pairs.into_iter().find(|order| order.is_ne());
                unequal.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Self::Value(a), Self::Value(b)) => value::compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for PathElement {}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                f.write_str("[")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={}", value::text(value))?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={}]", value::text(value)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A whole path as messages show it: `.spec.containers[name="a"].image`.
pub fn show(path: &[PathElement]) -> String {
    path.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn elements_are_read_written_and_shown() {
        for (text, shown) in [
            ("f:spec", ".spec"),
            ("f:", "."),
            (r#"k:{"containerPort":80,"protocol":"TCP"}"#, r#"[containerPort=80,protocol="TCP"]"#),
            (r#"v:"a/b""#, r#"[="a/b"]"#),
            ("v:1.5", "[=1.5]"),
            ("v:null", "[=null]"),
            (r#"v:"\u003cb\u003e""#, r#"[="<b>"]"#),
            ("i:-3", "[-3]"),
        ] {
            let element = PathElement::parse(text).expect(text);
            assert_eq!(element.encode(), text);
            assert_eq!(element.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_element_is_refused() {
        assert_eq!(PathElement::parse("x:a"), Err(ParseError::Unknown));
        for bad in ["", "f", "data", "k:nope", "k:[]", "v:", "i:x", "fé"] {
            assert!(matches!(PathElement::parse(bad), Err(ParseError::Bad(_))), "{bad}");
        }
    }

    #[test]
    fn elements_are_ordered_by_kind_and_then_by_value() {
        let key = |value| PathElement::Key(vec![("p".into(), json!(value))]);
        let sorted = [
            PathElement::named("a"),
            PathElement::named("b"),
            key(9),
            key(10),
            PathElement::Value(json!(2.5)),
            PathElement::Value(json!(3)),
            PathElement::Value(json!("a")),
            PathElement::Value(json!(true)),
            PathElement::Index(0),
            PathElement::Index(1),
        ];
        assert!(sorted.is_sorted());
        assert_eq!(PathElement::Value(json!(1)), PathElement::Value(json!(1.0)));
    }
}
