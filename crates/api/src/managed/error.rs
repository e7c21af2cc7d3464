//! What is wrong with a value that apply cannot read.
//!
//! upstream: sigs.k8s.io/structured-merge-diff/v6/typed/helpers.go ValidationErrors

use std::fmt;

use super::path::PathElement;

/// The problems of a value, each with the path of its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Error {
    problems: Vec<(String, String)>,
}

impl Error {
    /// One problem at the place that is looked at.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { problems: vec![(String::new(), message.into())] }
    }

    /// One problem of an item that has no identity.
    pub(super) fn of_item(index: usize, why: &str) -> Self {
        Self::new(format!("element {index}: {why}"))
    }

    /// The problems as seen from one step further up.
    pub(super) fn below(mut self, element: &PathElement) -> Self {
        let step = element.to_string();
        for (path, _) in &mut self.problems {
            path.insert_str(0, &step);
        }
        self
    }

    /// Adds further problems.
    pub(super) fn add(&mut self, more: Self) {
        self.problems.extend(more.problems);
    }

    /// Adds a further problem, if there is one.
    pub(super) fn extend(&mut self, more: Option<Self>) {
        if let Some(more) = more {
            self.add(more);
        }
    }

    /// No error when there are no problems.
    pub(super) fn into_result(self) -> Result<(), Self> {
        if self.problems.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |(path, message): &(String, String)| {
            if path.is_empty() { message.clone() } else { format!("{path}: {message}") }
        };
        if let [problem] = self.problems.as_slice() {
            return f.write_str(&one(problem));
        }
        f.write_str("errors:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {}", one(problem)))
    }
}

impl std::error::Error for Error {}
