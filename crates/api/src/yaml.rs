//! YAML bodies, read as upstream reads them: as another spelling of JSON.
//!
//! upstream: sigs.k8s.io/yaml

#[cfg(test)]
mod tests;

use serde_json::Value;

/// A body that is not one YAML document.
#[derive(Debug, thiserror::Error)]
#[error("error converting YAML to JSON: {0}")]
pub struct Error(String);

/// Decodes one YAML document. Aliases are expanded within the reader's budget, so that a small body
/// cannot become a huge tree; repeated keys are errors.
pub fn decode(bytes: &[u8]) -> Result<Value, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| Error(error.to_string()))?;
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Error(error.to_string()))
}

/// A body that was read although it is not quite right.
#[derive(Clone, Debug, PartialEq)]
pub struct Loose {
    /// The first document; the last of repeated keys counts.
    pub value: Value,
    /// What a strict reader says about the first repeated key: `line 7: key "a" already set in map`.
    pub repeated: Option<String>,
}

/// Decodes the first YAML document of a body as upstream does where it takes what it gets.
///
/// # Errors
/// When the first document is not YAML.
pub fn decode_loose(bytes: &[u8]) -> Result<Loose, Error> {
    let wrong = |error: serde_saphyr::Error| Error(error.to_string());
    let text = std::str::from_utf8(bytes).map_err(|error| Error(error.to_string()))?;
    let strict = serde_saphyr::options! { legacy_octal_numbers: true };
    let error = match serde_saphyr::from_str_with_options(text, strict) {
        Ok(value) => return Ok(Loose { value, repeated: None }),
        Err(error) => error,
    };
    let repeated = match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key, location } => {
            let (line, key) = (location.line(), key.as_deref().unwrap_or(""));
            Some(format!("line {line}: key {key:?} already set in map"))
        }
        _ => None,
    };
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
    };
    let mut reader = bytes;
    let first = serde_saphyr::read_with_options(&mut reader, options).next();
    Ok(Loose { value: first.unwrap_or(Ok(Value::Null)).map_err(wrong)?, repeated })
}

/// Encodes a tree as one YAML document.
///
/// # Panics
/// Never for a JSON tree: everything in it has a YAML form.
pub fn encode(value: &Value) -> String {
    serde_saphyr::to_string(value).expect("a JSON tree always has a YAML form")
}
