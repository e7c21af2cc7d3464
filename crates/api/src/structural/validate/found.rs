//! Broken rules as the schema validator tells them, and as field errors.
//!
//! upstream: k8s.io/kube-openapi/pkg/validation/errors/schema.go,
//! staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/validation/validation.go
//! kubeOpenAPIResultToFieldErrors

use std::collections::HashSet;

use serde_json::Value;

use crate::field::{Error, ErrorList, Path};

/// A broken rule.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The path of the value; fields of the top have no dot before them, entries do.
    pub name: String,
    pub message: String,
    pub rule: Rule,
}

impl Found {
    /// A broken rule of which there is no room to tell.
    pub fn unsaid() -> Self {
        Self { name: String::new(), message: String::new(), rule: Rule::Whole }
    }

    /// Whether it is such a one.
    pub fn is_unsaid(&self) -> bool {
        self.message.is_empty()
    }
}

/// What kind of rule, with what its field error needs.
#[derive(Clone, Debug)]
pub(super) enum Rule {
    /// One that is told of the whole object.
    Whole,
    Required,
    /// Another value than those that are allowed.
    Enum {
        value: Value,
        allowed: Vec<String>,
    },
    TooLong(i64),
    TooMany {
        actual: i64,
        max: i64,
    },
    Type(Value),
    Other(Value),
}

/// The field errors of the broken rules of a value at `base`. Each message is told once.
pub(super) fn tell(found: Vec<Found>, base: &Path) -> ErrorList {
    let mut told = HashSet::new();
    let mut errors = ErrorList::new();
    for one in found {
        if one.is_unsaid() || told.contains(&one.message) {
            continue;
        }
        let name = one.name.strip_prefix('.').unwrap_or(&one.name);
        let path = if name.is_empty() { base.clone() } else { base.child(name) };
        let size = |number: i64| usize::try_from(number).ok();
        errors.push(match one.rule {
            Rule::Whole => Error::invalid(base, "", &one.message),
            Rule::Required => Error::required(&path, ""),
            Rule::Enum { value, allowed } => {
                let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
                Error::not_supported(&path, value, &allowed)
            }
            Rule::TooLong(max) => Error::too_long_for(&path, size(max)),
            Rule::TooMany { actual, max } => {
                Error::too_many_for(&path, size(actual).unwrap_or(usize::MAX), size(max))
            }
            Rule::Type(value) => Error::type_invalid(&path, value, &one.message),
            Rule::Other(value) => Error::invalid(&path, value, &one.message),
        });
        told.insert(one.message);
    }
    errors
}
