//! Explains why a text does not read, in the words of the reference.

use crate::issue::Location;
use crate::lexer::{Bad, Token};

/// The mistakes of a text that does not read.
pub fn explain(tokens: &[Token<'_>], bad: Vec<Bad>) -> Vec<(Location, String)> {
    let mut found: Vec<_> = bad
        .into_iter()
        .map(|(location, message)| (location, format!("Syntax error: {message}")))
        .collect();
    if let Some(last) = tokens.last() {
        found.push((last.location, "Syntax error".to_owned()));
    }
    found
}
