//! The rules of `x-kubernetes-validations`, what their expressions mean aside.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go
//! ValidateCustomResourceDefinitionOpenAPISchema

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::structural::Node;
use serde_json::Value;

use super::paths;
use crate::core::pods::tree::{flag, list, opt_text, part, text};

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What the expressions of a schema would see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// There are no rules here or around.
    Outside,
    /// A type.
    Typed,
    /// Something around has rules but no type.
    Failed,
}

impl Scope {
    /// That of a schema of whole objects.
    pub fn root(schema: &Value) -> Self {
        Self::Outside.below(schema, false)
    }

    /// That of a schema inside; `reached`: the type of the outer one leads to it.
    pub fn below(self, schema: &Value, reached: bool) -> Self {
        match self {
            Self::Failed => Self::Failed,
            Self::Outside if !any(schema) => Self::Outside,
            Self::Typed if reached => Self::Typed,
            _ if declares(schema) => Self::Typed,
            _ => Self::Failed,
        }
    }

    /// That of a property.
    pub fn property(self, name: &str, schema: &Value) -> Self {
        self.below(schema, self == Self::Typed && declares(schema) && can_be_named(name))
    }
}

/// Whether a schema has rules.
pub(super) fn any(schema: &Value) -> bool {
    !list(schema, "x-kubernetes-validations").is_empty()
}

/// Whether expressions can speak of a field.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/cel/escaping.go
fn can_be_named(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(letter)
}

/// Whether values of a schema have a type in expressions.
///
/// upstream: staging/src/k8s.io/apiserver/pkg/cel/common/schemas.go SchemaDeclType
fn declares(schema: &Value) -> bool {
    if flag(schema, "x-kubernetes-int-or-string") {
        return true;
    }
    let below = |key: &str| {
        let inner = part(schema, key).filter(|inner| inner.is_object());
        inner.map(declares)
    };
    match text(schema, "type") {
        "array" => below("items").unwrap_or(false),
        "object" => below("additionalProperties").unwrap_or(true),
        kind => matches!(kind, "string" | "boolean" | "number" | "integer"),
    }
}

fn has_newlines(text: &str) -> bool {
    text.contains(['\n', '\r'])
}

/// Checks the rules that stand in a schema.
pub(super) fn check(schema: &Value, path: &Path, errors: &mut ErrorList) {
    let rules = list(schema, "x-kubernetes-validations");
    if rules.is_empty() {
        return;
    }
    // What is no structural schema is told elsewhere.
    let node = Node::compile(schema).ok();
    for (index, rule) in rules.iter().enumerate() {
        let at = path.index(index);
        text_of(rule, &at, errors);
        let given = text(rule, "messageExpression");
        if !given.is_empty() && given.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(Error::required(&at.child("messageExpression"), why));
        }
        if let Some(reason) = opt_text(rule, "reason").filter(|r| !REASONS.contains(r)) {
            errors.push(Error::not_supported(&at.child("reason"), reason, &REASONS));
        }
        let field = text(rule, "fieldPath");
        let at = at.child("fieldPath");
        if field.is_empty() {
            continue;
        }
        if field.trim().is_empty() {
            errors.push(Error::invalid(&at, field, "must be non-empty if specified"));
        }
        if has_newlines(field) {
            errors.push(Error::invalid(&at, field, "must not contain line breaks"));
        }
        if node.as_ref().is_some_and(|node| paths::follow(field, node, true).is_err()) {
            errors.push(Error::invalid(&at, field, "must be a valid path"));
        }
    }
}

/// Checks the texts of a rule; the first broken one is told.
fn text_of(rule: &Value, path: &Path, errors: &mut ErrorList) {
    let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
    let at = path.child("message");
    if expression.is_empty() {
        errors.push(Error::required(&path.child("rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.push(Error::invalid(&at, message, "must be non-empty if specified"));
    } else if has_newlines(message.trim()) {
        errors.push(Error::invalid(&at, message, "must not contain line breaks"));
    } else if has_newlines(expression) && message.is_empty() {
        let why = "message must be specified if rule contains line breaks";
        errors.push(Error::required(&at, why));
    }
}
