//! The rules of `x-kubernetes-validations`.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/validation.go
//! ValidateCustomResourceDefinitionOpenAPISchema

use std::sync::Arc;

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::structural::{Additional, Kind, Node};
use longshore_cel::{Declared, escape};
use serde_json::Value;

use super::{paths, printed};
use crate::core::pods::tree::{list, opt_text, part, text};
use crate::rules::custom::{Compiler, Message};
use crate::rules::declared;

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Most that one expression may cost by estimate.
const COST_MAX: u64 = 10_000_000;
/// Most that all expressions of a schema may cost by estimate.
const TOTAL_COST_MAX: u64 = 100_000_000;
/// How many of the most expensive ones are told when it is too much.
const TOLD_EXPENSIVE_MAX: usize = 4;
const NO_TYPES: &str = "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations";

/// What the expressions of a schema would see.
#[derive(Clone)]
enum Types {
    /// There are no rules here or around.
    Outside,
    /// A type; none where the schema around leads to nothing.
    Known(Option<Arc<Declared>>),
    /// Something around has rules but no type.
    Failed,
}

/// Where expressions stand in a schema.
///
/// upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation/cel_validation.go
#[derive(Clone)]
pub(super) struct Scope<'a> {
    types: Types,
    /// The schema as it was compiled.
    node: &'a Node,
    /// Most values of an object that the schema is of; none when nothing limits them.
    values_max: Option<u64>,
}

impl<'a> Scope<'a> {
    /// That of a schema of whole objects.
    pub fn root(node: &'a Node) -> Self {
        let types = Types::Outside.below(node, true, None);
        Self { types, node, values_max: Some(1) }
    }

    fn inner(&self, node: &'a Node, reached: Option<Option<Arc<Declared>>>) -> Self {
        let factor = match (&self.node.kind, self.node.values.as_deref()) {
            (Kind::Object, values) if self.node.additional != Additional::Untold => {
                values.and_then(|values| values.max_properties)
            }
            (Kind::Array, values) => values.and_then(|values| values.max_items),
            _ => Some(1),
        };
        let values_max = self
            .values_max
            .zip(factor)
            .map(|(around, factor)| around.saturating_mul(u64::try_from(factor).unwrap_or(0)));
        let types = self.types.below(node, node.embedded_resource, reached);
        Self { types, node, values_max }
    }

    fn element(&self, node: &'a Node) -> Self {
        let reached = match &self.types {
            Types::Known(known) => {
                Some(known.as_deref().and_then(|types| declared::element(types).cloned()))
            }
            _ => None,
        };
        self.inner(node, reached)
    }

    /// That of the items.
    pub fn items(&self) -> Option<Self> {
        self.node.items.as_deref().map(|node| self.element(node))
    }

    /// That of additional properties.
    pub fn additional(&self) -> Option<Self> {
        self.node.additional_schema().map(|node| self.element(node))
    }

    /// That of a property.
    pub fn property(&self, name: &str) -> Option<Self> {
        let node = self.node.properties.get(name)?;
        let reached = match &self.types {
            Types::Known(Some(types)) => {
                escape(name).and_then(|_| declared::field(types, name).cloned()).map(Some)
            }
            _ => None,
        };
        Some(self.inner(node, reached))
    }
}

impl Types {
    /// Those of a schema inside; `reached` is what the ones around tell of it.
    fn below(&self, node: &Node, whole: bool, reached: Option<Option<Arc<Declared>>>) -> Self {
        match (self, reached) {
            (Self::Failed, _) => Self::Failed,
            (Self::Outside, _) if node.rules.is_empty() => Self::Outside,
            (Self::Known(_), Some(types)) => Self::Known(types),
            _ => declared::of(node, whole).map_or(Self::Failed, |types| Self::Known(Some(types))),
        }
    }
}

/// What all expressions of a schema cost.
#[derive(Default)]
pub(super) struct Total {
    cost: u64,
    /// The most expensive ones, which are a hundredth of the limit each.
    expensive: Vec<(u64, Path)>,
}

impl Total {
    fn add(&mut self, path: &Path, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
        if cost >= TOTAL_COST_MAX / 100 {
            let at = self.expensive.partition_point(|(other, _)| *other >= cost);
            self.expensive.insert(at, (cost, path.clone()));
            self.expensive.truncate(TOLD_EXPENSIVE_MAX);
        }
    }

    /// Tells when it is too much for a schema.
    pub fn check(&self, path: &Path, errors: &mut ErrorList) {
        if self.cost <= TOTAL_COST_MAX {
            return;
        }
        for (_, path) in &self.expensive {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.push(Error::forbidden(path, why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(Error::forbidden(path, &too_expensive(what, self.cost, TOTAL_COST_MAX)));
    }
}

#[expect(clippy::cast_precision_loss, reason = "as upstream computes the factor")]
fn too_expensive(what: &str, cost: u64, max: u64) -> String {
    let factor = cost as f64 / max as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// What is asked of the expressions of a schema besides that they are good.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    /// Whether one of them may cost more than usual: the version's schema did not change.
    pub any_cost: bool,
    /// Where the schema stands in which old values cannot be found again.
    pub uncorrelated: Option<&'a Path>,
}

/// Whether a schema has rules.
pub(super) fn any(schema: &Value) -> bool {
    !list(schema, "x-kubernetes-validations").is_empty()
}

/// Compiles the expressions of a schema's rules and tells what is wrong with them.
pub(super) fn compile(
    schema: &Value,
    scope: &Scope<'_>,
    limits: Limits<'_>,
    path: &Path,
    total: &mut Total,
    errors: &mut ErrorList,
) {
    let at = path.child("x-kubernetes-validations");
    let declared = match &scope.types {
        Types::Outside => return,
        Types::Failed => {
            errors.push(Error::internal(&at, NO_TYPES));
            return;
        }
        Types::Known(None) => {
            let why = "failed to convert to declType for CEL validation rules";
            errors.push(Error::internal(&at, why));
            return;
        }
        Types::Known(Some(declared)) => declared,
    };
    let compiler = Compiler::new(declared.clone());
    for (index, rule) in list(schema, "x-kubernetes-validations").iter().enumerate() {
        let at = at.index(index);
        let compiled = compiler.compile(rule, scope.node);
        let values_max = scope.values_max.unwrap_or_else(|| compiler.values_max());
        let cost = compiled.cost_max.saturating_mul(values_max);
        if !limits.any_cost && cost > COST_MAX {
            let why = too_expensive("estimated rule cost", cost, COST_MAX);
            errors.push(Error::forbidden(&at.child("rule"), &why));
        }
        total.add(&at.child("rule"), cost);
        let mut broken = |key: &str, why: &str| {
            let text = printed::rule(rule);
            errors.push(Error::invalid_text(&at.child(key), &text, why));
        };
        if let Some(why) = compiled.error() {
            broken("rule", why);
        }
        match &compiled.message {
            Message::Broken(why) => broken("messageExpression", why),
            Message::Expression(_, cost) => {
                let at = at.child("messageExpression");
                if !limits.any_cost && *cost > COST_MAX {
                    let why = too_expensive("estimated messageExpression cost", *cost, COST_MAX);
                    errors.push(Error::forbidden(&at, &why));
                }
                total.add(&at, *cost);
            }
            Message::None => {}
        }
        if compiled.uses_old {
            if let Some(around) = limits.uncorrelated {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {around}"
                );
                errors.push(Error::invalid(&at.child("rule"), text(rule, "rule"), &why));
            }
        } else if let Some(optional) = part(rule, "optionalOldSelf") {
            let why = "may not be set if oldSelf is not used in rule";
            errors.push(Error::invalid(&at.child("optionalOldSelf"), optional.clone(), why));
        }
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
        // What is no structural schema is told elsewhere.
        let node = Node::compile(schema).ok();
        if node.is_some_and(|node| paths::follow(field, &node, true).is_err()) {
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
