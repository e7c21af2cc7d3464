//! Policies that say what may be written: compiled, and evaluated for a request.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/validating/{plugin,validator}.go

use std::time::Duration;

use longshore_api::Object;
use longshore_cel::Value as Cel;
use serde_json::Value;

use super::admission::{
    BUDGET, Compiled, Compiler, Composed, Gives, Input, OUT_OF_BUDGET, Run, Sees, Spent,
};
use super::conditions::{Conditions, Match};
use crate::core::pods::tree::{list, opt_text, text};

/// The longest message that an expression makes, in bytes.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;

/// A compiled policy.
pub struct Policy {
    /// Whether what goes wrong is ignored.
    ignores_failures: bool,
    composed: Composed,
    conditions: Conditions,
    checks: Vec<Check>,
    annotations: Vec<(String, Compiled)>,
}

struct Check {
    compiled: Compiled,
    message_expression: Option<Compiled>,
    message: String,
    expression: String,
    reason: String,
}

/// What one check says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub admits: bool,
    /// Whether that is because something went wrong.
    pub failed: bool,
    /// Why not.
    pub message: String,
    /// The reason of the answer.
    pub reason: String,
    /// How long it took.
    pub elapsed: Duration,
}

/// A text for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Annotation<'a> {
    /// Key and text.
    Publish(&'a str, String),
    /// It could not be made.
    Failed(String),
}

/// What a policy says of a request.
#[derive(Debug, Default)]
pub struct Result<'a> {
    /// What its checks say.
    pub decisions: Vec<Decision>,
    /// What is told to the audit log.
    pub annotations: Vec<Annotation<'a>>,
}

impl Decision {
    /// What went wrong, as metrics name it.
    pub fn error_type(&self) -> &'static str {
        if self.admits && !self.failed {
            "no_error"
        } else if self.message.starts_with("compilation") {
            "compile_error"
        } else if self.message.starts_with("validation failed due to running out of cost budget") {
            "out_of_budget"
        } else {
            "invalid_error"
        }
    }
}

impl Policy {
    /// Compiles a policy. What is broken shows when it is evaluated.
    pub fn compile(policy: &Object) -> Self {
        let none = Value::Null;
        let spec = policy.get(&["spec"]).unwrap_or(&none);
        let params = spec.get("paramKind").is_some_and(|kind| !kind.is_null());
        let sees = Sees { params, authorizer: true, patches: false };
        let of_messages = Sees { authorizer: false, ..sees };
        let compiler = Compiler::new(sees, true);
        let composed = Composed::new(&compiler, list(spec, "variables"));
        let conditions = Conditions::of_policy(list(spec, "matchConditions"), &compiler, sees);
        let checks = list(spec, "validations").iter().map(|check| {
            let expression = text(check, "expression");
            let message = text(check, "messageExpression");
            Check {
                compiled: Compiled::new(&compiler, expression, Gives::Bool, sees),
                message_expression: (!message.is_empty())
                    .then(|| Compiled::new(&compiler, message, Gives::Text, of_messages)),
                message: text(check, "message").trim().to_owned(),
                expression: expression.trim().to_owned(),
                reason: opt_text(check, "reason").unwrap_or("Invalid").to_owned(),
            }
        });
        let checks = checks.collect();
        let annotations = list(spec, "auditAnnotations").iter().map(|annotation| {
            let expression = text(annotation, "valueExpression");
            let compiled = Compiled::new(&compiler, expression, Gives::TextOrNull, sees);
            (text(annotation, "key").to_owned(), compiled)
        });
        Self {
            ignores_failures: text(spec, "failurePolicy") == "Ignore",
            composed,
            conditions,
            checks,
            annotations: annotations.collect(),
        }
    }

    /// What went wrong, as a decision.
    fn failed(&self, message: String) -> Decision {
        let admits = self.ignores_failures;
        Decision { admits, failed: true, message, ..Decision::default() }
    }

    /// Evaluates the policy for a request; `clock` tells how long it has taken.
    pub fn evaluate<'a>(&'a self, input: &Input<'a>, clock: &dyn Fn() -> Duration) -> Result<'a> {
        let only = |decision| Result { decisions: vec![decision], annotations: Vec::new() };
        match self.conditions.evaluate(input, Some(&self.composed)) {
            Match::Yes => {}
            Match::No(_) => return Result::default(),
            Match::Failed(why) => return only(self.failed(why)),
        }
        let mut run = Run::new(*input, Some(&self.composed), BUDGET);
        let mut results = Vec::with_capacity(self.checks.len());
        for check in &self.checks {
            let start = clock();
            match run.evaluate(&check.compiled) {
                Ok(result) => results.push((result, clock().saturating_sub(start))),
                Err(Spent) => return only(self.failed(OUT_OF_BUDGET.to_owned())),
            }
        }
        let mut run = Run::new(*input, Some(&self.composed), run.budget());
        let messages: std::result::Result<Vec<_>, Spent> = self
            .checks
            .iter()
            .map(|check| {
                check.message_expression.as_ref().map(|message| run.evaluate(message)).transpose()
            })
            .collect();
        let mut decisions = Vec::with_capacity(results.len());
        for (index, (result, elapsed)) in results.into_iter().enumerate() {
            let check = &self.checks[index];
            let mut decision = match (&result, &messages) {
                (Err(why), _) => self.failed(why.clone()),
                (Ok(_), Err(Spent)) => {
                    self.failed(format!("failed messageExpression: {OUT_OF_BUDGET}"))
                }
                (Ok(Cel::Bool(true)), _) => Decision { admits: true, ..Decision::default() },
                (Ok(_), Ok(messages)) => {
                    let made = messages[index].as_ref().and_then(|made| made.as_ref().ok());
                    let made = made.and_then(Cel::as_str).map(str::trim).unwrap_or("");
                    Decision {
                        message: check.told(made),
                        reason: check.reason.clone(),
                        ..Decision::default()
                    }
                }
            };
            decision.elapsed = elapsed;
            decisions.push(decision);
        }
        let mut run = Run::new(*input, Some(&self.composed), BUDGET);
        let mut annotations = Vec::new();
        for (key, compiled) in &self.annotations {
            match run.evaluate(compiled) {
                Err(Spent) => return only(self.failed(OUT_OF_BUDGET.to_owned())),
                Ok(Err(_)) if self.ignores_failures => {}
                Ok(Err(why)) => annotations.push(Annotation::Failed(why)),
                Ok(Ok(value)) => {
                    let text = value.as_str().unwrap_or("").trim();
                    if !text.is_empty() {
                        annotations.push(Annotation::Publish(key, text.to_owned()));
                    }
                }
            }
        }
        Result { decisions, annotations }
    }
}

impl Check {
    /// What is told when it does not hold; `made` is what its expression made.
    fn told(&self, made: &str) -> String {
        let good = made.len() <= MESSAGE_BYTES_MAX && !made.contains('\n');
        if good && !made.is_empty() {
            made.to_owned()
        } else if !self.message.is_empty() {
            self.message.clone()
        } else {
            format!("failed expression: {}", self.expression)
        }
    }
}
