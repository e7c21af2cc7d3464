//! Rules of texts.
//!
//! upstream: k8s.io/kube-openapi/pkg/validation/validate/validator.go stringValidator, formats.go

use super::found::Rule;
use super::{Values, Walk};
use crate::patch::gotext;
use crate::structural::formats;

impl Walk {
    /// Checks length and pattern; the first broken rule is told.
    pub(super) fn text(&mut self, values: &Values, text: &str) {
        let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(max) = values.max_length.filter(|max| length() > *max) {
            let message = format!("{} in body should be at most {max} chars long", self.path);
            self.tell(Rule::TooLong(max), message);
        } else if let Some(min) = values.min_length.filter(|min| length() < *min) {
            let message = format!("{} in body should be at least {min} chars long", self.path);
            self.tell(Rule::Other(text.into()), message);
        } else if !values.pattern.as_str().is_empty() {
            let pattern = values.pattern.as_str();
            let why = match values.pattern.matches(text) {
                Ok(true) => return,
                Ok(false) => pattern.to_owned(),
                Err(error) => format!("{pattern}, but pattern is invalid: {error}"),
            };
            let message = format!("{} in body should match '{why}'", self.path);
            self.tell(Rule::Other(text.into()), message);
        }
    }

    pub(super) fn format(&mut self, format: &str, text: &str) {
        if !formats::fits(format, text) {
            let quoted = gotext::quote(text);
            let message = format!("{} in body must be of type {format}: {quoted}", self.path);
            self.tell(Rule::Type(text.into()), message);
        }
    }
}
