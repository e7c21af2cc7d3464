//! JSON patch (RFC 6902).
//!
//! upstream: gopkg.in/evanphx/json-patch.v4 and
//! staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go

use serde_json::Value;

use crate::json::DEPTH_MAX;
use crate::status::{Reason, StatusError};

/// Most operations in one patch.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go maxJSONPatchOperations
pub const OPERATIONS_MAX: usize = 10_000;
/// Most bytes that the `copy` operations of one patch may add: the size of a request body.
pub const COPY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The patch, or one of its operations, has the wrong JSON types; in Go's words.
    #[error("error decoding patch: json: cannot unmarshal {0}")]
    Type(String),
    /// More than [`OPERATIONS_MAX`] operations.
    #[error("The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {0}")]
    TooManyOperations(usize),
    /// An operation without a known name, or without what it needs.
    #[error("operation {index} is malformed: {why}")]
    Malformed {
        /// Its position.
        index: usize,
        /// What is wrong.
        why: String,
    },
    /// A path that leads nowhere.
    #[error("operation {index}: there is nothing at {path:?}")]
    Missing {
        /// The operation's position.
        index: usize,
        /// The path.
        path: String,
    },
    /// A `test` that does not hold.
    #[error("testing path {path} failed")]
    TestFailed {
        /// The path.
        path: String,
    },
    /// More than [`COPY_BYTES_MAX`] bytes copied.
    #[error("the copies of a JSON patch may add at most {COPY_BYTES_MAX} bytes")]
    CopiesTooLarge,
    /// The document would be nested deeper than any reader reads.
    #[error("operation {index} nests the document deeper than {DEPTH_MAX} levels")]
    TooDeep {
        /// The operation's position.
        index: usize,
    },
}

impl From<Error> for StatusError {
    fn from(error: Error) -> Self {
        match error {
            Error::Type(_) => Self::bad_request(error.to_string()),
            Error::TooManyOperations(_) => Self::new(
                Reason::RequestEntityTooLarge,
                format!("Request entity too large: {error}"),
            ),
            // Upstream does not tell the client which operation failed.
            _ => super::rejected(),
        }
    }
}

/// Applies a JSON patch to a document. On an error the document is left as it was.
pub fn apply(document: &mut Value, patch: &Value) -> Result<(), Error> {
    let operations = operations(patch)?;
    let mut result = document.clone();
    let mut copied = 0;
    for (index, operation) in operations.iter().enumerate() {
        Step { index, operation }.apply(&mut result, &mut copied)?;
    }
    *document = result;
    Ok(())
}

/// The unknown fields of a patch's operations, each as field validation tells it.
pub fn unknown_fields(patch: &Value) -> Vec<String> {
    let operations = patch.as_array().map_or(&[][..], Vec::as_slice).iter().enumerate();
    operations
        .filter_map(|(index, operation)| Some((index, operation.as_object()?)))
        .flat_map(|(index, fields)| {
            let known = ["op", "path", "from", "value"];
            let unknown = fields.keys().filter(move |key| !known.contains(&key.as_str()));
            unknown.map(move |key| format!("json patch unknown field \"[{index}].{key}\""))
        })
        .collect()
}

/// The operations of a patch, whose fields have the right types.
fn operations(patch: &Value) -> Result<&[Value], Error> {
    let wrong = |value: &Value, into: &str| {
        Err(Error::Type(format!("{} into Go {into}", super::json_type(value))))
    };
    let operations = match patch {
        Value::Array(operations) => operations.as_slice(),
        Value::Null => &[],
        other => return wrong(other, "value of type []handlers.jsonPatchOp"),
    };
    for operation in operations {
        if !operation.is_object() && !operation.is_null() {
            return wrong(operation, "value of type handlers.jsonPatchOp");
        }
        for name in ["from", "op", "path"] {
            if let Some(value) = operation.get(name).filter(|v| !v.is_string() && !v.is_null()) {
                return wrong(value, &format!("struct field jsonPatchOp.{name} of type string"));
            }
        }
    }
    if operations.len() > OPERATIONS_MAX {
        return Err(Error::TooManyOperations(operations.len()));
    }
    Ok(operations)
}

/// One operation and its position.
struct Step<'a> {
    index: usize,
    operation: &'a Value,
}

/// Where a path ends: the container and the last step.
type Place<'d> = (&'d mut Value, String);

impl Step<'_> {
    fn apply(&self, document: &mut Value, copied: &mut usize) -> Result<(), Error> {
        match self.text("op")? {
            "add" => self.add(document, self.text("path")?, self.value()),
            "remove" => self.remove(document, self.text("path")?).map(|_| ()),
            "replace" => self.replace(document, self.text("path")?),
            "move" => {
                let value = self.remove(document, self.text("from")?)?;
                self.add(document, self.text("path")?, value)
            }
            "copy" => {
                // A field that is absent is copied as null.
                let value = self.get(document, self.text("from")?)?.unwrap_or(Value::Null);
                *copied += value.to_string().len();
                if *copied > COPY_BYTES_MAX {
                    return Err(Error::CopiesTooLarge);
                }
                self.add(document, self.text("path")?, value)
            }
            "test" => self.test(document, self.text("path")?),
            other => Err(self.malformed(&format!("{other:?} is not an operation"))),
        }
    }

    fn malformed(&self, why: &str) -> Error {
        Error::Malformed { index: self.index, why: why.to_owned() }
    }

    fn missing(&self, path: &str) -> Error {
        Error::Missing { index: self.index, path: path.to_owned() }
    }

    fn text(&self, name: &str) -> Result<&str, Error> {
        let value = self.operation.get(name).and_then(Value::as_str);
        value.ok_or_else(|| self.malformed(&format!("{name:?} is missing")))
    }

    /// The operation's value; null when it has none.
    fn value(&self) -> Value {
        self.operation.get("value").cloned().unwrap_or(Value::Null)
    }

    /// The container that a path ends in, and the last step. The whole document has no container.
    fn place<'d>(&self, document: &'d mut Value, path: &str) -> Result<Place<'d>, Error> {
        let mut steps = path.split('/').skip(1).map(|t| t.replace("~1", "/").replace("~0", "~"));
        let mut last = steps.next().ok_or_else(|| self.missing(path))?;
        let mut at = document;
        for step in steps {
            let next = match at {
                Value::Object(fields) => fields.get_mut(&last),
                Value::Array(items) => {
                    let index = position(&last, items.len());
                    index.and_then(|index| items.get_mut(index))
                }
                _ => None,
            };
            at = next.ok_or_else(|| self.missing(path))?;
            last = step;
        }
        if at.is_object() || at.is_array() { Ok((at, last)) } else { Err(self.missing(path)) }
    }

    /// The value at a path; `None` for an absent field.
    fn get(&self, document: &mut Value, path: &str) -> Result<Option<Value>, Error> {
        match self.place(document, path)? {
            (Value::Array(items), last) => {
                let index = position(&last, items.len()).ok_or_else(|| self.missing(path))?;
                Ok(Some(items[index].clone()))
            }
            (container, last) => Ok(container.get(&last).cloned()),
        }
    }

    /// Whether a value at a path keeps the document readable. Without this rule a small patch
    /// makes a tree that no stack holds.
    fn check_depth(&self, path: &str, value: &Value) -> Result<(), Error> {
        if path.matches('/').count() + depth(value) > DEPTH_MAX {
            return Err(Error::TooDeep { index: self.index });
        }
        Ok(())
    }

    fn add(&self, document: &mut Value, path: &str, value: Value) -> Result<(), Error> {
        self.check_depth(path, &value)?;
        match self.place(document, path)? {
            (Value::Array(items), last) if last == "-" => items.push(value),
            (Value::Array(items), last) => {
                let index = position(&last, items.len() + 1).ok_or_else(|| self.missing(path))?;
                items.insert(index, value);
            }
            (Value::Object(fields), last) => {
                fields.insert(last, value);
            }
            _ => return Err(self.missing(path)),
        }
        Ok(())
    }

    fn remove(&self, document: &mut Value, path: &str) -> Result<Value, Error> {
        let missing = || self.missing(path);
        match self.place(document, path)? {
            (Value::Array(items), last) => {
                let index = position(&last, items.len()).ok_or_else(missing)?;
                Ok(items.remove(index))
            }
            (Value::Object(fields), last) => fields.remove(&last).ok_or_else(missing),
            _ => Err(missing()),
        }
    }

    /// A field need not be there to be replaced; an item of a list does.
    fn replace(&self, document: &mut Value, path: &str) -> Result<(), Error> {
        let value = self.value();
        self.check_depth(path, &value)?;
        if path.is_empty() {
            if !value.is_object() && !value.is_array() {
                return Err(self.malformed("a document is an object or a list"));
            }
            *document = value;
            return Ok(());
        }
        match self.place(document, path)? {
            (Value::Array(items), last) => {
                let index = position(&last, items.len()).ok_or_else(|| self.missing(path))?;
                items[index] = value;
            }
            (Value::Object(fields), last) => {
                fields.insert(last, value);
            }
            _ => return Err(self.missing(path)),
        }
        Ok(())
    }

    /// An absent field equals `null`.
    fn test(&self, document: &mut Value, path: &str) -> Result<(), Error> {
        let found = if path.is_empty() {
            document.clone()
        } else {
            self.get(document, path)?.unwrap_or(Value::Null)
        };
        let holds = found == self.value();
        if holds { Ok(()) } else { Err(Error::TestFailed { path: path.to_owned() }) }
    }
}

/// Levels of containers. The values of a patch and of a document are no deeper than what is decoded.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A list index below `end`; a negative one counts from there.
fn position(token: &str, end: usize) -> Option<usize> {
    let index: i64 = token.parse().ok()?;
    let end = i64::try_from(end).ok()?;
    let index = if index < 0 { index + end } else { index };
    usize::try_from(index).ok().filter(|_| index < end)
}
