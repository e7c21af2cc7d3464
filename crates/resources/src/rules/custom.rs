//! Compiles the rules of a schema.
//!
//! upstream: staging/src/k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/compilation.go

use std::sync::Arc;

use longshore_api::field::Path;
use longshore_api::structural::Node;
use longshore_cel::{
    CALL_COST_MAX, CompileError, Declared, Environment, Evaluation, Outcome, Program, REQUEST_MAX,
    Type, Value as Cel, Variables,
};
use serde_json::Value;

use crate::apiextensions::paths;
use crate::core::pods::tree::{flag, text};

/// Compiles the rules of one schema.
pub struct Compiler {
    declared: Arc<Declared>,
    plain: Environment,
    optional: Environment,
}

/// A rule.
#[derive(Debug)]
pub struct Compiled {
    program: Option<Result<Program, String>>,
    /// Whether it looks at the value before.
    pub uses_old: bool,
    /// Whether it is also evaluated when there is no value before.
    pub optional_old: bool,
    /// Most that evaluating it may cost, by estimate.
    pub cost_max: u64,
    /// What it says when it is broken.
    pub message: Message,
    /// The reason that is told; empty for that of an invalid value.
    pub reason: String,
    /// The field that is told, seen from the value; empty for the value itself.
    pub field_path: String,
    rule: String,
    text: String,
}

/// The message of a rule.
#[derive(Debug)]
pub enum Message {
    /// No expression makes it.
    None,
    /// The expression that makes it, and what that may cost by estimate.
    Expression(Box<MessageProgram>, u64),
    /// The expression is broken.
    Broken(String),
}

/// An expression that makes a message.
#[derive(Debug)]
pub struct MessageProgram {
    program: Program,
    text: String,
}

/// What an evaluation gave.
pub struct Ran<T> {
    /// The value, or what went wrong.
    pub result: Result<T, String>,
    /// What it cost.
    pub cost: u64,
}

impl Compiler {
    /// A compiler for rules about values of a type.
    pub fn new(declared: Arc<Declared>) -> Self {
        let of = declared.type_of();
        let own = Environment::new().declared("self", declared.clone());
        let plain = own.clone().declared("oldSelf", declared.clone());
        let optional = own.variable("oldSelf", Type::optional(of));
        Self { declared, plain, optional }
    }

    /// How many values of the type there can be in an object.
    pub fn values_max(&self) -> u64 {
        u64::try_from(REQUEST_MAX / (self.declared.min_size + 1)).unwrap_or(1)
    }

    /// Compiles a rule of a schema.
    pub fn compile(&self, rule: &Value, node: &Node) -> Compiled {
        let source = text(rule, "rule");
        let optional_old = flag(rule, "optionalOldSelf");
        let mut compiled = Compiled {
            program: None,
            uses_old: false,
            optional_old,
            cost_max: 0,
            message: Message::None,
            reason: text(rule, "reason").to_owned(),
            field_path: String::new(),
            rule: source.trim().to_owned(),
            text: text(rule, "message").trim().to_owned(),
        };
        if source.trim().is_empty() {
            return compiled;
        }
        let environment = if optional_old { &self.optional } else { &self.plain };
        let program = match environment.compile(source) {
            Err(CompileError::Plan(why)) => {
                compiled.program = Some(Err(format!("program instantiation failed: {why}")));
                return compiled;
            }
            Err(why) => {
                compiled.program = Some(Err(format!("compilation failed: {why}")));
                return compiled;
            }
            Ok(program) if *program.output_type() != Type::Bool => {
                compiled.program = Some(Err("cel expression must evaluate to a bool".into()));
                return compiled;
            }
            Ok(program) => program,
        };
        compiled.uses_old = program.uses("oldSelf");
        compiled.cost_max = program.estimate(Some(&self.declared)).max;
        compiled.program = Some(Ok(program));
        let source = text(rule, "messageExpression");
        if !source.is_empty() {
            compiled.message = match environment.compile(source) {
                Err(CompileError::Plan(why)) => {
                    Message::Broken(format!("messageExpression instantiation failed: {why}"))
                }
                Err(why) => Message::Broken(format!("messageExpression compilation failed: {why}")),
                Ok(program) if *program.output_type() != Type::String => {
                    Message::Broken("messageExpression must evaluate to a string".into())
                }
                Ok(program) => {
                    let cost = program.estimate(Some(&self.declared)).max;
                    let text = source.to_owned();
                    Message::Expression(Box::new(MessageProgram { program, text }), cost)
                }
            };
            if matches!(compiled.message, Message::Broken(_)) {
                return compiled;
            }
        }
        let field = text(rule, "fieldPath");
        if !field.is_empty()
            && let Ok((_, steps)) = paths::follow(field, node, true)
        {
            compiled.field_path = shown(node, &steps);
        }
        compiled
    }
}

/// Steps through a schema as a path of errors.
fn shown(node: &Node, steps: &[String]) -> String {
    let (mut at, mut path) = (Some(node), Path::default());
    for step in steps {
        let listed = at.is_some_and(|node| !node.properties.is_empty());
        path = if listed { path.child(step) } else { path.key(step) };
        at = at.and_then(|node| node.field(step)).flatten();
    }
    path.to_string()
}

/// What a rule looks at.
struct Seen<'a> {
    declared: &'a Declared,
    value: &'a Value,
    old: Option<&'a Value>,
    optional_old: bool,
}

impl<'a> Variables<'a> for Seen<'a> {
    fn get(&self, name: &str) -> Option<Outcome<'a>> {
        let read = |value: &'a Value| Cel::declared(value, self.declared);
        match (name, self.old) {
            ("self", _) => Some(read(self.value)),
            ("oldSelf", Some(old)) if self.optional_old => Some(read(old).map(Cel::some)),
            ("oldSelf", None) if self.optional_old => Some(Ok(Cel::Optional(None))),
            ("oldSelf", Some(old)) => Some(read(old)),
            _ => None,
        }
    }
}

fn run<'a>(program: &'a Program, seen: &Seen<'a>) -> Ran<Cel<'a>> {
    let Evaluation { result, cost } = program.evaluate(seen, CALL_COST_MAX);
    Ran { result: result.map_err(|why| why.to_string()), cost }
}

impl Compiled {
    /// Why it cannot be used.
    pub fn error(&self) -> Option<&str> {
        match &self.program {
            Some(Err(why)) => Some(why),
            _ => None,
        }
    }

    /// Evaluates it; none when it is empty.
    pub fn run(
        &self,
        declared: &Declared,
        value: &Value,
        old: Option<&Value>,
    ) -> Option<Ran<bool>> {
        let Some(Ok(program)) = &self.program else { return None };
        let seen = Seen { declared, value, old, optional_old: self.optional_old };
        let Ran { result, cost } = run(program, &seen);
        Some(Ran { result: result.map(|value| value.as_bool() == Some(true)), cost })
    }

    /// The text by which it is known.
    pub fn told(&self) -> &str {
        if self.text.is_empty() { &self.rule } else { &self.text }
    }

    /// What is told when it is broken and nothing else says so.
    pub fn told_broken(&self) -> String {
        if self.text.is_empty() { format!("failed rule: {}", self.rule) } else { self.text.clone() }
    }
}

impl MessageProgram {
    /// The expression.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Evaluates it.
    pub fn run(&self, declared: &Declared, value: &Value, old: Option<&Value>) -> Ran<String> {
        let seen = Seen { declared, value, old, optional_old: false };
        let Ran { result, cost } = run(&self.program, &seen);
        let result = result.map(|value| value.as_str().unwrap_or("").to_owned());
        Ran { result, cost }
    }
}
