//! Variables that stand on each other.

use std::time::Duration;

use longshore_api::Object;
use longshore_cel::Value as Cel;
use serde_json::{Value, json};

use super::*;
use crate::rules::validating::Policy;

struct Nobody;

impl Authorizer for Nobody {
    fn own<'v>(&self) -> Cel<'v> {
        Cel::Null
    }
    fn of_request<'v>(&self) -> Cel<'v> {
        Cel::Null
    }
}

/// What a policy says of each of its checks; nothing of one that holds.
fn evaluate(variables: &[String], checks: &[String]) -> Vec<String> {
    let named = |(index, expression): (usize, &String)| json!({"name": format!("v{index}"), "expression": expression});
    let variables: Vec<Value> = variables.iter().enumerate().map(named).collect();
    let checks: Vec<Value> = checks.iter().map(|check| json!({"expression": check})).collect();
    let policy = json!({"spec": {"variables": variables, "validations": checks}});
    let policy = Policy::compile(&Object::from_value(policy).expect("an object"));
    let request = Request { seen: json!({}), in_conditions: None };
    let input = Input {
        object: None,
        old: None,
        params: None,
        request: &request,
        in_condition: false,
        namespace: None,
        authorizer: &Nobody,
    };
    let result = policy.evaluate(&input, &|| Duration::ZERO);
    result.decisions.into_iter().map(|decision| decision.message).collect()
}

/// A chain of variables: each is what `next` makes of the one before.
fn chain(length: usize, next: impl Fn(&str) -> String) -> Vec<String> {
    let later = (1..length).map(|index| next(&format!("variables.v{}", index - 1)));
    std::iter::once("1".to_owned()).chain(later).collect()
}

#[test]
fn variables_nest_as_deep_as_the_stack_allows() {
    let simple = |before: &str| format!("{before} + 1");
    assert_eq!(evaluate(&chain(50, simple), &["variables.v49 == 50".to_owned()]), [""]);
    type Next = fn(&str) -> String;
    let shapes: [(usize, Next); 5] = [
        (700, |before| before.to_owned()),
        (20, |before| format!("{}{before}{}", "[".repeat(50), "][0]".repeat(50))),
        (20, |before| format!("{}{before}{}", "(true ? ".repeat(50), " : 1)".repeat(50))),
        (20, |before| format!("{}{before}{}", "[1].map(x, ".repeat(40), ")".repeat(40))),
        (20, |before| format!("{}{before}{}", "string(dyn(".repeat(60), "))".repeat(60))),
    ];
    for (length, shape) in shapes {
        let variables = chain(length, shape);
        let last = format!("dyn(variables.v{}) != dyn(null)", length - 1);
        let told = evaluate(&variables, &[last]).join("");
        assert!(told.contains("actual cost limit exceeded"), "{told:.300}");
    }
}

#[test]
fn values_nest_no_deeper() {
    let variables = chain(600, |before| format!("[dyn({before})]"));
    let checks: Vec<String> =
        (0..600).map(|index| format!("dyn(variables.v{index}) != dyn(null)")).collect();
    let told = evaluate(&variables, &checks);
    assert_eq!(told.first().map(String::as_str), Some(""));
    assert!(told.last().is_some_and(|last| last.contains("actual cost limit exceeded")));
}
