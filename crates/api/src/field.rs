//! Field paths and field errors: how validation says what is wrong and where.
//!
//! upstream: staging/src/k8s.io/apimachinery/pkg/util/validation/field

use std::fmt;

use serde_json::Value;

use crate::patch::gotext;

/// A path to a field, such as `spec.containers[0].name` or `metadata.labels[a/b]`.
///
/// Building one costs an allocation; validators pass `&Path` down and extend it only where needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// A path that starts at a root field; one without a name prints as `[]`, as upstream's does.
    pub fn new(name: &str) -> Self {
        Self(if name.is_empty() { "[]" } else { name }.to_owned())
    }

    /// The path of a field of this field.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { self.joined(&[".", name]) }
    }

    /// Validation makes many paths and shows few: they are put together without formatting.
    fn joined(&self, parts: &[&str]) -> Self {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut text = String::with_capacity(self.0.len() + length);
        text.push_str(&self.0);
        parts.iter().for_each(|part| text.push_str(part));
        Self(text)
    }

    /// The path of an item of this list.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path of an entry of this map.
    pub fn key(&self, key: &str) -> Self {
        self.joined(&["[", key, "]"])
    }

    /// The path as text; `<nil>` for the empty path, as upstream prints it.
    pub fn as_str(&self) -> &str {
        if self.0.is_empty() { "<nil>" } else { &self.0 }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of rule a field broke; the wire form is the cause's `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// `FieldValueNotFound`: names something that does not exist.
    NotFound,
    /// `FieldValueRequired`: missing.
    Required,
    /// `FieldValueDuplicate`: occurs twice.
    Duplicate,
    /// `FieldValueInvalid`: breaks a rule.
    Invalid,
    /// `FieldValueNotSupported`: not one of the supported values.
    NotSupported,
    /// `FieldValueForbidden`: may not be set here.
    Forbidden,
    /// `FieldValueTooLong`: over a length limit.
    TooLong,
    /// `FieldValueTooMany`: over a count limit.
    TooMany,
    /// `InternalError`.
    Internal,
    /// `FieldValueTypeInvalid`: of the wrong type.
    TypeInvalid,
}

impl ErrorType {
    /// The cause's `reason` on the wire.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of rule.
    pub kind: ErrorType,
    /// Where; see [`Path::as_str`].
    pub field: String,
    /// The message without the field, as in the cause's `message`.
    pub body: String,
    /// The bad value when it is no scalar, and the rule: see [`Error::print_tree`].
    tree: Option<Box<(Value, String)>>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body)
    }
}

/// The broken rules of one object, in the order found.
pub type ErrorList = Vec<Error>;

/// How a bad value is printed in a message: strings quoted as Go's `%q`, scalars plain, trees as
/// JSON.
fn print_value(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::String(text) => gotext::quote(text),
        Value::Number(_) => gotext::plain(value),
        other => gotext::json(other),
    }
}

impl Error {
    fn make(kind: ErrorType, path: &Path, value: Option<String>, detail: &str) -> Self {
        let mut body = kind.text().to_owned();
        if let Some(value) = value {
            body.push_str(": ");
            body.push_str(&value);
        }
        if !detail.is_empty() {
            body.push_str(": ");
            body.push_str(detail);
        }
        Self { kind, field: path.as_str().to_owned(), body, tree: None }
    }

    fn with_value(kind: ErrorType, path: &Path, value: Value, detail: &str) -> Self {
        let mut error = Self::make(kind, path, Some(print_value(&value)), detail);
        if value.is_object() || value.is_array() || value.is_null() {
            error.tree = Some(Box::new((value, detail.to_owned())));
        }
        error
    }

    /// The bad value, when it is an object, a list or null.
    pub fn tree(&self) -> Option<&Value> {
        self.tree.as_ref().map(|tree| &tree.0)
    }

    /// Tells the bad value as a Go struct of a type, such as `core/v1.PodSpec`; for paths that
    /// do not tell the type.
    pub fn as_struct(mut self, ty: &str) -> Self {
        if let Some(text) = self.tree().map(|value| crate::gostruct::print(ty, value)) {
            self.print_tree(&text);
        }
        self
    }

    /// Tells the bad value as `text`, for who knows its type; see [`crate::gostruct::render`].
    pub fn print_tree(&mut self, text: &str) {
        if let Some(tree) = self.tree.take() {
            let path = Path(std::mem::take(&mut self.field));
            *self = Self::make(self.kind, &path, Some(text.to_owned()), &tree.1);
        }
    }

    /// A value that breaks the rule told in `detail`.
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::with_value(ErrorType::Invalid, path, value.into(), detail)
    }

    /// As [`Error::invalid`] with the value already printed (Go-formatted structs and the like).
    pub fn invalid_text(path: &Path, value: &str, detail: &str) -> Self {
        Self::make(ErrorType::Invalid, path, Some(value.to_owned()), detail)
    }

    /// As [`Error::invalid`] without telling the value.
    pub fn invalid_untold(path: &Path, detail: &str) -> Self {
        Self::make(ErrorType::Invalid, path, None, detail)
    }

    /// As [`Error::duplicate`] without telling the value.
    pub fn duplicate_untold(path: &Path) -> Self {
        Self::make(ErrorType::Duplicate, path, None, "")
    }

    /// A value of the wrong type.
    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::with_value(ErrorType::TypeInvalid, path, value.into(), detail)
    }

    /// A missing value.
    pub fn required(path: &Path, detail: &str) -> Self {
        Self::make(ErrorType::Required, path, None, detail)
    }

    /// A value that may not be set.
    pub fn forbidden(path: &Path, detail: &str) -> Self {
        Self::make(ErrorType::Forbidden, path, None, detail)
    }

    /// A value that occurs twice.
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::with_value(ErrorType::Duplicate, path, value.into(), "")
    }

    /// As [`Error::duplicate`] with the value already printed.
    pub fn duplicate_text(path: &Path, value: &str) -> Self {
        Self::make(ErrorType::Duplicate, path, Some(value.to_owned()), "")
    }

    /// A name of something that does not exist.
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::with_value(ErrorType::NotFound, path, value.into(), "")
    }

    /// A value outside a closed set; `supported` is printed in the given order.
    pub fn not_supported(path: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| gotext::quote(s)).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        Self::with_value(ErrorType::NotSupported, path, value.into(), &detail)
    }

    /// A value longer than `max` bytes.
    pub fn too_long(path: &Path, max: usize) -> Self {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Self::make(ErrorType::TooLong, path, None, &format!("may not be more than {max} {unit}"))
    }

    /// As [`Error::too_long`]; no `max` for one that nothing fulfils.
    pub fn too_long_for(path: &Path, max: Option<usize>) -> Self {
        match max {
            Some(max) => Self::too_long(path, max),
            None => Self::make(ErrorType::TooLong, path, None, "value is too long"),
        }
    }

    /// As [`Error::too_many`]; no `max` for one that nothing fulfils.
    pub fn too_many_for(path: &Path, actual: usize, max: Option<usize>) -> Self {
        match max {
            Some(max) => Self::too_many(path, actual, max),
            None => {
                let actual = Some(actual.to_string());
                Self::make(ErrorType::TooMany, path, actual, "has too many items")
            }
        }
    }

    /// A list of more than `max` items.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        let detail = format!("must have at most {max} {unit}");
        Self::make(ErrorType::TooMany, path, Some(actual.to_string()), &detail)
    }

    /// Something went wrong while checking.
    pub fn internal(path: &Path, detail: &str) -> Self {
        Self::make(ErrorType::Internal, path, None, detail)
    }
}
