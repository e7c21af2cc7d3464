//! What does not read, and what is hostile.

use super::check;
use crate::Environment;

#[test]
fn mistakes() {
    check(&[
        (
            "",
            "1:0 Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        ),
        (
            "f(",
            "1:3 Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', ')', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        ),
        ("1 2", "1:3 Syntax error: extraneous input '2' expecting <EOF>"),
        ("1 2 3", "1:3 Syntax error: mismatched input '2' expecting <EOF>"),
        ("x.", "1:3 Syntax error: no viable alternative at input '.'"),
        ("x. == 1", "1:4 Syntax error: no viable alternative at input '. =='"),
        ("x.true", "1:3 Syntax error: mismatched input 'true' expecting IDENTIFIER"),
        ("(1", "1:3 Syntax error: missing ')' at '<EOF>'"),
        (
            "x == == 1",
            "1:6 Syntax error: extraneous input '==' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        ),
        ("1 @", "1:3 Syntax error: token recognition error at: '@'"),
        (
            "'a",
            "1:1 Syntax error: token recognition error at: ''a'; 1:3 Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        ),
        ("x.`a`", "1:3 unsupported syntax: '`'"),
    ]);
}

#[test]
fn the_line_is_shown() {
    let error = Environment::new().compile("1 +\n\u{fc} + y").expect_err("it is wrong");
    assert_eq!(
        error.to_string(),
        "ERROR: <input>:2:1: Syntax error: token recognition error at: '\u{fc}'\n | \u{fc} + y\n | \u{ff3e}"
            .to_owned()
            + "\nERROR: <input>:2:3: Syntax error: extraneous input '+' expecting {'[', '{', '(', '.', '-', '!', 'true', \
               'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | \u{fc} + y\n | \u{ff0e}.^"
    );
}

#[test]
fn nesting_has_a_limit() {
    let environment = Environment::new();
    let deep = |count: usize, open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(count), close.repeat(count))
    };
    for (open, inner, close) in [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{1: ", "1", "}"),
        ("[1].map(x, ", "1", ")"),
        ("f(", "1", ")"),
        ("true ? 1 : ", "1", ""),
        ("", "1", " + 1"),
        ("", "a", ".b"),
        ("", "a", "[0]"),
        ("", "1", " == 1"),
        ("!(", "true", ")"),
    ] {
        for count in [200, 240, 100_000 / (open.len() + close.len()) - 1] {
            // What matters is that it ends, with a value or a mistake.
            let source = deep(count, open, inner, close);
            if let Ok(program) = environment.compile(&source) {
                program.evaluate(&(), crate::CALL_COST_MAX);
            }
            let broken = environment.compile(&format!("{source} )"));
            assert!(broken.is_err(), "{open}{inner}{close} {count}");
        }
    }
    let long = vec!["true"; 10_000].join(" && ");
    let program = environment.compile(&long).expect("long chains are no nesting");
    assert!(program.evaluate(&(), crate::CALL_COST_MAX).result.is_ok());
    let doubled = format!("optional.of(1){}", ".optMap(x, x)".repeat(40));
    assert!(environment.compile(&doubled).is_err());
}
