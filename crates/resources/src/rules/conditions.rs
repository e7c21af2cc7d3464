//! Conditions under which policies and webhooks apply.
//!
//! upstream: staging/src/k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions/matcher.go

use longshore_cel::Value as Cel;
use serde_json::Value;

use super::admission::{
    CONDITIONS_BUDGET, Compiled, Compiler, Composed, Gives, Input, OUT_OF_BUDGET, Run, Sees, Spent,
};

/// The conditions of a policy or webhook.
#[derive(Debug, Default)]
pub struct Conditions {
    all: Vec<Condition>,
}

#[derive(Debug)]
struct Condition {
    name: String,
    compiled: Compiled,
}

/// Whether conditions hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Match<'a> {
    /// All of them.
    Yes,
    /// Not this one.
    No(&'a str),
    /// Nobody knows: why.
    Failed(String),
}

impl Conditions {
    /// Compiles the conditions of a policy.
    pub fn of_policy(conditions: &[Value], compiler: &Compiler, sees: Sees) -> Self {
        let all = conditions.iter().map(|condition| {
            let text = |key: &str| condition[key].as_str().unwrap_or("");
            let compiled = Compiled::new(compiler, text("expression"), Gives::Bool, sees);
            Condition { name: text("name").to_owned(), compiled }
        });
        Self { all: all.collect() }
    }

    /// Compiles the conditions of a webhook: they see no parameters.
    pub fn of_webhook(conditions: &[Value]) -> Self {
        let sees = Sees { authorizer: true, ..Sees::default() };
        Self::of_policy(conditions, &Compiler::new(sees, false), sees)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether they hold for a request. They do not see the namespace's object.
    pub fn evaluate<'a>(&'a self, input: &Input<'a>, composed: Option<&'a Composed>) -> Match<'a> {
        let input = Input { namespace: None, in_condition: true, ..*input };
        let mut run = Run::new(input, composed, CONDITIONS_BUDGET);
        let mut results = Vec::new();
        for condition in &self.all {
            match run.evaluate(&condition.compiled) {
                Ok(result) => results.push((condition, result)),
                Err(Spent) => return Match::Failed(OUT_OF_BUDGET.to_owned()),
            }
        }
        let mut errors: Vec<String> = Vec::new();
        for (condition, result) in results {
            match result {
                Ok(Cel::Bool(false)) => return Match::No(&condition.name),
                Ok(_) => {}
                // As an aggregate of errors tells each text once.
                Err(why) if errors.contains(&why) => {}
                Err(why) => errors.push(why),
            }
        }
        match errors.as_slice() {
            [] => Match::Yes,
            [one] => Match::Failed(one.clone()),
            many => Match::Failed(format!("[{}]", many.join(", "))),
        }
    }
}
