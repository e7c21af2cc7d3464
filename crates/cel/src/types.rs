//! The types of expressions.

use std::fmt;
use std::sync::Arc;

/// The type of an expression or value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Anything; checked when the expression is evaluated.
    Dyn,
    /// Where a mistake was found; fits everything, so that one mistake is told once.
    Error,
    /// The type of null.
    Null,
    /// True or false.
    Bool,
    /// Whole numbers of 64 bits.
    Int,
    /// Whole numbers of 64 bits that are not negative.
    Uint,
    /// Floating point numbers.
    Double,
    /// Texts.
    String,
    /// Sequences of bytes.
    Bytes,
    /// Lengths of time.
    Duration,
    /// Moments.
    Timestamp,
    /// Lists of a type.
    List(Arc<Type>),
    /// Maps from keys to values.
    Map(Arc<Type>, Arc<Type>),
    /// Structs and other named types with fields or functions of their own.
    Struct(Arc<str>),
    /// Named types with parameters: optionals, addresses.
    Opaque(Arc<str>, Arc<[Type]>),
    /// The type of types, and of which one when it is known.
    Type(Option<Arc<Type>>),
    /// A parameter of a declaration, or what is to be found out.
    Param(Arc<str>),
}

/// The name of the type of optional values.
pub(crate) const OPTIONAL: &str = "optional_type";

impl Type {
    /// Lists of `element`.
    pub fn list(element: Type) -> Self {
        Self::List(Arc::new(element))
    }

    /// Maps from `key` to `value`.
    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    /// A value or none.
    pub fn optional(of: Type) -> Self {
        Self::Opaque(OPTIONAL.into(), Arc::new([of]))
    }

    /// A struct of this name.
    pub fn object(name: &str) -> Self {
        Self::Struct(name.into())
    }

    /// The name without parameters.
    pub fn name(&self) -> &str {
        match self {
            Self::Dyn => "dyn",
            Self::Error => "error",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(..) => "map",
            Self::Struct(name) | Self::Opaque(name, _) | Self::Param(name) => name,
            Self::Type(_) => "type",
        }
    }

    /// What an optional holds.
    pub fn unwrap_optional(&self) -> Option<&Type> {
        match self {
            Self::Opaque(name, parameters) if &**name == OPTIONAL => parameters.first(),
            _ => None,
        }
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// The types it is made of.
    pub(crate) fn parameters(&self) -> Vec<&Type> {
        match self {
            Self::List(element) => vec![element],
            Self::Map(key, value) => vec![key, value],
            Self::Opaque(_, parameters) => parameters.iter().collect(),
            Self::Type(Some(of)) => vec![of],
            _ => Vec::new(),
        }
    }

    /// The type that a text of a declaration names: `map(string, A)`, `optional(A)`. A capital letter is a parameter,
    /// a name after `#` a struct, any other unknown name an opaque type.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Some(inner) = text.strip_suffix(')') {
            let (name, inner) = inner.split_once('(')?;
            let mut arguments = split(inner).into_iter().map(Self::parse);
            let first = arguments.next()??;
            return Some(match name {
                "list" => Self::list(first),
                "map" => Self::map(first, arguments.next()??),
                "optional" => Self::optional(first),
                "type" => Self::Type(Some(Arc::new(first))),
                _ => return None,
            });
        }
        Some(match text {
            "dyn" => Self::Dyn,
            "null" => Self::Null,
            "bool" => Self::Bool,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "double" => Self::Double,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "duration" => Self::Duration,
            "timestamp" => Self::Timestamp,
            "type" => Self::Type(None),
            "" => return None,
            _ if text.len() == 1 => Self::Param(text.into()),
            _ => match text.strip_prefix('#') {
                Some(name) => Self::object(name),
                None => Self::Opaque(text.into(), Arc::new([])),
            },
        })
    }
}

/// The parts of a list that commas outside of parentheses separate.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

/// As messages name types. upstream: vendor/github.com/google/cel-go/checker/format.go
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error => return f.write_str("!error!"),
            Self::Null => return f.write_str("null"),
            Self::Duration => return f.write_str("duration"),
            Self::Timestamp => return f.write_str("timestamp"),
            _ => f.write_str(self.name())?,
        }
        let parameters = self.parameters();
        if parameters.is_empty() {
            return Ok(());
        }
        f.write_str("(")?;
        for (index, parameter) in parameters.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{parameter}")?;
        }
        f.write_str(")")
    }
}
