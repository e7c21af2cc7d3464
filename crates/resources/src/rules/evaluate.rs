//! Evaluates the rules of a schema for an object.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::field::{Error, ErrorList, Path};
use longshore_api::structural::{Before, Kind, Node};
use longshore_cel::{Declared, escape};
use serde_json::Value;

use super::custom::{Compiled, Compiler, Message, Ran};
use super::declared;

/// Most that evaluating all rules for one object may cost.
pub const BUDGET: i64 = 10_000_000;
/// The longest message that an expression makes, in bytes.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The compiled rules of a schema and of what is inside it.
#[derive(Debug, Default)]
pub struct Checks {
    own: Vec<Compiled>,
    /// What the rules see.
    declared: Option<Arc<Declared>>,
    /// Why there are none although the schema has some.
    broken: bool,
    items: Option<Box<Checks>>,
    properties: BTreeMap<String, Checks>,
    additional: Option<Box<Checks>>,
}

/// What evaluating rules told.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The rules that do not hold.
    pub errors: ErrorList,
    /// Those that did not hold before and that nobody has to mend now.
    pub warnings: Vec<String>,
}

/// The budget is spent: nothing more is evaluated.
struct Spent;

impl Checks {
    /// Compiles the rules of a schema; none when there are none. `whole`: the schema is of a whole object.
    pub fn compile(node: &Node, whole: bool) -> Option<Self> {
        if !has_rules(node) {
            return None;
        }
        Self::of(node, declared::of(node, whole).as_ref())
    }

    fn of(node: &Node, declared: Option<&Arc<Declared>>) -> Option<Self> {
        let mut checks = Self::default();
        if !node.rules.is_empty() {
            match declared {
                Some(declared) => {
                    let compiler = Compiler::new(declared.clone());
                    let rules = node.rules.iter();
                    checks.own = rules.map(|rule| compiler.compile(rule, node)).collect();
                    checks.declared = Some(declared.clone());
                }
                None => checks.broken = true,
            }
        }
        let element = declared.and_then(|declared| declared::element(declared));
        if let Some(items) = &node.items {
            checks.items = Self::of(items, element).map(Box::new);
        }
        for (name, property) in &node.properties {
            let whole = property.embedded_resource;
            let field = match (declared, escape(name)) {
                (Some(declared), Some(_)) => declared::field(declared, name).cloned(),
                // What has no type is left out as a whole.
                (None, Some(_)) => None,
                (_, None) => declared::of(property, whole),
            };
            let Some(field) = field else { continue };
            if let Some(below) = Self::of(property, Some(&field)) {
                checks.properties.insert(name.clone(), below);
            }
        }
        if let Some(entries) = node.additional_schema() {
            let below = Self::of(entries, element);
            checks.additional = below.map(Box::new);
        }
        let any = checks.broken
            || !checks.own.is_empty()
            || checks.items.is_some()
            || checks.additional.is_some()
            || !checks.properties.is_empty();
        any.then_some(checks)
    }

    /// The rules of the items.
    pub fn items(&self) -> Option<&Self> {
        self.items.as_deref()
    }

    /// The rules of a property.
    pub fn property(&self, name: &str) -> Option<&Self> {
        self.properties.get(name)
    }

    /// Evaluates the rules for a value. `old` is what stood there before; with `ratchets` rules that
    /// were broken by what did not change are only warned about. Takes from `budget`, which is negative
    /// when it was not enough.
    pub fn evaluate(
        &self,
        node: &Node,
        path: &Path,
        value: &Value,
        old: Option<&Value>,
        ratchets: bool,
        budget: &mut i64,
    ) -> Outcome {
        let mut walk = Walk { budget: *budget, out: Outcome::default() };
        let before = || old.map(|old| Before::new(old, node));
        let around = Correlated {
            value,
            before: before().filter(|_| ratchets),
            equal: OnceCell::new(),
            parent: None,
        };
        if let Err(Spent) = walk.value(self, node, path, value, before(), &around) {
            walk.budget = -1;
        }
        *budget = walk.budget;
        walk.out
    }
}

fn has_rules(node: &Node) -> bool {
    !node.rules.is_empty()
        || node.items.as_deref().is_some_and(has_rules)
        || node.additional_schema().is_some_and(has_rules)
        || node.properties.values().any(has_rules)
}

/// A value and what it was before, for rules that were broken then as well.
struct Correlated<'a, 'w> {
    value: &'a Value,
    before: Option<Before<'a>>,
    equal: OnceCell<bool>,
    /// The next one around that has something to compare with.
    parent: Option<&'w Correlated<'a, 'w>>,
}

impl<'a> Correlated<'a, '_> {
    fn is_unchanged(&self) -> bool {
        match (&self.before, self.parent) {
            (Some(before), _) => *self.equal.get_or_init(|| before.equals(self.value)),
            (None, Some(parent)) => parent.is_unchanged(),
            (None, None) => false,
        }
    }

    fn below<'b>(&'b self, value: &'a Value, before: Option<Before<'a>>) -> Correlated<'a, 'b> {
        let parent = if self.before.is_some() { Some(self) } else { self.parent };
        Correlated { value, before, equal: OnceCell::new(), parent }
    }

    /// Nothing to compare with, neither here nor around.
    fn none(value: &'a Value) -> Self {
        Self { value, before: None, equal: OnceCell::new(), parent: None }
    }

    fn field<'b>(&'b self, name: &str, value: &'a Value) -> Correlated<'a, 'b> {
        // Both are of one version and kind whatever was written.
        let root = self.before.is_some() && self.parent.is_none();
        if root && matches!(name, "apiVersion" | "kind") {
            return Correlated::none(value);
        }
        self.below(value, self.before.as_ref().and_then(|before| before.field(name)))
    }

    fn item<'b>(&'b self, value: &'a Value) -> Correlated<'a, 'b> {
        self.below(value, self.before.as_ref().and_then(|before| before.item(value)))
    }
}

struct Walk {
    budget: i64,
    out: Outcome,
}

impl Walk {
    fn value<'a>(
        &mut self,
        checks: &Checks,
        node: &Node,
        path: &Path,
        value: &'a Value,
        old: Option<Before<'a>>,
        around: &Correlated<'a, '_>,
    ) -> Result<(), Spent> {
        if value.is_null() {
            return Ok(());
        }
        let old = old.filter(|old| !old.value().is_null());
        self.rules(checks, node, path, value, old.as_ref().map(Before::value), around)?;
        match value {
            Value::Array(items) => {
                let (Some(checks), Some(node)) = (&checks.items, node.items.as_deref()) else {
                    return Ok(());
                };
                for (index, item) in items.iter().enumerate() {
                    let before = old.as_ref().and_then(|old| old.item(item));
                    let around = around.item(item);
                    self.value(checks, node, &path.index(index), item, before, &around)?;
                }
            }
            Value::Object(fields) => {
                let before = |name: &str| {
                    let old = old.as_ref()?;
                    if node.map_type().is_some_and(|map| map != "granular" && map != "atomic") {
                        return None;
                    }
                    old.field(name)
                };
                if let (Some(checks), Some(node)) = (&checks.additional, node.additional_schema()) {
                    for (name, value) in fields {
                        let around = around.field(name, value);
                        self.value(checks, node, &path.key(name), value, before(name), &around)?;
                    }
                }
                for (name, value) in fields {
                    let (Some(checks), Some(node)) =
                        (checks.properties.get(name), node.properties.get(name))
                    else {
                        continue;
                    };
                    let around = around.field(name, value);
                    self.value(checks, node, &path.child(name), value, before(name), &around)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rules(
        &mut self,
        checks: &Checks,
        node: &Node,
        path: &Path,
        value: &Value,
        old: Option<&Value>,
        around: &Correlated<'_, '_>,
    ) -> Result<(), Spent> {
        let kind = node.kind.name();
        if checks.broken {
            let why = "rule compiler initialization error: failed to convert to declType for CEL validation rules";
            self.out.errors.push(Error::invalid(path, kind, why));
            return Ok(());
        }
        let Some(declared) = checks.declared.as_deref().filter(|_| !checks.own.is_empty()) else {
            return Ok(());
        };
        if self.budget <= 0 {
            self.out.errors.push(Error::invalid(path, kind, OUT_OF_BUDGET));
            return Err(Spent);
        }
        for rule in &checks.own {
            if let Some(why) = rule.error() {
                let why = format!("rule compile error: {why}");
                self.out.errors.push(Error::invalid(path, kind, &why));
                continue;
            }
            if rule.uses_old && old.is_none() && !rule.optional_old {
                // There is nothing to compare with.
                continue;
            }
            let Some(Ran { result, cost }) = rule.run(declared, value, old) else {
                continue;
            };
            self.pay(cost).inspect_err(|_| {
                self.out.errors.push(Error::invalid(path, kind, OUT_OF_BUDGET));
            })?;
            match result {
                Ok(true) => {}
                Ok(false) => self.broken(rule, declared, node, path, value, old, around)?,
                Err(why) => {
                    let text = rule.told();
                    if why.starts_with("no such overload") {
                        let why = format!(
                            "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {text}"
                        );
                        self.out.errors.push(Error::invalid(path, kind, &why));
                    } else if why.starts_with("operation cancelled: actual cost limit exceeded") {
                        let why = format!(
                            "'{why}': no further validation rules will be run due to call cost exceeds limit for rule: {text}"
                        );
                        self.out.errors.push(Error::invalid(path, kind, &why));
                        return Err(Spent);
                    } else {
                        let why = format!("{why} evaluating rule: {text}");
                        self.out.errors.push(Error::invalid(path, kind, &why));
                    }
                }
            }
        }
        Ok(())
    }

    fn pay(&mut self, cost: u64) -> Result<(), Spent> {
        let left = i64::try_from(cost).ok().and_then(|cost| self.budget.checked_sub(cost));
        self.budget = left.filter(|left| *left >= 0).ok_or(Spent)?;
        Ok(())
    }

    /// Tells of a rule that does not hold.
    #[expect(clippy::too_many_arguments, reason = "all that a rule may look at")]
    fn broken(
        &mut self,
        rule: &Compiled,
        declared: &Declared,
        node: &Node,
        path: &Path,
        value: &Value,
        old: Option<&Value>,
        around: &Correlated<'_, '_>,
    ) -> Result<(), Spent> {
        let at =
            if rule.field_path.is_empty() { path.clone() } else { path.child(&rule.field_path) };
        let kind = node.kind.name();
        let tell = |out: &mut Outcome, error: Error| {
            if !rule.uses_old && around.is_unchanged() {
                out.warnings.push(error.to_string());
            } else {
                out.errors.push(error);
            }
        };
        let mut detail = None;
        if let Message::Expression(message, _) = &rule.message {
            let Ran { result, cost } = message.run(declared, value, old);
            let why = match result {
                _ if self.pay(cost).is_err() => Some(
                    "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".to_owned(),
                ),
                Err(why) if why.starts_with("operation cancelled: actual cost limit exceeded") => {
                    let text = longshore_api::patch::gotext::quote(message.text());
                    Some(format!(
                        "no further validation rules will be run due to call cost exceeds limit for messageExpression: {text}"
                    ))
                }
                Ok(text) => {
                    let text = text.trim();
                    let good =
                        !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n');
                    detail = good.then(|| text.to_owned());
                    None
                }
                Err(_) => None,
            };
            if let Some(why) = why {
                tell(&mut self.out, Error::invalid(&at, kind, &why));
                return Err(Spent);
            }
        }
        let detail = detail.unwrap_or_else(|| rule.told_broken());
        let told = !matches!(node.kind, Kind::Object | Kind::Array);
        let error = match rule.reason.as_str() {
            "FieldValueForbidden" => Error::forbidden(&at, &detail),
            "FieldValueRequired" => Error::required(&at, &detail),
            "FieldValueDuplicate" if told => Error::duplicate(&at, value.clone()),
            "FieldValueDuplicate" => Error::duplicate_untold(&at),
            _ if told => Error::invalid(&at, value.clone(), &detail),
            _ => Error::invalid_untold(&at, &detail),
        };
        tell(&mut self.out, error);
        Ok(())
    }
}
