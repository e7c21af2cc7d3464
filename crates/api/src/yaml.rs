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

/// Encodes a tree as one YAML document.
///
/// # Panics
/// Never for a JSON tree: everything in it has a YAML form.
pub fn encode(value: &Value) -> String {
    serde_saphyr::to_string(value).expect("a JSON tree always has a YAML form")
}
