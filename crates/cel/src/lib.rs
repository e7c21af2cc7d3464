//! The Common Expression Language, with the libraries, limits and messages of Kubernetes v1.36. Pure.
//!
//! An [`Environment`] says which variables an expression may use. [`Environment::compile`] makes a [`Program`] of a text
//! or tells what is wrong with it: [`CompileError`] prints as the reference prints it. [`Program::evaluate`] takes values
//! of the variables and the most that it may cost, and gives the value and what it cost.
//!
//! Objects are read in place: `Value::dynamic(&json)` where nothing is known of the data, `Value::declared(&json,
//! &declared)` with a [`Declared`] made from a schema, which also gives the environment the type of the variable:
//!
//! ```
//! use longshore_cel::{CALL_COST_MAX, Environment, Type, Value};
//! let environment = Environment::new().variable("object", Type::Dyn);
//! let program = environment.compile("object.spec.replicas <= 5").expect("it is right");
//! let object = serde_json::json!({"spec": {"replicas": 3}});
//! let evaluation = program.evaluate(&[("object", Value::dynamic(&object))], CALL_COST_MAX);
//! assert_eq!(evaluation.result.expect("a value").as_bool(), Some(true));
//! ```
//!
//! [`Program::estimate`] tells what a program may cost, from the sizes that a [`Declared`] allows;
//! [`Declared::from_schema`] makes one of the schema of a custom resource.
//!
//! Values that are found only when they are asked for implement [`Fields`] and are passed as `Map::Lazy`; variables that
//! come from somewhere else implement [`Variables`].

mod ast;
mod checker;
mod cost;
mod declared;
mod decls;
mod effort;
mod environment;
mod equal;
mod escape;
mod estimate;
mod eval;
mod functions;
mod issue;
mod lexer;
mod macros;
mod ops;
mod parser;
mod plan;
mod read;
mod structural;
mod syntax;
#[cfg(test)]
mod table;
mod time;
mod types;
mod unescape;
mod unify;
mod validate;
mod value;

pub use checker::Types;
pub use declared::{Declared, ListKind, Object, REQUEST_MAX, Shape};
pub use environment::{
    CALL_COST_MAX, Environment, Extras, MATCH_COST_MAX, Program, TOTAL_COST_MAX,
};
pub use escape::{escape, unescape};
pub use estimate::Estimate;
pub use eval::{Evaluation, Variables};
pub use functions::authorizer::{
    Authorizer, Check, Decision, authorizer_value, request_resource_value,
};
pub use functions::numbers::{quantity_value, version_value};
pub use issue::{CompileError, Issue, Issues, Location};
pub use time::Moment;
pub use types::Type;
pub use value::{EvalError, Fields, Items, Key, List, Map, Opaque, Outcome, Struct, Text, Value};
