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
/// Largest compiled form of a pattern that is not large.
const SMALL_BYTES_MAX: usize = 64 * 1024;
/// Largest cache that matching a pattern fills, in bytes.
const CACHE_BYTES_MAX: usize = 512 * 1024;
/// Deepest nesting of groups; Go's.
const NESTING_MAX: u32 = 1000;

/// A pattern as it stands in a schema; compiled when it is first used.
#[derive(Clone, Debug, Default)]
pub struct Pattern {
    text: String,
    compiled: OnceLock<Result<Compiled, String>>,
}

#[derive(Clone, Debug)]
struct Compiled {
    regex: Regex,
    large: bool,
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

    fn compiled(&self) -> Result<&Compiled, &str> {
        let compiled = self.compiled.get_or_init(|| compile(&self.text));
        compiled.as_ref().map_err(String::as_str)
    }

    /// Whether it can be read.
    ///
    /// # Errors
    /// Go's words for what is wrong with it.
    pub fn check(&self) -> Result<(), &str> {
        self.compiled().map(|_| ())
    }

    /// Whether it takes much time to read and much memory to keep, or cannot be read.
    pub fn is_large(&self) -> bool {
        self.compiled().map_or(true, |compiled| compiled.large)
    }

    /// Whether a part of the text matches.
    ///
    /// # Errors
    /// Go's words when the pattern cannot be read.
    pub fn matches(&self, text: &str) -> Result<bool, &str> {
        self.compiled().map(|compiled| compiled.regex.is_match(text.as_bytes()))
    }

    /// The parts of the text that match, one after the other, at most so many.
    ///
    /// # Errors
    /// Go's words when the pattern cannot be read.
    pub fn find<'t>(&self, text: &'t str, most: usize) -> Result<Vec<&'t str>, &str> {
        let found = self.compiled()?.regex.find_iter(text.as_bytes()).take(most);
        Ok(found.map(|part| text.get(part.range()).unwrap_or_default()).collect())
    }
}

/// Whether a pattern can be read.
///
/// # Errors
/// Go's words for what is wrong with it.
pub fn check(pattern: &str) -> Result<(), String> {
    compile(pattern).map(|_| ())
}

fn compile(pattern: &str) -> Result<Compiled, String> {
    let translated =
        parse::translate(pattern).map_err(|error| format!("error parsing regexp: {error}"))?;
    // Everything is matched against whole letters; bytes only because word boundaries are ASCII's.
    let build = |bytes_max: usize| {
        RegexBuilder::new(&translated)
            .size_limit(bytes_max)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .nest_limit(NESTING_MAX)
            .build()
    };
    let built = match build(SMALL_BYTES_MAX) {
        Ok(regex) => Ok(Compiled { regex, large: false }),
        Err(regex::Error::CompiledTooBig(_)) => {
            build(COMPILED_BYTES_MAX).map(|regex| Compiled { regex, large: true })
        }
        Err(error) => Err(error),
    };
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            format!("error parsing regexp: expression too large: `{pattern}`")
        }
        _ => format!("error parsing regexp: invalid character class range: `{pattern}`"),
    })
}
