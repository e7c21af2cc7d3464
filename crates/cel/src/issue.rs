//! What is wrong with an expression, and how it is told: with the line and a mark below it.

use std::fmt;

/// Most issues that are told of one expression.
const ISSUES_MAX: usize = 100;
/// Longest line that is shown.
const SNIPPET_MAX: usize = 16_384;

/// Where in a text something is: a line from one, a column of characters from zero. Line -1 is nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The line, from one.
    pub line: i64,
    /// The column, from zero.
    pub column: i64,
}

impl Location {
    /// Not in the text.
    pub const NONE: Self = Self { line: -1, column: -1 };
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where it is.
    pub location: Location,
    /// What it is, without place.
    pub message: String,
}

/// Why an expression cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// It does not read, or its types do not fit.
    Issues(Issues),
    /// It cannot work: a constant part of it fails.
    Plan(String),
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issues(issues) => issues.fmt(f),
            Self::Plan(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for CompileError {}

/// Mistakes of one expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    issues: Vec<Issue>,
    count: usize,
    lines: Vec<String>,
}

impl Issues {
    pub(crate) fn new(source: &str) -> Self {
        Self { issues: Vec::new(), count: 0, lines: source.split('\n').map(String::from).collect() }
    }

    pub(crate) fn report(&mut self, location: Location, message: String) {
        self.count += 1;
        if self.count <= ISSUES_MAX {
            self.issues.push(Issue { location, message });
        }
    }

    /// How many there are, told or not.
    pub fn count(&self) -> usize {
        self.count
    }

    /// In the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = &Issue> {
        self.issues.iter()
    }

    /// Puts them in order and tells whether there are any.
    pub(crate) fn finish(mut self) -> Result<(), Self> {
        self.issues.sort_by_key(|issue| issue.location);
        if self.count == 0 { Ok(()) } else { Err(self) }
    }
}

/// upstream: vendor/github.com/google/cel-go/common/error.go
impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Issue { location: Location { line, column }, message }) in
            self.iter().enumerate()
        {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "ERROR: <input>:{line}:{}: {message}", column + 1)?;
            // An empty expression has no line to show.
            let Some(text) = usize::try_from(line - 1).ok().and_then(|index| self.lines.get(index))
            else {
                continue;
            };
            if *column < 0 || text.len() > SNIPPET_MAX {
                continue;
            }
            let text = text.replace('\t', " ");
            let mut mark = String::new();
            let mut rest = text.chars();
            for _ in 0..*column {
                match rest.next() {
                    Some(c) => mark.push(if c.len_utf8() > 1 { '\u{ff0e}' } else { '.' }),
                    None => break,
                }
            }
            mark.push(match rest.next() {
                Some(c) if c.len_utf8() > 1 => '\u{ff3e}',
                _ => '^',
            });
            write!(f, "\n | {text}\n | {mark}")?;
        }
        if self.count > ISSUES_MAX {
            write!(f, "\n{} more errors were truncated", self.count - ISSUES_MAX)?;
        }
        Ok(())
    }
}
