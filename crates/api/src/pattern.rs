//! Regular expressions as Go reads them: its syntax and its words for what is wrong with one, on top
//! of the `regex` crate, which knows neither.
//!
//! upstream: Go's regexp and regexp/syntax

mod parse;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

/// Largest compiled form of a pattern in bytes.
const COMPILED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest cache that matching a pattern fills, in bytes.
const CACHE_BYTES_MAX: usize = 512 * 1024;
/// Deepest nesting of groups; Go's.
const NESTING_MAX: u32 = 1000;

/// A pattern as it stands in a schema; compiled when it is first used.
#[derive(Clone, Debug, Default)]
pub struct Pattern {
    text: String,
    compiled: OnceLock<Result<Regex, String>>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Pattern {
    /// A pattern, good or not.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), compiled: OnceLock::new() }
    }

    /// What it is made from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a part of the text matches.
    ///
    /// # Errors
    /// Go's words when the pattern cannot be read.
    pub fn matches(&self, text: &str) -> Result<bool, &str> {
        let compiled = self.compiled.get_or_init(|| compile(&self.text));
        match compiled {
            Ok(regex) => Ok(regex.is_match(text.as_bytes())),
            Err(error) => Err(error),
        }
    }

    /// The parts of the text that match, one after the other, at most so many.
    ///
    /// # Errors
    /// Go's words when the pattern cannot be read.
    pub fn find<'t>(&self, text: &'t str, most: usize) -> Result<Vec<&'t str>, &str> {
        let compiled = self.compiled.get_or_init(|| compile(&self.text));
        match compiled {
            Ok(regex) => {
                let found = regex.find_iter(text.as_bytes()).take(most);
                Ok(found.map(|part| text.get(part.range()).unwrap_or_default()).collect())
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a pattern can be read.
///
/// # Errors
/// Go's words for what is wrong with it.
pub fn check(pattern: &str) -> Result<(), String> {
    compile(pattern).map(|_| ())
}

fn compile(pattern: &str) -> Result<Regex, String> {
    let translated =
        parse::translate(pattern).map_err(|error| format!("error parsing regexp: {error}"))?;
    // Everything is matched against whole letters; bytes only because word boundaries are ASCII's.
    let built = RegexBuilder::new(&translated)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(CACHE_BYTES_MAX)
        .nest_limit(NESTING_MAX)
        .build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            format!("error parsing regexp: expression too large: `{pattern}`")
        }
        _ => format!("error parsing regexp: invalid character class range: `{pattern}`"),
    })
}
