//! JSON patch (RFC 6902).
//!
//! upstream: gopkg.in/evanphx/json-patch.v4 and
//! staging/src/k8s.io/apiserver/pkg/endpoints/handlers/patch.go

use serde_json::Value;

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
    /// The patch is not a list of operations.
    #[error("the patch is not a list of operations")]
    NotAList,
    /// More than [`OPERATIONS_MAX`] operations.
    #[error("the allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {0}")]
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
}

/// Applies a JSON patch to a document. On an error the document is left as it was.
pub fn apply(document: &mut Value, patch: &Value) -> Result<(), Error> {
    let operations = patch.as_array().ok_or(Error::NotAList)?;
    if operations.len() > OPERATIONS_MAX {
        return Err(Error::TooManyOperations(operations.len()));
    }
    let mut result = document.clone();
    let mut copied = 0;
    for (index, operation) in operations.iter().enumerate() {
        Step { index, operation }.apply(&mut result, &mut copied)?;
    }
    *document = result;
    Ok(())
}

/// One operation and its position.
struct Step<'a> {
    index: usize,
    operation: &'a Value,
}

impl Step<'_> {
    fn apply(&self, document: &mut Value, copied: &mut usize) -> Result<(), Error> {
        let path = self.text("path")?;
        match self.text("op")? {
            "add" => self.add(document, path, self.value()?.clone()),
            "remove" => self.remove(document, path).map(|_| ()),
            "replace" => {
                let value = self.value()?.clone();
                *self.find(document, path)? = value;
                Ok(())
            }
            "move" => {
                let from = self.text("from")?;
                if path.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                    return Err(self.malformed("a value cannot be moved into itself"));
                }
                let value = self.remove(document, from)?;
                self.add(document, path, value)
            }
            "copy" => {
                let value = self.find(document, self.text("from")?)?.clone();
                *copied += value.to_string().len();
                if *copied > COPY_BYTES_MAX {
                    return Err(Error::CopiesTooLarge);
                }
                self.add(document, path, value)
            }
            "test" => self.test(document, path),
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

    fn value(&self) -> Result<&Value, Error> {
        self.operation.get("value").ok_or_else(|| self.malformed("\"value\" is missing"))
    }

    fn tokens(&self, path: &str) -> Result<Vec<String>, Error> {
        if path.is_empty() {
            return Ok(Vec::new());
        }
        let rest = path.strip_prefix('/').ok_or_else(|| self.missing(path))?;
        Ok(rest.split('/').map(|t| t.replace("~1", "/").replace("~0", "~")).collect())
    }

    fn find<'d>(&self, document: &'d mut Value, path: &str) -> Result<&'d mut Value, Error> {
        self.walk(document, path, &self.tokens(path)?)
    }

    fn walk<'d>(
        &self,
        document: &'d mut Value,
        path: &str,
        tokens: &[String],
    ) -> Result<&'d mut Value, Error> {
        let mut at = document;
        for token in tokens {
            let next = match at {
                Value::Object(fields) => fields.get_mut(token),
                Value::Array(items) => {
                    let index = position(token, items.len());
                    index.and_then(|index| items.get_mut(index))
                }
                _ => None,
            };
            at = next.ok_or_else(|| self.missing(path))?;
        }
        Ok(at)
    }

    /// The container that a path ends in, and the last token.
    fn parent<'d>(
        &self,
        document: &'d mut Value,
        path: &str,
    ) -> Result<Option<(&'d mut Value, String)>, Error> {
        let mut tokens = self.tokens(path)?;
        let Some(last) = tokens.pop() else { return Ok(None) };
        Ok(Some((self.walk(document, path, &tokens)?, last)))
    }

    fn add(&self, document: &mut Value, path: &str, value: Value) -> Result<(), Error> {
        let Some((parent, last)) = self.parent(document, path)? else {
            return Err(self.malformed("the whole document cannot be replaced"));
        };
        match parent {
            Value::Object(fields) => {
                fields.insert(last, value);
            }
            Value::Array(items) if last == "-" => items.push(value),
            Value::Array(items) => {
                let index = position(&last, items.len() + 1).ok_or_else(|| self.missing(path))?;
                items.insert(index, value);
            }
            _ => return Err(self.missing(path)),
        }
        Ok(())
    }

    fn remove(&self, document: &mut Value, path: &str) -> Result<Value, Error> {
        let missing = || self.missing(path);
        let (parent, last) = self.parent(document, path)?.ok_or_else(missing)?;
        match parent {
            Value::Object(fields) => fields.remove(&last).ok_or_else(missing),
            Value::Array(items) => {
                let index = position(&last, items.len()).ok_or_else(missing)?;
                Ok(items.remove(index))
            }
            _ => Err(missing()),
        }
    }

    /// An absent value equals `null`, as in upstream.
    fn test(&self, document: &mut Value, path: &str) -> Result<(), Error> {
        let wanted = self.operation.get("value").unwrap_or(&Value::Null);
        let holds = match self.find(document, path) {
            Ok(value) => value == wanted,
            Err(_) => wanted.is_null(),
        };
        if holds { Ok(()) } else { Err(Error::TestFailed { path: path.to_owned() }) }
    }
}

/// A list index below `end`: digits without leading zeros.
fn position(token: &str, end: usize) -> Option<usize> {
    let plain = token == "0" || !token.starts_with(['0', '+', '-']);
    token.parse().ok().filter(|index| plain && *index < end)
}
