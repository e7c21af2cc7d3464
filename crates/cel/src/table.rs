//! Expressions with what comes of them, as tables.

mod core;
mod libraries;
mod limits;
mod lists;
mod syntax;

use serde_json::json;

use crate::decls::Functions;
use crate::functions::LIBRARIES;
use crate::{CALL_COST_MAX, CompileError, Environment, Type, Value};

/// What an expression gives, as a text: the value, or what is wrong.
pub fn run(source: &str) -> String {
    let object = json!({
        "metadata": {"name": "web", "labels": {"a": "b"}},
        "spec": {"replicas": 3, "ratio": 0.5, "list": [1, 2, 3], "empty": [], "nothing": null},
    });
    let environment = Environment::new()
        .variable("object", Type::Dyn)
        .variable("x", Type::Int)
        .variable("s", Type::String);
    let program = match environment.compile(source) {
        Ok(program) => program,
        Err(CompileError::Issues(issues)) => {
            return issues
                .iter()
                .map(|issue| {
                    let location = issue.location;
                    format!("{}:{} {}", location.line, location.column + 1, issue.message)
                })
                .collect::<Vec<_>>()
                .join("; ");
        }
        Err(CompileError::Plan(message)) => return format!("plan: {message}"),
    };
    let variables =
        [("object", Value::dynamic(&object)), ("x", Value::Int(7)), ("s", Value::borrowed("text"))];
    match program.evaluate(&variables, CALL_COST_MAX).result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("error: {error}"),
    }
}

/// What an evaluation costs.
pub fn cost(source: &str) -> u64 {
    let environment = Environment::new()
        .variable("x", Type::Int)
        .variable("s", Type::String)
        .variable("m", Type::Dyn);
    let map = json!({"a": {"b": 1}, "l": [1, 2]});
    let program = environment.compile(source).expect("a good expression");
    let variables =
        [("x", Value::Int(7)), ("s", Value::borrowed("text")), ("m", Value::dynamic(&map))];
    program.evaluate(&variables, CALL_COST_MAX).cost
}

/// Checks a table and tells all lines that are wrong.
pub fn check(table: &[(&str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .map(|(source, wanted)| (source, wanted, run(source)))
        .filter(|(_, wanted, found)| **wanted != found)
        .map(|(source, wanted, found)| format!("{source}\n  wanted {wanted}\n  found  {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_declarations_are_read() {
    for library in LIBRARIES {
        let mut functions = Functions::default();
        assert_eq!(functions.add(library.declarations), Ok(()), "{}", library.name);
    }
}
